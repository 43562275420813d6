use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Is {
    Held,
    Used(u32),
    /// Fresh or taken.
    Quarantined(bool),
}

/// The documentation, word by word: what is not in the map is free.
#[derive(Default)]
struct Model {
    things: BTreeMap<u64, Is>,
    limit: u64,
    reserved: u64,
}

impl Model {
    fn refs(&self, i: u64) -> u32 {
        match self.things.get(&i) {
            Some(Is::Used(n)) => *n,
            _ => 0,
        }
    }
    fn count(&self, f: impl Fn(&Is) -> bool) -> u64 {
        self.things.values().filter(|i| f(i)).count() as u64
    }
}

fn check(space: &Space, model: &Model) {
    assert_eq!(space.used(), model.count(|i| matches!(i, Is::Used(_))));
    assert_eq!(
        space.quarantined(),
        model.count(|i| matches!(i, Is::Quarantined(_)))
    );
    let free = model.limit.saturating_sub(model.things.len() as u64);
    assert_eq!(space.free(), free.saturating_sub(model.reserved));
    assert_eq!(space.limit(), model.limit);
}

/// Things live in three places far apart, to cross pages of counts and bits.
fn thing(rng: &mut ChaCha8Rng, limit: u64) -> u64 {
    let base = [0, 4070, 32760, 1 << 20][rng.random_range(0..4)];
    (base + rng.random_range(0..40)).min(limit + 3)
}

#[test]
fn behaves_as_its_words() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let space = Arc::new(Space::new((1 << 20) + 30));
        let mut model = Model {
            limit: (1 << 20) + 30,
            ..Model::default()
        };
        let mut taken: Vec<Vec<Range<u64>>> = Vec::new();
        let mut reservations = Vec::new();
        let mut dirty = BTreeSet::new();
        for step in 0..3000 {
            let (start, n) = (thing(&mut rng, model.limit), rng.random_range(1..8));
            match rng.random_range(0..20) {
                0..5 => {
                    let ok = space.add(start, n).is_ok();
                    assert_eq!(ok, start + n <= model.limit, "seed {seed} step {step}");
                    for i in (start..start + n).filter(|_| ok) {
                        let refs = model.refs(i);
                        model.things.insert(i, Is::Used(refs + 1));
                        dirty.insert(i / Space::PER_PAGE);
                    }
                }
                5..11 => {
                    let ok = Space::drop(&space, start, n).is_ok();
                    assert_eq!(ok, (start..start + n).all(|i| model.refs(i) > 0));
                    for i in (start..start + n).filter(|_| ok) {
                        let is = match model.refs(i) {
                            1 => Is::Quarantined(true),
                            r => Is::Used(r - 1),
                        };
                        model.things.insert(i, is);
                        dirty.insert(i / Space::PER_PAGE);
                    }
                }
                11..13 => {
                    let got = space.alloc(n).unwrap();
                    assert!(got.start < got.end && got.end - got.start <= n);
                    assert!(got.end <= model.limit);
                    for i in got {
                        assert_eq!(model.things.insert(i, Is::Held), None);
                    }
                }
                13 => {
                    space.give_back(start..start + n);
                    for i in start..start + n {
                        if model.things.get(&i) == Some(&Is::Held) {
                            model.things.remove(&i);
                        }
                    }
                }
                14 => {
                    let got = space.take_quarantine();
                    assert!(got.windows(2).all(|w| w[0].end < w[1].start));
                    let mut all: Vec<u64> = got.iter().cloned().flatten().collect();
                    for (i, is) in &mut model.things {
                        if *is == Is::Quarantined(true) {
                            assert_eq!(all.remove(0), *i);
                            *is = Is::Quarantined(false);
                        }
                    }
                    assert!(all.is_empty());
                    taken.push(got);
                }
                15 if !taken.is_empty() => {
                    let ranges = taken.remove(0);
                    space.release(&ranges);
                    for i in ranges.into_iter().flatten() {
                        if model.things.get(&i) == Some(&Is::Quarantined(false)) {
                            model.things.remove(&i);
                        }
                    }
                }
                16 => {
                    let (n, floor) = (rng.random_range(0..1 << 19), rng.random_range(0..1 << 18));
                    let got = space.reserve(n, floor);
                    let free = model.limit.saturating_sub(model.things.len() as u64);
                    assert_eq!(got.is_some(), free >= model.reserved + n + floor);
                    if let Some(r) = got {
                        model.reserved += n;
                        reservations.push(r);
                    }
                }
                17 if !reservations.is_empty() => {
                    let r = reservations.swap_remove(0);
                    model.reserved -= r.len();
                }
                18 => {
                    let limit = (1 << 20) + rng.random_range(0..40);
                    space.set_limit(limit);
                    model.limit = limit;
                }
                19 => {
                    assert_eq!(space.dirty_pages(), Vec::from_iter(dirty.iter().copied()));
                    for page in std::mem::take(&mut dirty) {
                        space.clean(page);
                    }
                }
                _ => {}
            }
            check(&space, &model);
        }
        for i in (0..40)
            .chain(4000..4200)
            .chain(32700..32900)
            .chain(1 << 20..(1 << 20) + 60)
        {
            assert_eq!(space.refs(i), model.refs(i));
        }
        // The stored form, loaded by another.
        let other = Space::new((1 << 20) + 60);
        for page in 0..=(1 << 20) / Space::PER_PAGE + 1 {
            if let Some(bytes) = space.page(page) {
                assert_eq!(bytes.len() as u64, Space::PER_PAGE * 4);
                other.load_page(page, &bytes).unwrap();
            }
        }
        assert_eq!(other.used(), space.used());
        assert!(other.dirty_pages().is_empty());
        assert_eq!(other.free(), other.limit() - other.used());
        for i in model.things.keys() {
            assert_eq!(other.refs(*i), model.refs(*i));
        }
    }
}

#[test]
fn takes_runs_and_all_there_is() {
    let space = Space::new(1000);
    assert_eq!(space.alloc(10), Some(0..10));
    assert_eq!(
        space.alloc(10),
        Some(10..20),
        "neighbours in time are neighbours"
    );
    space.give_back(3..6);
    assert_eq!(
        space.alloc(4),
        Some(20..24),
        "a full run before a shorter one"
    );
    assert_eq!(space.alloc(5000), Some(24..1000), "the longest there is");
    assert_eq!(space.alloc(5000), Some(3..6));
    assert_eq!(space.alloc(1), None);
    assert_eq!(space.free(), 0);
    space.set_limit(1001);
    assert_eq!(space.alloc(2), Some(1000..1001));
}

#[test]
fn everything_is_found_one_by_one() {
    let space = Space::new(70_000);
    let mut seen = BTreeSet::new();
    while let Some(r) = space.alloc(3) {
        for i in r {
            assert!(seen.insert(i));
        }
    }
    assert_eq!(seen.len(), 70_000);
    for i in (0..70_000).step_by(7) {
        space.give_back(i..i + 1);
    }
    let mut again = 0;
    while let Some(r) = space.alloc(3) {
        assert_eq!(r.end - r.start, 1);
        again += 1;
    }
    assert_eq!(again, 10_000);
}

#[test]
fn freed_space_is_used_before_the_device_grows() {
    let space = Space::new(1 << 40);
    for _ in 0..100_000 {
        let r = space.alloc(16).unwrap();
        space.add(r.start, 16).unwrap();
        space.drop(r.start, 16).unwrap();
        let freed = space.take_quarantine();
        space.release(&freed);
        assert!(r.end < 1000, "{r:?}");
    }
}

#[test]
fn a_huge_limit_costs_nothing() {
    let space = Arc::new(Space::new(1 << 40));
    assert_eq!(space.alloc(1 << 12), Some(0..1 << 12));
    space.add((1 << 40) - 1, 1).unwrap();
    assert!(space.add((1 << 40) - 1, 2).is_err());
    assert!(space.add(u64::MAX, 2).is_err());
    assert!(Space::drop(&space, u64::MAX, 2).is_err());
    assert_eq!(space.free(), (1 << 40) - (1 << 12) - 1);
    assert!(space.reserve(u64::MAX, 1).is_none());
    assert!(space.page(u64::MAX).is_none());
    assert!(space.load_page(u64::MAX, &[1; 16320]).is_err());
}

#[test]
fn a_full_count_takes_no_more() {
    let space = Space::new(10_000);
    let mut bytes = vec![0; Space::PER_PAGE as usize * 4];
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    space.load_page(1, &bytes).unwrap();
    assert_eq!(space.refs(4081), u32::MAX);
    assert!(space.add(4079, 5).is_err());
    assert_eq!(
        (space.refs(4079), space.refs(4080)),
        (0, 0),
        "nothing has changed"
    );
    assert!(space.load_page(2, &[1; 16320]).is_err(), "beyond the limit");
    assert!(space.load_page(1, &[0; 16324]).is_err(), "too long");
    assert_eq!(space.used(), 1);
    space.load_page(1, &[]).unwrap();
    assert_eq!((space.used(), space.free()), (0, 10_000));
}

#[test]
fn the_last_dropper_knows() {
    let space = Space::new(10);
    space.add(3, 1).unwrap();
    space.add(3, 1).unwrap();
    assert_eq!(space.drop_one(3).unwrap(), 1);
    assert_eq!(space.drop_one(3).unwrap(), 0);
    assert!(space.drop_one(3).is_err());
    for _ in 0..5 {
        space.add(4, 1).unwrap();
    }
    space.clean(0);
    assert!(!space.drop_shared(4, 5));
    assert!(space.dirty_pages().is_empty());
    assert!(space.drop_shared(4, 3));
    assert_eq!((space.refs(4), space.dirty_pages()), (2, vec![0]));
    assert!(
        !space.drop_shared(4, 2) && !space.drop_shared(5, 0) && !space.drop_shared(4, u32::MAX)
    );
    assert_eq!((space.refs(4), space.used()), (2, 1));
}

#[test]
fn quarantined_again_is_not_released_by_the_first() {
    let space = Space::new(10);
    space.add(3, 1).unwrap();
    space.drop(3, 1).unwrap();
    let first = space.take_quarantine();
    space.add(3, 1).unwrap();
    space.drop(3, 1).unwrap();
    space.release(&first);
    assert_eq!((space.quarantined(), space.free()), (1, 9));
    let second = space.take_quarantine();
    assert_eq!(second, vec![3..4]);
    space.release(&second);
    assert_eq!((space.quarantined(), space.free()), (0, 10));
}

use crate::support::*;
use cowfs::base::ROOT_INO;
use cowfs::fs::{DirEntry, Fs};
use std::collections::{BTreeMap, BTreeSet};

/// One readdir(3) of at most `n` entries.
fn some(fs: &Fs, dir: u64, cookie: u64, n: usize) -> Vec<DirEntry> {
    let mut out = Vec::new();
    fs.readdir(dir, cookie, false, &mut |e, _| {
        if out.len() < n {
            out.push(e.clone());
        }
        out.len() < n
    })
    .unwrap();
    out
}

#[test]
fn order_and_cookies() {
    let w = world();
    let d = mkdir(&w.fs, "d");
    for i in 0..300 {
        file(&w.fs, &format!("d/f{i}"));
    }
    let all = some(&w.fs, d, 0, usize::MAX);
    assert_eq!(all.len(), 302);
    assert_eq!(
        (&all[0].name[..], all[0].ino, all[0].cookie),
        (&b"."[..], d, 1)
    );
    assert_eq!(
        (&all[1].name[..], all[1].ino, all[1].cookie),
        (&b".."[..], ROOT_INO, 2)
    );
    assert!(all.windows(2).all(|w| w[0].cookie < w[1].cookie));
    assert!(
        all.iter()
            .all(|e| i64::try_from(e.cookie).is_ok_and(|c| c > 0))
    );
    // From every cookie on, the rest.
    for (i, e) in all.iter().enumerate() {
        assert_eq!(
            some(&w.fs, d, e.cookie, 5)[..],
            all[(i + 1).min(302)..(i + 6).min(302)]
        );
    }
    assert!(some(&w.fs, d, u64::MAX, 1).is_empty());
    assert!(some(&w.fs, d, i64::MAX as u64, 1).is_empty());
    errno(
        w.fs.readdir(at(&w.fs, "d/f1"), 0, false, &mut |_, _| true),
        libc::ENOTDIR,
    );
    errno(w.fs.readdir(9999, 0, false, &mut |_, _| true), libc::ENOENT);
    // The same after a restart, and in a clone.
    assert_eq!(some(&w.clone_as("e", false), d, 0, usize::MAX), all);
    let w = w.crash();
    assert_eq!(some(&w.fs, d, 0, usize::MAX), all);
}

#[test]
fn an_entry_not_taken_comes_again() {
    let w = world();
    for i in 0..10 {
        file(&w.fs, &format!("f{i}"));
    }
    let (mut cookie, mut seen) = (0, BTreeSet::new());
    loop {
        let mut took = 0;
        w.fs.readdir(ROOT_INO, cookie, true, &mut |e, a| {
            if took == 3 {
                return false;
            }
            assert_eq!(a.map(|a| a.ino), Some(e.ino));
            assert!(seen.insert(e.name.clone()));
            (took, cookie) = (took + 1, e.cookie);
            true
        })
        .unwrap();
        if took == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 12);
}

/// While names come and go between the calls, those that stay are seen exactly once.
#[test]
fn names_come_and_go_while_listing() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let w = world();
    let d = mkdir(&w.fs, "d");
    for i in 0..500 {
        file(&w.fs, &format!("d/keep{i}"));
        file(&w.fs, &format!("d/go{i}"));
    }
    for round in 0..3 {
        let (mut cookie, mut seen) = (0, BTreeMap::<Vec<u8>, u32>::new());
        loop {
            let batch = some(&w.fs, d, cookie, 7);
            let Some(last) = batch.last() else { break };
            cookie = last.cookie;
            for e in batch {
                *seen.entry(e.name).or_default() += 1;
            }
            for _ in 0..4 {
                let i = rng.random_range(0..500);
                let (go, new) = (format!("go{i}"), format!("new{round}-{i}"));
                match rng.random_range(0..3) {
                    0 => drop(w.fs.unlink(d, go.as_bytes())),
                    1 => drop(w.fs.rename(d, go.as_bytes(), d, new.as_bytes(), Default::default())),
                    _ => drop(w.fs.mknod(d, new.as_bytes(), REG | 0o644, 0, &ROOT)),
                }
            }
        }
        for i in 0..500 {
            assert_eq!(seen.get(format!("keep{i}").as_bytes()), Some(&1), "keep{i}");
        }
        assert!(seen.values().all(|n| *n == 1));
    }
    consistent(&w.fs);
}

#[test]
fn removing_all_while_listing() {
    let w = world();
    let d = mkdir(&w.fs, "d");
    for i in 0..1000 {
        file(&w.fs, &format!("d/f{i}"));
    }
    // As rm -r does it.
    let mut cookie = 0;
    loop {
        let batch = some(&w.fs, d, cookie, 50);
        let Some(last) = batch.last() else { break };
        cookie = last.cookie;
        for e in batch.iter().filter(|e| e.kind == REG) {
            w.fs.unlink(d, &e.name).unwrap();
        }
    }
    rmdir(&w.fs, "d");
    w.check();
}

#[test]
fn a_hundred_thousand_names() {
    const N: u32 = 100_000;
    let w = world();
    let d = mkdir(&w.fs, "d");
    for i in 0..N {
        w.fs.mknod(
            d,
            format!("name-{i}").as_bytes(),
            libc::S_IFIFO | 0o644,
            0,
            &ROOT,
        )
        .unwrap();
        if i % 20_000 == 0 {
            w.pool.checkpoint().unwrap();
        }
    }
    let w = w.crash();
    let mut seen = BTreeSet::new();
    w.fs.readdir(d, 0, false, &mut |e, _| {
        assert!(seen.insert(e.name.clone()));
        true
    })
    .unwrap();
    assert_eq!(seen.len() as u32, N + 2);
    for i in (0..N).step_by(997) {
        w.fs.lookup(d, format!("name-{i}").as_bytes()).unwrap();
        errno(
            w.fs.lookup(d, format!("name-{i}-").as_bytes()),
            libc::ENOENT,
        );
    }
    w.check();
}

use super::*;

fn read(d: &FaultyDevice, offset: u64, len: usize) -> Vec<u8> {
    let mut b = vec![0xEE; len];
    d.read_at(offset, &mut b).unwrap();
    b
}

#[test]
fn reads_what_was_written_and_zeros_elsewhere() {
    let d = Machine::new(1).device(0, "d");
    d.write_at(4000, &[7; 200]).unwrap();
    assert_eq!(
        read(&d, 3999, 202),
        [vec![0], vec![7; 200], vec![0]].concat()
    );
    assert_eq!(read(&d, 1 << 40, 3), vec![0; 3]);
}

#[test]
fn a_power_cut_keeps_what_was_flushed_and_may_lose_the_rest() {
    let m = Machine::new(1);
    let d = m.device(0, "d");
    d.write_at(0, &[1; 8192]).unwrap();
    d.sync().unwrap();
    d.write_at(0, &[2; 512]).unwrap();
    d.write_at(4096, &[3; 4096]).unwrap();
    d.sync_ranges(std::slice::from_ref(&(0..512))).unwrap();
    let (mut old, mut new, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let after = m.power_cut(seed).device(0, "d");
        assert_eq!(read(&after, 0, 512), vec![2; 512]);
        assert_eq!(read(&after, 512, 3584), vec![1; 3584]);
        let b = read(&after, 4096, 4096);
        assert!(b.chunks(512).all(|s| s == [1; 512] || s == [3; 512]));
        match (b.contains(&1), b.contains(&3)) {
            (true, false) => old += 1,
            (false, true) => new += 1,
            _ => torn += 1,
        }
    }
    assert!(old > 20 && new > 20 && torn > 2, "{old} {new} {torn}");
}

#[test]
fn writes_may_reach_the_disk_in_any_order() {
    let m = Machine::new(2);
    let (a, b) = (m.device(0, "a"), m.device(1, "b"));
    a.write_at(0, &[1; 512]).unwrap();
    b.write_at(0, &[2; 512]).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let after = m.power_cut(seed);
        seen.insert((
            read(&after.device(0, "a"), 0, 1)[0],
            read(&after.device(1, "b"), 0, 1)[0],
        ));
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let m = Machine::new(1);
    let d = m.device(0, "d");
    for i in 0..50 {
        d.write_at(i * 700, &[i as u8 + 1; 1500]).unwrap();
    }
    for seed in 0..20 {
        let (x, y) = (
            m.power_cut(seed).device(0, "d"),
            m.power_cut(seed).device(0, "d"),
        );
        assert_eq!(read(&x, 0, 40000), read(&y, 0, 40000));
    }
}

#[test]
fn a_restart_keeps_everything() {
    let m = Machine::new(1);
    m.device(0, "d").write_at(100, &[5; 10]).unwrap();
    let after = m.restart();
    assert_eq!(read(&after.device(0, "d"), 100, 10), vec![5; 10]);
    assert_eq!(after.pending(), 0);
}

#[test]
fn a_call_fails_once_and_power_loss_for_good() {
    let m = Machine::new(2);
    let (a, b) = (m.device(0, "a"), m.device(1, "b"));
    m.fail(1, Fault::Error(libc::EIO));
    a.write_at(0, &[1; 512]).unwrap();
    assert_eq!(
        b.write_at(0, &[1; 512]).unwrap_err().raw_os_error(),
        Some(libc::EIO)
    );
    b.write_at(0, &[1; 512]).unwrap();
    m.fail(m.calls(), Fault::PowerLoss);
    assert!(a.sync().is_err());
    assert!(b.read_at(0, &mut [0]).is_err());
    assert_eq!(m.fired(), 2);
}

#[test]
fn a_failed_flush_is_never_made_good() {
    let m = Machine::new(1);
    let d = m.device(0, "d");
    d.write_at(0, &[1; 512]).unwrap();
    m.fail(m.calls(), Fault::Error(libc::EIO));
    assert!(d.sync().is_err());
    d.sync().unwrap();
    assert_eq!(read(&d, 0, 512), vec![1; 512]);
    let lost = (0..100)
        .filter(|s| read(&m.power_cut(*s).device(0, "d"), 0, 1) == [0])
        .count();
    assert!(lost > 10, "{lost}");
    d.write_at(0, &[2; 512]).unwrap();
    d.sync().unwrap();
    assert!((0..100).all(|s| read(&m.power_cut(s).device(0, "d"), 0, 1) == [2]));
}

#[test]
fn space_is_bounded_and_given_back() {
    let m = Machine::new(2);
    let (a, b) = (m.device(0, "a"), m.device(1, "b"));
    m.set_space(Some(4 * PAGE));
    a.reserve(2 * PAGE).unwrap();
    b.write_at(0, &[1; 2 * PAGE as usize]).unwrap();
    assert_eq!(
        b.write_at(2 * PAGE, &[1]).unwrap_err().raw_os_error(),
        Some(libc::ENOSPC)
    );
    a.write_at(PAGE, &[1; PAGE as usize]).unwrap();
    b.write_at(10, &[1; 100]).unwrap();
    assert_eq!(b.usage().unwrap().host_free, 0);
    b.discard(0..PAGE).unwrap();
    b.write_at(2 * PAGE, &[1]).unwrap();
    assert_eq!(read(&b, 0, 10), vec![0; 10]);
    assert_eq!(m.taken(), 4 * PAGE);
}

#[test]
fn the_journal_makes_every_state_again() {
    let m = Machine::new(1);
    m.record();
    let d = m.device(0, "d");
    for i in 0..20u8 {
        d.write_at(u64::from(i) * 300, &[i + 1; 700]).unwrap();
        if i % 5 == 4 {
            d.sync().unwrap();
        }
    }
    d.discard(0..PAGE).unwrap();
    let again = Machine::new(1);
    for e in m.take_journal() {
        again.replay(&e);
    }
    assert_eq!(read(&d, 0, 9000), read(&again.device(0, "d"), 0, 9000));
    for seed in 0..20 {
        let (x, y) = (
            m.power_cut(seed).device(0, "d"),
            again.power_cut(seed).device(0, "d"),
        );
        assert_eq!(read(&x, 0, 9000), read(&y, 0, 9000));
    }
}

//! Figures, not judgements: `cargo test --release --lib tree::tests::speed -- --ignored --nocapture`.

use super::*;
use std::time::Instant;

fn figure(what: &str, n: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {:.0} thousand/s", n as f64 / seconds / 1000.0);
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    const N: u64 = 1_000_000;
    let world = World::new(false);
    let value = |i: u64| vec![i as u8; 100];
    let key = |i: u64| Key::new(i, kind::INODE, 0);
    let scattered = |i: u64| key(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);

    let mut tree = Tree::default();
    let start = Instant::now();
    for i in 0..N {
        world.apply(&mut tree, &Changes::from([(key(i), Some(value(i)))]));
    }
    figure("ascending inserts, one each", N, start);
    println!("  {} nodes", world.nodes.used());

    let start = Instant::now();
    let mut found = 0;
    for i in 0..N {
        found += u64::from(
            tree.get(&world.store, &key(i * 7919 % N))
                .unwrap()
                .is_some(),
        );
    }
    figure("lookups of dirty nodes", N, start);
    assert_eq!(found, N);

    let start = Instant::now();
    world.checkpoint();
    figure("nodes written", world.nodes.used(), start);

    let copy = world.clone_of(tree);
    let start = Instant::now();
    for i in 0..N / 10 {
        let i = i * 7919 % N;
        world.apply(&mut tree, &Changes::from([(key(i), Some(value(i + 1)))]));
    }
    figure("random changes of a clone", N / 10, start);
    world.audit(&[tree, copy]);

    let mut other = Tree::default();
    let start = Instant::now();
    for i in 0..N {
        world.apply(&mut other, &Changes::from([(scattered(i), Some(value(i)))]));
    }
    figure("random inserts, one each", N, start);

    let mut many = Tree::default();
    let start = Instant::now();
    for batch in 0..N / 20 {
        let keys = batch * 20..(batch + 1) * 20;
        world.apply(
            &mut many,
            &keys.map(|i| (scattered(i), Some(value(i)))).collect(),
        );
    }
    figure("random inserts, twenty each", N, start);

    let start = Instant::now();
    assert!(world.items(many).len() as u64 > N * 9 / 10);
    figure("scanned", N, start);
}

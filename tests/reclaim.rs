//! The reclaimer takes a tree apart while writers of a clone leave the nodes it shares with them.

use cowfs::base::VolumeId;
use cowfs::device::MemDevice;
use cowfs::pool::*;
use cowfs::tree::{Key, kind};
use std::sync::Arc;

fn new(name: &str, source: Option<VolumeId>) -> NewVolume {
    NewVolume {
        name: name.into(),
        kind: Kind::Container,
        source,
        limit: None,
        building: false,
        sealed: false,
    }
}

#[test]
fn reclaiming_beside_writers_leaks_nothing() {
    let mem = || Arc::new(MemDevice::new());
    let devices = Devices {
        metadata: mem(),
        data: mem(),
        log: mem(),
    };
    Pool::format(
        &devices,
        &Format {
            size: 1 << 30,
            log_size: 8 << 20,
            ..Format::default()
        },
    )
    .unwrap();
    let config = Config {
        boot: [1; 32],
        interval: std::time::Duration::ZERO,
        ..Config::default()
    };
    let pool = Pool::open(devices, config).unwrap();
    let key = |i: u64| Key::new(i + 2, kind::INLINE, 0);
    for round in 0..150 {
        let a = pool.create(&new(&format!("a{round}"), None)).unwrap().id;
        {
            let v = pool.volume(a).unwrap();
            for part in 0..40u64 {
                let g = v
                    .enter(Need {
                        keys: 20,
                        bytes: 20 << 10,
                        frees: false,
                    })
                    .unwrap();
                g.update(|op| {
                    for i in 0..20 {
                        op.put(key(part * 20 + i), vec![1; 1000]);
                    }
                    Ok(())
                })
                .unwrap();
            }
        }
        let b = pool.create(&new(&format!("b{round}"), Some(a))).unwrap().id;
        let v = pool.volume(b).unwrap();
        pool.remove(a).unwrap();
        let barrier = Arc::new(std::sync::Barrier::new(2));
        let t = {
            let (pool, barrier) = (pool.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                while pool.reclaim(1).unwrap() {}
            })
        };
        barrier.wait();
        for i in (0..800).step_by(13) {
            let g = v.enter(Need::SMALL).unwrap();
            g.update(|op| {
                op.put(key(i), vec![2; 1000]);
                Ok(())
            })
            .unwrap();
        }
        t.join().unwrap();
        let report = pool.check(&|_, _| {}).unwrap();
        assert!(
            report.problems.is_empty(),
            "round {round}: {:?}",
            report.problems
        );
        drop(v);
        pool.remove(b).unwrap();
        while pool.reclaim(1000).unwrap() {}
        pool.checkpoint().unwrap();
    }
}

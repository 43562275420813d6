use super::*;

fn attr(mode: u32) -> Attr {
    let t = Time { sec: 1, nsec: 2 };
    Attr {
        ino: 5,
        mode,
        nlink: 1,
        uid: 7,
        gid: 8,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: t,
        mtime: t,
        ctime: t,
        btime: t,
    }
}

#[test]
fn times_before_1970_survive_the_transport() {
    // As fuser makes them of (seconds, nanoseconds): see `from_request`.
    for (sec, nsec) in [
        (-1i64, 0u32),
        (-1, 1),
        (-1, 999_999_999),
        (-86_400, 500),
        (0, 1),
        (1 << 40, 999_999_999),
    ] {
        let made = if sec >= 0 {
            UNIX_EPOCH + Duration::new(sec as u64, nsec)
        } else {
            UNIX_EPOCH - Duration::new((-sec) as u64, nsec)
        };
        assert_eq!(from_request(made), Time { sec, nsec });
    }
}

#[test]
fn no_time_panics() {
    for sec in [i64::MIN, -1, 0, i64::MAX] {
        for nsec in [0, 999_999_999, u32::MAX] {
            to_system(Time { sec, nsec });
        }
    }
    assert_eq!(
        to_system(Time {
            sec: -1,
            nsec: 250_000_000
        }),
        UNIX_EPOCH - Duration::from_millis(750)
    );
}

#[test]
fn a_file_that_may_be_dirty_shows_a_block() {
    let sealed = Show {
        squash: Squash::default(),
        maybe_dirty: false,
    };
    let writable = Show {
        squash: Squash::default(),
        maybe_dirty: true,
    };
    assert_eq!(sealed.attr(&attr(libc::S_IFREG)).unwrap().blocks, 0);
    assert_eq!(writable.attr(&attr(libc::S_IFREG)).unwrap().blocks, 1);
    assert_eq!(writable.attr(&attr(libc::S_IFIFO)).unwrap().blocks, 0);
}

#[test]
fn squash_and_unknown_types() {
    let show = Show {
        squash: Squash {
            uid: Some(1000),
            gid: None,
        },
        maybe_dirty: false,
    };
    let shown = show.attr(&attr(libc::S_IFDIR | 0o4755)).unwrap();
    assert_eq!((shown.uid, shown.gid, shown.perm), (1000, 8, 0o4755));
    assert!(matches!(
        show.attr(&attr(0o644)),
        Err(Error::Corrupt { .. })
    ));
}

#[test]
fn never_enosys() {
    assert_eq!(errno(&Error::Posix(libc::ENOSYS)).code(), libc::EIO);
    assert_eq!(
        errno(&Error::Posix(libc::ENOTEMPTY)).code(),
        libc::ENOTEMPTY
    );
    assert_eq!(errno(&Error::Posix(0)).code(), libc::EIO);
    assert_eq!(errno(&Error::Posix(-5)).code(), libc::EIO);
    assert_eq!(errno(&Error::NoSpace).code(), libc::ENOSPC);
}

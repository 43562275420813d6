//! Items that make no sense: an error that names the inode, never a panic or an endless walk.

use crate::support::*;
use cowfs::base::{Error, Ino, ROOT_INO};
use cowfs::fs::{Fs, RenameFlags, SetAttr, diff};
use cowfs::pool::Need;
use cowfs::tree::{Key, Read, kind};
use std::sync::Arc;

/// Replaces the item's bytes by what `change` makes of them.
fn damage(fs: &Fs, key: Key, change: &dyn Fn(&mut Vec<u8>)) {
    let g = fs.volume().enter(Need::SMALL).unwrap();
    g.update(|op| {
        let mut value = op.get(&key)?.unwrap_or_default();
        change(&mut value);
        op.put(key, value);
        Ok(())
    })
    .unwrap();
}

fn first(fs: &Fs, object: Ino, kind: u8) -> Key {
    let g = fs.volume().enter(Need::READ).unwrap();
    let (key, _) = g
        .view(|r| r.next(&Key::new(object, kind, 0)))
        .unwrap()
        .unwrap();
    assert_eq!((key.object, key.kind), (object, kind));
    key
}

#[track_caller]
fn corrupt<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
}

#[test]
fn inodes() {
    let w = world();
    let f = file(&w.fs, "f");
    damage(&w.fs, Key::new(f, kind::INODE, 0), &|b| b.truncate(40));
    corrupt(w.fs.attr(f));
    corrupt(w.fs.lookup(ROOT_INO, b"f"));
    corrupt(w.fs.unlink(ROOT_INO, b"f"));
    corrupt(w.fs.rename(ROOT_INO, b"f", ROOT_INO, b"g", RenameFlags::default()));
    corrupt(w.fs.set_attr(
        f,
        &SetAttr {
            mode: Some(0),
            ..SetAttr::default()
        },
        &ROOT,
    ));
    corrupt(w.fs.forget(f));
    // Others are not hit.
    assert!(try_at(&w.fs, "g").is_err());
    file(&w.fs, "h");
}

#[test]
fn an_entry_without_an_inode() {
    let w = world();
    let f = file(&w.fs, "f");
    let g = w.fs.volume().enter(Need::SMALL).unwrap();
    g.update(|op| {
        op.delete(Key::new(f, kind::INODE, 0));
        Ok(())
    })
    .unwrap();
    drop(g);
    corrupt(w.fs.lookup(ROOT_INO, b"f"));
    corrupt(w.fs.unlink(ROOT_INO, b"f"));
    let mut seen = None;
    w.fs.readdir(ROOT_INO, 2, true, &mut |e, a| {
        seen = Some((e.name.clone(), a.is_some()));
        true
    })
    .unwrap();
    assert_eq!(seen, Some((b"f".to_vec(), false)), "still listed");
}

#[test]
fn entries() {
    let w = world();
    file(&w.fs, "f");
    damage(&w.fs, first(&w.fs, ROOT_INO, kind::DIRENT), &|b| {
        b.truncate(11)
    });
    corrupt(w.fs.lookup(ROOT_INO, b"f"));
    corrupt(w.fs.readdir(ROOT_INO, 0, false, &mut |_, _| true));
    corrupt(w.fs.mknod(ROOT_INO, b"f", REG, 0, &ROOT));
}

#[test]
fn attributes() {
    let w = world();
    let f = file(&w.fs, "f");
    let set = |len| {
        w.fs.set_xattr(f, b"user.a", &vec![1; len], cowfs::fs::XattrSet::Any)
            .unwrap()
    };
    set(9000);
    let key = first(&w.fs, f, kind::XATTR);
    damage(
        &w.fs,
        Key {
            offset: key.offset + 1,
            ..key
        },
        &|b| b.truncate(5),
    );
    corrupt(w.fs.xattr(f, b"user.a"));
    set(9000);
    damage(&w.fs, key, &|b| b.truncate(7));
    corrupt(w.fs.xattr(f, b"user.a"));
    corrupt(w.fs.xattrs(f));
    // It goes all the same.
    unlink(&w.fs, "f");
    w.fs.forget(f).unwrap();
    errno(w.fs.attr(f), libc::ENOENT);
    w.check();
}

#[test]
fn parents_in_a_circle() {
    let w = world();
    let (a, b, c) = (
        mkdir(&w.fs, "a"),
        mkdir(&w.fs, "a/b"),
        mkdir(&w.fs, "a/b/c"),
    );
    mkdir(&w.fs, "x");
    damage(&w.fs, Key::new(a, kind::INODE, 0), &|v| {
        v[48..56].copy_from_slice(&c.to_le_bytes())
    });
    corrupt(w.fs.rename(ROOT_INO, b"x", b, b"x", RenameFlags::default()));
    // Its own parent.
    damage(&w.fs, Key::new(a, kind::INODE, 0), &|v| {
        v[48..56].copy_from_slice(&a.to_le_bytes())
    });
    corrupt(w.fs.rename(ROOT_INO, b"x", c, b"x", RenameFlags::default()));
    let base = w.clone_as("c@base", true);
    file(&w.fs, "a/b/c/new");
    diff(&base, &w.fs).unwrap();
}

#[test]
fn symbolic_links() {
    let w = world();
    let s = w.fs.symlink(ROOT_INO, b"s", b"target", &ROOT).unwrap().ino;
    damage(&w.fs, Key::new(s, kind::INLINE, 0), &|b| b.truncate(2));
    corrupt(w.fs.readlink(s));
}

#[test]
fn the_superitem() {
    let key = Key::new(0, kind::SUPER, 0);
    let open = |change: &dyn Fn(&mut Vec<u8>)| {
        let w = world();
        damage(&w.fs, key, change);
        let World { fs, pool, id, .. } = w;
        drop(fs);
        Fs::open(pool.volume(id).unwrap())
    };
    let of = |r: cowfs::base::Result<Arc<Fs>>| r.err();
    assert!(matches!(
        of(open(&|b| b.truncate(63))),
        Some(Error::Corrupt { .. })
    ));
    assert!(matches!(
        of(open(&|b| b[0] = 2)),
        Some(Error::Version { .. })
    ));
    assert!(matches!(
        of(open(&|b| b[8] = 1)),
        Some(Error::Version { .. })
    ));
    // A feature that forbids only writing.
    let fs = open(&|b| b[16] = 1).unwrap();
    errno(fs.mkdir(ROOT_INO, b"d", 0o755, &ROOT), libc::EROFS);
    assert_eq!(fs.attr(ROOT_INO).unwrap().nlink, 2);
    open(&|b| b[24] = 1)
        .unwrap()
        .mkdir(ROOT_INO, b"d", 0o755, &ROOT)
        .unwrap();
    let w = world();
    let id = w.pool.create(&new_volume("empty", None, false)).unwrap().id;
    assert!(matches!(
        of(Fs::open(w.pool.volume(id).unwrap())),
        Some(Error::Invalid(_))
    ));
}

#[test]
fn orphans_do_not_keep_a_volume_closed() {
    let w = world();
    let (f, g) = (file(&w.fs, "f"), file(&w.fs, "g"));
    unlink(&w.fs, "f");
    unlink(&w.fs, "g");
    damage(&w.fs, Key::new(f, kind::INODE, 0), &|b| b.truncate(9));
    damage(&w.fs, Key::new(0, kind::ORPHAN, 999), &|b| {
        b.extend_from_slice(&[1; 16])
    });
    damage(&w.fs, Key::new(0, kind::ORPHAN, 1000), &|b| b.push(1));
    let w = w.crash();
    corrupt(w.fs.attr(f));
    errno(w.fs.attr(g), libc::ENOENT);
    file(&w.fs, "h");
}

/// Random bytes in random items: every call answers.
#[test]
fn anything() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    for _ in 0..60 {
        let w = world();
        for d in ["a", "a/b", "c"] {
            mkdir(&w.fs, d);
        }
        for f in ["a/f", "a/b/g", "c/h"] {
            let ino = file(&w.fs, f);
            w.fs.set_xattr(ino, b"user.x", &[3; 5000], cowfs::fs::XattrSet::Any)
                .unwrap();
        }
        link(&w.fs, "a/f", "c/l");
        w.fs.symlink(ROOT_INO, b"s", b"t", &ROOT).unwrap();
        let base = w.clone_as("c@base", true);
        let mut keys = Vec::new();
        let g = w.fs.volume().enter(Need::READ).unwrap();
        g.view(|r| {
            keys.clear();
            r.scan(&Key::new(1, 0, 0), &Key::MAX, &mut |k, _| {
                keys.push(*k);
                Ok(std::ops::ControlFlow::Continue(()))
            })
        })
        .unwrap();
        drop(g);
        for _ in 0..6 {
            let key = keys[rng.random_range(0..keys.len())];
            let (at, byte, cut) = (
                rng.random_range(0..200usize),
                rng.random_range(0..=255u8),
                rng.random_range(0..9),
            );
            damage(&w.fs, key, &|b| match b.len() {
                0 => b.push(byte),
                n if cut == 0 => b.truncate(at % n),
                n => b[at % n] ^= byte,
            });
        }
        for path in ["a", "a/b", "c", "a/f", "a/b/g", "c/h", "c/l", "s"] {
            let Ok(ino) = try_at(&w.fs, path) else {
                continue;
            };
            let _ = w.fs.readdir(ino, 0, true, &mut |_, _| true);
            let _ = w.fs.xattr(ino, b"user.x");
            let _ = w.fs.xattrs(ino);
            let _ = w.fs.readlink(ino);
            let _ = w.fs.touch_atime(ino);
            let _ = w.fs.set_attr(
                ino,
                &SetAttr {
                    mode: Some(0o600),
                    uid: Some(1),
                    ..SetAttr::default()
                },
                &ROOT,
            );
            let _ = w.fs.link(ino, ROOT_INO, b"new");
        }
        let _ = diff(&base, &w.fs);
        let _ =
            w.fs.rename(ROOT_INO, b"a", ROOT_INO, b"z", RenameFlags::default());
        let _ = w.fs.rename(
            ROOT_INO,
            b"c",
            ROOT_INO,
            b"z",
            RenameFlags {
                exchange: true,
                ..Default::default()
            },
        );
        for path in ["z/f", "z/b/g", "c/h", "c/l", "s", "new"] {
            if let Some((dir, name)) = path.rsplit_once('/').or(Some(("", path)))
                && let Ok(dir) = try_at(&w.fs, dir)
                && let Ok(gone) = w.fs.unlink(dir, name.as_bytes())
            {
                let _ = w.fs.forget(gone.ino);
            }
        }
        drop(w.crash());
    }
}

/// Link counts at their limit, which nobody reaches by linking.
#[test]
fn too_many_links() {
    let w = world();
    let (f, d) = (file(&w.fs, "f"), mkdir(&w.fs, "d"));
    mkdir(&w.fs, "e");
    for ino in [f, d] {
        let most = cowfs::fs::LINK_MAX.to_le_bytes();
        damage(&w.fs, Key::new(ino, kind::INODE, 0), &|b| {
            b[8..12].copy_from_slice(&most)
        });
    }
    errno(w.fs.link(f, ROOT_INO, b"g"), libc::EMLINK);
    errno(w.fs.mkdir(d, b"sub", 0o755, &ROOT), libc::EMLINK);
    errno(
        w.fs.rename(ROOT_INO, b"e", d, b"e", RenameFlags::default()),
        libc::EMLINK,
    );
    // What adds no link goes on.
    w.fs.rename(ROOT_INO, b"f", d, b"f", RenameFlags::default())
        .unwrap();
    w.fs.unlink(d, b"f").unwrap();
}

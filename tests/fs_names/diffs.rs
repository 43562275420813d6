use crate::support::*;
use cowfs::base::ROOT_INO;
use cowfs::fs::{ChangeKind, Fs, RenameFlags, SetAttr, XattrSet, diff};
use std::sync::Arc;

/// `A /path` and so on, in order.
pub fn lines(base: &Arc<Fs>, fs: &Arc<Fs>) -> Vec<String> {
    let changes = diff(base, fs).unwrap();
    assert!(
        changes.windows(2).all(|w| w[0].1 < w[1].1),
        "sorted, each path once"
    );
    let letter = |k| match k {
        ChangeKind::Added => 'A',
        ChangeKind::Changed => 'C',
        ChangeKind::Deleted => 'D',
    };
    changes
        .iter()
        .map(|(k, p)| format!("{} {}", letter(*k), String::from_utf8_lossy(p)))
        .collect()
}

/// A small image and a clone of it, and what `change` did.
fn after(change: impl FnOnce(&Fs)) -> Vec<String> {
    let w = world();
    for d in ["etc", "etc/sub", "usr", "usr/bin", "empty", "old", "old/in"] {
        mkdir(&w.fs, d);
    }
    for f in [
        "etc/a",
        "etc/b",
        "etc/sub/c",
        "usr/bin/x",
        "old/f",
        "old/in/g",
        "top",
    ] {
        file(&w.fs, f);
    }
    link(&w.fs, "etc/a", "usr/hard");
    link(&w.fs, "etc/a", "usr/bin/hard");
    let base = w.clone_as("c@base", true);
    assert_eq!(lines(&base, &w.fs), Vec::<String>::new());
    tick();
    change(&w.fs);
    let found = lines(&base, &w.fs);
    w.check();
    found
}

fn chmod(fs: &Fs, path: &str, mode: u32) {
    fs.set_attr(
        at(fs, path),
        &SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        },
        &ROOT,
    )
    .unwrap();
}

fn mv(fs: &Fs, from: &str, to: &str) {
    let ((dir, name), (new_dir, new_name)) = (split(fs, from), split(fs, to));
    fs.rename(dir, name, new_dir, new_name, RenameFlags::default())
        .unwrap();
}

#[test]
fn added() {
    let found = after(|fs| {
        file(fs, "etc/new");
        mkdir(fs, "n");
        mkdir(fs, "n/m");
        file(fs, "n/m/deep");
        fs.symlink(ROOT_INO, b"s", b"x", &ROOT).unwrap();
    });
    assert_eq!(
        found,
        [
            "C /etc",
            "A /etc/new",
            "A /n",
            "A /n/m",
            "A /n/m/deep",
            "A /s"
        ]
    );
}

#[test]
fn changed() {
    let found = after(|fs| {
        chmod(fs, "etc/sub/c", 0o600);
        fs.set_xattr(at(fs, "top"), b"user.a", b"", XattrSet::Any)
            .unwrap();
        chmod(fs, "empty", 0o700);
    });
    assert_eq!(found, ["C /empty", "C /etc/sub/c", "C /top"]);
}

#[test]
fn the_root_itself() {
    let found = after(|fs| {
        file(fs, "x");
    });
    assert_eq!(found, ["A /x"], "new names alone do not name the root");
    let found = after(|fs| {
        fs.set_attr(
            ROOT_INO,
            &SetAttr {
                mode: Some(0o711),
                ..SetAttr::default()
            },
            &ROOT,
        )
        .unwrap();
    });
    assert_eq!(found, ["C /"]);
    let found = after(|fs| {
        fs.set_xattr(ROOT_INO, b"user.a", b"1", XattrSet::Any)
            .unwrap()
    });
    assert_eq!(found, ["C /"]);
}

#[test]
fn deleted() {
    let found = after(|fs| {
        unlink(fs, "etc/b");
        unlink(fs, "old/f");
        unlink(fs, "old/in/g");
        rmdir(fs, "old/in");
        rmdir(fs, "old");
    });
    assert_eq!(found, ["C /etc", "D /etc/b", "D /old"]);
}

#[test]
fn access_times_are_no_change() {
    let found = after(|fs| {
        let f = at(fs, "top");
        fs.touch_atime(f).unwrap();
        fs.touch_atime(at(fs, "etc")).unwrap();
        fs.touch_atime(ROOT_INO).unwrap();
        assert!(fs.attr(f).unwrap().atime > fs.attr(f).unwrap().mtime);
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn all_names_of_a_changed_file() {
    let found = after(|fs| chmod(fs, "usr/hard", 0o600));
    assert_eq!(found, ["C /etc/a", "C /usr/bin/hard", "C /usr/hard"]);
    let found = after(|fs| {
        unlink(fs, "etc/a");
    });
    // Link counts changed.
    assert_eq!(
        found,
        ["C /etc", "D /etc/a", "C /usr/bin/hard", "C /usr/hard"]
    );
}

#[test]
fn moved() {
    let found = after(|fs| mv(fs, "top", "etc/top"));
    assert_eq!(found, ["C /etc", "A /etc/top", "D /top"]);
    let found = after(|fs| {
        mv(fs, "old", "usr/new");
        chmod(fs, "usr/new/f", 0o600);
    });
    assert_eq!(
        found,
        [
            "D /old",
            "C /usr",
            "A /usr/new",
            "A /usr/new/f",
            "A /usr/new/in",
            "A /usr/new/in/g"
        ]
    );
    // A file changed below a directory that moved away and back.
    let found = after(|fs| {
        mv(fs, "old", "away");
        chmod(fs, "away/in/g", 0o600);
        mv(fs, "away", "old");
    });
    assert_eq!(found, ["C /old", "C /old/in/g"]);
}

#[test]
fn replaced() {
    let found = after(|fs| {
        file(fs, "etc/new");
        mv(fs, "etc/new", "etc/b");
    });
    assert_eq!(found, ["C /etc", "C /etc/b"]);
    // A file by a directory, and the other way round.
    let found = after(|fs| {
        unlink(fs, "top");
        mkdir(fs, "top");
        file(fs, "top/f");
        unlink(fs, "old/f");
        unlink(fs, "old/in/g");
        rmdir(fs, "old/in");
        rmdir(fs, "old");
        file(fs, "old");
    });
    assert_eq!(found, ["C /old", "C /top", "A /top/f"]);
    // A directory by another of the same name: compared name by name.
    let found = after(|fs| {
        mkdir(fs, "made");
        mkdir(fs, "made/in");
        file(fs, "made/in/new");
        mv(fs, "old/f", "made/f");
        unlink(fs, "old/in/g");
        rmdir(fs, "old/in");
        mv(fs, "made", "old");
    });
    assert_eq!(
        found,
        [
            "C /old",
            "C /old/f",
            "C /old/in",
            "D /old/in/g",
            "A /old/in/new"
        ]
    );
    let found = after(|fs| {
        let flags = RenameFlags {
            exchange: true,
            ..RenameFlags::default()
        };
        fs.rename(ROOT_INO, b"old", ROOT_INO, b"etc", flags)
            .unwrap();
    });
    assert_eq!(
        found,
        [
            "C /etc",
            "D /etc/a",
            "D /etc/b",
            "A /etc/f",
            "A /etc/in",
            "A /etc/in/g",
            "D /etc/sub",
            "C /old",
            "A /old/a",
            "A /old/b",
            "D /old/f",
            "D /old/in",
            "A /old/sub",
            "A /old/sub/c",
        ]
    );
}

#[test]
fn a_name_removed_and_made_again() {
    let found = after(|fs| {
        unlink(fs, "etc/b");
        file(fs, "etc/b");
        file(fs, "empty/x");
        unlink(fs, "empty/x");
    });
    assert_eq!(found, ["C /empty", "C /etc", "C /etc/b"]);
}

#[test]
fn both_directions_and_unrelated_volumes() {
    let w = world();
    file(&w.fs, "same");
    let base = w.clone_as("c@base", true);
    file(&w.fs, "new");
    assert_eq!(lines(&w.fs, &base), ["D /new"]);
    let id = w.pool.create(&new_volume("other", None, false)).unwrap().id;
    let volume = w.pool.volume(id).unwrap();
    Fs::format(&volume, 0o755).unwrap();
    let other = Fs::open(volume).unwrap();
    mkdir(&other, "d");
    file(&other, "d/x");
    file(&other, "same");
    assert_eq!(
        lines(&w.fs, &other),
        ["A /d", "A /d/x", "D /new", "C /same"]
    );
}

#[test]
fn files_without_a_name_are_not_seen() {
    let found = after(|fs| {
        unlink(fs, "top");
        fs.tmpfile(ROOT_INO, 0o600, &ROOT).unwrap();
    });
    assert_eq!(found, ["D /top"]);
}

#[test]
fn only_what_differs_is_walked() {
    let w = world();
    for d in 0..50 {
        mkdir(&w.fs, &format!("d{d}"));
        for f in 0..40 {
            file(&w.fs, &format!("d{d}/f{f}"));
        }
    }
    let base = w.clone_as("c@base", true);
    tick();
    chmod(&w.fs, "d7/f3", 0o600);
    assert_eq!(lines(&base, &w.fs), ["C /d7/f3"]);
    let mut n = 0;
    w.pool
        .diff(base.volume().id(), w.id, &mut |_, _, _| {
            n += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(n, 1, "one item differs");
}

use super::*;

#[test]
fn lines_of_mountinfo() {
    let m = line(b"36 35 0:98 / /mnt/a\\040b rw,noatime shared:1 master:2 - fuse.cowfs container=web rw,user_id=0").unwrap();
    let expected = Mounted {
        device: "0:98".into(),
        dir: "/mnt/a b".into(),
        kind: "fuse.cowfs".into(),
        source: "container=web".into(),
    };
    assert_eq!(m, expected);
    assert_eq!(line(b"36 35 0:98 / /mnt"), None);
    assert_eq!(line(b""), None);
    assert_eq!(unescaped(b"a\\134b\\x\\04"), "a\\b\\x\\04");
    assert!(mounted_on(Path::new("/proc")).is_some_and(|m| m.kind == "proc"));
}

#[test]
fn the_pool_from_fstab() {
    let there = |dir: &str, source: &str| Mounted {
        device: "0:1".into(),
        dir: dir.into(),
        kind: "fuse.cowfs".into(),
        source: source.into(),
    };
    let fstab = b"# container=web /nowhere/web cowfs pool=/wrong 0 0\n\
        container=web\t/nowhere/other cowfs pool=/other\n\
        /dev/sda1 / ext4 defaults 0 1\n\
        container=web  /nowhere/web  cowfs  user,exec,pool=/srv/pool,bogus 0 0\n\
        image=a\\040b /nowhere/i fuse.cowfs pool=/i\n\
        broken\n";
    let find = |dir: &str, source: &str| in_fstab(fstab, &there(dir, source));
    assert_eq!(
        find("/nowhere/web", "container=web"),
        Some("/srv/pool".into())
    );
    assert_eq!(
        find("/nowhere/other", "container=web"),
        Some("/other".into())
    );
    assert_eq!(find("/nowhere/i", "image=a b"), Some("/i".into()));
    assert_eq!(find("/nowhere/web", "container=db"), None);
    assert_eq!(find("/", "/dev/sda1"), None);
}

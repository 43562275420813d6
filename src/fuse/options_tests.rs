use super::*;

#[test]
fn later_words_win() {
    let o = MountOptions::parse("ro,nodev,rw,dev,noexec,exec,nosuid,suid").unwrap();
    assert_eq!(o, MountOptions::default());
    let o =
        MountOptions::parse("rw,ro,nodev,nosuid,noexec,noatime,nodiratime,allow_other").unwrap();
    assert!(o.read_only && o.nodev && o.nosuid && o.noexec && o.nodiratime);
    assert_eq!((o.atime, o.allow_other), (Atime::Noatime, Some(true)));
}

#[test]
fn words_of_fstab() {
    let o = MountOptions::parse(
        "defaults,user,exec,nofail,_netdev,x-systemd.automount,x-a=b,comment=hello,noauto",
    )
    .unwrap();
    assert!(
        o.nosuid && o.nodev && !o.noexec,
        "user implies three, exec takes one back"
    );
    assert_eq!(MountOptions::parse("").unwrap(), MountOptions::default());
}

#[test]
fn values() {
    let o = MountOptions::parse("uid=1000,gid=100,fsname=my pool").unwrap();
    assert_eq!(
        o.squash,
        Squash {
            uid: Some(1000),
            gid: Some(100)
        }
    );
    assert_eq!(o.fsname.as_deref(), Some("my pool"));
    for bad in [
        "uid",
        "uid=",
        "uid=me",
        "gid=-1",
        "uid=4294967295",
        "fsname=",
    ] {
        assert!(
            matches!(MountOptions::parse(bad), Err(Error::Invalid(_))),
            "{bad}"
        );
    }
}

#[test]
fn the_unknown_word_is_named() {
    for bad in ["lowerdir=/x", "bogus", "ro=1", "subtype=x", "nonempty"] {
        let e = MountOptions::parse(&format!("ro,{bad}"))
            .unwrap_err()
            .to_string();
        assert!(e.contains(&format!("'{bad}'")), "{e}");
    }
}

#[test]
fn words_for_fusermount() {
    let o = MountOptions::parse("ro,noexec,noatime").unwrap();
    assert_eq!(
        o.fusermount_words("a,b\\c"),
        "fsname=a\\,b\\\\c,subtype=cowfs,default_permissions,ro,noexec,noatime"
    );
}

use super::*;

fn words(text: &str) -> Vec<String> {
    Options::parse(text, false).unwrap().words
}

#[test]
fn what_mount_says_of_itself_is_passed_over() {
    assert_eq!(
        words(
            "defaults,auto,noauto,nofail,_netdev,x-systemd.automount,X-mount.mkdir=0755,comment=hello,x-a=b,nouser"
        ),
        [""; 0]
    );
    assert_eq!(
        words("ro,nodev,relatime,uid=5,fsname=x"),
        ["ro", "nodev", "relatime", "uid=5", "fsname=x"]
    );
}

#[test]
fn user_implies_and_later_words_win() {
    let o = Options::parse("rw,noexec,nosuid,nodev,exec,user=ann", false).unwrap();
    assert!(o.is("noexec", "exec"));
    let o = Options::parse("user,exec", false).unwrap();
    assert!(o.is("exec", "noexec") && o.is("nosuid", "suid") && o.is("nodev", "dev"));
    assert_eq!(words("owner"), ["nosuid", "nodev"]);
    assert_eq!(words("users,suid"), ["noexec", "nosuid", "nodev", "suid"]);
}

#[test]
fn ours() {
    let o = Options::parse("pool=/srv/pool,container=web,remount", false).unwrap();
    assert_eq!(
        (o.pool.as_deref(), o.volume.as_deref(), o.remount),
        (Some("/srv/pool"), Some("container=web"), true)
    );
    assert_eq!(o.words, [""; 0]);
}

#[test]
fn unknown_ones_are_named_unless_sloppy() {
    let wrong = |t: &str| Options::parse(t, false).unwrap_err().line.unwrap();
    assert_eq!(wrong("ro,bogus"), "unknown option 'bogus'");
    assert_eq!(wrong("bogus=5"), "unknown option 'bogus=5'");
    assert_eq!(wrong("ro=1"), "unknown option 'ro=1'");
    assert!(wrong("pool=relative").contains("absolute"));
    assert!(wrong("container=").contains("needs a name"));
    assert!(wrong("container=a,image=b").contains("one volume"));
    assert_eq!(
        Options::parse("ro,bogus,bogus=5", true).unwrap().words,
        ["ro"]
    );
}

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\ndaemon:x:1:1::/usr/sbin:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n\
    1234:x:55:56::/home/number:/bin/sh\nhuge:x:4294967295:1::/:/\nnohome:x:7:7\n";
const GROUP: &str =
    "root:x:0:\naudio:x:29:daemon,ann\nann:x:1000:\nvideo:x:44: ann,root\nbad:x:y:ann\n";

fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> User {
    User {
        uid,
        gid,
        groups: groups.to_vec(),
        home: home.into(),
    }
}

#[test]
fn names_numbers_and_groups() {
    let r = |words: &str| resolve(words, PASSWD, GROUP).unwrap();
    assert_eq!(r(""), user(0, 0, &[44], "/root"));
    assert_eq!(r("root"), user(0, 0, &[44], "/root"));
    assert_eq!(r("ann"), user(1000, 1000, &[29, 44], "/home/ann"));
    assert_eq!(r("1000"), user(1000, 1000, &[29, 44], "/home/ann"));
    assert_eq!(r("ann:video"), user(1000, 44, &[], "/home/ann"));
    assert_eq!(r("ann:77"), user(1000, 77, &[], "/home/ann"));
    assert_eq!(r("ann:"), user(1000, 1000, &[29, 44], "/home/ann"));
    assert_eq!(r("4000:4001"), user(4000, 4001, &[], "/"));
    assert_eq!(r("4000"), user(4000, 0, &[], "/"));
    assert_eq!(r(":29"), user(0, 29, &[], "/root"));
    // A name made of digits is a name first.
    assert_eq!(r("1234"), user(55, 56, &[], "/home/number"));
    assert_eq!(r("nohome"), user(7, 7, &[], "/"));
}

#[test]
fn what_does_not_exist_is_named() {
    let e = |words: &str| resolve(words, PASSWD, GROUP).unwrap_err().to_string();
    assert!(e("eve").contains("'eve'"));
    assert!(e("ann:eve").contains("group 'eve'"));
    assert!(e("huge").contains("'huge'"));
    assert!(e("4294967295").contains("4294967295"));
    assert!(e("-1").contains("'-1'"));
}

#[test]
fn without_files_numbers_work() {
    assert_eq!(resolve("", "", "").unwrap(), user(0, 0, &[], "/"));
    assert_eq!(resolve("5:6", "", "").unwrap(), user(5, 6, &[], "/"));
}

use super::*;

#[test]
fn a_line_of_the_kernel() {
    let line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n";
    let all = parse(line);
    assert_eq!(all.len(), 1);
    let m = &all[0];
    assert_eq!((m.id, m.parent, m.device), (36, 35, (98, 0)));
    assert_eq!(
        (m.root.to_str(), m.dir.to_str()),
        (Some("/mnt1"), Some("/mnt2"))
    );
    assert_eq!(
        (m.options.as_str(), m.fs_type.as_str()),
        ("rw,noatime", "ext3")
    );
    assert_eq!(
        (m.source.to_str(), m.super_options.as_str()),
        (Some("/dev/root"), "rw,errors=continue")
    );
    assert!(!m.is_cowfs());
}

#[test]
fn escapes_and_no_optional_fields() {
    let m =
        parse(b"99 1 0:57 / /a\\040b\\134c\\011\\012x rw - fuse.cowfs my\\040pool rw,user_id=0\n")
            .remove(0);
    assert_eq!(m.dir.as_os_str().as_bytes(), b"/a b\\c\t\nx");
    assert_eq!(m.source.as_bytes(), b"my pool");
    assert!(m.is_cowfs());
    assert_eq!(m.connection(), 57);
}

#[test]
fn a_backslash_that_begins_no_escape_stays() {
    assert_eq!(unescape(b"a\\9").as_bytes(), b"a\\9");
    assert_eq!(unescape(b"\\").as_bytes(), b"\\");
    assert_eq!(unescape(b"\\04").as_bytes(), b"\\04");
    assert_eq!(
        unescape(b"\\777").as_bytes(),
        b"\\777",
        "more than a byte holds"
    );
}

#[test]
fn what_makes_no_sense_is_passed_over() {
    for line in [
        "",
        "x",
        "1 2",
        "1 2 0:1 / /d rw shared:1",
        "a b c:d / / rw - t s o",
        "1 2 0 / /d rw - t s o",
        "1 2 0:1 / /d rw - t",
    ] {
        assert!(parse(line.as_bytes()).is_empty(), "{line:?}");
    }
    // An empty source is legal: two spaces.
    assert_eq!(parse(b"1 2 0:1 / /d rw - tmpfs  rw").len(), 1);
}

#[test]
fn this_machine() {
    assert!(mounts().unwrap().iter().any(|m| m.dir == Path::new("/")));
}

use super::*;

fn parse(line: &str) -> Result<Words, Exit> {
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    Words::parse(&words, b"sfnv")
}

#[test]
fn as_mount_calls_its_helpers() {
    let w = parse("container=web /mnt -s -fn -o rw,user -v -o pool=/p -t cowfs -N /proc/7/ns/mnt")
        .unwrap();
    assert_eq!(w.plain, ["container=web", "/mnt"]);
    assert_eq!(w.options, "rw,user,pool=/p");
    assert_eq!(w.flags, b"sfnv");
    assert!(w.has(b's') && !w.has(b'l'));
    assert_eq!(w.namespace.as_deref(), Some(OsStr::new("/proc/7/ns/mnt")));
}

#[test]
fn flags_first_joined_and_ended() {
    let w = parse("-nvoro,noexec -- -odd dir").unwrap();
    assert_eq!(
        (w.plain, w.options.as_str(), w.flags),
        (
            vec!["-odd".into(), "dir".into()],
            "ro,noexec",
            b"nv".to_vec()
        )
    );
    assert_eq!(
        parse("a -x").unwrap_err().line.unwrap(),
        "unknown flag '-x'"
    );
    assert_eq!(parse("a b -o").unwrap_err().code, 1);
    assert_eq!(parse("- b").unwrap().plain, ["-", "b"]);
}

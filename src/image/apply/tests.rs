use super::paths::{aufs, clean, split};

fn cleaned(path: &[u8]) -> Vec<u8> {
    clean(path).unwrap().into_owned()
}

#[test]
fn names_are_taken_apart_as_text() {
    for (path, expect) in [
        (&b"./usr/bin/"[..], &b"usr/bin"[..]),
        (b"/usr//./bin", b"usr/bin"),
        (b"usr/../bin", b"bin"),
        (b"./", b""),
        (b"/", b""),
        (b".", b""),
        (b"", b""),
        (b"a/..", b""),
        (b"...", b"..."),
        (b"./.a", b".a"),
        (b"a.", b"a."),
        (b"a/.", b"a"),
        (b"\xff/\xfe", b"\xff/\xfe"),
    ] {
        assert_eq!(cleaned(path), expect, "{path:?}");
    }
}

#[test]
fn names_that_lead_out_or_are_too_long_are_refused() {
    for path in [
        &b".."[..],
        b"../etc/passwd",
        b"a/../../b",
        b"/..",
        b"./../x",
    ] {
        assert!(
            clean(path).unwrap_err().to_string().contains(".."),
            "{path:?}"
        );
    }
    assert!(clean(&[b'a'; 255]).is_ok());
    assert!(clean(&[b'a'; 256]).unwrap_err().to_string().contains("255"));
    assert!(clean(&b"a/".repeat(2048)).is_ok());
    assert!(
        clean(&b"a/".repeat(10_000))
            .unwrap_err()
            .to_string()
            .contains("20000 bytes")
    );
    assert!(clean(b"a\0b").is_err());
}

#[test]
fn parts() {
    assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
    assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
    assert!(aufs(b".wh..wh.plnk") && aufs(b"a/.wh..wh.orph/x"));
    assert!(!aufs(b"a/.wh..wh..opq") && !aufs(b".wh.a"));
}

//! What is decided here without a daemon: names, lines, times.

use super::names;
use super::proto::{Greeting, Raw, Reply, Request, Response};
use super::start::in_service;
use super::time::{parse_rfc3339, rfc3339};
use super::wire::{Wire, gone};
use crate::base::{Error, ExitKind, Time};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

#[test]
fn lines_as_other_programs_see_them() {
    let json = |r: &Request| serde_json::to_string(r).unwrap();
    assert_eq!(json(&Request::Ping), r#"{"do":"ping"}"#);
    assert_eq!(
        json(&Request::Create {
            image: "a".into(),
            name: None,
            size: Some(7)
        }),
        r#"{"do":"create","image":"a","name":null,"size":7}"#
    );
    let read = |s: &str| serde_json::from_str::<Request>(s);
    assert!(matches!(
        read(r#"{"do":"remove","names":["a"],"later":1}"#),
        Ok(Request::Remove { force: false, .. })
    ));
    assert!(read(r#"{"do":"remove"}"#).is_err());
    assert!(read(r#"{"do":"somersault"}"#).is_err());
    assert_eq!(
        serde_json::to_string(&Reply::Done(Response::Name("x".into()))).unwrap(),
        r#"{"done":{"name":"x"}}"#
    );
    let hello: Greeting = serde_json::from_str(r#"{"version":2,"pid":5}"#).unwrap();
    assert_eq!((hello.version, hello.refusal), (2, None));
}

#[test]
fn paths_of_any_bytes_survive() {
    for bytes in [
        &b"/plain"[..],
        b"",
        b"\\",
        b"\\x41",
        b"\xff\xfe/\x80",
        "grüße".as_bytes(),
        b"a\nb\"c\x00",
        b"\xe2\x82",
    ] {
        let raw = Raw(bytes.to_vec());
        let json = serde_json::to_string(&raw).unwrap();
        assert_eq!(serde_json::from_str::<Raw>(&json).unwrap(), raw, "{json}");
    }
    assert_eq!(
        serde_json::to_string(&Raw(b"\xffa\\".to_vec())).unwrap(),
        r#""\\xffa\\\\""#
    );
    for wrong in [r#""\\""#, r#""\\x""#, r#""\\x4""#, r#""\\xg0""#, r#""\\n""#] {
        assert!(serde_json::from_str::<Raw>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn failures_keep_their_words_and_kind() {
    for e in [
        Error::NoSpace,
        Error::Busy("b".into()),
        Error::Posix(libc::ENOENT),
        Error::Denied("d".into()),
        Error::corrupt("x", "y"),
        Error::Quota,
    ] {
        let told = super::Failure::of(&e).into_error();
        assert_eq!(
            (told.to_string(), told.exit_kind(), told.errno()),
            (e.to_string(), e.exit_kind(), e.errno())
        );
    }
    assert_eq!(
        super::Failure {
            exit: 77,
            errno: 0,
            message: String::new()
        }
        .into_error()
        .exit_kind(),
        ExitKind::Failure
    );
}

#[test]
fn names_that_may_be() {
    for good in ["web", "a", "0a", "A_b.c-d", &"x".repeat(128)] {
        assert!(names::container(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "7",
        "1234",
        "-a",
        ".a",
        "_a",
        "a b",
        "a/b",
        "a@b",
        "a:b",
        "é",
        "a\n",
        &"x".repeat(129),
    ] {
        assert!(names::container(bad).is_err(), "{bad:?}");
    }
    assert_eq!(names::snapshot("web@one").unwrap(), ("web", "one"));
    for bad in ["web", "web@", "@one", "web@a@b", "web@-"] {
        assert!(names::snapshot(bad).is_err(), "{bad}");
    }
    assert_eq!(names::image("debian").unwrap(), "debian:latest");
    assert_eq!(names::image("host:5000/a/b:1").unwrap(), "host:5000/a/b:1");
    assert_eq!(names::image("host:5000/a").unwrap(), "host:5000/a:latest");
    for bad in [
        "", ":", "a:", "a::b", "/a", "a/", "a@b", "a b", "a:-x", "x:y:z",
    ] {
        assert!(names::image(bad).is_err(), "{bad}");
    }
    assert!(names::container(&names::made_up()).is_ok());
    assert!(names::container(&names::made_up_longer()).is_ok());
    assert_eq!(names::digest_start("sha256:abcd"), Some("abcd"));
    assert_eq!(names::digest_start("abcdef01"), Some("abcdef01"));
    for not in ["abc", "abcg", "ABCD", &"a".repeat(65)] {
        assert_eq!(names::digest_start(not), None, "{not}");
    }
    assert!(!names::shown("a\nb\x1b[2J").contains(['\n', '\x1b']));
}

#[test]
fn times_there_and_back() {
    assert_eq!(rfc3339(Time { sec: 0, nsec: 0 }), "1970-01-01T00:00:00Z");
    assert_eq!(
        rfc3339(Time {
            sec: 1_600_000_000,
            nsec: 5
        }),
        "2020-09-13T12:26:40Z"
    );
    assert_eq!(rfc3339(Time { sec: -1, nsec: 0 }), "1969-12-31T23:59:59Z");
    assert_eq!(
        rfc3339(Time {
            sec: 951_782_400,
            nsec: 0
        }),
        "2000-02-29T00:00:00Z"
    );
    for sec in (-5_000_000_000..20_000_000_000i64).step_by(86_399 * 977) {
        assert_eq!(parse_rfc3339(&rfc3339(Time { sec, nsec: 0 })), Some(sec));
    }
    assert_eq!(
        parse_rfc3339("2020-09-13T14:26:40.123456789+02:00"),
        Some(1_600_000_000)
    );
    for wrong in [
        "",
        "2020",
        "2020-13-01T00:00:00Z",
        "2020-09-13T12:26:40",
        "2020-09-13T12:26:40é",
        "yesterday, at some time",
    ] {
        assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
    }
}

#[test]
fn services_are_told_from_sessions() {
    let service = [
        "0::/system.slice/cron.service",
        "1:name=systemd:/user.slice/user-1.slice/user@1.service/app.slice/x.service/sub",
    ];
    let other = [
        "0::/",
        "0::/user.slice/user-1000.slice/session-3.scope",
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope",
        "",
        "0::/docker/abc",
    ];
    for c in service {
        assert!(in_service(c), "{c}");
    }
    for c in other {
        assert!(!in_service(c), "{c}");
    }
}

#[test]
fn lines_and_descriptors_over_a_socket() {
    let (a, b) = UnixStream::pair().unwrap();
    let (mut a, mut b) = (Wire::new(a), Wire::new(b));
    let file = std::fs::File::open("/dev/null").unwrap();
    a.send(&Request::Ping, &[file.as_fd(), file.as_fd()])
        .unwrap();
    a.send(&Request::Status, &[]).unwrap();
    assert!(matches!(b.receive::<Request>(), Ok(Some(Request::Ping))));
    assert_eq!(b.take_fds().len(), 2);
    assert!(matches!(b.receive::<Request>(), Ok(Some(Request::Status))));
    assert_eq!(b.take_fds().len(), 0);
    // More than may be: an end, and nothing is left open.
    assert!(a.send(&Request::Ping, &[file.as_fd(); 5]).is_err());
    // In pieces, and two at once.
    let mut raw = a.stream().try_clone().unwrap();
    raw.write_all(br#"{"do":"#).unwrap();
    raw.write_all(b"\"ping\"}\n{\"do\":\"mounts\"}\n{\"do\"")
        .unwrap();
    assert!(matches!(b.receive::<Request>(), Ok(Some(Request::Ping))));
    assert!(matches!(b.receive::<Request>(), Ok(Some(Request::Mounts))));
    assert!(!gone(b.stream()));
    drop((a, raw));
    assert!(gone(b.stream()));
    assert!(b.receive::<Request>().is_err(), "half a line is no end");
}

#[test]
fn a_line_is_not_endless() {
    let (a, b) = UnixStream::pair().unwrap();
    let mut b = Wire::new(b);
    let writer = std::thread::spawn(move || {
        let mut a = a;
        while a.write_all(&[b' '; 65536]).is_ok() {}
    });
    assert!(b.receive::<Request>().is_err());
    drop(b);
    writer.join().unwrap();
}

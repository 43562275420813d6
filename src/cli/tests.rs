//! Words understood and shown, without a pool.

use super::ls::mode;
use super::place::Place;
use super::size::{human, parse};
use super::template::Template;
use serde_json::json;
use std::ffi::OsStr;

#[test]
fn the_words_make_sense_to_clap() {
    <super::Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn sizes_read() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("64K", 65_536),
        ("64k", 65_536),
        ("64KiB", 65_536),
        ("64KB", 65_536),
        ("1.5T", 3 << 39),
        ("0.25G", 1 << 28),
        ("100G", 100 << 30),
        (" 2 M ", 2 << 20),
        ("1P", 1 << 50),
        ("7E", 7 << 60),
    ] {
        assert_eq!(parse(text), Ok(bytes), "{text}");
    }
    for wrong in [
        "",
        "G",
        "1.",
        ".5G",
        "-1",
        "1X",
        "1GG",
        "1,5G",
        "1e3",
        "8E",
        "99999999999999999999",
        "1.0000000001G",
        "0x10",
        "1 0",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn sizes_shown() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (10_239, "10.0 KiB"),
        (65_536, "64.0 KiB"),
        (1 << 20, "1.00 MiB"),
        (300 << 20, "300 MiB"),
        (3 << 39, "1.50 TiB"),
        (u64::MAX, "16.0 EiB"),
    ] {
        assert_eq!(human(bytes), text);
    }
}

#[test]
fn templates() {
    let object = json!({"ID": 7, "Name": "web", "Mounts": ["/a", "/b"], "Limit": null, "OCI": {"Config": {"config": {"Env": ["A=1"]}}}, "Sealed": true});
    let render = |t: &str| {
        Template::parse(t)
            .and_then(|t| t.render(&object))
            .map_err(|e| e.to_string())
    };
    for (template, text) in [
        ("{{.Name}} {{.ID}}", "web 7"),
        ("{{ .Name }}\\t{{.Sealed}}", "web\ttrue"),
        ("{{.Id}}", "7"),
        ("[{{.Limit}}]", "[]"),
        ("{{.Limit.Anything}}", ""),
        ("{{.Mounts}}", "[/a /b]"),
        ("{{json .Mounts}}", r#"["/a","/b"]"#),
        ("{{join \", \" .Mounts}}", "/a, /b"),
        ("{{join .Mounts \"\\n\"}}", "/a\n/b"),
        ("{{len .Mounts}}{{len .Name}}", "23"),
        ("{{upper .Name}}{{lower \t .Name}}", "WEBweb"),
        ("{{json .OCI.Config.config.Env}}", r#"["A=1"]"#),
        ("no fields", "no fields"),
        ("", ""),
    ] {
        assert_eq!(render(template).as_deref(), Ok(text), "{template}");
    }
    assert!(render("json").unwrap().starts_with(r#"{"ID":7"#));
    for (wrong, says) in [
        ("{{.Nmae}}", "no field .Nmae; there are ID, Limit"),
        ("{{.OCI.Foo}}", "no field .OCI.Foo; there are Config"),
        ("{{.Name.First}}", "inside a plain value"),
        ("{{.Name", "not closed"),
        ("{{Name}}", "not understood"),
        ("{{}}", "not understood"),
        ("{{. Name}}", "not understood"),
        ("{{title .Name}}", "not understood"),
        ("{{join .Mounts}}", "not understood"),
        ("{{len .Sealed}}", "needs a list"),
    ] {
        let said = render(wrong).unwrap_err();
        assert!(said.contains(says), "{wrong}: {said}");
    }
}

#[test]
fn places() {
    let parse = |s: &str| {
        Place::parse(OsStr::new(s)).map(|p| (p.name, String::from_utf8(p.path.0).unwrap()))
    };
    let place = |name: &str, path: &str| Some((name.to_owned(), path.to_owned()));
    assert_eq!(parse("web:/etc/x"), place("web", "/etc/x"));
    assert_eq!(parse("debian:13:/"), place("debian:13", "/"));
    assert_eq!(
        parse("host:5000/a/b:1:/x:/y"),
        place("host:5000/a/b:1", "/x:/y")
    );
    assert_eq!(parse("web@s:/x"), place("web@s", "/x"));
    for not in ["web", "web:x", ":/x", "/a:/b", "./a:/b", ""] {
        assert_eq!(parse(not), None, "{not}");
    }
}

#[test]
fn modes_as_ls_shows_them() {
    for (bits, text) in [
        (0o100_644, "-rw-r--r--"),
        (0o40_755, "drwxr-xr-x"),
        (0o104_755, "-rwsr-xr-x"),
        (0o104_644, "-rwSr--r--"),
        (0o42_775, "drwxrwsr-x"),
        (0o41_777, "drwxrwxrwt"),
        (0o41_776, "drwxrwxrwT"),
        (0o120_777, "lrwxrwxrwx"),
        (0o20_620, "crw--w----"),
        (0o60_660, "brw-rw----"),
        (0o10_600, "prw-------"),
        (0o140_755, "srwxr-xr-x"),
    ] {
        assert_eq!(mode(bits), text);
    }
}

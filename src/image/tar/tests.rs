use super::*;
use tar::{Builder, EntryType, Header as Raw};

/// A ustar header with its checksum.
fn raw(name: &str, kind: u8, size: u64) -> Raw {
    let mut header = Raw::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_cksum();
    header
}

fn block(header: &Raw) -> Vec<u8> {
    header.as_bytes().to_vec()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let mut length = key.len() + value.len() + 3;
    let mut digits = length.to_string().len();
    while (length + digits).to_string().len() != digits {
        digits = (length + digits).to_string().len();
    }
    length += digits;
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let body: Vec<u8> = records.iter().flat_map(|(k, v)| pax_record(k, v)).collect();
    [block(&raw("pax", b'x', body.len() as u64)), padded(&body)].concat()
}

fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = parts.concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// Every entry with its stored bytes.
fn walk(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut walker = Walker::new(Trickle {
        rest: bytes,
        at_once: 700,
    });
    let mut found = Vec::new();
    while let Some(entry) = walker.next()? {
        let mut data = Vec::new();
        loop {
            let piece = walker.data()?;
            if piece.is_empty() {
                break;
            }
            let n = piece.len();
            data.extend_from_slice(piece);
            walker.consume(n);
        }
        found.push((entry, data));
    }
    Ok(found)
}

fn failure(bytes: &[u8]) -> String {
    walk(bytes).expect_err("must be refused").to_string()
}

/// Pieces that end in the middle of everything.
struct Trickle<'a> {
    rest: &'a [u8],
    at_once: usize,
}

impl Feed for Trickle<'_> {
    fn fill(&mut self) -> Result<&[u8]> {
        Ok(&self.rest[..self.at_once.min(self.rest.len())])
    }

    fn consume(&mut self, n: usize) {
        self.rest = &self.rest[n..];
    }
}

#[test]
fn every_kind_of_entry_and_a_long_name() {
    let mut builder = Builder::new(Vec::new());
    let long = "d/".repeat(120) + "file";
    let mut header = Raw::new_gnu();
    header.set_size(5);
    header.set_mode(0o4755);
    header.set_uid(3_000_000_000);
    header.set_gid(7);
    header.set_mtime(12);
    header.set_cksum();
    builder
        .append_data(&mut header.clone(), &long, &b"hello"[..])
        .unwrap();
    header.set_size(0);
    header.set_entry_type(EntryType::Symlink);
    builder
        .append_link(&mut header.clone(), "link", "t/".repeat(200))
        .unwrap();
    header.set_entry_type(EntryType::Char);
    header.set_device_major(259).unwrap();
    header.set_device_minor(70_000).unwrap();
    builder
        .append_data(&mut header.clone(), "dev", &b""[..])
        .unwrap();
    header.set_entry_type(EntryType::Fifo);
    builder
        .append_data(&mut header.clone(), "fifo", &b""[..])
        .unwrap();
    let found = walk(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(found[0].0.path, long.as_bytes());
    assert_eq!(found[0].1, b"hello");
    assert_eq!(
        (found[0].0.mode, found[0].0.uid, found[0].0.gid),
        (0o4755, 3_000_000_000, 7)
    );
    assert_eq!(
        (found[1].0.kind, found[1].0.link.len()),
        (Kind::Symlink, 400)
    );
    // Linux's new encoding, as makedev(259, 70000) & 0xffffffff has it.
    assert_eq!(
        (found[2].0.kind, found[2].0.rdev),
        (
            Kind::CharDevice,
            70_000 & 0xff | 259 << 8 | (70_000 & !0xff) << 12
        )
    );
    assert_eq!(found[3].0.kind, Kind::Fifo);
}

#[test]
fn pax_says_what_the_header_cannot() {
    let name = b"dir/\xff\xfe name";
    let bytes = archive(&[
        pax(&[
            ("path", name),
            ("mtime", b"-1.25"),
            ("uid", b"4000000000"),
            ("size", b"3"),
            ("SCHILY.xattr.user.a", b"v\0=\n"),
            ("LIBARCHIVE.xattr.user.b%3D", b"aGVsbG8"),
            ("LIBARCHIVE.xattr.user.a", b"bm90"),
        ]),
        block(&raw("x", b'0', 0)),
        padded(b"abc"),
        block(&raw("after", b'0', 0)),
    ]);
    let found = walk(&bytes).unwrap();
    let (entry, data) = &found[0];
    assert_eq!(entry.path, name);
    assert_eq!(
        entry.mtime,
        Time {
            sec: -2,
            nsec: 750_000_000
        }
    );
    assert_eq!(entry.uid, 4_000_000_000);
    assert_eq!(data, b"abc");
    assert_eq!(
        entry.xattrs,
        vec![
            (b"user.a".to_vec(), b"v\0=\n".to_vec()),
            (b"user.b=".to_vec(), b"hello".to_vec())
        ]
    );
    assert_eq!(found[1].0.path, b"after");
    assert!(found[1].0.xattrs.is_empty());
}

#[test]
fn global_headers_say_nothing_about_names_and_sizes() {
    let body = [
        pax_record("path", b"evil"),
        pax_record("size", b"512"),
        pax_record("uid", b"77"),
    ]
    .concat();
    let bytes = archive(&[
        block(&raw("g", b'g', body.len() as u64)),
        padded(&body),
        block(&raw("a", b'0', 0)),
        block(&raw("b", b'0', 0)),
    ]);
    let found = walk(&bytes).unwrap();
    assert_eq!(
        (&found[0].0.path[..], found[0].0.uid, found[0].0.size),
        (&b"a"[..], 77, 0)
    );
    assert_eq!((&found[1].0.path[..], found[1].0.uid), (&b"b"[..], 77));
}

#[test]
fn numbers_in_base_256_and_below_zero() {
    let mut header = raw("old", b'0', 0);
    header.as_old_mut().mtime = [0xff; 12];
    header.set_cksum();
    assert_eq!(
        walk(&archive(&[block(&header)])).unwrap()[0].0.mtime.sec,
        -1
    );
    header.as_old_mut().uid = [0xff; 8];
    header.set_cksum();
    assert!(failure(&archive(&[block(&header)])).contains("uid"));
    let mut header = raw("negative", b'0', 0);
    header.as_old_mut().size = [0xff; 12];
    header.set_cksum();
    assert!(failure(&archive(&[block(&header)])).contains("negative"));
    let mut header = raw("huge", b'0', 0);
    header.as_old_mut().size = [
        0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ];
    header.set_cksum();
    assert!(failure(&archive(&[block(&header)])).contains("beyond all bounds"));
}

#[test]
fn claimed_petabytes_cost_nothing_until_they_come() {
    let mut header = raw("big", b'0', 0);
    header.set_size(1 << 53);
    header.set_cksum();
    assert!(failure(&[block(&header), b"short".to_vec()].concat()).contains("cut off"));
    for kind in [b'x', b'g', b'L', b'K'] {
        let mut header = raw("ext", kind, 0);
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(
            failure(&block(&header)).contains("extension header"),
            "{}",
            kind as char
        );
    }
}

#[test]
fn sparse_in_every_format() {
    let expect = vec![
        Segment {
            offset: 4096,
            length: 3,
        },
        Segment {
            offset: 1 << 40,
            length: 4,
        },
    ];
    let check = |bytes: Vec<u8>, name: &[u8]| {
        let found = walk(&bytes).unwrap();
        assert_eq!(found[0].0.path, name);
        assert_eq!(found[0].0.size, 1 << 41);
        let map: Vec<_> = found[0]
            .0
            .map
            .clone()
            .unwrap()
            .into_iter()
            .filter(|s| s.length > 0)
            .collect();
        assert_eq!(map, expect);
        assert_eq!(found[0].1, b"abcdefg");
        assert_eq!(found[1].0.path, b"next");
    };
    let next = block(&raw("next", b'0', 0));

    // The old one, with an extension block.
    let mut header = Raw::new_gnu();
    header.set_path("old").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(7);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].set_offset(4096);
    gnu.sparse[0].set_length(3);
    gnu.set_real_size(1 << 41);
    gnu.set_is_extended(true);
    header.set_cksum();
    let mut extension = tar::GnuExtSparseHeader::new();
    extension.sparse_mut()[0].set_offset(1 << 40);
    extension.sparse_mut()[0].set_length(4);
    extension.sparse_mut()[1].set_offset(1 << 41);
    extension.sparse_mut()[1].set_length(0);
    check(
        archive(&[
            block(&header),
            extension.as_bytes().to_vec(),
            padded(b"abcdefg"),
            next.clone(),
        ]),
        b"old",
    );

    let size = (1u64 << 41).to_string();
    let far = (1u64 << 40).to_string();
    check(
        archive(&[
            pax(&[
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"4096"),
                ("GNU.sparse.numbytes", b"3"),
                ("GNU.sparse.offset", far.as_bytes()),
                ("GNU.sparse.numbytes", b"4"),
            ]),
            block(&raw("zero", b'0', 7)),
            padded(b"abcdefg"),
            next.clone(),
        ]),
        b"zero",
    );
    let map = format!("4096,3,{far},4");
    check(
        archive(&[
            pax(&[
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.name", b"real"),
                ("GNU.sparse.map", map.as_bytes()),
            ]),
            block(&raw("GNUSparseFile.1/real", b'0', 7)),
            padded(b"abcdefg"),
            next.clone(),
        ]),
        b"real",
    );
    let map = format!("2\n4096\n3\n{far}\n4\n");
    check(
        archive(&[
            pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"one"),
                ("GNU.sparse.realsize", size.as_bytes()),
            ]),
            block(&raw("GNUSparseFile.1/one", b'0', 512 + 7)),
            padded(map.as_bytes()),
            padded(b"abcdefg"),
            next,
        ]),
        b"one",
    );
}

#[test]
fn lying_sparse_maps_are_refused() {
    let map = |map: &str, size: &str, stored: u64| {
        archive(&[
            pax(&[
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.map", map.as_bytes()),
            ]),
            block(&raw("s", b'0', stored)),
            padded(&vec![1; stored as usize]),
        ])
    };
    assert!(failure(&map("10,5,0,5", "100", 10)).contains("out of order"));
    assert!(failure(&map("0,5,3,5", "100", 10)).contains("out of order"));
    assert!(failure(&map("95,10", "100", 10)).contains("beyond"));
    assert!(failure(&map("18446744073709551615,10", "100", 10)).contains("beyond"));
    assert!(failure(&map("0,10", "100", 9)).contains("stored"));
    assert!(failure(&map("0", "100", 0)).contains("malformed"));
    assert!(failure(&map("0,0", "18446744073709551615", 0)).contains("bounds"));
    let one = |body: &[u8]| {
        archive(&[
            pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"100"),
            ]),
            block(&raw("s", b'0', 512)),
            padded(body),
        ])
    };
    assert!(failure(&one(b"99999999999\n1\n")).contains("malformed"));
    assert!(failure(&one(&[b'1'; 512])).contains("malformed"));
    assert!(failure(&one(b"2\n1\n1\n1\n1\n")).contains("out of order"));
}

#[test]
fn malformed_pax_is_refused() {
    for body in [
        &b"x"[..],
        b"5 a=b",
        b"99 a=b\n",
        b"0 a=b\n",
        b"6 ab\n\n",
        b"7 =abc\n",
        b"99999999999999999999 a=b\n",
        b"3 a",
    ] {
        let bytes = archive(&[
            block(&raw("p", b'x', body.len() as u64)),
            padded(body),
            block(&raw("a", b'0', 0)),
        ]);
        assert!(failure(&bytes).contains("PAX"), "{body:?}");
    }
    assert!(
        failure(&archive(&[
            pax(&[("path", b"a\0b")]),
            block(&raw("a", b'0', 0))
        ]))
        .contains("NUL")
    );
    assert!(
        failure(&archive(&[
            pax(&[("mtime", b"soon")]),
            block(&raw("a", b'0', 0))
        ]))
        .contains("mtime")
    );
}

#[test]
fn ends() {
    let file = [block(&raw("a", b'0', 3)), padded(b"abc")].concat();
    let marked = |bytes: &[u8]| {
        let mut walker = Walker::new(bytes);
        while walker.next().unwrap().is_some() {}
        walker.ended_marked()
    };
    assert!(marked(&archive(std::slice::from_ref(&file))));
    assert!(!marked(&file));
    assert_eq!(
        walk(&file[..600]).unwrap().len(),
        1,
        "missing padding loses nothing"
    );
    assert!(failure(&file[..513]).contains("cut off"));
    assert!(failure(&file[..100]).contains("cut off"));
    assert!(failure(&[b'x'; 2048]).contains("not a tar"));
    let mut damaged = archive(&[file.clone(), file]);
    damaged[1024 + 5] ^= 1;
    assert!(failure(&damaged).contains("byte 1024"));
    assert!(failure(&pax(&[("path", b"a")])).contains("ends after"));
}

#[test]
fn a_link_stores_nothing_whatever_its_size_says() {
    let bytes = archive(&[
        block(&raw("l", b'1', 4096)),
        block(&raw("d", b'5', 100)),
        block(&raw("a", b'0', 0)),
    ]);
    let found = walk(&bytes).unwrap();
    assert_eq!(
        found.iter().map(|(e, _)| &e.path[..]).collect::<Vec<_>>(),
        [b"l", b"d", b"a"]
    );
    assert!(failure(&archive(&[block(&raw("m", b'M', 0))])).contains("multi-volume"));
    assert!(failure(&archive(&[block(&raw("?", b'Z', 0))])).contains("type 'Z'"));
}

#[test]
fn damage_anywhere_neither_panics_nor_hangs() {
    let size = (1u64 << 41).to_string();
    let good = archive(&[
        pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.map", b"0,3"),
            ("mtime", b"1.5"),
            ("SCHILY.xattr.user.x", b"1"),
        ]),
        block(&raw("s", b'0', 3)),
        padded(b"abc"),
        block(&raw("dir", b'5', 0)),
    ]);
    for at in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= change;
            // The checksum of the changed header is made right again, or all would end there.
            let start = at / 512 * 512;
            let mut header = Raw::new_old();
            header
                .as_mut_bytes()
                .copy_from_slice(&bytes[start..start + 512]);
            header.set_cksum();
            bytes[start..start + 512].copy_from_slice(header.as_bytes());
            let _ = walk(&bytes);
        }
        let _ = walk(&good[..at]);
    }
}

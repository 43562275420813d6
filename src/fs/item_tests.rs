use super::*;

fn inode() -> InodeItem {
    InodeItem {
        mode: libc::S_IFREG | 0o4755,
        nlink: 2,
        uid: 0x0a0b_0c0d,
        gid: 7,
        rdev: 0x0102,
        flags: flag::INLINE | flag::CAPABILITY,
        xattr_names: 20,
        xattr_bytes: 24,
        size: 0x1122_3344_5566,
        blocks: 9,
        parent: 1,
        cookie: 0x7766_5544_3322_1100,
        version: 3,
        atime: Time {
            sec: -2,
            nsec: 999_999_999,
        },
        mtime: Time { sec: 1, nsec: 2 },
        ctime: Time { sec: 3, nsec: 4 },
        btime: Time { sec: 5, nsec: 6 },
        origin_state: 1,
        origin_layer: 2,
        origin_ino: 3,
    }
}

fn hex(b: &[u8]) -> String {
    b.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn inode_bytes_are_pinned() {
    let expect = concat!(
        "01000100",
        "ed890000",
        "02000000",
        "0d0c0b0a",
        "07000000",
        "02010000",
        "04010000",
        "14000000",
        "6655443322110000",
        "0900000000000000",
        "0100000000000000",
        "0011223344556677",
        "0300000000000000",
        "feffffffffffffff",
        "0100000000000000",
        "0300000000000000",
        "0500000000000000",
        "ffc99a3b",
        "02000000",
        "04000000",
        "06000000",
        "02000000",
        "18000000",
        "0300000000000000",
        "000000000000000000000000000000000000000000000000",
    );
    assert_eq!(hex(&inode().encode()), expect);
    assert_eq!(inode().encode().len(), INODE_LEN);
}

#[test]
fn inode_round_trip_with_bytes_of_a_later_version() {
    let mut b = inode().encode();
    assert_eq!(InodeItem::decode(&b), Some(inode()));
    b.extend_from_slice(b"later");
    assert_eq!(InodeItem::decode(&b), Some(inode()));
}

#[test]
fn damaged_inodes_are_refused() {
    let good = inode().encode();
    for n in 0..good.len() {
        assert_eq!(InodeItem::decode(&good[..n]), None, "{n} bytes");
    }
    let with = |at: usize, byte: u8| {
        let mut b = good.clone();
        b[at] = byte;
        InodeItem::decode(&b)
    };
    assert_eq!(with(0, 2), None, "other version");
    assert_eq!(with(5, 0x0f), None, "no such type of file");
    assert_eq!(with(39, 0xff), None, "negative size");
    assert_eq!(with(107, 0xff), None, "too many nanoseconds");
}

#[test]
fn superitem() {
    let s = SuperItem {
        format: 1,
        incompat: 2,
        ro_compat: 3,
        compat: 4,
        hash_key: *b"0123456789abcdef",
    };
    let b = s.encode();
    let expect = concat!(
        "0100000000000000",
        "0200000000000000",
        "0300000000000000",
        "0400000000000000",
        "30313233343536373839616263646566",
        "00000000000000000000000000000000",
    );
    assert_eq!(hex(&b), expect);
    assert_eq!(SuperItem::decode(&b), Some(s));
    for n in 0..b.len() {
        assert_eq!(SuperItem::decode(&b[..n]), None);
    }
}

#[test]
fn dirent() {
    let d = DirentItem {
        ino: 0x0102,
        kind: libc::S_IFDIR,
        flags: 0,
        name: b"ab".to_vec(),
    };
    let mut b = d.encode();
    assert_eq!(hex(&b), "0201000000000000040002006162");
    for n in 0..b.len() {
        assert_eq!(DirentItem::decode(&b[..n]), None);
    }
    b.push(9);
    assert_eq!(DirentItem::decode(&b), Some(d.clone()));
    b[8] = 0;
    assert_eq!(DirentItem::decode(&b), None, "no type");
    let longest = DirentItem {
        name: vec![b'x'; 255],
        ..d.clone()
    };
    assert_eq!(DirentItem::decode(&longest.encode()), Some(longest));
    assert_eq!(
        DirentItem::decode(
            &DirentItem {
                name: vec![],
                ..d.clone()
            }
            .encode()
        ),
        None
    );
    assert_eq!(
        DirentItem::decode(&DirentItem { ino: 0, ..d }.encode()),
        None
    );
}

#[test]
fn link_and_orphan() {
    let l = LinkItem { dir: 1, cookie: 2 };
    assert_eq!(hex(&l.encode()), "01000000000000000200000000000000");
    assert_eq!(LinkItem::decode(&l.encode()), Some(l));
    assert_eq!(LinkItem::decode(&l.encode()[..15]), None);
    let o = OrphanItem {
        bits: orphan::NO_NAME | orphan::TRUNCATE,
        size: 5,
    };
    assert_eq!(hex(&o.encode()), "03000000000000000500000000000000");
    assert_eq!(OrphanItem::decode(&o.encode()), Some(o));
    assert_eq!(OrphanItem::decode(&o.encode()[..15]), None);
}

#[test]
fn xattr() {
    let x = XattrItem {
        len: 3,
        name: b"user.a",
        head: b"xyz",
    };
    let b = x.encode();
    assert_eq!(hex(&b), "0300000006000000757365722e6178797a");
    assert_eq!(XattrItem::decode(&b), Some(x));
    assert_eq!(XattrItem::decode(&b[..13]), None, "the name is cut");
    assert_eq!(
        XattrItem::decode(&XattrItem { len: 65537, ..x }.encode()),
        None
    );
    assert_eq!(
        XattrItem::decode(&XattrItem { name: b"", ..x }.encode()),
        None
    );
}

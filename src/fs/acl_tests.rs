use super::*;

/// "u::rwx,u:5:r--,g::r-x,m::rwx,o::---" in short: tags with permissions and ids.
fn acl(entries: &[(u16, u32, u32)]) -> Vec<u8> {
    let mut v = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        v.extend_from_slice(&tag.to_le_bytes());
        v.extend_from_slice(&(*perm as u16).to_le_bytes());
        v.extend_from_slice(&id.to_le_bytes());
    }
    v
}

const NO: u32 = u32::MAX;

fn minimal(u: u32, g: u32, o: u32) -> Vec<u8> {
    acl(&[(USER_OBJ, u, NO), (GROUP_OBJ, g, NO), (OTHER, o, NO)])
}

fn extended(u: u32, named: u32, g: u32, mask: u32, o: u32) -> Vec<u8> {
    acl(&[
        (USER_OBJ, u, NO),
        (USER, named, 5),
        (GROUP_OBJ, g, NO),
        (MASK, mask, NO),
        (OTHER, o, NO),
    ])
}

fn decode(b: &[u8]) -> Acl {
    Acl::decode(b).unwrap().unwrap()
}

fn errno(b: &[u8]) -> i32 {
    Acl::decode(b).unwrap_err().errno()
}

#[test]
fn bytes() {
    let b = extended(7, 4, 5, 7, 0);
    assert_eq!(b.len(), 4 + 5 * 8);
    assert_eq!(decode(&b).encode(), b);
    // Ids of entries without one are written as the kernel writes them.
    let sloppy = acl(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 0, 0)]);
    assert_eq!(decode(&sloppy).encode(), minimal(7, 5, 0));
}

#[test]
fn none_and_nonsense() {
    assert_eq!(Acl::decode(b"").unwrap(), None);
    assert_eq!(Acl::decode(&acl(&[])).unwrap(), None);
    assert_eq!(errno(b"abc"), libc::EINVAL);
    assert_eq!(errno(&[1, 0, 0, 0]), libc::EOPNOTSUPP);
    let good = extended(7, 4, 5, 7, 0);
    for n in 5..good.len() {
        assert_eq!(errno(&good[..n]), libc::EINVAL, "{n} bytes");
    }
    let bad: &[&[(u16, u32, u32)]] = &[
        &[(USER_OBJ, 7, NO), (GROUP_OBJ, 5, NO)],
        &[(USER_OBJ, 8, NO), (GROUP_OBJ, 5, NO), (OTHER, 0, NO)],
        &[(GROUP_OBJ, 5, NO), (USER_OBJ, 7, NO), (OTHER, 0, NO)],
        &[
            (USER_OBJ, 7, NO),
            (USER_OBJ, 7, NO),
            (GROUP_OBJ, 5, NO),
            (OTHER, 0, NO),
        ],
        &[
            (USER_OBJ, 7, NO),
            (USER, 7, 5),
            (GROUP_OBJ, 5, NO),
            (OTHER, 0, NO),
        ],
        &[
            (USER_OBJ, 7, NO),
            (USER, 7, NO),
            (GROUP_OBJ, 5, NO),
            (MASK, 7, NO),
            (OTHER, 0, NO),
        ],
        &[
            (USER_OBJ, 7, NO),
            (GROUP_OBJ, 5, NO),
            (OTHER, 0, NO),
            (64, 0, NO),
        ],
        &[
            (0, 7, NO),
            (USER_OBJ, 7, NO),
            (GROUP_OBJ, 5, NO),
            (OTHER, 0, NO),
        ],
    ];
    for b in bad {
        assert_eq!(errno(&acl(b)), libc::EINVAL, "{b:?}");
    }
}

#[test]
fn size_is_bounded() {
    let mut entries = vec![(USER_OBJ, 7, NO)];
    entries.extend((0..496).map(|i| (USER, 7, i)));
    entries.extend([(GROUP_OBJ, 5, NO), (MASK, 7, NO), (OTHER, 0, NO)]);
    assert_eq!(decode(&acl(&entries)).encode().len(), Acl::BYTES_MAX);
    entries.insert(1, (USER, 7, 1000));
    assert_eq!(errno(&acl(&entries)), libc::E2BIG);
}

#[test]
fn mode_of_an_access_acl() {
    assert_eq!(decode(&minimal(6, 4, 1)).mode(0o104777), 0o104641);
    assert!(!decode(&minimal(6, 4, 1)).is_extended());
    // The group bits show the mask, not the group.
    assert_eq!(decode(&extended(7, 7, 0, 6, 1)).mode(0o100000), 0o100761);
    assert!(decode(&extended(7, 7, 0, 6, 1)).is_extended());
    let mask_alone = acl(&[
        (USER_OBJ, 7, NO),
        (GROUP_OBJ, 7, NO),
        (MASK, 4, NO),
        (OTHER, 0, NO),
    ]);
    assert!(decode(&mask_alone).is_extended());
    assert_eq!(decode(&mask_alone).mode(0), 0o740);
}

#[test]
fn inheritance() {
    // (default ACL, mode asked) -> (access ACL, mode)
    let table = [
        (minimal(7, 5, 0), 0o666, minimal(6, 4, 0), 0o640),
        (minimal(7, 7, 7), 0o751, minimal(7, 5, 1), 0o751),
        (minimal(0, 0, 0), 0o777, minimal(0, 0, 0), 0o000),
        // With a mask, the group entry stays and the mask is cut.
        (
            extended(7, 7, 7, 7, 5),
            0o644,
            extended(6, 7, 7, 4, 4),
            0o644,
        ),
        (
            extended(7, 6, 5, 5, 0),
            0o666,
            extended(6, 6, 5, 4, 0),
            0o640,
        ),
        (
            extended(7, 6, 5, 5, 0),
            0o2777,
            extended(7, 6, 5, 5, 0),
            0o2750,
        ),
    ];
    for (default, asked, access, mode) in table {
        let mut a = decode(&default);
        assert_eq!(a.inherit(asked), mode, "{asked:o}");
        assert_eq!(a, decode(&access), "{asked:o}");
    }
}

#[test]
fn chmod() {
    let mut a = decode(&minimal(7, 7, 7));
    a.chmod(0o100640);
    assert_eq!(a, decode(&minimal(6, 4, 0)));
    let mut a = decode(&extended(7, 7, 1, 7, 7));
    a.chmod(0o640);
    assert_eq!(
        a,
        decode(&extended(6, 7, 1, 4, 0)),
        "the mask, not the group"
    );
}

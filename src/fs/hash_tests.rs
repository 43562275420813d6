use super::*;
use std::collections::BTreeMap;

/// A map that reads like a tree.
struct Map(BTreeMap<Key, Vec<u8>>);

impl Read for Map {
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }
    fn floor(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        Ok(self
            .0
            .range(..=key)
            .next_back()
            .map(|(k, v)| (*k, v.clone())))
    }
    fn next(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        Ok(self.0.range(key..).next().map(|(k, v)| (*k, v.clone())))
    }
    fn scan(
        &self,
        from: &Key,
        to: &Key,
        each: &mut dyn FnMut(&Key, &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for (k, v) in self.0.range(from..to) {
            if each(k, v)?.is_break() {
                break;
            }
        }
        Ok(())
    }
    fn shared(&self, _key: &Key) -> Result<bool> {
        Ok(false)
    }
}

fn find(map: &Map, first: u64, step: u64, name: &[u8]) -> Slot<()> {
    let mut test = |v: &[u8]| Ok((v == name).then_some(()));
    search(map, (7, kind::DIRENT), first, step, &mut test).unwrap()
}

#[test]
fn hashes_are_pinned() {
    // On disk: must never change.
    let h = NameHash::new(*b"0123456789abcdef");
    // Computed by another program.
    assert_eq!(h.name(b"etc"), 0x69d0_b255_402e_8a00);
    assert_eq!(h.xattr(b"etc"), 0x69d0_b255_402e_0000);
    assert_eq!(h.link(1, 0x0123_4500), 0x5d04_f9df_ec48_0300);
}

#[test]
fn cookies_are_positive_and_leave_the_first_ones() {
    let h = NameHash::new([7; 16]);
    for i in 0..10_000u32 {
        let c = h.name(&i.to_le_bytes());
        assert!(c >= 256 && c < i64::MAX as u64 - 256, "{c:#x}");
        assert_eq!(c & 0xff, 0);
        assert_eq!(h.xattr(&i.to_le_bytes()) & 0xffff, 0);
        assert!(h.xattr(&i.to_le_bytes()) < i64::MAX as u64);
    }
    // Hash 0 is moved away: a hasher of one bit gives 1 for both of its values.
    let h = NameHash::narrow([7; 16], 1);
    assert!((0..64u8).all(|i| h.name(&[i]) == 256));
}

#[test]
fn the_key_matters() {
    assert_ne!(
        NameHash::new([1; 16]).name(b"a"),
        NameHash::new([2; 16]).name(b"a")
    );
}

#[test]
fn slots() {
    let mut map = Map(BTreeMap::new());
    let first = 5 << 8;
    assert!(matches!(find(&map, first, 1, b"a"), Slot::Free(Some(at)) if at == first));
    for i in 0..SLOTS {
        map.0.insert(
            Key::new(7, kind::DIRENT, first + i),
            format!("n{i}").into_bytes(),
        );
    }
    // A neighbour of another hash does not count.
    map.0
        .insert(Key::new(7, kind::DIRENT, first + SLOTS), b"x".to_vec());
    assert!(matches!(find(&map, first, 1, b"n255"), Slot::Found(at, ()) if at == first + 255));
    assert!(matches!(find(&map, first, 1, b"x"), Slot::Free(None)));
    assert_eq!(
        find(&map, first, 1, b"x").free().unwrap_err().errno(),
        libc::ENOSPC
    );
    map.0.remove(&Key::new(7, kind::DIRENT, first + 9));
    assert!(matches!(find(&map, first, 1, b"x"), Slot::Free(Some(at)) if at == first + 9));
    assert!(
        find(&map, first, 1, b"n10").found().is_some(),
        "behind a gap"
    );
}

#[test]
fn parts_are_no_slots() {
    let mut map = Map(BTreeMap::new());
    let first = 5 << 16;
    for part in 0..3 {
        map.0
            .insert(Key::new(7, kind::DIRENT, first + part), b"a".to_vec());
    }
    assert!(matches!(find(&map, first, 256, b"b"), Slot::Free(Some(at)) if at == first + 256));
}

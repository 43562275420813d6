//! One inode with all its items, as they come in key order.

use super::Found;
use crate::base::{Error, Ino, ROOT_INO, Result};
use crate::fs::Fs;
use crate::fs::acl::Acl;
use crate::fs::data::{Extent, INLINE_MAX};
use crate::fs::dir::dirent_key;
use crate::fs::hash::SLOTS;
use crate::fs::inode::read_inode;
use crate::fs::item::{DirentItem, InodeItem, LinkItem, XattrItem, flag};
use crate::tree::{Key, VALUE_MAX, kind};

/// What was seen of the inode so far.
#[derive(Default)]
pub(super) struct Object {
    pub(super) ino: Ino,
    item: Option<InodeItem>,
    /// Its item is there but cannot be read: said already.
    unreadable: bool,
    names: u64,
    subdirectories: u32,
    xattr_names: u64,
    xattr_bytes: u64,
    flags: u32,
    /// The attribute being put together: its first part's offset, bytes missing.
    part: Option<(u64, u64)>,
    links: u64,
    inline: Option<u64>,
    blocks: u64,
    /// First file block behind the last extent.
    end: u64,
}

impl Object {
    pub(super) fn new(ino: Ino) -> Object {
        Object {
            ino,
            ..Object::default()
        }
    }
}

impl Fs {
    pub(super) fn check_item(
        &self,
        f: &mut Found,
        o: &mut Object,
        key: &Key,
        value: &[u8],
    ) -> Result<()> {
        let ino = o.ino;
        match key.kind {
            kind::INODE => {
                f.inodes += 1;
                o.item = InodeItem::decode(value);
                o.unreadable = o.item.is_none();
                if o.unreadable {
                    f.say(format!("inode {ino}: its item makes no sense"));
                }
                Ok(())
            }
            kind::XATTR => {
                self.check_xattr(f, o, key.offset, value);
                Ok(())
            }
            kind::DIRENT => self.check_entry(f, o, key.offset, value),
            kind::INLINE => {
                o.inline = Some(value.len() as u64);
                Ok(())
            }
            kind::LINK => self.check_link(f, o, value),
            kind::EXTENT => {
                check_extent(f, o, key.offset, value);
                Ok(())
            }
            other => {
                f.say(format!("inode {ino}: an item of kind {other:#x}"));
                Ok(())
            }
        }
    }

    fn check_xattr(&self, f: &mut Found, o: &mut Object, at: u64, value: &[u8]) {
        let ino = o.ino;
        if at & 0xff != 0 {
            let part = o
                .part
                .filter(|(first, missing)| at == first + 1 && *missing > 0);
            let Some((first, missing)) = part else {
                return f.say(format!("inode {ino}: a part of no attribute"));
            };
            let len = value.len() as u64;
            if len > missing || (len < missing && value.len() != VALUE_MAX) {
                f.say(format!(
                    "inode {ino}: an attribute's part has the wrong length"
                ));
            }
            o.part = Some((first + 1, missing.saturating_sub(len)));
            return;
        }
        o.end_xattr(f);
        let Some(x) = XattrItem::decode(value) else {
            return f.say(format!("inode {ino}: an attribute makes no sense"));
        };
        let first = self.names.xattr(x.name);
        if !(first..first + (SLOTS << 8)).contains(&at) {
            f.say(format!(
                "inode {ino}: attribute '{}' is where its name does not belong",
                show(x.name)
            ));
        }
        o.xattr_names += x.name.len() as u64 + 1;
        o.xattr_bytes += u64::from(x.len);
        o.flags |= match x.name {
            Acl::ACCESS => flag::ACL_ACCESS,
            Acl::DEFAULT => flag::ACL_DEFAULT,
            b"security.capability" => flag::CAPABILITY,
            _ => 0,
        };
        let missing = u64::from(x.len).checked_sub(x.head.len() as u64);
        if missing.is_none() || (missing > Some(0) && value.len() != VALUE_MAX) {
            f.say(format!(
                "inode {ino}: attribute '{}' has the wrong length",
                show(x.name)
            ));
        }
        o.part = Some((at, missing.unwrap_or(0)));
    }

    fn check_entry(&self, f: &mut Found, o: &mut Object, cookie: u64, value: &[u8]) -> Result<()> {
        let dir = o.ino;
        let Some(entry) = DirentItem::decode(value) else {
            f.say(format!("directory {dir}: an entry makes no sense"));
            return Ok(());
        };
        let name = show(&entry.name);
        o.names += entry.name.len() as u64;
        if entry.kind == libc::S_IFDIR {
            o.subdirectories += 1;
        }
        let first = self.names.name(&entry.name);
        if !(first..first + SLOTS).contains(&cookie) {
            f.say(format!(
                "directory {dir}: '{name}' is where it does not belong"
            ));
        }
        let child = match self.look(|r| read_inode(r, entry.ino)) {
            Ok(child) => child,
            Err(Error::Posix(_)) => {
                f.say(format!(
                    "directory {dir}: '{name}' names inode {}, which there is not",
                    entry.ino
                ));
                return Ok(());
            }
            // Said where the inode is met.
            Err(Error::Corrupt { .. }) => return Ok(()),
            Err(e) => return Err(e),
        };
        if child.kind() != entry.kind {
            f.say(format!(
                "directory {dir}: '{name}' has another type than its inode {}",
                entry.ino
            ));
        }
        let known = (child.parent, child.cookie) == (dir, cookie)
            || self.look(|r| self.has_link(r, entry.ino, (dir, cookie)))?;
        if !known {
            f.say(format!(
                "directory {dir}: inode {} does not know its name '{name}'",
                entry.ino
            ));
        }
        Ok(())
    }

    /// Whether there is an entry for this inode at this place.
    fn entry_names(&self, ino: Ino, dir: Ino, cookie: u64) -> Result<bool> {
        let value = self.look(|r| r.get(&dirent_key(dir, cookie)))?;
        Ok(value
            .and_then(|v| DirentItem::decode(&v))
            .is_some_and(|e| e.ino == ino))
    }

    fn check_link(&self, f: &mut Found, o: &mut Object, value: &[u8]) -> Result<()> {
        let ino = o.ino;
        let Some(link) = LinkItem::decode(value) else {
            f.say(format!("inode {ino}: a link item makes no sense"));
            return Ok(());
        };
        o.links += 1;
        if !self.entry_names(ino, link.dir, link.cookie)? {
            f.say(format!(
                "inode {ino}: a link item for a name in directory {} that is not there",
                link.dir
            ));
        }
        if o.item
            .is_some_and(|i| (i.parent, i.cookie) == (link.dir, link.cookie))
        {
            f.say(format!("inode {ino}: a link item for its first name"));
        }
        Ok(())
    }

    /// All items of an inode were seen.
    pub(super) fn finish(&self, f: &mut Found, mut o: Object) -> Result<()> {
        o.end_xattr(f);
        let ino = o.ino;
        let Some(item) = o.item else {
            if !o.unreadable && !self.has_inode(ino)? {
                f.say(format!("items of inode {ino}, which there is not"));
            }
            return Ok(());
        };
        for problem in o.counts(&item) {
            f.say(format!("inode {ino}: {problem}"));
        }
        if ino == ROOT_INO {
            if (item.parent, item.cookie) != (ROOT_INO, 0) {
                f.say("the root directory has a name".into());
            }
            return Ok(());
        }
        if item.nlink == 0 {
            if !self.has_orphan_item(ino)? {
                f.say(format!("inode {ino} has no name and no orphan item"));
            }
            return Ok(());
        }
        if !self.entry_names(ino, item.parent, item.cookie)? {
            f.say(format!(
                "inode {ino}: its first name is not in directory {}",
                item.parent
            ));
        }
        if item.is_dir() && !self.reaches_root(f, ino)? {
            f.say(format!("directory {ino} cannot be reached from the root"));
        }
        Ok(())
    }
}

impl Object {
    fn end_xattr(&mut self, f: &mut Found) {
        if let Some((_, missing)) = self.part.take()
            && missing > 0
        {
            f.say(format!("inode {}: an attribute's end is missing", self.ino));
        }
    }

    /// Counts in the inode against what was seen.
    fn counts(&self, item: &InodeItem) -> Vec<String> {
        let mut out = Vec::new();
        let mut same = |what: &str, says: u64, is: u64| {
            if says != is {
                out.push(format!("{what} {says}, but there are {is}"));
            }
        };
        same(
            "bytes of attribute names",
            u64::from(item.xattr_names),
            self.xattr_names,
        );
        same(
            "bytes of attributes",
            u64::from(item.xattr_bytes),
            self.xattr_bytes,
        );
        let known = flag::ACL_ACCESS | flag::ACL_DEFAULT | flag::CAPABILITY;
        same(
            "flags of attributes",
            u64::from(item.flags & known),
            u64::from(self.flags),
        );
        same("blocks", item.blocks, self.blocks);
        match item.kind() {
            libc::S_IFDIR => {
                same("bytes of names", item.size, self.names);
                if item.nlink != 0 {
                    same(
                        "links",
                        u64::from(item.nlink),
                        2 + u64::from(self.subdirectories),
                    );
                }
            }
            _ => {
                same("bytes of names", 0, self.names);
                same(
                    "links",
                    u64::from(item.nlink),
                    self.links + u64::from(item.parent != 0),
                );
            }
        }
        match (item.kind(), self.inline) {
            (libc::S_IFLNK, inline) => same("bytes of the target", item.size, inline.unwrap_or(0)),
            (libc::S_IFREG, inline) => {
                same(
                    "bytes kept in the tree",
                    u64::from(item.flags & flag::INLINE != 0),
                    inline.is_some().into(),
                );
                if inline.is_some_and(|n| n > item.size.min(INLINE_MAX)) {
                    out.push("more bytes kept in the tree than the file is long".into());
                }
            }
            (_, inline) => same("bytes kept in the tree", 0, inline.unwrap_or(0)),
        }
        if self.blocks != 0 && !item.is_file() {
            out.push("blocks of what is no file".into());
        }
        out
    }
}

fn check_extent(f: &mut Found, o: &mut Object, block: u64, value: &[u8]) {
    let ino = o.ino;
    let Some(extent) = Extent::decode(block, value) else {
        return f.say(format!(
            "inode {ino}: the extent at block {block} makes no sense"
        ));
    };
    if block < o.end {
        f.say(format!(
            "inode {ino}: the extent at block {block} overlaps the one before"
        ));
    }
    o.end = extent.end();
    o.blocks += u64::from(extent.len);
    f.blocks.extent(extent.at, u64::from(extent.len));
}

fn show(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

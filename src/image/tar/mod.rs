//! Tar archives, entry by entry, from a stream: v7, ustar, GNU and PAX.
//!
//! The walk is our own because everything in it must be bounded (extension headers, sparse maps),
//! numbers exact (negative times, base 256) and holes kept as holes. Nothing is believed before it
//! arrives: a claimed size costs nothing.

mod header;
mod pax;
mod sparse;

#[cfg(test)]
mod tests;

pub use sparse::Segment;

use crate::base::{Error, Result, Time};
use header::{BLOCK, Header};
use pax::Records;

/// Most bytes of one extension header (PAX records, a GNU long name).
const EXTENSION: u64 = 1 << 20;

pub(crate) fn bad(what: impl Into<String>) -> Error {
    Error::Invalid(what.into())
}

/// Bytes in order, handed out in pieces as they come.
pub trait Feed {
    /// What is there, at least one byte; empty only at the end.
    fn fill(&mut self) -> Result<&[u8]>;
    /// Done with the first `n` bytes of what `fill` gave.
    fn consume(&mut self, n: usize);
    /// Passes over `n` bytes; false if the end came first.
    fn skip(&mut self, mut n: u64) -> Result<bool> {
        while n > 0 {
            let have = self.fill()?.len();
            if have == 0 {
                return Ok(false);
            }
            let take = usize::try_from(n).unwrap_or(usize::MAX).min(have);
            self.consume(take);
            n -= take as u64;
        }
        Ok(true)
    }
}

impl Feed for &[u8] {
    fn fill(&mut self) -> Result<&[u8]> {
        Ok(self)
    }

    fn consume(&mut self, n: usize) {
        *self = self.get(n..).unwrap_or_default();
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Link,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry; its data follows in the walker.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As written, not cleaned.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with setuid, setgid, sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// Device number, the kernel's 32-bit new encoding.
    pub rdev: u32,
    /// Bytes of the file once unpacked.
    pub size: u64,
    /// Where the stored bytes belong, if not simply in one piece from 0 to `size`.
    pub map: Option<Vec<Segment>>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes begin, counted from the archive's first byte.
    pub position: u64,
}

/// Reads entries one after the other.
pub struct Walker<F> {
    feed: Counted<F>,
    /// Stored bytes of the current entry not handed out yet, and the padding after them.
    left: u64,
    padding: u64,
    globals: Records,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Ahead,
    /// The two blocks of zeros were there.
    Marked,
    /// The stream just stopped between two entries.
    Unmarked,
}

struct Counted<F> {
    inner: F,
    position: u64,
}

impl<F: Feed> Feed for Counted<F> {
    fn fill(&mut self) -> Result<&[u8]> {
        self.inner.fill()
    }

    fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.position += n as u64;
    }

    fn skip(&mut self, n: u64) -> Result<bool> {
        let all = self.inner.skip(n)?;
        self.position = self.position.saturating_add(n);
        Ok(all)
    }
}

impl<F: Feed> Walker<F> {
    pub fn new(feed: F) -> Walker<F> {
        Walker {
            feed: Counted {
                inner: feed,
                position: 0,
            },
            left: 0,
            padding: 0,
            globals: Records::default(),
            end: End::Ahead,
        }
    }

    /// Whether the archive had its end marker; without one it may have been cut off.
    pub fn ended_marked(&self) -> bool {
        self.end == End::Marked
    }

    pub fn into_feed(self) -> F {
        self.feed.inner
    }

    /// The next entry. What was not read of the one before is passed over.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        if self.end != End::Ahead {
            return Ok(None);
        }
        self.pass()?;
        let mut local = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        let mut extended = false;
        loop {
            let at = self.feed.position;
            let Some(block) = read_block(&mut self.feed)? else {
                if extended {
                    return Err(bad("the archive ends after an extension header"));
                }
                self.end = End::Unmarked;
                return Ok(None);
            };
            if block == [0; BLOCK] {
                return match read_block(&mut self.feed)? {
                    Some(second) if second != [0; BLOCK] => Err(bad(format!(
                        "damaged: no header where one should be, at byte {at}"
                    ))),
                    _ => {
                        self.end = End::Marked;
                        Ok(None)
                    }
                };
            }
            let Some(header) = Header::read(&block) else {
                return Err(bad(if at == 0 {
                    "not a tar archive".into()
                } else {
                    format!("damaged: no header where one should be, at byte {at}")
                }));
            };
            match header.kind() {
                b'x' | b'X' => {
                    local = Records::parse(&self.extension(&header)?)?;
                    extended = true;
                }
                b'g' => {
                    let records = Records::parse(&self.extension(&header)?)?.into_global();
                    self.globals.merge(records);
                    if self.globals.weight() as u64 > EXTENSION {
                        return Err(bad(format!(
                            "its global PAX headers are longer than {EXTENSION} bytes"
                        )));
                    }
                }
                b'L' => {
                    long_name = Some(header::until_nul(&self.extension(&header)?).to_vec());
                    extended = true;
                }
                b'K' => {
                    long_link = Some(header::until_nul(&self.extension(&header)?).to_vec());
                    extended = true;
                }
                // A volume's label.
                b'V' => {
                    self.begin(header.size()?)?;
                    self.pass()?;
                }
                _ => {
                    let mut records = self.globals.clone();
                    records.sparse = std::mem::take(&mut local.sparse);
                    records.merge(local);
                    let name = match (
                        records.name("GNU.sparse.name")?,
                        records.name("path")?,
                        long_name,
                    ) {
                        (Some(name), ..) | (_, Some(name), _) | (_, _, Some(name)) => name,
                        _ => header.name(),
                    };
                    return self
                        .entry(&header, &records, &name, long_link)
                        .map(Some)
                        .map_err(|e| match e {
                            Error::Invalid(what) => {
                                bad(format!("entry '{}': {what}", super::digest::shown(&name)))
                            }
                            e => e,
                        });
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        records: &Records,
        name: &[u8],
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let kind = match header.kind() {
            0 if name.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Link,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'M' => {
                return Err(bad(
                    "it goes on from another volume; multi-volume archives are not read",
                ));
            }
            other => {
                return Err(bad(format!(
                    "its type '{}' is unknown",
                    char::from(other).escape_default()
                )));
            }
        };
        let header_only = !matches!(kind, Kind::File) && header.kind() != b'D';
        let mut stored = match records.number("size")? {
            Some(size) => size,
            None => header.size()?,
        };
        if header_only {
            // Links and directories store nothing, whatever their size field says.
            stored = 0;
        }
        let link = match (records.name("linkpath")?, long_link) {
            (Some(link), _) | (None, Some(link)) => link,
            _ => header.link(),
        };
        let mut map = None;
        if kind == Kind::File {
            map = match header.gnu() {
                Some(gnu) if header.kind() == b'S' => Some(sparse::old(gnu, &mut self.feed)?),
                None if header.kind() == b'S' => {
                    return Err(bad("it is sparse without a GNU header"));
                }
                _ => sparse::pax(records, &mut self.feed, stored)?,
            };
        }
        let data = stored - map.as_ref().map_or(0, |m| m.taken);
        if let Some(map) = &map {
            sparse::check(map, data)?;
        }
        let size = map
            .as_ref()
            .map_or(if kind == Kind::File { stored } else { 0 }, |m| m.size);
        if i64::try_from(size).is_err() {
            return Err(bad("its size is beyond all bounds"));
        }
        let entry = Entry {
            path: name.to_vec(),
            link,
            kind,
            mode: header.mode()?,
            uid: owner("uid", records.number("uid")?, || header.uid())?,
            gid: owner("gid", records.number("gid")?, || header.gid())?,
            mtime: match records.time("mtime")? {
                Some(time) => time,
                None => header.mtime()?,
            },
            rdev: if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
                device(header.device()?)?
            } else {
                0
            },
            size,
            map: map.map(|m| m.segments),
            xattrs: records.xattrs()?,
            position: self.feed.position,
        };
        self.begin(data)?;
        Ok(entry)
    }

    /// The current entry's next stored bytes; empty after the last.
    pub fn data(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let have = self.feed.fill()?;
        if have.is_empty() {
            return Err(cut_off(self.left));
        }
        Ok(have.get(..most).unwrap_or(have))
    }

    /// Done with the first `n` bytes of what `data` gave.
    pub fn consume(&mut self, n: usize) {
        self.feed.consume(n);
        self.left = self.left.saturating_sub(n as u64);
    }

    fn begin(&mut self, stored: u64) -> Result<()> {
        if stored > u64::MAX >> 2 {
            return Err(bad("its size is beyond all bounds"));
        }
        self.left = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn pass(&mut self) -> Result<()> {
        let left = std::mem::take(&mut self.left);
        if left > 0 && !self.feed.skip(left)? {
            return Err(cut_off(left));
        }
        let padding = std::mem::take(&mut self.padding);
        // The padding of the last entry may be missing: nothing is lost with it.
        self.feed.skip(padding)?;
        Ok(())
    }

    fn extension(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let size = header.size()?;
        if size > EXTENSION {
            return Err(bad(format!(
                "an extension header claims {size} bytes, more than {EXTENSION}"
            )));
        }
        self.begin(size)?;
        let mut bytes = Vec::new();
        loop {
            let piece = self.data()?;
            if piece.is_empty() {
                break;
            }
            let n = piece.len();
            bytes.extend_from_slice(piece);
            self.consume(n);
        }
        self.pass()?;
        Ok(bytes)
    }
}

fn cut_off(left: u64) -> Error {
    bad(format!(
        "cut off: the archive ends {left} bytes before the end of an entry"
    ))
}

fn owner(what: &str, pax: Option<u64>, header: impl FnOnce() -> Result<i64>) -> Result<u32> {
    let id = match pax {
        Some(id) => Some(id),
        None => u64::try_from(header()?).ok(),
    };
    match id.map(u32::try_from) {
        // The last one means "nobody at all" to the kernel.
        Some(Ok(id)) if id != u32::MAX => Ok(id),
        _ => Err(bad(format!("its {what} is not one that Linux knows"))),
    }
}

fn device((major, minor): (i64, i64)) -> Result<u32> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) if major < 1 << 12 && minor < 1 << 20 => {
            Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
        }
        _ => Err(bad(format!(
            "its device number {major}:{minor} is not one that Linux knows"
        ))),
    }
}

/// `None` at the end; an error inside a block.
pub(super) fn read_block<F: Feed>(feed: &mut F) -> Result<Option<[u8; BLOCK]>> {
    let mut block = [0u8; BLOCK];
    let mut at = 0;
    while let Some(rest) = block.get_mut(at..).filter(|r| !r.is_empty()) {
        let have = feed.fill()?;
        if have.is_empty() {
            return if at == 0 {
                Ok(None)
            } else {
                Err(bad("cut off: the archive ends inside a header"))
            };
        }
        let n = have.len().min(rest.len());
        for (to, from) in rest.iter_mut().zip(have) {
            *to = *from;
        }
        feed.consume(n);
        at += n;
    }
    Ok(Some(block))
}

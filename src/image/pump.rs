//! A blob on its way in: a thread of its own reads, hashes and decompresses it, ahead of the one
//! that applies what comes out. A bounded number of pieces is in flight.

use super::digest::{Algorithm, Digest, Hasher};
use super::tar::Feed;
use crate::base::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes handed over at a time, and how many pieces may wait.
const PIECE: usize = 512 << 10;
const WAITING: usize = 6;
/// Bytes asked of the source at a time.
const READ: usize = 256 << 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// By the first bytes, as every reader of images does: names and media types often lie.
pub fn sniff(head: &[u8]) -> Result<Compression> {
    Ok(match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0x42, 0x5a, 0x68, b'1'..=b'9', 0x31, 0x41, ..] => return Err(refused("bzip2", "bunzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(refused("xz", "unxz")),
        [0x04, 0x22, 0x4d, 0x18, ..] => return Err(refused("lz4", "unlz4")),
        _ => Compression::None,
    })
}

fn refused(what: &str, tool: &str) -> Error {
    Error::Invalid(format!(
        "is compressed with {what}; only gzip and zstd are read (use {tool} first)"
    ))
}

/// What the bytes were found to be, known at their end.
#[derive(Clone, Debug)]
pub struct Sums {
    /// Of the bytes as stored.
    pub blob: Digest,
    pub blob_size: u64,
    pub compression: Compression,
    /// Of the bytes decompressed: a layer's DiffID.
    pub diff: Digest,
}

enum Message {
    Piece(Vec<u8>),
    End(Box<Sums>),
    Failed(Error),
}

/// The receiving end.
pub struct Pump {
    pieces: Receiver<Message>,
    /// Emptied pieces go back, to be filled again.
    emptied: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    sums: Option<Sums>,
    read: Arc<AtomicU64>,
}

impl Pump {
    /// Starts reading. `blob` and `diff` say how the two sums are to be made.
    pub fn start(input: Box<dyn Read + Send>, blob: Algorithm, diff: Algorithm) -> Result<Pump> {
        let (to, pieces) = sync_channel(WAITING);
        let (emptied, back) = channel();
        let read = Arc::new(AtomicU64::new(0));
        let counted = read.clone();
        std::thread::Builder::new()
            .name("unpack".into())
            .spawn(move || {
                let end = match run(input, blob, diff, counted, &to, &back) {
                    Ok(Some(sums)) => Message::End(Box::new(sums)),
                    // Nobody listens any more.
                    Ok(None) => return,
                    Err(e) => Message::Failed(e),
                };
                let _ = to.send(end);
            })
            .map_err(|e| Error::io("cannot start a thread to unpack with", e))?;
        Ok(Pump {
            pieces,
            emptied,
            piece: Vec::new(),
            at: 0,
            sums: None,
            read,
        })
    }

    /// Bytes taken from the source so far.
    pub fn taken(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Reads what is left (padding behind a tar's end, say) and answers with the sums of it all.
    pub fn finish(mut self) -> Result<Sums> {
        loop {
            let have = self.fill()?.len();
            if have == 0 {
                break;
            }
            self.consume(have);
        }
        self.sums.ok_or_else(died)
    }
}

fn died() -> Error {
    Error::Invalid("the thread that unpacks has died".into())
}

impl Feed for Pump {
    fn fill(&mut self) -> Result<&[u8]> {
        while self.at >= self.piece.len() && self.sums.is_none() {
            let _ = self.emptied.send(std::mem::take(&mut self.piece));
            self.at = 0;
            match self.pieces.recv() {
                Ok(Message::Piece(piece)) => self.piece = piece,
                Ok(Message::End(sums)) => self.sums = Some(*sums),
                Ok(Message::Failed(e)) => return Err(e),
                Err(_) => return Err(died()),
            }
        }
        Ok(self.piece.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.at = self.at.saturating_add(n).min(self.piece.len());
    }
}

/// The source with a hash and a count of all that was taken from it.
struct Taken<R> {
    inner: R,
    hasher: Option<Hasher>,
    size: u64,
    counted: Arc<AtomicU64>,
}

impl<R: Read> Read for Taken<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        if let (Some(hasher), Some(bytes)) = (&mut self.hasher, buf.get(..n)) {
            hasher.update(bytes);
        }
        self.size += n as u64;
        self.counted.store(self.size, Ordering::Relaxed);
        Ok(n)
    }
}

/// Answers `None` when the receiver went away.
fn run(
    input: Box<dyn Read + Send>,
    blob: Algorithm,
    diff: Algorithm,
    counted: Arc<AtomicU64>,
    to: &SyncSender<Message>,
    back: &Receiver<Vec<u8>>,
) -> Result<Option<Sums>> {
    let taken = Taken {
        inner: input,
        hasher: Some(Hasher::new(blob)),
        size: 0,
        counted,
    };
    let mut reader = BufReader::with_capacity(READ, taken);
    // A pipe may give its first bytes one by one; a short head would not tell its kind.
    let mut head = Vec::new();
    (&mut reader)
        .take(8)
        .read_to_end(&mut head)
        .map_err(reading)?;
    let compression = sniff(&head)?;
    if compression == Compression::None && blob == diff {
        // One sum is enough: both are of the same bytes.
        let whole = (&head[..]).chain(reader);
        let mut whole = whole;
        let Some((_, size)) = hand_over(&mut whole, None, to, back, compression)? else {
            return Ok(None);
        };
        let (_, reader) = whole.into_inner();
        let digest = reader
            .into_inner()
            .hasher
            .map(Hasher::finish)
            .ok_or_else(died)?;
        return Ok(Some(Sums {
            blob: digest.clone(),
            blob_size: size,
            compression,
            diff: digest,
        }));
    }
    let mut whole = (&head[..]).chain(reader);
    let hasher = Some(Hasher::new(diff));
    let handed = match compression {
        Compression::None => hand_over(&mut whole, hasher, to, back, compression)?,
        // Members follow each other; what follows the last must be one, too.
        Compression::Gzip => hand_over(
            &mut MultiGzDecoder::new(&mut whole),
            hasher,
            to,
            back,
            compression,
        )?,
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&mut whole)
                .map_err(|e| unpacking(compression, e))?;
            hand_over(&mut decoder, hasher, to, back, compression)?
        }
    };
    let Some((hasher, _)) = handed else {
        return Ok(None);
    };
    // The decoder may stop before the last bytes of the blob: they count for its digest.
    io::copy(&mut whole, &mut io::sink()).map_err(reading)?;
    let (_, reader) = whole.into_inner();
    let taken = reader.into_inner();
    let blob = taken.hasher.map(Hasher::finish).ok_or_else(died)?;
    let diff = hasher.map(Hasher::finish).ok_or_else(died)?;
    Ok(Some(Sums {
        blob,
        blob_size: taken.size,
        compression,
        diff,
    }))
}

type Handed = Option<(Option<Hasher>, u64)>;

fn hand_over(
    from: &mut dyn Read,
    mut hasher: Option<Hasher>,
    to: &SyncSender<Message>,
    back: &Receiver<Vec<u8>>,
    compression: Compression,
) -> Result<Handed> {
    let mut size = 0u64;
    loop {
        let mut piece = back.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut filled = 0;
        let mut ended = false;
        while let Some(room) = piece.get_mut(filled..).filter(|r| !r.is_empty()) {
            match from.read(room) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unpacking(compression, e)),
            }
        }
        piece.truncate(filled);
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        size += filled as u64;
        if filled > 0 && to.send(Message::Piece(piece)).is_err() {
            return Ok(None);
        }
        if ended {
            return Ok(Some((hasher, size)));
        }
    }
}

fn reading(e: io::Error) -> Error {
    Error::io("cannot read", e)
}

fn unpacking(compression: Compression, e: io::Error) -> Error {
    // A real failure of the source has an errno; what the decoders say has none.
    if e.raw_os_error().is_some() || compression == Compression::None {
        return reading(e);
    }
    let name = if compression == Compression::Gzip {
        "gzip"
    } else {
        "zstd"
    };
    if e.kind() == io::ErrorKind::UnexpectedEof {
        Error::Invalid(format!("cut off: the {name} data ends too early"))
    } else {
        Error::Invalid(format!("the {name} data is damaged: {e}"))
    }
}

/// All of a stream that must be short.
pub fn read_bounded(input: &mut dyn Read, most: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io(format!("cannot read {what}"), e))?;
    if bytes.len() as u64 > most {
        return Err(Error::Invalid(format!(
            "{what} is longer than {most} bytes"
        )));
    }
    Ok(bytes)
}

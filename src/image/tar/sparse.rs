//! Maps of sparse entries: GNU's old headers ('S') and the PAX formats 0.0, 0.1 and 1.0.

use super::header::{self, BLOCK};
use super::pax::{Records, decimal};
use super::{Feed, bad, read_block};
use crate::base::Result;

/// Most pieces of one file: 16 bytes of memory each.
const PIECES: usize = 1 << 20;

/// A piece of data: bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// What a sparse entry is in truth.
#[derive(Debug)]
pub struct Map {
    /// Bytes of the whole file.
    pub size: u64,
    pub segments: Vec<Segment>,
    /// Bytes of the entry that the map itself took (format 1.0).
    pub taken: u64,
}

/// The old format: four pieces in the header, 21 in each following block.
pub fn old<F: Feed>(gnu: &tar::GnuHeader, feed: &mut F) -> Result<Map> {
    let size = unsigned(&gnu.realsize)?;
    let mut segments = Vec::new();
    for piece in &gnu.sparse {
        add(&mut segments, &piece.offset, &piece.numbytes)?;
    }
    let mut more = gnu.isextended[0] == 1;
    while more {
        let block = read_block(feed)?.ok_or_else(|| bad("the archive ends inside a sparse map"))?;
        let (pieces, _) = block.split_at(504);
        for piece in pieces.chunks_exact(24) {
            let (offset, length) = piece.split_at(12);
            add(&mut segments, offset, length)?;
        }
        more = block.get(504) == Some(&1);
    }
    Ok(Map {
        size,
        segments,
        taken: 0,
    })
}

fn unsigned(field: &[u8]) -> Result<u64> {
    u64::try_from(header::number(field, "sparse map")?)
        .map_err(|_| bad("its sparse map has a negative number"))
}

fn add(segments: &mut Vec<Segment>, offset: &[u8], length: &[u8]) -> Result<()> {
    if offset.first().is_none_or(|&b| b == 0) || length.first().is_none_or(|&b| b == 0) {
        return Ok(());
    }
    push(segments, unsigned(offset)?, unsigned(length)?)
}

fn push(segments: &mut Vec<Segment>, offset: u64, length: u64) -> Result<()> {
    if segments.len() >= PIECES {
        return Err(bad(format!("its sparse map has more than {PIECES} pieces")));
    }
    segments.push(Segment { offset, length });
    Ok(())
}

/// Is this entry sparse by its PAX records? Then its map; format 1.0 keeps it before the data.
pub fn pax<F: Feed>(records: &Records, feed: &mut F, stored: u64) -> Result<Option<Map>> {
    let major = records.number("GNU.sparse.major")?;
    if major == Some(1) {
        if records.number("GNU.sparse.minor")? != Some(0) {
            return Err(bad(
                "its sparse format is unknown; only GNU 0.0, 0.1 and 1.0 are read",
            ));
        }
        let size = real_size(records)?.ok_or_else(|| bad("its sparse map lacks the real size"))?;
        return one_zero(feed, stored, size).map(Some);
    }
    if let Some(list) = records.get("GNU.sparse.map") {
        let mut numbers = list
            .split(|&b| b == b',')
            .map(|text| decimal(text).ok_or_else(|| bad("its sparse map is malformed")));
        let mut segments = Vec::new();
        while let Some(offset) = numbers.next() {
            let length = numbers
                .next()
                .ok_or_else(|| bad("its sparse map is malformed"))?;
            push(&mut segments, offset?, length?)?;
        }
        let size = real_size(records)?.ok_or_else(|| bad("its sparse map lacks the real size"))?;
        return Ok(Some(Map {
            size,
            segments,
            taken: 0,
        }));
    }
    match real_size(records)? {
        Some(size)
            if !records.sparse.is_empty() || records.get("GNU.sparse.numblocks").is_some() =>
        {
            let mut segments = Vec::new();
            for pair in records.sparse.chunks(2) {
                let &[offset, length] = pair else {
                    return Err(bad("its sparse map is malformed"));
                };
                push(&mut segments, offset, length)?;
            }
            Ok(Some(Map {
                size,
                segments,
                taken: 0,
            }))
        }
        _ if major.is_some_and(|m| m > 1) => Err(bad(
            "its sparse format is unknown; only GNU 0.0, 0.1 and 1.0 are read",
        )),
        _ => Ok(None),
    }
}

fn real_size(records: &Records) -> Result<Option<u64>> {
    Ok(records
        .number("GNU.sparse.realsize")?
        .or(records.number("GNU.sparse.size")?))
}

/// Decimal lines: how many pieces, then offset and length of each; padded to a block.
fn one_zero<F: Feed>(feed: &mut F, stored: u64, size: u64) -> Result<Map> {
    let mut taken = 0u64;
    let mut block = [0u8; BLOCK];
    let mut at = BLOCK;
    let mut line = || -> Result<u64> {
        let (mut value, mut digits) = (0u64, 0u32);
        loop {
            if at == BLOCK {
                taken += BLOCK as u64;
                if taken > stored {
                    return Err(bad("its sparse map is longer than the entry"));
                }
                block =
                    read_block(feed)?.ok_or_else(|| bad("the archive ends inside a sparse map"))?;
                at = 0;
            }
            let byte = block.get(at).copied().unwrap_or(0);
            at += 1;
            match byte {
                b'\n' if digits > 0 => return Ok(value),
                b'0'..=b'9' if digits < 19 => {
                    value = value * 10 + u64::from(byte - b'0');
                    digits += 1;
                }
                _ => return Err(bad("its sparse map is malformed")),
            }
        }
    };
    let count = line()?;
    let mut segments = Vec::new();
    for _ in 0..count {
        let (offset, length) = (line()?, line()?);
        push(&mut segments, offset, length)?;
    }
    Ok(Map {
        size,
        segments,
        taken,
    })
}

/// In order, inside the file, and as many bytes as are stored.
pub fn check(map: &Map, stored: u64) -> Result<()> {
    let (mut end, mut sum) = (0u64, 0u64);
    for segment in &map.segments {
        if segment.offset < end {
            return Err(bad("its sparse map is out of order"));
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .filter(|&e| e <= map.size)
            .ok_or_else(|| bad("its sparse map goes beyond the file"))?;
        sum = sum.saturating_add(segment.length);
    }
    if sum != stored {
        return Err(bad(format!(
            "its sparse map names {sum} bytes, {stored} are stored"
        )));
    }
    Ok(())
}

//! Records of PAX extended headers: `LENGTH KEY=VALUE\n`, the value any bytes.

use super::bad;
use crate::base::{Result, Time};
use std::collections::BTreeMap;

/// Records of one or more headers; the last of a key counts, an empty one takes it away.
#[derive(Clone, Default, Debug)]
pub struct Records {
    by_key: BTreeMap<Vec<u8>, Vec<u8>>,
    /// GNU sparse 0.0 repeats its keys: offset, numbytes, offset, numbytes ...
    pub sparse: Vec<u64>,
}

impl Records {
    pub fn parse(bytes: &[u8]) -> Result<Records> {
        let mut records = Records::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            // Padding some writers leave.
            if rest.iter().all(|&b| b == 0) {
                break;
            }
            let blank = rest
                .iter()
                .take(20)
                .position(|&b| b == b' ')
                .ok_or_else(malformed)?;
            let length = decimal(rest.get(..blank).ok_or_else(malformed)?).ok_or_else(malformed)?;
            let length = usize::try_from(length).map_err(|_| malformed())?;
            let record = rest.get(blank + 1..length).ok_or_else(malformed)?;
            let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
            let equals = record
                .iter()
                .position(|&b| b == b'=')
                .ok_or_else(malformed)?;
            let (key, value) = (
                record.get(..equals).ok_or_else(malformed)?,
                record.get(equals + 1..).ok_or_else(malformed)?,
            );
            if key.is_empty() {
                return Err(malformed());
            }
            if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
                // Pairs, in this order.
                if records.sparse.len() % 2 != usize::from(key == b"GNU.sparse.numbytes") {
                    return Err(malformed());
                }
                records.sparse.push(decimal(value).ok_or_else(malformed)?);
            } else {
                records.by_key.insert(key.to_vec(), value.to_vec());
            }
            rest = rest.get(length..).ok_or_else(malformed)?;
        }
        Ok(records)
    }

    /// Adds later records over these.
    pub fn merge(&mut self, later: Records) {
        self.by_key.extend(later.by_key);
        self.by_key.retain(|_, v| !v.is_empty());
    }

    /// What a global header may say about every entry: nothing that identifies or measures one.
    pub fn into_global(mut self) -> Records {
        self.sparse.clear();
        self.by_key.retain(|k, _| {
            !matches!(k.as_slice(), b"path" | b"linkpath" | b"size")
                && !k.starts_with(b"GNU.sparse.")
        });
        self
    }

    /// Bytes held.
    pub fn weight(&self) -> usize {
        self.by_key
            .iter()
            .map(|(k, v)| k.len() + v.len() + 64)
            .sum()
    }

    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.by_key
            .get(key.as_bytes())
            .map(Vec::as_slice)
            .filter(|v| !v.is_empty())
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key) {
            None => Ok(None),
            Some(text) => decimal(text)
                .map(Some)
                .ok_or_else(|| bad(format!("its PAX record {key} is not a number"))),
        }
    }

    pub fn time(&self, key: &str) -> Result<Option<Time>> {
        match self.get(key) {
            None => Ok(None),
            Some(text) => time(text)
                .map(Some)
                .ok_or_else(|| bad(format!("its PAX record {key} is not a time"))),
        }
    }

    /// A name: no NUL inside.
    pub fn name(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self.get(key) {
            Some(name) if name.contains(&0) => {
                Err(bad(format!("its PAX record {key} has a NUL inside")))
            }
            name => Ok(name.map(<[u8]>::to_vec)),
        }
    }

    /// Extended attributes: SCHILY.xattr.NAME is the value itself, LIBARCHIVE.xattr.NAME has the
    /// name percent-encoded and the value in base64. Where both are, the first counts.
    pub fn xattrs(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = BTreeMap::new();
        for (key, value) in &self.by_key {
            if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                let name = percent(name).ok_or_else(malformed)?;
                found.insert(name, base64(value).ok_or_else(malformed)?);
            }
        }
        for (key, value) in &self.by_key {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                found.insert(name.to_vec(), value.clone());
            }
        }
        Ok(found.into_iter().collect())
    }
}

fn malformed() -> crate::base::Error {
    bad("its PAX header is malformed")
}

/// Digits only.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `[-]SECONDS[.FRACTION]`, more than nine digits of a fraction cut off.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&b| b == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nsec = 0u32;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for at in 0..9 {
            nsec = nsec * 10 + fraction.get(at).map_or(0, |d| u32::from(d - b'0'));
        }
    }
    Some(match (negative, nsec) {
        (false, _) => Time { sec: whole, nsec },
        (true, 0) => Time {
            sec: -whole,
            nsec: 0,
        },
        (true, _) => Time {
            sec: (-whole).checked_sub(1)?,
            nsec: 1_000_000_000 - nsec,
        },
    })
}

fn percent(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            let digit = |b: Option<&u8>| (*b? as char).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// Standard alphabet, padding optional.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in text.iter().take_while(|&&b| b != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'\n' | b'\r' => continue,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xfff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

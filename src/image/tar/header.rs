//! One 512-byte header block: which kind it is, its numbers and names.
//!
//! The layout of the fields is the `tar` crate's; the numbers are read here because negative and
//! oversized ones must be told apart from small ones.

use super::bad;
use crate::base::{Result, Time};

pub const BLOCK: usize = 512;

/// A block whose checksum is right.
pub struct Header<'a>(&'a tar::Header);

impl<'a> Header<'a> {
    /// `None`: the checksum does not fit.
    pub fn read(block: &'a [u8; BLOCK]) -> Option<Header<'a>> {
        let header = tar::Header::from_byte_slice(block);
        let stored = number(&header.as_old().cksum, "checksum").ok()?;
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += i64::from(byte);
            // Some old tars summed signed characters.
            signed += i64::from(byte as i8);
        }
        (stored == unsigned || stored == signed).then_some(Header(header))
    }

    pub fn kind(&self) -> u8 {
        self.0.as_old().linkflag[0]
    }

    /// With the ustar prefix.
    pub fn name(&self) -> Vec<u8> {
        self.0.path_bytes().into_owned()
    }

    pub fn link(&self) -> Vec<u8> {
        until_nul(&self.0.as_old().linkname).to_vec()
    }

    pub fn size(&self) -> Result<u64> {
        u64::try_from(number(&self.0.as_old().size, "size")?)
            .map_err(|_| bad("its size is negative"))
    }

    pub fn mode(&self) -> Result<u32> {
        Ok((number(&self.0.as_old().mode, "mode")? & 0o7777) as u32)
    }

    pub fn uid(&self) -> Result<i64> {
        number(&self.0.as_old().uid, "uid")
    }

    pub fn gid(&self) -> Result<i64> {
        number(&self.0.as_old().gid, "gid")
    }

    pub fn mtime(&self) -> Result<Time> {
        Ok(Time {
            sec: number(&self.0.as_old().mtime, "mtime")?,
            nsec: 0,
        })
    }

    /// Major and minor number of a device.
    pub fn device(&self) -> Result<(i64, i64)> {
        let (major, minor) = match (self.0.as_ustar(), self.0.as_gnu()) {
            (Some(h), _) => (&h.dev_major, &h.dev_minor),
            (_, Some(h)) => (&h.dev_major, &h.dev_minor),
            _ => return Err(bad("it is a device without a number")),
        };
        Ok((
            number(major, "device number")?,
            number(minor, "device number")?,
        ))
    }

    pub fn gnu(&self) -> Option<&tar::GnuHeader> {
        self.0.as_gnu()
    }
}

pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or(bytes)
}

/// Octal text with blanks and NULs around it, or base 256, two's complement, if the top bit is set.
pub fn number(field: &[u8], what: &str) -> Result<i64> {
    let Some((&first, rest)) = field.split_first() else {
        return Ok(0);
    };
    if first & 0x80 != 0 {
        let mut value: i128 = if first & 0x40 != 0 {
            i128::from(first as i8)
        } else {
            i128::from(first & 0x7f)
        };
        for &byte in rest {
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| bad(format!("its {what} is beyond all bounds")));
    }
    let digits = field.iter().skip_while(|b| matches!(b, b' ' | 0));
    let mut value = 0i64;
    let mut ended = false;
    for &byte in digits {
        match byte {
            b'0'..=b'7' if !ended => {
                value = value
                    .checked_mul(8)
                    .and_then(|v| v.checked_add(i64::from(byte - b'0')))
                    .ok_or_else(|| bad(format!("its {what} is beyond all bounds")))?;
            }
            0 => break,
            b' ' => ended = true,
            _ => return Err(bad(format!("its {what} is not a number"))),
        }
    }
    Ok(value)
}

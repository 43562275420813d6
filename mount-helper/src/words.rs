//! The command line as mount(8) and umount(8) write it: `SOURCE DIR [-sfnv] [-o opts] [-t type] [-N ns]`,
//! flags anywhere, together or alone.

use crate::exit::Exit;
use crate::usage;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Those that are no flags.
    pub plain: Vec<OsString>,
    /// Letters of flags without a value.
    pub flags: Vec<u8>,
    /// Of all -o, with commas.
    pub options: String,
    /// -N: a process number, or the path of a mount namespace.
    pub namespace: Option<OsString>,
}

impl Words {
    /// `known`: the letters of flags that stand alone.
    pub fn parse(words: &[OsString], known: &[u8]) -> Result<Words, Exit> {
        let mut out = Words::default();
        let mut options: Vec<String> = vec![];
        let mut words = words.iter();
        let mut flags_over = false;
        while let Some(word) = words.next() {
            let bytes = word.as_bytes();
            if flags_over || bytes.len() < 2 || !bytes.starts_with(b"-") {
                out.plain.push(word.clone());
                continue;
            }
            if bytes == b"--" {
                flags_over = true;
                continue;
            }
            let letters = bytes.iter().copied().enumerate().skip(1);
            for (at, letter) in letters {
                if !matches!(letter, b'o' | b't' | b'N') {
                    if !known.contains(&letter) {
                        return Err(usage(format!("unknown flag '-{}'", char::from(letter))));
                    }
                    out.flags.push(letter);
                    continue;
                }
                let rest = bytes.get(at + 1..).unwrap_or_default();
                let value = if rest.is_empty() {
                    words.next().cloned()
                } else {
                    Some(OsString::from_vec(rest.to_vec()))
                };
                let value = value.ok_or_else(|| {
                    usage(format!("flag '-{}' needs a value", char::from(letter)))
                })?;
                match letter {
                    b'o' => options.push(text(&value)?.to_owned()),
                    b'N' => out.namespace = Some(value),
                    // The type is in our name already.
                    _ => {}
                }
                break;
            }
        }
        out.options = options.join(",");
        Ok(out)
    }

    pub fn has(&self, letter: u8) -> bool {
        self.flags.contains(&letter)
    }
}

pub fn text(word: &OsStr) -> Result<&str, Exit> {
    word.to_str()
        .ok_or_else(|| usage(format!("'{}' is not UTF-8", word.to_string_lossy())))
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;

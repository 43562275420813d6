//! `NAME:/PATH`: a place in a volume.

use crate::daemon::Raw;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[derive(Clone, Debug)]
pub struct Place {
    pub name: String,
    /// Begins with a slash.
    pub path: Raw,
}

impl Place {
    /// `None`: not of this form. Names hold colons too (`debian:13:/etc`), but none before a slash.
    pub fn parse(word: &OsStr) -> Option<Place> {
        let bytes = word.as_bytes();
        let colon = bytes.windows(2).position(|w| w == b":/")?;
        let (name, rest) = bytes.split_at(colon);
        let name = std::str::from_utf8(name).ok()?;
        // A path of this machine with ":/" in it may be written ./so.
        if name.is_empty() || name.starts_with(['/', '.']) {
            return None;
        }
        Some(Place {
            name: name.to_owned(),
            path: Raw(rest.get(1..)?.to_vec()),
        })
    }
}

impl clap::builder::ValueParserFactory for Place {
    type Parser = clap::builder::ValueParser;
    fn value_parser() -> Self::Parser {
        use clap::builder::TypedValueParser;
        clap::builder::ValueParser::new(clap::builder::OsStringValueParser::new().try_map(|word| {
            Place::parse(&word).ok_or_else(|| {
                format!(
                    "'{}' is not a place: write NAME:/PATH",
                    word.to_string_lossy()
                )
            })
        }))
    }
}

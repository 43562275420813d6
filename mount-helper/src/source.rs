//! What fstab's first field names.

use crate::exit::Exit;
use crate::options::Options;
use crate::usage;

/// A volume, in a pool.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// As `cowfs mount` takes it.
    pub name: String,
    /// None: the caller's default.
    pub pool: Option<String>,
}

impl Source {
    /// `container=NAME`, `image=NAME`, `snapshot=NAME@SNAP`; or a pool's directory with one of these among
    /// the options.
    pub fn parse(word: &str, options: &Options) -> Result<Source, Exit> {
        if let Some(name) = volume(word)? {
            if let Some(v) = &options.volume {
                return Err(usage(format!(
                    "'{word}' and option '{v}' both name a volume"
                )));
            }
            return Ok(Source {
                name,
                pool: options.pool.clone(),
            });
        }
        if !word.starts_with('/') {
            return Err(usage(format!(
                "source '{word}': write container=NAME, image=NAME, snapshot=NAME@SNAP or a pool's directory"
            )));
        }
        if options.pool.as_ref().is_some_and(|p| p != word) {
            return Err(usage(format!(
                "'{word}' and option 'pool' both name a pool"
            )));
        }
        let volume = match &options.volume {
            Some(v) => volume(v)?,
            None => None,
        };
        let name = volume.ok_or_else(|| usage(format!("which volume of the pool {word}? add option container=NAME, image=NAME or snapshot=NAME@SNAP")))?;
        Ok(Source {
            name,
            pool: Some(word.to_owned()),
        })
    }
}

/// The name; `None` when the word is no such thing. What could name something of another kind is refused or
/// made exact: `cowfs mount` takes any volume.
fn volume(word: &str) -> Result<Option<String>, Exit> {
    let Some((kind, name)) = word.split_once('=') else {
        return Ok(None);
    };
    let named = |ok: bool, what: &str| {
        if ok {
            Ok(Some(name.to_owned()))
        } else {
            Err(usage(format!("'{name}' is no {what}")))
        }
    };
    match kind {
        "container" => named(
            !name.is_empty() && !name.contains(['@', ':', '/']),
            "container's name",
        ),
        "snapshot" => named(
            name.split_once('@')
                .is_some_and(|(c, s)| !c.is_empty() && !s.is_empty()),
            "snapshot's name; write NAME@SNAP",
        ),
        "image" => {
            named(
                !name.is_empty() && !name.contains('@') && !name.starts_with('/'),
                "image's name",
            )?;
            let tagged = name
                .rsplit('/')
                .next()
                .is_some_and(|last| last.contains(':'));
            Ok(Some(if tagged {
                name.to_owned()
            } else {
                format!("{name}:latest")
            }))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;

//! Images: from OCI layouts and archives, docker-archives, root file system tars and directories
//! into volumes; and what is known of them afterwards.
//!
//! ```text
//! import       the whole of it: layers bottom up, then the image, all or nothing (building, made)
//! source       what is it? · members: files inside an archive · pump: read, hash, decompress
//! oci docker   which layers, of which digests · config: how containers run · name
//! tar          entries · apply: entries onto a volume · directory: a root found on the host
//! listing      config, history, inspect
//! ```

mod apply;
mod building;
mod config;
mod digest;
mod directory;
mod docker;
mod import;
mod listing;
mod made;
mod members;
mod name;
mod oci;
mod pump;
mod source;
mod tar;

#[cfg(test)]
mod oci_tests;
#[cfg(test)]
mod tests;

pub use config::{History, ImageConfig, RootFs, RunConfig};
pub use digest::Digest;
pub use import::{BLOB_CONFIG, BLOB_LAYERS, BLOB_MANIFEST, ImportOptions, Imported, import};
pub use listing::{
    HistoryLine, Inspect, LayerRecord, config, copy_blobs, history, inspect, layers,
};
pub use name::full_name;
pub use oci::Platform;
pub use source::Source;

use crate::base::Error;

/// What an import is at.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A stream that cannot be read twice goes into a temporary file first.
    Spooling,
    /// Layer `number` of `of` (from 1) is applied; `id` is its ChainID if it is known already.
    Layer {
        number: usize,
        of: usize,
        id: &'a str,
    },
    /// Layer `number` of `of` is in the pool already.
    Present {
        number: usize,
        of: usize,
        id: &'a str,
    },
    /// All is there; made durable.
    Finishing,
}

/// Who watches an import, and may stop it.
pub trait Progress: Send + Sync {
    fn step(&self, _step: &Step<'_>) {}
    /// Bytes taken from the source in this step, of how many if that is known.
    fn read(&self, _bytes: u64, _total: Option<u64>) {}
    /// True: stop, leave nothing behind.
    fn stopped(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Progress for () {}

pub(crate) fn stopped() -> Error {
    Error::Io {
        what: "the import was stopped".into(),
        source: std::io::ErrorKind::Interrupted.into(),
    }
}

//! One error type for the library. Every variant knows its errno (for the kernel) and its kind
//! (for the exit code); its text is one line: what, where, and what to do when that helps.

use std::io;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed. `what` says on what and where.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// Bytes read from a pool are not what was written.
    #[error("{place} is damaged: {what}; run 'cowfs pool check'")]
    Corrupt { place: String, what: String },
    /// Not a cowfs pool at all.
    #[error("{0} is not a cowfs pool")]
    NotAPool(String),
    /// A pool made by a version this one cannot read.
    #[error("{place} has format {found}, this cowfs reads {known}; use a newer cowfs")]
    Version {
        place: String,
        found: String,
        known: String,
    },
    /// Somebody else has the pool.
    #[error("{place} is in use by {holder}")]
    Locked { place: String, holder: String },
    /// The pool refuses writes since a flush failed.
    #[error(
        "the pool refuses writes since an I/O error ({0}); stop the daemon, mend the disk, open it again"
    )]
    Failed(String),
    /// No space left: the pool's size, or the host's disk.
    #[error("no space left in the pool; delete something or grow it with 'cowfs pool resize'")]
    NoSpace,
    /// A volume's own size limit.
    #[error("the volume's size limit is reached")]
    Quota,
    /// What a POSIX call answers: an errno with the words of the call.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Posix(i32),
    /// A name of a volume, image or path that does not exist.
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Exists(String),
    /// In use, by whom.
    #[error("{0}")]
    Busy(String),
    /// What the user gave makes no sense: words, options, archives.
    #[error("{0}")]
    Invalid(String),
    /// Not allowed, or not possible on this machine; says what to do.
    #[error("{0}")]
    Denied(String),
    /// What another process answered: its words, its kind and its errno.
    #[error("{message}")]
    Told {
        message: String,
        kind: ExitKind,
        errno: i32,
    },
    /// A node is not in memory: drop the lock, read it, try again. Never leaves `pool`.
    #[error("node {0} is not in memory")]
    Miss(u64),
}

/// Kinds of failure, one exit code each (documented in the README).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitKind {
    Failure = 1,
    Usage = 2,
    NotFound = 3,
    Exists = 4,
    Busy = 5,
    NoSpace = 6,
    Damaged = 7,
    Denied = 8,
}

impl Error {
    pub fn io(what: impl Into<String>, source: io::Error) -> Error {
        if source.raw_os_error() == Some(libc::ENOSPC) {
            return Error::NoSpace;
        }
        Error::Io {
            what: what.into(),
            source,
        }
    }

    pub fn corrupt(place: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Corrupt {
            place: place.into(),
            what: what.into(),
        }
    }

    /// The errno the kernel is told.
    pub fn errno(&self) -> i32 {
        match self {
            Error::Io { source, .. } => match source.raw_os_error() {
                Some(e) if e > 0 => e,
                _ => libc::EIO,
            },
            Error::Corrupt { .. } | Error::Miss(_) => libc::EIO,
            Error::NotAPool(_) | Error::Version { .. } | Error::Invalid(_) => libc::EINVAL,
            Error::Locked { .. } | Error::Busy(_) => libc::EBUSY,
            Error::Failed(_) => libc::EROFS,
            Error::NoSpace => libc::ENOSPC,
            Error::Quota => libc::EDQUOT,
            Error::Posix(e) => *e,
            Error::Told { errno, .. } => *errno,
            Error::NotFound(_) => libc::ENOENT,
            Error::Exists(_) => libc::EEXIST,
            Error::Denied(_) => libc::EPERM,
        }
    }

    pub fn exit_kind(&self) -> ExitKind {
        match self {
            Error::Told { kind, .. } => *kind,
            Error::NotFound(_) | Error::Posix(libc::ENOENT) => ExitKind::NotFound,
            Error::Exists(_) | Error::Posix(libc::EEXIST) => ExitKind::Exists,
            Error::Busy(_) | Error::Locked { .. } => ExitKind::Busy,
            Error::NoSpace | Error::Quota => ExitKind::NoSpace,
            Error::Corrupt { .. } | Error::NotAPool(_) | Error::Version { .. } => ExitKind::Damaged,
            Error::Denied(_) => ExitKind::Denied,
            Error::Invalid(_) => ExitKind::Usage,
            _ => ExitKind::Failure,
        }
    }
}

impl From<Error> for io::Error {
    fn from(e: Error) -> io::Error {
        io::Error::other(e)
    }
}

//! How many requests of each kind the kernel sent: what tests of caching assert on, and what status shows.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! requests {
    ($($name:ident = $word:literal),* $(,)?) => {
        /// Kinds of requests, as FUSE names them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Request { $($name),* }

        impl Request {
            pub const ALL: &[Request] = &[$(Request::$name),*];

            /// The kernel's word in small letters: `readdirplus`.
            pub fn name(self) -> &'static str {
                match self { $(Request::$name => $word),* }
            }
        }
    };
}

requests! {
    Lookup = "lookup", Forget = "forget", Getattr = "getattr", Setattr = "setattr", Readlink = "readlink",
    Symlink = "symlink", Mknod = "mknod", Mkdir = "mkdir", Unlink = "unlink", Rmdir = "rmdir",
    Rename = "rename", Link = "link", Open = "open", Read = "read", Write = "write", Statfs = "statfs",
    Release = "release", Fsync = "fsync", Setxattr = "setxattr", Getxattr = "getxattr", Listxattr = "listxattr",
    Removexattr = "removexattr", Flush = "flush", Opendir = "opendir", Readdir = "readdir",
    Readdirplus = "readdirplus", Releasedir = "releasedir", Fsyncdir = "fsyncdir", Access = "access",
    Create = "create", Ioctl = "ioctl", Fallocate = "fallocate", Lseek = "lseek", CopyFileRange = "copy_file_range",
    Bmap = "bmap", Poll = "poll", Getlk = "getlk", Setlk = "setlk",
}

/// Counts since the connection began. Requests the transport does not know (STATX, TMPFILE, INTERRUPT) are not seen.
#[derive(Debug)]
pub struct Counters {
    requests: [AtomicU64; Request::ALL.len()],
    cold_reads: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            requests: [const { AtomicU64::new(0) }; Request::ALL.len()],
            cold_reads: AtomicU64::new(0),
        }
    }
}

impl Counters {
    pub(super) fn count(&self, request: Request) {
        if let Some(counter) = self.requests.get(request as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn get(&self, request: Request) -> u64 {
        self.requests
            .get(request as usize)
            .map_or(0, |c| c.load(Ordering::Relaxed))
    }

    pub(super) fn cold(&self) {
        self.cold_reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads that had to wait for the host's disk, and were left to a worker.
    pub fn cold_reads(&self) -> u64 {
        self.cold_reads.load(Ordering::Relaxed)
    }

    /// All but FORGET, for which nobody waits.
    pub fn total(&self) -> u64 {
        Request::ALL
            .iter()
            .filter(|r| **r != Request::Forget)
            .map(|r| self.get(*r))
            .sum()
    }

    /// Those that came at all, by name.
    pub fn list(&self) -> Vec<(&'static str, u64)> {
        Request::ALL
            .iter()
            .map(|r| (r.name(), self.get(*r)))
            .filter(|(_, n)| *n > 0)
            .collect()
    }
}

//! cowfs: a copy-on-write file system for container images and containers.
//!
//! Data flows down: each room knows only the rooms listed below it.
//! `docs/design.md` says what each one promises and why.
//!
//! ```text
//! cli  (and mount-helper/)     words in, words out
//! daemon                       one process a pool: socket, mounts, lifetimes
//! image    fuse                OCI in and out; the kernel's door
//! fs                           POSIX on a volume: inodes, names, xattrs, extents
//! volume                       thin address space: mapping, copy-on-write, limits
//! pool                         operations, log, checkpoint, catalog, recovery, reclaim, check
//! tree     space               copy-on-write B-tree; reference counts and free space
//! device                       data and metadata files or block devices
//! base                         words shared by all: ids, sizes, errors
//! ```

pub mod base;
pub mod cli;
pub mod daemon;
pub mod device;
pub mod fs;
pub mod fuse;
pub mod image;
pub mod pool;
pub mod space;
pub mod tree;
pub mod volume;

//! The kernel's door: mounts, and requests translated into calls of `fs`. It only translates;
//! nothing below knows of FUSE.
//!
//! Two sides, in two processes. The client (a command, the mount helper, `run` inside its user
//! namespace) makes the mount and sends the /dev/fuse descriptor away: `options`, `mount`,
//! `fusermount`, `mountinfo`. The daemon serves that descriptor and never mounts: `serve`, `door`.

mod answer;
mod convert;
pub mod counters;
mod door;
mod fusermount;
mod handle;
mod known;
mod list;
pub mod mount;
pub mod mountinfo;
pub mod options;
mod resident;
pub mod serve;
mod slow;
mod touched;
mod workers;

pub use counters::{Counters, Request};
pub use mount::{How, Prepared, Unmount, prepare, unmount};
pub use mountinfo::MountInfo;
pub use options::{Atime, MountOptions, Squash};
pub use serve::{Connection, ServeOptions, serve};

/// The type shown in /proc/self/mountinfo; findmnt -t takes it.
pub const FS_TYPE: &str = "fuse.cowfs";

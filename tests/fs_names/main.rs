//! Names, attributes and differences of a file system in a pool in memory.

mod attrs;
mod content;
mod create;
mod damage;
mod diffs;
mod links;
mod listing;
mod orphans;
mod rename;
mod support;
mod threads;
mod xattrs;

//! What the tests of the store and the file system share: a model, random operations, a world of
//! volumes on misbehaving disks, and the judgement of what a crash left.
#![allow(dead_code)]

pub mod data;
pub mod generate;
pub mod judge;
pub mod ops;
pub mod state;
pub mod world;

/// A number from the environment, else `default`: `COWFS_SEED`, `COWFS_OPS` and the like.
pub fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// The seed from the environment (then only that one is run), else each of `many` from `first` on.
pub fn seeds(first: u64, many: u64) -> Vec<u64> {
    match std::env::var("COWFS_SEED") {
        Ok(_) => vec![number("COWFS_SEED", 0)],
        Err(_) => (first..first + many).collect(),
    }
}

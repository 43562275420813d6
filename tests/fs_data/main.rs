//! The data path on real pools in memory.

mod corners;
mod figures;
mod random;
mod support;
mod threads;

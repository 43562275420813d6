//! The data path on real pools in memory.

mod corners;
mod figures;
mod powercut;
mod random;
mod speed;
mod support;
mod threads;

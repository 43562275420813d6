//! One process a pool: its socket, its mounts, their lifetimes; and the client's door to it.

mod client;
mod files;
mod images;
mod import;
mod lineage;
mod listing;
mod logging;
mod mounts;
pub mod names;
mod proto;
mod resolve;
mod server;
mod session;
mod start;
mod state;
mod systemd;
mod time;
mod transfer;
mod volumes;
mod whereabouts;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{Client, SOCKET, Start};
pub use logging::init as log_to;
pub use proto::{
    Ended, Entry, Event, Failure, Greeting, ImageDetails, Inspect, Layer, Mount, MountOptions,
    OwnedPiece, Part, Pieces, Progress, Raw, Removed, Reply, Request, Response, Row, VERSION,
};
pub use server::{Options, serve};
pub use start::{LOG, Ready};
pub use time::{parse_rfc3339, rfc3339};

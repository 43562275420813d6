//! One process a pool: its socket, its mounts, their lifetimes; and the client's door to it.

mod client;
mod proto;
mod start;
mod wire;

pub use client::{Client, Start};
pub use proto::{
    Ended, Entry, Event, Failure, Greeting, ImageDetails, Inspect, Layer, Mount, MountOptions,
    OwnedPiece, Part, Pieces, Progress, Raw, Removed, Reply, Request, Response, Row, VERSION,
};

//! Words in, words out: one file a verb. Each verb is `pub struct Args` (clap) and
//! `pub fn run(args: Args, cx: &Context) -> Result<Exit>`.

mod context;
pub mod doctor;
pub mod run;
mod size;

pub use context::{Context, Exit};

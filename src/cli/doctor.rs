use super::{Context, Exit};
use crate::base::Result;

#[derive(clap::Args, Debug)]
pub struct Args {}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let (_, _) = (args, cx);
    todo!()
}

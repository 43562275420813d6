//! `cowfs pool ...`.

use super::{Context, Exit, pool_check, pool_create, pool_status};
use crate::base::Result;
use clap::Subcommand;

#[derive(Subcommand, Debug)]
pub enum Verb {
    Create(pool_create::Args),
    Status(pool_status::Args),
    Check(pool_check::Args),
}

impl Verb {
    pub fn run(self, cx: &Context) -> Result<Exit> {
        match self {
            Verb::Create(a) => pool_create::run(a, cx),
            Verb::Status(a) => pool_status::run(a, cx),
            Verb::Check(a) => pool_check::run(a, cx),
        }
    }
}

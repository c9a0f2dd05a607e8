//! `fetch-content cache`: what run-task thinks of caches, and how they are called.

pub(super) mod args;
mod check;
mod log;
mod name;
mod verify;

use crate::{cachedir::Tenant, error::Result, fs::Owner};
use args::{Cache, Command};

/// Runs the subcommand. Its output is data, so it goes to standard output.
pub(super) fn run(args: Cache) -> Result<()> {
    match args.command {
        Command::Check(args) => check::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Name(args) => name::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

impl From<&args::Tenant> for Tenant {
    fn from(typed: &args::Tenant) -> Self {
        let args::Tenant {
            uid,
            gid,
            untrusted,
        } = *typed;
        Self {
            owner: Owner { uid, gid },
            user: uid.to_string(),
            group: gid.to_string(),
            untrusted,
            // What run-task would be.
            is_root: true,
            task: None,
        }
    }
}

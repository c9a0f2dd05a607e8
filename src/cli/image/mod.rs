//! `fetch-content image`: fetches as layers of images.

mod cache_from;
mod export;
mod import;
mod inspect;
mod pull;
mod push;
mod registry;

pub(super) use cache_from::imports;
pub(super) use registry::connection;

use crate::{
    cli::{args, args::ImageVerb, ui::Ui},
    error::Result,
};
use std::sync::Arc;

/// Runs the subcommand.
pub(super) async fn run(args: args::Image, ui: &Arc<Ui>) -> Result<()> {
    match args.verb {
        ImageVerb::Export(args) => export::run(*args, ui).await,
        ImageVerb::Import(args) => import::run(*args, ui).await,
        ImageVerb::Inspect(args) => inspect::run(args).await,
        ImageVerb::Pull(args) => pull::run(*args, ui).await,
        ImageVerb::Push(args) => push::run(*args, ui).await,
    }
}

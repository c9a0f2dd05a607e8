//! `fetch-content image`: fetches as layers of images.

mod inspect;

use crate::{
    cli::{args, args::ImageVerb, ui::Ui},
    error::Result,
};
use std::sync::Arc;

/// Runs the subcommand.
pub(super) async fn run(args: args::Image, ui: &Arc<Ui>) -> Result<()> {
    let _ = ui;
    match args.verb {
        ImageVerb::Inspect(args) => inspect::run(args).await,
    }
}

//! `fetch-content static-url`: one upstream URL becomes one verified file, repacked where its name asks for it.

use crate::{
    cli::{args, ui::Ui},
    error::Result,
};
use std::sync::Arc;

/// Runs the subcommand.
pub(super) async fn run(_args: args::StaticUrl, _ui: &Arc<Ui>) -> Result<()> {
    std::future::pending().await
}

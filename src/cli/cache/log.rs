//! `fetch-content cache log`: who made and used a cache.

use super::args;
use crate::{cachedir::audit, cli::ui::Ui, error::Result};
use serde_json::json;

pub(super) fn run(args: &args::Log) -> Result<()> {
    let entries = audit::read(&args.path)?;
    if args.json {
        return Ui::data(&format!("{:#}", json!(entries)));
    }
    for entry in &entries {
        Ui::data(&entry.to_string())?;
    }
    Ok(())
}

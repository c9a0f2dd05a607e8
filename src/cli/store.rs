//! `fetch-content store`: what is in a store, whether it is sound, and what can go.

use crate::{
    cli::{args, args::StoreAction, settings, settings::Tunables, ui::Ui},
    error::{Error, Result},
    http::Client,
    size::ByteSize,
    store::{IfMissing, Store, timestamp},
};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// Runs the subcommand.
pub(super) async fn run(args: args::Store, ui: &Arc<Ui>) -> Result<()> {
    let tunables = Tunables::new(&args.tuning)?;
    let location = settings::store(args.place.store)?;
    let client = Client::new(tunables.http)?;
    let store = Store::open(&location, IfMissing::Refuse, &client, &tunables.retry).await?;
    match args.action {
        StoreAction::Ls { index: false } => list(&store).await,
        StoreAction::Ls { index: true } => list_index(&store).await,
        StoreAction::Verify { discard } => verify(&store, discard, ui).await,
        StoreAction::Gc => {
            let swept = store.gc().await?;
            ui.line(&format!(
                "removed {} index entries, {} tasks, {} artifacts of others, {} contents ({})",
                swept.entries,
                swept.tasks,
                swept.artifacts,
                swept.contents,
                ByteSize(swept.bytes)
            ));
            Ok(())
        }
    }
}

async fn list(store: &Store) -> Result<()> {
    for task in store.tasks().await? {
        for artifact in store.artifacts(&task).await? {
            let (size, sha256) = (artifact.size, artifact.sha256);
            let expires = shown(artifact.expires);
            Ui::data(&format!(
                "{task}\t{}\t{size}\t{sha256}\t{expires}",
                artifact.name
            ))?;
        }
    }
    Ok(())
}

async fn list_index(store: &Store) -> Result<()> {
    for indexed in store.index().await? {
        let (namespace, entry) = (indexed.namespace, indexed.entry);
        let expires = shown(Some(entry.expires));
        let line = format!("{namespace}\t{}\t{}\t{expires}", entry.task_id, entry.rank);
        Ui::data(&line)?;
    }
    Ok(())
}

async fn verify(store: &Store, discard: bool, ui: &Ui) -> Result<()> {
    let damages = store.verify(discard).await?;
    for damage in &damages {
        Ui::data(&damage.to_string())?;
    }
    match damages.len() {
        0 => ui.line(&format!("the store {} is sound", store.shown())),
        count if discard => ui.line(&format!("removed {count} damaged contents and artifacts")),
        count => {
            return Err(Error::Damaged {
                place: format!("the store {}", store.shown()),
                problem: format!("has {count} damaged contents and artifacts"),
            });
        }
    }
    Ok(())
}

fn shown(expires: Option<DateTime<Utc>>) -> String {
    expires.map_or_else(|| "never".to_owned(), timestamp)
}

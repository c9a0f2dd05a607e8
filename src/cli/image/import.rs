//! `fetch-content image import`: fetches out of images, and from nowhere else.

use super::{imports, registry::connection};
use crate::{
    archive::Placing,
    batch::{self, Item},
    cli::{args, inputs, settings::Tunables, task_artifacts, ui::Ui},
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::Request,
    fs::Staging,
    inputs::{Lock, Locked, Wanted},
    rel_path::RelPath,
    stream::bridge::run_blocking,
    task::{ArtifactName, Entry},
    verify::Expected,
};
use std::{sync::Arc, time::Instant};

/// Runs the verb. Everything that can be wrong with its input is found before an image is looked at.
pub(super) async fn run(args: args::ImageImport, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let dest = task_artifacts::destination(args.dest.clone())?;
    let pins = pins(&args, ui).await?;
    let mut items = items(pins, ui)?;
    let tunables = Tunables::new(&args.tuning)?;
    let (client, transfers) = (tunables.client()?, tunables.transfers);
    let connection = connection(&args.import.way, &client, &tunables);
    let staging = run_blocking(move || Staging::inside(&dest)).await?;
    let context = Arc::new(tunables.context(client, staging, start));
    let imports = imports(&args.import, &connection, &context, ui).await?;
    for item in &mut items {
        item.shortcut.clone_from(&imports);
    }
    batch::take(items, context, transfers).await?;
    ui.summary(start.elapsed());
    Ok(())
}

/// What is known of something to be taken.
struct Pin {
    /// What people call it.
    name: String,
    artifact: ArtifactName,
    sha256: Option<Sha256Digest>,
    tree: Option<Sha256Digest>,
    dest: RelPath,
    extract: bool,
}

/// Returns what is to be taken: what a task of a graph wants, or what a lock or a list has.
async fn pins(args: &args::ImageImport, ui: &Ui) -> Result<Vec<Pin>> {
    let lock = match args.locked.clone() {
        Some(path) => Some(run_blocking(move || Lock::read(&path)).await?),
        None => None,
    };
    if args.of.task.is_some() {
        let mut wanted = inputs::of_graph(&args.of, ui).await?;
        if let Some(lock) = &lock {
            inputs::use_lock(&lock.inputs, &mut wanted);
        }
        return Ok(wanted.into_iter().map(Pin::from).collect());
    }
    if let Some(lock) = lock {
        return lock.inputs.into_iter().map(Pin::try_from).collect();
    }
    let entries = task_artifacts::entries(args.fetches.as_deref(), ui).await?;
    if entries.iter().any(|entry| entry.verify_hash) {
        ui.warning("no chain of trust is asked for: digests are those of the list");
    }
    Ok(entries.into_iter().map(Pin::from).collect())
}

impl From<Wanted> for Pin {
    fn from(wanted: Wanted) -> Self {
        Self {
            name: format!("{} of {}", wanted.artifact, wanted.label),
            sha256: wanted.digest(),
            tree: wanted.locked.and_then(|locked| locked.tree),
            artifact: wanted.artifact,
            dest: wanted.dest,
            extract: wanted.extract,
        }
    }
}

impl From<Entry> for Pin {
    fn from(entry: Entry) -> Self {
        Self {
            name: format!("{} of task {}", entry.artifact, entry.task),
            sha256: entry.sha256,
            tree: None,
            artifact: entry.artifact,
            dest: entry.dest,
            extract: entry.extract,
        }
    }
}

impl TryFrom<Locked> for Pin {
    type Error = Error;

    fn try_from(locked: Locked) -> Result<Self> {
        let dest = RelPath::parse(locked.dest.as_bytes());
        let dest =
            dest.map_err(|err| Error::usage(format!("`dest` of {}: {err}", locked.label)))?;
        Ok(Self {
            name: format!("{} of {}", locked.artifact, locked.label),
            sha256: Some(locked.sha256),
            tree: locked.tree,
            artifact: locked.artifact,
            dest,
            extract: locked.extract,
        })
    }
}

/// Turns everything into what can be taken.
fn items(pins: Vec<Pin>, ui: &Arc<Ui>) -> Result<Vec<Item>> {
    let unknown = pins.iter().filter(|pin| pin.sha256.is_none());
    let unknown: Vec<&str> = unknown.map(|pin| &*pin.name).collect();
    if !unknown.is_empty() {
        return Err(Error::Usage {
            what: format!("the SHA-256 is not known of {}", unknown.join(", ")),
            hint: Some(
                "pin it with `sha256` in the list, or give a lock of `inputs` with --locked".into(),
            ),
        });
    }
    let items = pins.into_iter().enumerate();
    let items = items.map(|(position, pin)| {
        let expected = Expected {
            sha256: pin.sha256,
            ..Expected::default()
        };
        let file_name = pin.artifact.file_name();
        Item {
            observer: ui.watch(file_name),
            request: Request {
                name: pin.name,
                sources: Vec::new(),
                expected: expected.known(),
                signed: None,
                placings: vec![Placing::of(pin.extract)],
                file_name: file_name.into(),
            },
            locate: None,
            places: vec![(position, pin.dest)],
            size: None,
            tree: pin.tree,
            shortcut: None,
        }
    });
    Ok(items.collect())
}

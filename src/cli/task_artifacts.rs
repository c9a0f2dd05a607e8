//! `fetch-content task-artifacts`: the entries of `MOZ_FETCHES`, fetched together and published in order.

use crate::{
    archive::Placing,
    batch::{self, Item},
    cli::{args, image, settings, settings::Tunables, ui::Ui},
    error::{self, Error, Result},
    fetch::Request,
    fs::{self, Staging},
    http::{Client, RetryPolicy},
    store::{IfMissing, Location, Store},
    task::{Entry, Origin, Tasks, WorkerKey, parse_entries},
};
use futures::FutureExt;
use serde_json::json;
use std::{
    collections::{HashMap, hash_map},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Runs the subcommand. Everything that can be wrong with its input is found before the first request.
pub(super) async fn run(args: args::TaskArtifacts, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let dest = destination(args.dest)?;
    let entries = entries(args.fetches.as_deref(), ui).await?;
    let worker_keys = worker_keys(&args.chain_of_trust_key)?;
    if !worker_keys.is_empty() && !entries.iter().any(|entry| entry.verify_hash) {
        ui.warning("--chain-of-trust-key has no effect: no entry has `verify-hash`");
    }
    let mut tunables = Tunables::new(&args.tuning)?;
    tunables.limits.external_symlinks = !args.deny_external_symlinks;
    if !entries.is_empty() {
        let client = tunables.client()?;
        let origin = origin(args.store, &client, &tunables.retry).await?;
        let tasks = Tasks::new(origin, client.clone(), tunables.retry.clone(), worker_keys);
        let mut items = items(&entries, &tasks, ui)?;
        let transfers = tunables.transfers;
        let connection = image::connection(&args.import.way, &client, &tunables);
        let context = tunables.context(client, Staging::inside(&dest)?, start);
        let context = Arc::new(context);
        if let Some(imports) = image::imports(&args.import, &connection, &context, ui).await? {
            for item in &mut items {
                item.shortcut = Some(Arc::clone(&imports));
            }
        }
        batch::run(items, context, transfers).await?;
    }
    let elapsed = start.elapsed();
    ui.summary(elapsed);
    perfherder(elapsed, ui)
}

pub(super) fn destination(typed: Option<PathBuf>) -> Result<PathBuf> {
    let dest = match typed {
        Some(dest) => Some(dest),
        None => settings::text("MOZ_FETCHES_DIR")?.map(PathBuf::from),
    };
    let dest = dest
        .filter(|dest| !dest.as_os_str().is_empty())
        .ok_or_else(|| Error::Usage {
            what: "no destination directory specified".into(),
            hint: Some("pass --dest DIR or set MOZ_FETCHES_DIR".into()),
        })?;
    Ok(dest)
}

pub(super) async fn entries(file: Option<&Path>, ui: &Ui) -> Result<Vec<Entry>> {
    let (json, from) = match file {
        None => {
            let json = settings::text("MOZ_FETCHES")?.ok_or_else(|| Error::Usage {
                what: "MOZ_FETCHES is not set".into(),
                hint: Some("set it to a JSON list of artifacts, or pass --fetches FILE".into()),
            })?;
            (json, "MOZ_FETCHES".to_owned())
        }
        Some(path) if path == Path::new("-") => {
            (read_standard_input().await?, "standard input".to_owned())
        }
        Some(path) => {
            let json = fs::read_to_string(path);
            let json = json.map_err(|err| Error::usage(error::chain(&err)))?;
            (json, path.display().to_string())
        }
    };
    let (entries, unknown) = parse_entries(&json, &from)?;
    for unknown in unknown {
        ui.warning(&format!(
            "{}: nobody reads the key `{}`",
            unknown.place,
            unknown.key.escape_debug()
        ));
    }
    Ok(entries)
}

/// Reads standard input on a thread that nobody waits for, so that a signal ends a run that waits for its input.
async fn read_standard_input() -> Result<String> {
    let (sender, list) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut json = String::new();
        let read = std::io::stdin().read_to_string(&mut json);
        // Nobody listens any more if the run has ended.
        let _ = sender.send(read.map(|_| json));
    });
    let read = list.await.map_err(|_ended| Error::Cancelled)?;
    read.map_err(|err| Error::usage(format!("cannot read the list from standard input: {err}")))
}

/// Reads the keys of workers, as typed or, behind an `@`, one per line of a file.
pub(super) fn worker_keys(typed: &[String]) -> Result<Vec<WorkerKey>> {
    let mut keys = Vec::new();
    for typed in typed {
        let text = match typed.strip_prefix('@') {
            Some(path) => fs::read_to_string(Path::new(path))
                .map_err(|err| Error::usage(error::chain(&err)))?,
            None => typed.clone(),
        };
        let before = keys.len();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let key = line.parse();
            keys.push(key.map_err(|err| Error::usage(format!("--chain-of-trust-key: {err}")))?);
        }
        if keys.len() == before {
            let typed = typed.escape_debug();
            return Err(Error::usage(format!(
                "--chain-of-trust-key: there is no key in `{typed}`"
            )));
        }
    }
    Ok(keys)
}

pub(super) async fn origin(
    store: Option<PathBuf>,
    client: &Client,
    retry: &RetryPolicy,
) -> Result<Origin> {
    if let Some(typed) = store {
        let location = Location::new(typed)?;
        let store = Store::open(&location, IfMissing::Refuse, client, retry).await?;
        return Ok(Origin::Store(Arc::new(store)));
    }
    settings::queue()?
        .map(Origin::Queue)
        .ok_or_else(|| Error::Usage {
            what: "TASKCLUSTER_ROOT_URL is not set".into(),
            hint: Some(
                "set it to the deployment that has the artifacts, or pass --store DIR".into(),
            ),
        })
}

/// Turns entries into what is to be fetched. Entries for the same artifact share one transfer if they expect the same.
pub(super) fn items(entries: &[Entry], tasks: &Arc<Tasks>, ui: &Arc<Ui>) -> Result<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    let mut known: HashMap<_, usize> = HashMap::new();
    for (position, entry) in entries.iter().enumerate() {
        tasks.check(&entry.task, &entry.artifact)?;
        let wanted = (
            &entry.task,
            &entry.artifact,
            (entry.verify_hash, entry.sha256, entry.size),
        );
        let number = match known.entry(wanted) {
            hash_map::Entry::Occupied(known) => *known.get(),
            hash_map::Entry::Vacant(place) => {
                items.push(item(entry, tasks, ui));
                *place.insert(items.len() - 1)
            }
        };
        let item = &mut items[number];
        item.places.push((position, entry.dest.clone()));
        item.request.placings.push(Placing::of(entry.extract));
    }
    Ok(items)
}

/// Returns what an entry wants fetched, to be placed nowhere yet.
fn item(entry: &Entry, tasks: &Arc<Tasks>, ui: &Arc<Ui>) -> Item {
    let name = entry.artifact.file_name();
    let observer = ui.watch(name);
    let request = Request {
        name: format!("{} of task {}", entry.artifact, entry.task),
        sources: Vec::new(),
        expected: tasks.expectation(entry, Arc::clone(&observer)),
        signed: None,
        placings: Vec::new(),
        file_name: name.into(),
    };
    let (tasks, task, artifact) = (
        Arc::clone(tasks),
        entry.task.clone(),
        entry.artifact.clone(),
    );
    Item {
        request,
        locate: Some(Box::new(move || {
            async move { tasks.source(&task, &artifact).await }.boxed()
        })),
        places: Vec::new(),
        size: entry.size,
        tree: None,
        observer,
        shortcut: None,
    }
}

/// Writes the time the run took in the form Mozilla's Perfherder collects, as the Python tool does.
fn perfherder(elapsed: Duration, ui: &Ui) -> Result<()> {
    let suite = json!({
        "name": "fetch_content",
        "value": elapsed.as_secs_f64(),
        "lowerIsBetter": true,
        "shouldAlert": false,
        "subtests": [],
    });
    let data = json!({"framework": {"name": "build_metrics"}, "suites": [suite]}).to_string();
    ui.line(&format!("PERFHERDER_DATA: {data}"));
    let automation = settings::text("MOZ_AUTOMATION")?.as_deref() == Some("1");
    match settings::text("PERFHERDER_FETCH_CONTENT_JSON_PATH")? {
        Some(path) if automation => fs::write(Path::new(&path), &data),
        _ => Ok(()),
    }
}

//! `fetch-content inputs`: the fetch directory of a task, made at a desk.

use crate::{
    cli::{args, kind::run::workshop, settings, settings::Tunables, ui::Ui},
    error::{self, Error, Result},
    fs::Staging,
    http::{Client, RetryPolicy},
    inputs::{Desk, Lock, Locked, Remote, Wanted},
    kind::{Graph, Input, artifact_name},
    rel_path::RelPath,
    stream::bridge::run_blocking,
    task::{Deployment, Origin, TaskId, Tasks, parse_entries},
    verify::Expected,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// Runs the subcommand.
pub(super) async fn run(args: args::Inputs, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let tunables = Tunables::new(&args.tuning)?;
    let (retry, concurrency) = (tunables.retry.clone(), tunables.transfers);
    let locked = match args.locked.clone() {
        Some(path) => Some(run_blocking(move || Lock::read(&path)).await?),
        None => None,
    };
    if args.lock.is_some() && !args.making.import.trust_cache.is_empty() {
        ui.warning("--trust-cache has no effect with --lock: its hashes are those of archives that were verified");
    }
    let workshop = workshop(args.making, tunables, start, ui).await?;
    let remote = remote(&workshop.context.client, &retry)?;
    let mut wanted = match &args.task_id {
        None => of_graph(&args.of, ui).await?,
        Some(id) => of_task(id, remote.as_ref()).await?,
    };
    if let Some(lock) = &locked {
        use_lock(&lock.inputs, &mut wanted);
    }
    let into = args.dest;
    let staging = run_blocking(move || Staging::inside(&into)).await?;
    let desk = Desk {
        workshop,
        remote,
        concurrency,
        staging: Arc::new(staging),
        for_lock: args.lock.is_some(),
    };
    let watch = |wanted: &Wanted| ui.watch(&wanted.label);
    let found = desk.gather(&wanted, watch).await?;
    if let (Some(lock), Some(path)) = (&locked, &args.locked) {
        lock.check(&found, path)?;
    }
    let trees = desk.lay_out(&found, !args.copy).await?;
    if let Some(path) = args.lock {
        let mut extracted = trees
            .iter()
            .zip(&wanted)
            .filter(|(_, wanted)| wanted.extract);
        if extracted.any(|(tree, _)| tree.is_none()) {
            ui.warning("the lock has no hashes of trees: others have permissions that the umask takes here");
        }
        let lock = Lock::of(&found, &trees)?;
        run_blocking(move || lock.write(&path)).await?;
    }
    ui.summary(start.elapsed());
    Ok(())
}

/// Returns the deployment to ask, if one is named.
pub(super) fn remote(client: &Client, retry: &RetryPolicy) -> Result<Option<Remote>> {
    let Some(queue) = settings::queue()? else {
        return Ok(None);
    };
    Ok(Some(Remote {
        deployment: Deployment::new(queue.clone(), client.clone(), retry.clone(), Arc::new(())),
        tasks: Tasks::new(
            Origin::Queue(queue),
            client.clone(),
            retry.clone(),
            Vec::new(),
        ),
    }))
}

/// Returns what a task of a graph wants; nothing if none is named.
pub(super) async fn of_graph(of: &args::OfTask, ui: &Ui) -> Result<Vec<Wanted>> {
    let Some(task) = &of.task else {
        return Ok(Vec::new());
    };
    let root = root(of.root.clone().unwrap_or_default(), of.kinds.as_deref())?;
    let graph = run_blocking(move || Graph::load(&root)).await?;
    wanted_by(&graph, (&of.kind, task), &of.tasks, ui)
}

/// Returns what a task of a kind wants. `tasks` has what is not found by digest.
fn wanted_by(
    graph: &Graph,
    (kind, task): (&str, &str),
    tasks: &[args::LabelledTask],
    ui: &Ui,
) -> Result<Vec<Wanted>> {
    let inputs = graph.inputs(kind, task)?;
    for warning in &inputs.warnings {
        ui.warning(&warning.to_string());
    }
    let given = tasks
        .iter()
        .map(|given| (given.label.as_str(), &given.task));
    let given: HashMap<_, _> = given.collect();
    for label in given.keys() {
        if !inputs.entries.iter().any(|input| input.label == *label) {
            ui.warning(&format!(
                "--task {label}=… has no effect: {task} takes nothing of that task"
            ));
        }
    }
    let wanted = inputs
        .entries
        .iter()
        .map(|input| wanted(graph, input, &given));
    wanted.collect()
}

fn wanted(graph: &Graph, input: &Input, given: &HashMap<&str, &TaskId>) -> Result<Wanted> {
    let fetch = graph
        .fetches()
        .iter()
        .find(|fetch| fetch.label == input.label);
    let toolchain = graph
        .toolchains()
        .iter()
        .find(|toolchain| toolchain.label == input.label);
    let task = given.get(input.label.as_str()).copied().cloned();
    let (mut cached, mut problem) = (fetch.map(|fetch| fetch.cached.clone()), None);
    if let (Some(toolchain), None) = (toolchain, &task) {
        match graph.toolchain_cached(toolchain) {
            Ok(digest) => cached = Some(digest),
            Err(err) => problem = Some(error::chain(&err)),
        }
    }
    let dest = input.dest.as_deref().unwrap_or_default();
    let dest = RelPath::parse(dest.as_bytes())
        .map_err(|err| Error::usage(format!("`dest` of {}: {err}", input.label)))?;
    Ok(Wanted {
        label: input.label.clone(),
        artifact: artifact_name(&input.artifact)?,
        dest,
        extract: input.extract,
        verify_hash: input.verify_hash,
        expected: Expected::default(),
        locked: None,
        task,
        cached,
        made_by: fetch.cloned(),
        problem,
    })
}

/// Returns what the `MOZ_FETCHES` of a task of the deployment lists.
async fn of_task(id: &str, remote: Option<&Remote>) -> Result<Vec<Wanted>> {
    let id: TaskId = id
        .parse()
        .map_err(|err| Error::usage(format!("--task-id: {err}")))?;
    let remote = remote.ok_or_else(|| Error::Usage {
        what: "--task-id needs a deployment".into(),
        hint: Some("set TASKCLUSTER_ROOT_URL to the one that has the task".into()),
    })?;
    let definition = remote.deployment.task(&id).await?;
    let list = match &definition["payload"]["env"]["MOZ_FETCHES"] {
        Value::String(list) => list.clone(),
        Value::Null => return Err(Error::usage(format!("task {id} has no MOZ_FETCHES"))),
        other => other.to_string(),
    };
    let (entries, _) = parse_entries(&list, &format!("MOZ_FETCHES of task {id}"))?;
    let wanted = entries.into_iter().map(|entry| Wanted {
        label: entry.task.to_string(),
        artifact: entry.artifact,
        dest: entry.dest,
        extract: entry.extract,
        verify_hash: entry.verify_hash,
        expected: Expected {
            sha256: entry.sha256,
            size: entry.size,
            ..Expected::default()
        },
        locked: None,
        task: Some(entry.task),
        cached: None,
        made_by: None,
        problem: None,
    });
    Ok(wanted.collect())
}

/// Looks for what a lock has in the tasks that it names, as far as they can be had, and for its digests in images.
pub(super) fn use_lock(locked: &[Locked], wanted: &mut [Wanted]) {
    for wanted in wanted {
        let is_it = |locked: &&Locked| {
            let Locked {
                label,
                artifact,
                extract,
                ..
            } = locked;
            (label, artifact, *extract) == (&wanted.label, &wanted.artifact, wanted.extract)
        };
        let Some(named) = locked.iter().find(is_it) else {
            continue;
        };
        let Some(task) = &wanted.made_by else {
            wanted.task = Some(named.task.clone());
            wanted.locked = Some(named.clone());
            continue;
        };
        // What is made here has the same id on every machine, and another one if it is defined otherwise now. If a
        // deployment has made it, the digest that it has now must tell.
        if task.id_here() == named.task || task.pinned() == Some(named.sha256) {
            wanted.locked = Some(named.clone());
        }
    }
}

/// Returns the root of the repository, as typed or by where its kinds are.
fn root(typed: PathBuf, kinds: Option<&Path>) -> Result<PathBuf> {
    let Some(kinds) = kinds else {
        return Ok(typed);
    };
    let taskcluster = kinds.parent().filter(|dir| dir.ends_with("taskcluster"));
    let root = taskcluster.and_then(Path::parent);
    root.map(Path::to_owned).ok_or_else(|| Error::Usage {
        what: format!(
            "--kinds {}: it is in no directory `taskcluster`",
            kinds.display()
        ),
        hint: Some("give ROOT/taskcluster/kinds, or --root ROOT".into()),
    })
}

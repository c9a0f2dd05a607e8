//! [`Entries`]: what is exported: what a list has, or what a task of a graph wants.

use super::packer::{Wanted, is_plain};
use crate::{
    batch::Item,
    cli::{
        args, inputs, kind::run::workshop, settings, settings::Tunables, task_artifacts, ui::Ui,
    },
    error::Result,
    http::Client,
    inputs::{Content, Desk, Found},
    kind::{FetchTask, Upstream},
    rel_path::RelPath,
    task::{ArtifactName, TaskId, Tasks},
    upstream::{last_segment, parse_url},
};
use std::{sync::Arc, time::Instant};

/// Where instructions say that a file is from, if nobody knows. Only the last segment of the URL counts.
const NOWHERE: &str = "https://upstream.invalid";

/// What is exported.
pub(super) struct Entries {
    /// What is fetched, with the positions of layers.
    pub(super) items: Vec<Item>,
    /// What becomes a layer, in their order.
    pub(super) wanted: Vec<Wanted>,
}

impl Entries {
    /// Reads a list.
    pub(super) async fn of_list(
        args: &args::ImageExport,
        directory: &RelPath,
        (client, tunables): (&Client, &Tunables),
        ui: &Arc<Ui>,
    ) -> Result<Self> {
        let entries = task_artifacts::entries(args.fetches.as_deref(), ui).await?;
        let worker_keys = task_artifacts::worker_keys(&args.chain_of_trust_key)?;
        let origin = task_artifacts::origin(args.store.clone(), client, &tunables.retry).await?;
        let tasks = Tasks::new(origin, client.clone(), tunables.retry.clone(), worker_keys);
        let root = settings::text("TASKCLUSTER_ROOT_URL")?;
        let wanted = entries.iter().map(|entry| {
            let name = entry.artifact.file_name();
            let url = of_queue(root.as_deref(), &entry.task, &entry.artifact);
            Wanted {
                name: name.to_owned(),
                url: shown(url, name),
                directory: directory.join_all(&entry.dest),
                extract: entry.extract,
            }
        });
        Ok(Self {
            wanted: wanted.collect(),
            items: task_artifacts::items(&entries, &tasks, ui)?,
        })
    }

    /// Brings what a task wants into the store, as `inputs` does.
    pub(super) async fn of_task(
        args: &mut args::ImageExport,
        directory: &RelPath,
        tunables: Tunables,
        ui: &Arc<Ui>,
    ) -> Result<Self> {
        let wanted = inputs::of_graph(&args.of, ui).await?;
        let making = args::Making {
            place: args::StorePlace {
                store: args.store.take(),
            },
            nearby: std::mem::take(&mut args.nearby),
            push: std::mem::take(&mut args.push),
            import: args::Import::default(),
        };
        let (retry, concurrency) = (tunables.retry.clone(), tunables.transfers);
        let workshop = workshop(making, tunables, Instant::now(), ui).await?;
        let desk = Desk {
            remote: inputs::remote(&workshop.context.client, &retry)?,
            concurrency,
            staging: Arc::clone(&workshop.context.staging),
            for_lock: false,
            workshop,
        };
        let found = desk
            .gather(&wanted, |wanted| ui.watch(&wanted.label))
            .await?;
        let root = settings::text("TASKCLUSTER_ROOT_URL")?;
        Ok(Self {
            items: desk.items(&found).await?,
            wanted: found
                .iter()
                .map(|found| layer(found, directory, root.as_deref()))
                .collect(),
        })
    }
}

/// Returns what is to become a layer of something that was found.
fn layer(found: &Found<'_>, directory: &RelPath, root: Option<&str>) -> Wanted {
    let wanted = found.wanted;
    let name = wanted.artifact.file_name();
    let of_upstream = wanted
        .made_by
        .as_ref()
        .and_then(|task| of_upstream(task, name));
    let of_queue = || match &found.content {
        // What is made here has no task of a deployment.
        Content::Stored(stored) if !is_made_here(wanted.made_by.as_ref(), &stored.task) => {
            of_queue(root, &stored.task, &wanted.artifact)
        }
        Content::Stored(_) | Content::Unpacked { .. } => None,
    };
    Wanted {
        name: name.to_owned(),
        url: shown(of_upstream.or_else(of_queue), name),
        directory: directory.join_all(&wanted.dest),
        extract: wanted.extract,
    }
}

fn is_made_here(task: Option<&FetchTask>, id: &TaskId) -> bool {
    task.is_some_and(|task| task.id_here() == *id)
}

/// Returns the URL of upstream's file, if that is the artifact, by the same name. Passwords are nobody's business.
fn of_upstream(task: &FetchTask, name: &str) -> Option<String> {
    let Upstream::StaticUrl(file) = &task.upstream else {
        return None;
    };
    let url = parse_url(&file.url).ok()?;
    let is_public = url.username().is_empty() && url.password().is_none();
    let is_http = url.scheme() != "ftp";
    let is_it = task.pinned().is_some() && last_segment(&url) == name;
    (is_public && is_http && is_it).then(|| url.to_string())
}

fn of_queue(root: Option<&str>, task: &TaskId, artifact: &ArtifactName) -> Option<String> {
    let root = root?.trim_end_matches('/');
    Some(format!(
        "{root}/api/queue/v1/task/{task}/artifacts/{artifact}"
    ))
}

/// Returns where an instruction says that a file is from.
fn shown(url: Option<String>, name: &str) -> String {
    let url = url.filter(|url| is_plain(url.as_bytes()));
    url.unwrap_or_else(|| format!("{NOWHERE}/{name}"))
}

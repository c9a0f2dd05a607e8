//! `kind run`: fetch tasks performed here, into a store.

use super::{failures::Failures, parameters, tasks::distinct};
use crate::{
    cli::{args, image, settings, settings::Tunables, ui::Ui},
    error::{Error, Result},
    kind::{FetchTask, Graph, Stored, Workshop},
    size::ByteSize,
    store::{IfMissing, Store},
    stream::bridge::ended_well,
    task::Secrets,
    upstream::parse_url,
};
use std::{sync::Arc, time::Instant};
use tokio::{sync::Semaphore, task::JoinSet};

/// Runs the verb.
pub(super) async fn run(graph: &Graph, args: args::KindRun, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let tasks = distinct(graph, &args.names)?;
    let tunables = Tunables::new(&args.tuning)?;
    let turns = Arc::new(Semaphore::new(tunables.transfers));
    if !args.making.import.trust_cache.is_empty() {
        ui.warning("--trust-cache has no effect: of images only files are taken, whose SHA-256 proves them");
    }
    let workshop = workshop(args.making, tunables, start, ui).await?;
    let workshop = Arc::new(workshop);
    let mut running = JoinSet::new();
    let count = tasks.len();
    for task in tasks {
        let (task, workshop, turns) = (task.clone(), Arc::clone(&workshop), Arc::clone(&turns));
        let observer = ui.watch(&task.label);
        running.spawn(async move {
            let performed = async {
                let _turn = turns.acquire().await.map_err(|_closed| Error::Cancelled)?;
                workshop.perform(&task, &*observer).await
            };
            let performed = performed.await;
            (task, performed)
        });
    }
    let mut failures = Failures::default();
    while let Some(ended) = running.join_next().await {
        let (task, performed) = ended_well(ended)?;
        match performed {
            Ok(stored) => tell(&task, &stored, ui),
            Err(source) => {
                let err = Error::Fetch {
                    name: task.label,
                    source: Box::new(source),
                };
                if args.fail_fast {
                    return Err(err);
                }
                failures.note(&err, ui);
            }
        }
    }
    ui.summary(start.elapsed());
    failures.end(count)
}

fn tell(task: &FetchTask, stored: &Stored, ui: &Ui) {
    let Stored {
        task: id,
        artifact,
        found,
    } = stored;
    let (label, name, size) = (&task.label, &artifact.name, ByteSize(artifact.size));
    let how = if *found { "has it already" } else { "made it" };
    ui.line(&format!(
        "{label}: task {id} {how}: {name}, {size}, sha256 {}",
        artifact.sha256
    ));
}

/// Sets up what all tasks share.
pub(in crate::cli) async fn workshop(
    making: args::Making,
    tunables: Tunables,
    start: Instant,
    ui: &Arc<Ui>,
) -> Result<Workshop> {
    let (parameters, _) = parameters(&making.push)?;
    let mirrors = making.nearby.mirrors.iter();
    let mirrors = mirrors.map(|mirror| parse_url(mirror));
    let mirrors = mirrors.collect::<Result<_>>()?;
    let client = tunables.client()?;
    let location = settings::store(making.place.store)?;
    let store = Store::open(&location, IfMissing::Create, &client, &tunables.retry).await?;
    let connection = image::connection(&making.import.way, &client, &tunables);
    let context = tunables.context(client, store.staging()?, start);
    let images = image::imports(&making.import, &connection, &context, ui).await?;
    Ok(Workshop {
        store,
        context,
        parameters,
        distdirs: making.nearby.distdirs,
        mirrors,
        secrets: secrets()?,
        images,
    })
}

/// Returns where secrets are, if there is a way to them.
fn secrets() -> Result<Option<Secrets>> {
    let proxy = settings::text("TASKCLUSTER_PROXY_URL")?;
    let root = settings::text("TASKCLUSTER_ROOT_URL")?;
    let client = settings::text("TASKCLUSTER_CLIENT_ID")?;
    if proxy.is_none() && (root.is_none() || client.is_none()) {
        return Ok(None);
    }
    settings::secrets().map(Some)
}

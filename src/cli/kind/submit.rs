//! `kind submit`: fetch tasks created on a deployment.

use super::{failures::Failures, parameters, run_task, tasks::distinct};
use crate::{
    cli::{args, settings, settings::Tunables, ui::Ui},
    error::{Error, Result},
    kind::{Graph, Push, Submission},
    store::now,
    task::{Deployment, TaskId},
};
use futures::{StreamExt, stream};
use std::sync::Arc;

/// Runs the verb. Everything that can be wrong with the definitions is found before the first task is created.
pub(super) async fn run(graph: &Graph, args: args::KindSubmit, ui: &Arc<Ui>) -> Result<()> {
    let tasks = distinct(graph, &args.names)?;
    let (parameters, push) = parameters(&args.push)?;
    check(&push)?;
    let tunables = Tunables::new(&args.tuning)?;
    let client = tunables.client()?;
    let queue = settings::queue()?.ok_or_else(|| Error::Usage {
        what: "TASKCLUSTER_ROOT_URL is not set".into(),
        hint: Some("set it to the deployment that is to perform the tasks".into()),
    })?;
    let deployment = Deployment::new(queue, client, tunables.retry, ui.listen("queue"));
    deployment.check_credentials()?;
    let dependencies = args.tasks.into_iter().map(dependency);
    let mut submission = Submission {
        group: group(&push)?,
        run_task: run_task(args.run_task.as_deref())?,
        dependencies: dependencies.collect::<Result<_>>()?,
        now: now(),
        deployment,
        graph,
        parameters,
        push,
    };
    let known = submission.known(&tasks).await?;
    let mut new = Vec::new();
    for task in &tasks {
        match known.get(&task.label) {
            Some(id) => ui.line(&format!("{}: task {id} has it already", task.label)),
            None => new.push(*task),
        }
    }
    let new = submission.prepare(&new).await?;
    let deployment = &submission.deployment;
    let created = stream::iter(&new).map(|new| async move {
        let created = deployment.create_task(&new.id, &new.definition);
        (new, created.await)
    });
    let mut created = created.buffer_unordered(tunables.transfers);
    let mut failures = Failures::default();
    while let Some((new, created)) = created.next().await {
        match created {
            Ok(_) => ui.line(&format!("{}: created task {}", new.label, new.id)),
            Err(source) => {
                let err = Error::Deployment {
                    what: format!("submit {}", new.label),
                    source: Box::new(source),
                };
                failures.note(&err, ui);
            }
        }
    }
    failures.end(tasks.len())
}

/// Takes a task that was named. Another label would have no effect.
fn dependency(given: args::LabelledTask) -> Result<(String, TaskId)> {
    let label = given.label;
    if label.starts_with("docker-image-") {
        return Ok((label, given.task));
    }
    Err(Error::Usage {
        what: format!("--task {label}=…: fetch tasks depend on nothing but their images"),
        hint: Some(format!("is it docker-image-{label}?")),
    })
}

/// Returns the group that new tasks are in: that of the decision task, if this runs in it.
fn group(push: &Push) -> Result<TaskId> {
    if push.decision_task.is_empty() {
        return TaskId::random();
    }
    let id = push.decision_task.parse();
    id.map_err(|err| Error::usage(format!("TASK_ID: {err}")))
}

/// Refuses a push of which nothing is known, as the queue would, in its own words.
fn check(push: &Push) -> Result<()> {
    if push.head_repository.is_empty() {
        return Err(Error::Usage {
            what: "tasks are created for a commit, and it is not known for which".into(),
            hint: Some(
                "pass taskgraph's parameters.yml, with head_repository and head_rev: --parameters FILE"
                    .into(),
            ),
        });
    }
    Ok(())
}

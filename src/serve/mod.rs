//! A store over HTTP, with the URLs and answers of Taskcluster's Queue and Index, as far as clients need them to find,
//! list and read artifacts, and, if that is allowed, to add some.
//!
//! Artifacts are answered like those in S3: with a redirect to where the content is, which is the same server, by
//! `/content/<task id>/<name>`. There are no credentials and no scopes: who can connect can read everything.

mod answer;
mod condition;
mod content;
mod index;
mod listener;
mod page;
mod queue;

pub use listener::{Server, Settings};

use crate::{
    store::{Artifact, Namespace, Store, now},
    task::{ArtifactName, TaskId},
};
use answer::{Call, Refusal};
use axum::{
    Router,
    http::{HeaderMap, StatusCode, header::HOST, uri::Authority},
};
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

/// What all requests share.
#[derive(Clone)]
struct Shared {
    store: Arc<Store>,
    /// Whether requests may change the store.
    write: bool,
    address: SocketAddr,
    /// The longest silence of somebody who sends content.
    stall_timeout: Duration,
    /// Takes what the owner of the server should know.
    report: Arc<dyn Fn(&str) + Send + Sync>,
}

/// The parts of a path that a route names.
type Parameters = HashMap<String, String>;

/// Returns all routes.
fn router(shared: Shared) -> Router {
    Router::new()
        .nest("/api/queue/v1", queue::routes())
        .nest("/api/index/v1", index::routes())
        .merge(content::routes())
        .fallback(answer::unknown)
        .method_not_allowed_fallback(answer::not_allowed)
        .with_state(shared)
}

impl Shared {
    /// Fails unless this server may write.
    fn check_write(&self, call: &Call) -> Result<(), Refusal> {
        if self.write {
            return Ok(());
        }
        Err(call.refuse(
            StatusCode::FORBIDDEN,
            "InsufficientScopes",
            "this server only reads: it was started without --write",
        ))
    }

    /// Returns an artifact that has not expired.
    async fn artifact(
        &self,
        call: &Call,
        task: &TaskId,
        name: &ArtifactName,
    ) -> Result<Artifact, Refusal> {
        let found = self.store.artifact(task, name).await;
        let found = found.map_err(|err| call.failed(self, &err))?;
        match found {
            None => Err(call.not_found("Artifact not found")),
            Some(artifact) if artifact.expires.is_some_and(|expires| expires <= now()) => {
                Err(call.refuse(StatusCode::GONE, "ResourceExpired", "Artifact has expired"))
            }
            Some(artifact) => Ok(artifact),
        }
    }

    /// Returns where the content of an artifact is, by the name that the client knows this server by.
    fn content_url(&self, headers: &HeaderMap, task: &TaskId, name: &ArtifactName) -> String {
        let host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok()?.parse::<Authority>().ok())
            .map_or_else(|| self.address.to_string(), |host| host.to_string());
        format!("http://{host}/content/{task}/{}", name.percent_encoded())
    }
}

/// Returns the task that a path names.
fn task_of(call: &Call, parameters: &Parameters) -> Result<TaskId, Refusal> {
    let text = parameters.get("task").map_or("", String::as_str);
    text.parse()
        .map_err(|err| call.bad_input(&format!("{err}")))
}

/// Returns the artifact's name that a path ends with.
fn name_of(call: &Call, parameters: &Parameters) -> Result<ArtifactName, Refusal> {
    let text = parameters.get("name").map_or("", String::as_str);
    text.parse()
        .map_err(|err| call.bad_input(&format!("{err}")))
}

/// Returns the namespace that a path names.
fn namespace_of(call: &Call, parameters: &Parameters) -> Result<Namespace, Refusal> {
    let text = parameters.get("namespace").map_or("", String::as_str);
    text.parse()
        .map_err(|err| call.bad_input(&format!("{err}")))
}

/// Checks the run that a path names: a store has one of each task.
fn check_run(call: &Call, parameters: &Parameters) -> Result<(), Refusal> {
    match parameters.get("run").map(String::as_str) {
        None | Some("0") => Ok(()),
        Some(run) if !run.is_empty() && run.bytes().all(|digit| digit.is_ascii_digit()) => {
            Err(call.not_found("Run not found"))
        }
        Some(_) => Err(call.bad_input("the run id is not a number")),
    }
}

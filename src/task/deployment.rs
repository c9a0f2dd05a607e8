//! [`Deployment`]: the API of a Taskcluster deployment, for all but the content of artifacts.
//!
//! What is only read is asked for without credentials first, as everybody can, and if that is refused once more with
//! them; what changes something goes with credentials at once: through the proxy, or signed here. Every method can be
//! repeated without harm, so that all are retried like downloads.

use crate::{
    error::{Error, Result},
    http::{Attempts, Body, Client, RetryPolicy},
    observe::Observer,
    task::{
        answer,
        id::TaskId,
        queue::{Queue, Way},
    },
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::sync::Arc;

/// The API of a deployment.
#[derive(Clone)]
pub struct Deployment {
    pub(super) queue: Queue,
    pub(super) client: Client,
    retry: RetryPolicy,
    observer: Arc<dyn Observer>,
}

/// One call of a method. `path` is percent-encoded, begins with the service and may have a query.
#[derive(Clone, Debug)]
pub(super) enum Call {
    /// Reads something.
    Get { path: String },
    /// Sends JSON.
    Put { path: String, json: Value },
    /// Sends JSON.
    Post { path: String, json: Value },
}

/// How a task does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Which task.
    pub task_id: TaskId,
    /// `unscheduled`, `pending`, `running`, `completed`, `failed` or `exception`.
    pub state: String,
    /// When it, with all its artifacts, is forgotten.
    pub expires: DateTime<Utc>,
}

#[derive(Deserialize)]
struct OfTask {
    status: TaskStatus,
}

impl Deployment {
    /// Asks `queue` and what else has its root URL. `observer` hears of retries.
    #[must_use]
    pub fn new(
        queue: Queue,
        client: Client,
        retry: RetryPolicy,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            queue,
            client,
            retry,
            observer,
        }
    }

    /// Returns the definition of a task.
    ///
    /// # Errors
    /// [`Error::Deployment`].
    pub async fn task(&self, task: &TaskId) -> Result<Value> {
        let path = format!("queue/v1/task/{task}");
        let definition = self.read(&Call::Get { path }).await;
        definition.map_err(|err| while_doing(format!("read the definition of task {task}"), err))
    }

    /// Returns how a task does.
    ///
    /// # Errors
    /// [`Error::Deployment`].
    pub async fn task_status(&self, task: &TaskId) -> Result<TaskStatus> {
        let path = format!("queue/v1/task/{task}/status");
        match self.read::<OfTask>(&Call::Get { path }).await {
            Ok(of_task) => Ok(of_task.status),
            Err(err) => Err(while_doing(format!("read the status of task {task}"), err)),
        }
    }

    /// Creates a task with an id that was made for it ([`TaskId::random`]). One that exists with the same definition is
    /// a success, so that this can be repeated.
    ///
    /// # Errors
    /// [`Error::Deployment`]; [`Error::Usage`] without credentials.
    pub async fn create_task(&self, task: &TaskId, definition: &Value) -> Result<TaskStatus> {
        let (path, json) = (format!("queue/v1/task/{task}"), definition.clone());
        match self.write::<OfTask>(&Call::Put { path, json }).await {
            Ok(of_task) => Ok(of_task.status),
            Err(err) => Err(while_doing(format!("create task {task}"), err)),
        }
    }

    /// Checks that there is a way to change something. Asks nobody.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check_credentials(&self) -> Result<()> {
        self.queue.own_way().map(drop)
    }

    /// Calls a method that changes nothing.
    pub(super) async fn read<T: DeserializeOwned>(&self, call: &Call) -> Result<T> {
        let refused = match self.repeated(&self.queue.open_way(), call).await {
            Err(err) if matches!(err.refused_by_api(), Some(401 | 403)) => err,
            ended => return ended,
        };
        match self.queue.private_way() {
            Some(way) => self.repeated(&way, call).await,
            None => Err(refused),
        }
    }

    async fn write<T: DeserializeOwned>(&self, call: &Call) -> Result<T> {
        self.repeated(&self.queue.own_way()?, call).await
    }

    async fn repeated<T: DeserializeOwned>(&self, way: &Way, call: &Call) -> Result<T> {
        Attempts::new(&self.retry, &*self.observer)
            .run(|| async { answer::json(self.once(way, call).await?).await })
            .await
    }

    /// Calls a method once.
    pub(super) async fn once(&self, way: &Way, call: &Call) -> Result<Body> {
        match call {
            Call::Get { path } => self.client.get(&way.address(path)).await,
            Call::Put { path, json } => {
                let address = way.address(path);
                self.client.put_json(&address, json.to_string()).await
            }
            Call::Post { path, json } => {
                let address = way.address(path);
                self.client.post_json(&address, json.to_string()).await
            }
        }
    }

    /// Returns a budget of attempts, of which `observer` hears.
    pub(super) fn attempts<'a>(&'a self, observer: &'a dyn Observer) -> Attempts<'a> {
        Attempts::new(&self.retry, observer)
    }
}

/// Says what could not be done. `what` begins with a verb.
pub(super) fn while_doing(what: String, err: Error) -> Error {
    match err {
        // Nothing was asked for yet, and it is the caller's to mend.
        Error::Usage { .. } | Error::Cancelled => err,
        err => Error::Deployment {
            what,
            source: Box::new(err),
        },
    }
}

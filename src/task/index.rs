//! The index of a deployment: namespaces, each of which leads to a task.

use crate::{
    error::{Error, Result},
    task::{
        deployment::{Call, Deployment, while_doing},
        id::TaskId,
        queue::segment,
    },
};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::json;
use std::{collections::HashMap, time::SystemTime};

/// The most namespaces that a deployment looks up at once.
const MANY: usize = 1000;

/// Single lookups at the same time.
const AT_ONCE: usize = 16;

/// Where a namespace leads.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexedTask {
    /// The namespace.
    pub namespace: String,
    /// The task.
    pub task_id: TaskId,
    /// When the namespace leads nowhere any more.
    pub expires: DateTime<Utc>,
}

/// One page of an answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    tasks: Vec<IndexedTask>,
    continuation_token: Option<String>,
}

impl Deployment {
    /// Returns where a namespace leads, if it is known and has not expired.
    ///
    /// # Errors
    /// [`Error::Deployment`].
    pub async fn find_task(&self, namespace: &str) -> Result<Option<IndexedTask>> {
        let encoded = segment(namespace);
        let path = format!("index/v1/task/{encoded}");
        match self.read(&Call::Get { path }).await {
            Ok(found) => Ok(Some(found)),
            Err(err) if err.is_absence() => Ok(None),
            Err(err) => Err(while_doing(
                format!("look up {} in the index", namespace.escape_debug()),
                err,
            )),
        }
    }

    /// Returns where namespaces lead, by namespace; those that lead nowhere are not there.
    ///
    /// # Errors
    /// [`Error::Deployment`].
    pub async fn find_tasks(&self, namespaces: &[String]) -> Result<HashMap<String, IndexedTask>> {
        let mut found = HashMap::new();
        for many in namespaces.chunks(MANY) {
            let some = match self.find_many(many).await {
                // A deployment of before 2024 takes the request for one to list what is below the namespace `indexes`,
                // which is empty or not allowed.
                Ok(some) if !some.is_empty() => some,
                Ok(_) => self.find_one_by_one(many).await?,
                Err(err) if err.refused_by_api().is_some() => self.find_one_by_one(many).await?,
                Err(err) => return Err(while_doing("look up tasks in the index".into(), err)),
            };
            found.extend(some.into_iter().map(|task| (task.namespace.clone(), task)));
        }
        Ok(found)
    }

    async fn find_many(&self, namespaces: &[String]) -> Result<Vec<IndexedTask>> {
        let path = "index/v1/tasks/indexes";
        let mut call = Call::Post {
            path: path.to_owned(),
            json: json!({"indexes": namespaces}),
        };
        let mut found = Vec::new();
        // There are no more pages than namespaces, but for an empty last one.
        for _ in 0..=namespaces.len() {
            let page: Page = self.read(&call).await?;
            found.extend(page.tasks);
            let Some(token) = page.continuation_token else {
                break;
            };
            if let Call::Post { path: next, .. } = &mut call {
                let token = segment(&token);
                *next = format!("{path}?continuationToken={token}");
            }
        }
        // Single lookups do not find what has expired.
        let now = DateTime::<Utc>::from(SystemTime::now());
        found.retain(|task| task.expires > now && namespaces.contains(&task.namespace));
        Ok(found)
    }

    async fn find_one_by_one(&self, namespaces: &[String]) -> Result<Vec<IndexedTask>> {
        stream::iter(namespaces)
            .map(|namespace| self.find_task(namespace))
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|found| std::future::ready(Ok::<_, Error>(found)))
            .try_collect()
            .await
    }
}

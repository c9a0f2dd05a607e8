//! Where the artifacts of tasks are: a [`Queue`], or a folder of the same layout.

use crate::{
    error::{Error, Result},
    http::{Attempts, Client, RetryPolicy, Source},
    observe::Observer,
    task::{
        chain_of_trust::{self, ChainOfTrust},
        entry::Entry,
        id::{ArtifactName, TaskId},
    },
    verify::{Expectation, Expected},
};
use futures::FutureExt;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OnceCell;
use url::Url;

/// Where artifacts are read from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A Taskcluster queue.
    Queue(Queue),
    /// A folder with `task/<task id>/artifacts/<name>`.
    Store(PathBuf),
}

/// The URLs of a Taskcluster deployment.
#[derive(Clone, Debug)]
pub struct Queue {
    root: Url,
    proxy: Option<Url>,
}

impl Queue {
    /// Parses the values of `TASKCLUSTER_ROOT_URL` and `TASKCLUSTER_PROXY_URL`; slashes at their ends do not matter.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the variable.
    pub fn new(root: &str, proxy: Option<&str>) -> Result<Self> {
        let parse = |variable: &str, text: &str| match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
            _ => Err(Error::Usage {
                // Not shown: it may hold a password.
                what: format!("{variable} is not an http or https URL"),
                hint: Some(format!(
                    "set {variable} to something like https://tc.example.com"
                )),
            }),
        };
        let proxy = proxy
            .map(|text| parse("TASKCLUSTER_PROXY_URL", text))
            .transpose()?;
        Ok(Self {
            root: parse("TASKCLUSTER_ROOT_URL", root)?,
            proxy,
        })
    }

    /// Returns the URL of an artifact of a task's latest run. Private ones are read through the proxy, which adds the
    /// credentials.
    ///
    /// # Errors
    /// [`Error::Usage`] for a private artifact when there is no proxy.
    pub fn artifact_url(&self, task: &TaskId, artifact: &ArtifactName) -> Result<Url> {
        let base = match &self.proxy {
            _ if artifact.is_public() => &self.root,
            Some(proxy) => proxy,
            None => {
                return Err(Error::Usage {
                    what: format!("artifact `{artifact}` is private, and TASKCLUSTER_PROXY_URL is not set"),
                    hint: Some("enable the task's taskclusterProxy feature; names of public artifacts start with `public/`".into()),
                });
            }
        };
        let mut url = base.clone();
        let root = base.path().trim_end_matches('/');
        url.set_path(&format!(
            "{root}/api/queue/v1/task/{task}/artifacts/{}",
            artifact.percent_encoded()
        ));
        Ok(url)
    }
}

/// Turns entries into sources and expectations. Asks for the chain of trust of each task at most once.
pub struct Tasks {
    origin: Origin,
    client: Client,
    retry: RetryPolicy,
    chains: Mutex<HashMap<TaskId, Arc<OnceCell<ChainOfTrust>>>>,
}

impl Tasks {
    /// Reads from `origin`.
    #[must_use]
    pub fn new(origin: Origin, client: Client, retry: RetryPolicy) -> Arc<Self> {
        Arc::new(Self {
            origin,
            client,
            retry,
            chains: Mutex::default(),
        })
    }

    /// Returns where an artifact comes from. Asks nobody.
    ///
    /// # Errors
    /// [`Error::Usage`] for a private artifact when there is no proxy.
    pub fn source(&self, task: &TaskId, artifact: &ArtifactName) -> Result<Source> {
        Ok(match &self.origin {
            Origin::Queue(queue) => {
                Source::Url(Box::new(queue.artifact_url(task, artifact)?.into()))
            }
            Origin::Store(root) => Source::File(
                root.join("task")
                    .join(task.to_string())
                    .join("artifacts")
                    .join(artifact.as_str()),
            ),
        })
    }

    /// Returns how to find out what an entry's artifact must be. `observer` hears of retries on the way.
    pub fn expectation(
        self: &Arc<Self>,
        entry: &Entry,
        observer: Arc<dyn Observer>,
    ) -> Expectation {
        let (tasks, entry) = (Arc::clone(self), entry.clone());
        Box::new(move || {
            let (tasks, entry, observer) =
                (Arc::clone(&tasks), entry.clone(), Arc::clone(&observer));
            async move { tasks.expected(&entry, &*observer).await }.boxed()
        })
    }

    async fn expected(&self, entry: &Entry, observer: &dyn Observer) -> Result<Expected> {
        let mut expected = Expected {
            sha256: entry.sha256,
            size: entry.size,
            ..Expected::default()
        };
        if entry.verify_hash {
            let chain = self.chain(&entry.task);
            let chain = chain
                .get_or_try_init(|| self.read_chain(&entry.task, observer))
                .await?;
            let vouched = chain.digest_of(&entry.artifact)?;
            if entry.sha256.is_some_and(|pinned| pinned != vouched) {
                return Err(chain.contradiction(&entry.artifact, &vouched));
            }
            expected.sha256 = Some(vouched);
        }
        Ok(expected)
    }

    fn chain(&self, task: &TaskId) -> Arc<OnceCell<ChainOfTrust>> {
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(chains.entry(task.clone()).or_default())
    }

    async fn read_chain(&self, task: &TaskId, observer: &dyn Observer) -> Result<ChainOfTrust> {
        let name: ArtifactName = chain_of_trust::NAME
            .parse()
            .map_err(|err| Error::usage(format!("{err}")))?;
        let source = self.source(task, &name)?;
        Attempts::new(&self.retry, observer)
            .run(|| async { ChainOfTrust::read(self.client.open(&source).await?).await })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;

    fn url(queue: &Queue, name: &str) -> String {
        queue
            .artifact_url(&"TASK".parse().unwrap(), &name.parse().unwrap())
            .unwrap()
            .to_string()
    }

    #[test]
    fn public_artifacts_come_from_the_root_and_private_ones_through_the_proxy() {
        let queue = Queue::new("https://tc.example.com//", Some("http://taskcluster:80/")).unwrap();
        assert_eq!(
            url(&queue, "public/a b/x#1"),
            "https://tc.example.com/api/queue/v1/task/TASK/artifacts/public/a%20b/x%231"
        );
        assert_eq!(
            url(&queue, "private/x"),
            "http://taskcluster/api/queue/v1/task/TASK/artifacts/private/x"
        );
    }

    #[test]
    fn missing_and_malformed_urls_are_named() {
        let err = Queue::new("tc.example.com", None).unwrap_err().to_string();
        assert_eq!(err, "TASKCLUSTER_ROOT_URL is not an http or https URL");
        let queue = Queue::new("https://tc.example.com", None).unwrap();
        let err = queue
            .artifact_url(&"T".parse().unwrap(), &"private/x".parse().unwrap())
            .unwrap_err();
        assert!(err.to_string().contains("TASKCLUSTER_PROXY_URL"));
    }
}

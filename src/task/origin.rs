//! Where the artifacts of tasks are: a [`Queue`], or a [`Store`].

use crate::{
    error::{Error, Result},
    http::{Attempts, Client, RetryPolicy, Source},
    observe::Observer,
    safe_url::SafeUrl,
    store::Store,
    task::{
        chain_of_trust::{self, ChainOfTrust, Served, WorkerKey},
        entry::Entry,
        id::{ArtifactName, TaskId},
        queue::Queue,
    },
    verify::{Expectation, Expected, Verifier},
};
use futures::FutureExt;
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OnceCell;

/// Where artifacts are read from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A Taskcluster queue.
    Queue(Queue),
    /// A store, or a folder with `task/<task id>/artifacts/<name>`.
    Store(Arc<Store>),
}

/// Turns entries into sources and expectations. Asks for the chain of trust of each task at most once.
pub struct Tasks {
    origin: Origin,
    client: Client,
    retry: RetryPolicy,
    worker_keys: Vec<WorkerKey>,
    chains: Mutex<HashMap<TaskId, Arc<OnceCell<ChainOfTrust>>>>,
}

impl Tasks {
    /// Reads from `origin`. Where there are worker keys, a chain of trust must be signed by one of them.
    #[must_use]
    pub fn new(
        origin: Origin,
        client: Client,
        retry: RetryPolicy,
        worker_keys: Vec<WorkerKey>,
    ) -> Arc<Self> {
        Arc::new(Self {
            origin,
            client,
            retry,
            worker_keys,
            chains: Mutex::default(),
        })
    }

    /// Refuses an artifact that nobody needs to be asked for: there is no way to it.
    ///
    /// # Errors
    /// [`Error::Usage`] for a private artifact when there is neither a proxy nor credentials.
    pub fn check(&self, task: &TaskId, artifact: &ArtifactName) -> Result<()> {
        match &self.origin {
            Origin::Queue(queue) => queue.artifact(task, artifact).map(drop),
            Origin::Store(_) => Ok(()),
        }
    }

    /// Returns where an artifact comes from. Asks nobody but a store.
    ///
    /// # Errors
    /// [`Error::Usage`] for a private artifact when there is neither a proxy nor credentials; what [`Store::source`] has.
    pub async fn source(&self, task: &TaskId, artifact: &ArtifactName) -> Result<Source> {
        match &self.origin {
            Origin::Queue(queue) => Ok(Source::Url(Box::new(queue.artifact(task, artifact)?))),
            Origin::Store(store) => store.source(task, artifact).await,
        }
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
        if let Origin::Store(store) = &self.origin
            && let Some(stored) = store.recorded(&entry.task, &entry.artifact).await?
        {
            let place = SafeUrl::of_file(Path::new(&format!(
                "{} of task {} in {}",
                entry.artifact,
                entry.task,
                store.shown()
            )));
            return expected.and(&stored.expected(), &place);
        }
        Ok(expected)
    }

    fn chain(&self, task: &TaskId) -> Arc<OnceCell<ChainOfTrust>> {
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(chains.entry(task.clone()).or_default())
    }

    /// Gets the chain of trust of a task, and its signature at the same time.
    async fn read_chain(&self, task: &TaskId, observer: &dyn Observer) -> Result<ChainOfTrust> {
        let document = self.read(task, chain_of_trust::NAME, observer);
        if self.worker_keys.is_empty() {
            return ChainOfTrust::unsigned(document.await?);
        }
        let signature = self.read(task, chain_of_trust::SIGNATURE, observer);
        let (document, signature) = tokio::join!(document, signature);
        let document = document?;
        match signature {
            Ok(signature) => {
                ChainOfTrust::signed(document, &signature.content, &self.worker_keys, task)
            }
            Err(err) if err.is_absence() => Err(document.not_signed(task)),
            Err(err) => Err(err),
        }
    }

    async fn read(&self, task: &TaskId, name: &str, observer: &dyn Observer) -> Result<Served> {
        let name: ArtifactName = name.parse().map_err(|err| Error::usage(format!("{err}")))?;
        let source = self.source(task, &name).await?;
        Attempts::new(&self.retry, observer)
            .run(|| async {
                let body = self.client.open(&source).await?;
                let url = body.head().url.clone();
                let mut verifier = Verifier::new(&body.head().promised);
                let content = body.read_all(chain_of_trust::LIMIT).await?;
                verifier.update(&content);
                verifier.finish(&url)?;
                Ok(Served { url, content })
            })
            .await
    }
}

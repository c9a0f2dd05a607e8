//! The index: namespaces that lead to tasks.

use crate::{
    error::Result,
    fs::Lock,
    store::{CONCURRENCY, IndexEntry, Indexed, Namespace, Store, TASK, now, record::has_expired},
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{PutMode, path::Path as Key};

/// How often to begin again when others write the same entry. Each time one of them has got through.
const TURNS: usize = 100;

impl Store {
    /// Lets a namespace lead to a task. An entry of higher rank stays, and so does the result: no error.
    ///
    /// # Errors
    /// [`crate::Error::Store`], [`crate::Error::Damaged`].
    pub async fn insert(&self, namespace: &Namespace, entry: &IndexEntry) -> Result<()> {
        let key = self.entry_key(namespace);
        let _writers = self.lock_to_write().await?;
        let _index = self.lock(".index.lock", Lock::exclusive).await?;
        let mut turns = TURNS;
        loop {
            let there = self.read::<IndexEntry>(&key).await?;
            let stays = |there: &IndexEntry| {
                there.rank > entry.rank && !has_expired(Some(there.expires), now())
            };
            let mode = match (&self.folder, there) {
                (_, Some((there, _))) if stays(&there) => return Ok(()),
                // Nobody else can have written in between.
                (Some(_), _) => PutMode::Overwrite,
                (None, Some((_, version))) => PutMode::Update(version),
                (None, None) => PutMode::Create,
            };
            turns -= 1;
            match self.write(&key, entry, mode).await {
                Ok(()) => return Ok(()),
                Err(
                    object_store::Error::Precondition { .. }
                    | object_store::Error::AlreadyExists { .. },
                ) if turns > 0 => {}
                Err(err) => return Err(self.failed("write", &key, &err)),
            }
        }
    }

    /// Returns what a namespace leads to; `None` if there is no entry, or it has expired.
    ///
    /// # Errors
    /// [`crate::Error::Store`], [`crate::Error::Damaged`].
    pub async fn find(&self, namespace: &Namespace) -> Result<Option<IndexEntry>> {
        let read = self.read::<IndexEntry>(&self.entry_key(namespace)).await?;
        let entry = read.map(|(entry, _)| entry);
        Ok(entry.filter(|entry| !has_expired(Some(entry.expires), now())))
    }

    /// Returns the namespaces right below one, or at the top, in order: those that lead to a task and those that lead on.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn namespaces(&self, below: Option<&Namespace>) -> Result<Vec<Namespace>> {
        let names = self.children(self.namespace_key(below)).await?;
        let mut namespaces: Vec<_> = names
            .iter()
            .filter_map(|name| Namespace::child(below, name).ok())
            .collect();
        namespaces.sort();
        Ok(namespaces)
    }

    /// Returns the entries right below a namespace, or at the top, in order.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub async fn entries(&self, below: Option<&Namespace>) -> Result<Vec<Indexed>> {
        self.found(self.namespaces(below).await?).await
    }

    /// Returns all entries of the index, in order.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub async fn index(&self) -> Result<Vec<Indexed>> {
        let mut namespaces: Vec<_> = self
            .list(self.key(["index"]))
            .await?
            .iter()
            .filter_map(|key| self.namespace_of(key))
            .collect();
        namespaces.sort();
        self.found(namespaces).await
    }

    /// Returns those of the namespaces that lead to a task, in the order given.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub async fn found(&self, namespaces: Vec<Namespace>) -> Result<Vec<Indexed>> {
        let found = stream::iter(namespaces).map(|namespace| async move {
            let entry = self.find(&namespace).await?;
            Ok::<_, crate::Error>(entry.map(|entry| Indexed { namespace, entry }))
        });
        let found: Vec<Option<Indexed>> = found.buffered(CONCURRENCY).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    fn namespace_key(&self, namespace: Option<&Namespace>) -> Key {
        let labels = namespace.into_iter().flat_map(Namespace::labels);
        self.key(["index"].into_iter().chain(labels))
    }

    fn entry_key(&self, namespace: &Namespace) -> Key {
        self.namespace_key(Some(namespace)).join(TASK)
    }

    pub(super) fn namespace_of(&self, key: &Key) -> Option<Namespace> {
        let root = self.key(["index"]);
        let below = key.as_ref().strip_prefix(root.as_ref())?;
        let labels = below
            .strip_prefix('/')?
            .strip_suffix(TASK)?
            .strip_suffix('/')?;
        let labels = percent_encoding::percent_decode_str(labels)
            .decode_utf8()
            .ok()?;
        labels.replace('/', ".").parse().ok()
    }
}

//! [`pull()`]: an image from a registry into a layout.
//!
//! Manifests come first, then blobs, several at a time; each is in the layout as soon as it is verified, so that what was
//! interrupted goes on where it was. The tag comes last.

use super::{Platforms, Repository, repository::Document};
use crate::{
    error::{Error, Result},
    fetch::Context,
    observe::Observer,
    oci::{
        Descriptor, Digest, ImageConfig, Index, Layout, MAX_CONFIG, Manifest, Platform, media_type,
    },
    stream::bridge::{ended_well, run_blocking},
};
use serde::de::DeserializeOwned;
use std::{collections::HashSet, sync::Arc};
use tokio::{sync::Semaphore, task::JoinSet};

/// How deep indexes may be in each other, and how many manifests there may be in all.
const MAX_DEPTH: usize = 4;
const MAX_MANIFESTS: usize = 1000;

/// What to pull, and where to.
pub struct Pull {
    /// Where from.
    pub repository: Repository,
    /// Where to; opened to be written.
    pub layout: Arc<Layout>,
    /// What it is called there.
    pub tag: String,
    /// Which images of an index.
    pub platforms: Platforms,
    /// Blobs at once.
    pub transfers: usize,
    /// What downloads share. Its staging area is that of the layout.
    pub context: Arc<Context>,
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub descriptor: Descriptor,
    /// How many blobs were downloaded.
    pub fetched: usize,
    /// How many were there already.
    pub present: usize,
    /// What the only image there is runs on, if that is not the platform that was wanted.
    pub other_platform: Option<String>,
}

/// Pulls an image. `watch` returns who watches a blob.
///
/// # Errors
/// [`Error::Registry`], [`Error::Fs`]; [`Error::Usage`] for an index without an image for the platform. Blobs that are
/// complete stay in the layout.
///
/// # Cancel safety
/// When dropped, the layout has some blobs more, and no tag.
pub async fn pull(pull: &Pull, watch: impl Fn(&Digest) -> Arc<dyn Observer>) -> Result<Pulled> {
    let found = Found::of(pull).await?;
    let turns = Arc::new(Semaphore::new(pull.transfers.min(Semaphore::MAX_PERMITS)));
    let mut running = JoinSet::new();
    for blob in found.blobs {
        let (repository, layout) = (pull.repository.clone(), Arc::clone(&pull.layout));
        let (context, turns) = (Arc::clone(&pull.context), Arc::clone(&turns));
        let observer = watch(&blob.digest);
        running.spawn(async move {
            let turn = turns.acquire_owned().await;
            let _turn = turn.map_err(|_closed| Error::Cancelled)?;
            let (here, known) = (Arc::clone(&layout), blob.clone());
            if run_blocking(move || here.holds(&known)).await? {
                return Ok::<_, Error>(false);
            }
            let file = repository.fetch_blob(&blob, &context, &*observer).await?;
            run_blocking(move || layout.adopt(&file, &blob.digest)).await?;
            Ok(true)
        });
    }
    let (mut fetched, mut present) = (0, 0);
    while let Some(ended) = running.join_next().await {
        if ended_well(ended)?? {
            fetched += 1;
        } else {
            present += 1;
        }
    }
    let (layout, tag) = (Arc::clone(&pull.layout), pull.tag.clone());
    let (documents, root) = (found.documents, found.root.clone());
    let platforms = pull.platforms.clone();
    let finishing = run_blocking(move || {
        for document in &documents {
            layout.put(&document.descriptor.media_type, &document.bytes)?;
        }
        layout.tag(&tag, root.clone())?;
        Ok(other_platform(&layout, &root, &platforms))
    });
    Ok(Pulled {
        descriptor: found.root,
        fetched,
        present,
        other_platform: finishing.await?,
    })
}

/// Returns what an image runs on that was not chosen from others, if it is not what was wanted. Caches run on nothing.
fn other_platform(layout: &Layout, root: &Descriptor, platforms: &Platforms) -> Option<String> {
    let manifest = layout.manifest(root).ok()?;
    if !media_type::is_config(&manifest.config.media_type) {
        return None;
    }
    let config = layout.read(&manifest.config, MAX_CONFIG).ok()?;
    let config = ImageConfig::parse(&config, "").ok()?;
    let platform = Platform {
        architecture: config.text("architecture")?.to_owned(),
        os: config.text("os")?.to_owned(),
        variant: config.text("variant").map(str::to_owned),
        os_version: None,
    };
    let shown = format!("{}/{}", platform.os, platform.architecture);
    (!platforms.allow(&platform)).then(|| shown.escape_debug().to_string())
}

/// What belongs to an image.
struct Found {
    root: Descriptor,
    documents: Vec<Document>,
    /// Each once.
    blobs: Vec<Descriptor>,
    known: HashSet<Digest>,
}

impl Found {
    async fn of(pull: &Pull) -> Result<Self> {
        let mut document = pull.repository.manifest(&()).await?;
        let mut platform = None;
        for _ in 0..MAX_DEPTH {
            let Some(chosen) = choose(&document, &pull.platforms, pull)? else {
                break;
            };
            platform = chosen.platform.clone();
            document = pull.repository.manifest_of(&chosen, &()).await?;
        }
        let mut found = Self {
            root: Descriptor {
                platform,
                ..document.descriptor.clone()
            },
            documents: Vec::new(),
            blobs: Vec::new(),
            known: HashSet::new(),
        };
        found.collect(document, pull).await?;
        Ok(found)
    }

    /// Takes a manifest with all that it names.
    async fn collect(&mut self, document: Document, pull: &Pull) -> Result<()> {
        let mut open = vec![(document, 0)];
        while let Some((document, depth)) = open.pop() {
            if media_type::is_index(&document.descriptor.media_type) {
                let index: Index = parse(&document)?;
                for entry in index.manifests {
                    if !self.known.insert(entry.digest) {
                        continue;
                    }
                    // An exported cache may be an index of layers.
                    if !is_document(&entry) {
                        self.blobs.push(entry);
                        continue;
                    }
                    if depth == MAX_DEPTH || open.len() + self.documents.len() == MAX_MANIFESTS {
                        return Err(hostile(&document, "names too many manifests"));
                    }
                    let inner = pull.repository.manifest_of(&entry, &()).await?;
                    open.push((inner, depth + 1));
                }
            } else {
                let manifest: Manifest = parse(&document)?;
                let all = manifest.layers.into_iter().chain([manifest.config]);
                let known = &mut self.known;
                self.blobs
                    .extend(all.filter(|blob| known.insert(blob.digest)));
            }
            self.documents.push(document);
        }
        Ok(())
    }
}

fn is_document(entry: &Descriptor) -> bool {
    let kind = entry.media_type.as_str();
    kind.is_empty() || media_type::is_index(kind) || media_type::is_manifest(kind)
}

/// Returns the entry of an index to take in its place; `None` to take it as it is.
fn choose(document: &Document, platforms: &Platforms, pull: &Pull) -> Result<Option<Descriptor>> {
    if *platforms == Platforms::All || !media_type::is_index(&document.descriptor.media_type) {
        return Ok(None);
    }
    let index: Index = parse(document)?;
    if !index.manifests.iter().any(is_document) {
        return Ok(None);
    }
    let candidates = || index.manifests.iter().filter(|entry| is_document(entry));
    let of = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| platforms.allow(p));
    let mut all = candidates();
    let only = all
        .next()
        .filter(|only| only.platform.is_none() && all.next().is_none());
    let chosen = candidates().find(of).or(only).cloned();
    chosen.map(Some).ok_or_else(|| {
        let known = candidates().filter_map(|entry| entry.platform.as_ref());
        let known = known.map(|platform| format!("{}/{}", platform.os, platform.architecture));
        let known: Vec<String> = known.filter(|name| name != "unknown/unknown").collect();
        Error::Usage {
            what: format!(
                "{} has no image for {platforms}",
                pull.repository.reference()
            ),
            hint: Some(format!(
                "it has {}; choose with --platform, or take all with --platform all",
                known.join(", ").escape_debug()
            )),
        }
    })
}

fn parse<T: DeserializeOwned>(document: &Document) -> Result<T> {
    serde_json::from_slice(&document.bytes)
        .map_err(|err| hostile(document, &format!("cannot be read: {err}")))
}

fn hostile(document: &Document, problem: &str) -> Error {
    Error::Damaged {
        place: format!("manifest {}", document.descriptor.digest),
        problem: problem.to_owned(),
    }
}

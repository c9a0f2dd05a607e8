//! [`pull()`]: an image from a registry into a layout.
//!
//! Manifests come first, then blobs, several at a time; each is in the layout as soon as it is verified, so that what was
//! interrupted goes on where it was. The tag comes last.

use super::{Platforms, Repository, repository::Document};
use crate::{
    error::{Error, Result},
    fetch::Context,
    observe::Observer,
    oci::{Descriptor, Digest, ImageConfig, Index, Layout, MAX_CONFIG, Manifest, media_type},
    stream::bridge::{ended_well, run_blocking},
};
use serde::de::DeserializeOwned;
use std::{collections::HashSet, sync::Arc};
use tokio::{sync::Semaphore, task::JoinSet};

/// How deep indexes may be in each other, and how many manifests there may be in all.
const MAX_DEPTH: usize = 4;
const MAX_MANIFESTS: usize = 1000;

/// How many bytes manifests may have in all, and how many blobs there may be: all are remembered to the end.
const MAX_BYTES: usize = 64 << 20;
const MAX_BLOBS: usize = 65_536;

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
    let root = found.root.clone();
    let platforms = pull.platforms.clone();
    let finishing = run_blocking(move || {
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
    let platform = config.platform()?;
    let shown = format!("{}/{}", platform.os, platform.architecture);
    (!platforms.allow(&platform)).then(|| shown.escape_debug().to_string())
}

/// What belongs to an image.
struct Found {
    root: Descriptor,
    /// How many manifests there are, and how many bytes they have.
    manifests: usize,
    bytes: usize,
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
        let mut found = Self::from(Descriptor {
            platform,
            ..document.descriptor.clone()
        });
        found.collect(document, pull).await?;
        Ok(found)
    }

    fn from(root: Descriptor) -> Self {
        Self {
            root,
            manifests: 0,
            bytes: 0,
            blobs: Vec::new(),
            known: HashSet::new(),
        }
    }

    /// Takes a manifest with all that it names. Each is in the layout as soon as it was read.
    async fn collect(&mut self, document: Document, pull: &Pull) -> Result<()> {
        let mut open = vec![(document.descriptor.clone(), 0)];
        let mut first = Some(document);
        while let Some((entry, depth)) = open.pop() {
            let document = match first.take() {
                Some(document) => document,
                None => pull.repository.manifest_of(&entry, &()).await?,
            };
            let inner = self.take(&document)?;
            if depth == MAX_DEPTH && !inner.is_empty() {
                return Err(hostile(&document, "names too many manifests"));
            }
            open.extend(inner.into_iter().map(|entry| (entry, depth + 1)));
            if open.len() + self.manifests > MAX_MANIFESTS {
                return Err(hostile(&document, "names too many manifests"));
            }
            let layout = Arc::clone(&pull.layout);
            let kind = document.descriptor.media_type;
            run_blocking(move || layout.put(&kind, &document.bytes)).await?;
        }
        Ok(())
    }

    /// Takes notice of what a manifest names, and returns the manifests among that.
    fn take(&mut self, document: &Document) -> Result<Vec<Descriptor>> {
        self.manifests += 1;
        self.bytes += document.bytes.len();
        if self.bytes > MAX_BYTES {
            return Err(hostile(document, "is one of too many bytes in all"));
        }
        let is_index = media_type::is_index(&document.descriptor.media_type);
        let mut all = if is_index {
            parse::<Index>(document)?.manifests
        } else {
            let manifest: Manifest = parse(document)?;
            manifest
                .layers
                .into_iter()
                .chain([manifest.config])
                .collect()
        };
        all.retain(|entry| self.known.insert(entry.digest));
        // An exported cache may be an index of layers.
        let (inner, blobs) = all
            .into_iter()
            .partition(|entry| is_index && is_document(entry));
        let blobs: Vec<Descriptor> = blobs;
        self.blobs.extend(blobs);
        if self.blobs.len() > MAX_BLOBS {
            return Err(hostile(document, "names too many blobs"));
        }
        Ok(inner)
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

#[cfg(test)]
mod tests {
    use super::{Document, Found, MAX_BLOBS, MAX_BYTES};
    use crate::oci::{Descriptor, Index, MAX_MANIFEST, Manifest, media_type};

    fn document(media_type: &str, value: &impl serde::Serialize) -> Document {
        let bytes = serde_json::to_vec(value).unwrap();
        Document {
            descriptor: Descriptor::of(media_type, &bytes),
            bytes,
        }
    }

    fn blob(number: usize) -> Descriptor {
        Descriptor::of(media_type::LAYER, number.to_string().as_bytes())
    }

    fn found() -> Found {
        Found::from(blob(0))
    }

    #[test]
    fn everything_is_taken_once() {
        let inner = Descriptor::of(media_type::MANIFEST, b"");
        let entries = vec![blob(1), inner.clone(), blob(2), inner.clone(), blob(1)];
        let index = document(media_type::INDEX, &Index::new(entries));
        let manifest = Manifest::new(blob(3), vec![blob(1), blob(4), blob(4)]);
        let manifest = document(media_type::MANIFEST, &manifest);
        let mut found = found();
        assert_eq!(found.take(&index).unwrap(), [inner]);
        assert_eq!(found.take(&manifest).unwrap(), []);
        assert_eq!(found.blobs, [blob(1), blob(2), blob(4), blob(3)]);
    }

    #[test]
    fn no_image_has_endless_blobs() {
        let mut found = found();
        let mut take = |from: usize, to: usize| {
            let manifest = Manifest::new(blob(0), (from..to).map(blob).collect());
            found.take(&document(media_type::MANIFEST, &manifest))
        };
        assert!(take(1, MAX_BLOBS / 2).is_ok());
        assert!(take(MAX_BLOBS / 2, MAX_BLOBS).is_ok());
        let err = take(MAX_BLOBS, MAX_BLOBS + 1).unwrap_err().to_string();
        assert!(err.contains("names too many blobs"), "{err}");
    }

    #[test]
    fn no_image_has_endless_manifests() {
        let mut found = found();
        let mut manifest = Manifest::new(blob(0), Vec::new());
        let most = usize::try_from(MAX_MANIFEST).unwrap();
        let remark = "x".repeat(most - 1000);
        manifest.annotations.insert("remark".into(), remark);
        let manifest = document(media_type::MANIFEST, &manifest);
        let fit = MAX_BYTES / manifest.bytes.len();
        for _ in 0..fit {
            found.take(&manifest).unwrap();
        }
        let err = found.take(&manifest).unwrap_err().to_string();
        assert!(err.contains("too many bytes in all"), "{err}");
    }
}

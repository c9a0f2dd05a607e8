//! [`push()`]: an image of a layout to a registry.
//!
//! Blobs first, several at a time, then manifests, each behind those that it names: nothing that is visible refers to what
//! is not there.

use super::{
    Repository,
    upload::{Outcome, Upload},
};
use crate::{
    error::{Error, Result},
    http::{Attempts, Call, Content, Method},
    observe::Observer,
    oci::{Descriptor, Digest, Layout, media_type},
    stream::bridge::{ended_well, run_blocking},
};
use std::{collections::HashSet, sync::Arc};
use tokio::{sync::Semaphore, task::JoinSet};

/// How deep indexes may be in each other.
const MAX_DEPTH: usize = 4;

/// What to push, and where to.
pub struct Push {
    /// Where to.
    pub repository: Repository,
    /// Where from.
    pub layout: Arc<Layout>,
    /// What is pushed, with all that belongs to it.
    pub image: Descriptor,
    /// Repositories of the same registry that may have some of its blobs.
    pub mount_from: Vec<String>,
    /// Blobs at once.
    pub transfers: usize,
}

/// What was pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// How many blobs were sent.
    pub sent: usize,
    /// How many bytes these have.
    pub bytes: u64,
    /// How many blobs came from another repository.
    pub mounted: usize,
    /// How many were there already.
    pub present: usize,
}

/// Pushes an image. `watch` returns who watches a blob.
///
/// # Errors
/// [`Error::Registry`]; [`Error::Damaged`] and [`Error::Fs`] for a layout that lacks something. Then the registry may
/// have some blobs, which it removes in its own time.
///
/// # Cancel safety
/// As with an error.
pub async fn push(push: &Push, watch: impl Fn(&Digest) -> Arc<dyn Observer>) -> Result<Pushed> {
    let (layout, image) = (Arc::clone(&push.layout), push.image.clone());
    let belongings = run_blocking(move || Belongings::of(&layout, &image)).await?;
    if let Some(first) = belongings.blobs.first() {
        knock(&push.repository, first, &*watch(&first.digest)).await?;
    }
    let turns = Arc::new(Semaphore::new(push.transfers.min(Semaphore::MAX_PERMITS)));
    let mut running = JoinSet::new();
    for blob in belongings.blobs {
        let (repository, turns) = (push.repository.clone(), Arc::clone(&turns));
        let (layout, mount_from) = (Arc::clone(&push.layout), push.mount_from.clone());
        let observer = watch(&blob.digest);
        running.spawn(async move {
            let turn = turns.acquire_owned().await;
            let _turn = turn.map_err(|_closed| Error::Cancelled)?;
            let file = layout.outgoing(&blob)?;
            let mut upload = Upload::new(&repository, &blob, file, &*observer);
            upload.mount_from = &mount_from;
            let verb = format!("push blob {} of", blob.digest);
            let outcome = upload.run().await;
            let outcome = outcome.map_err(|err| repository.failed(&verb, err))?;
            Ok::<_, Error>((outcome, blob.size))
        });
    }
    let mut pushed = Pushed::default();
    while let Some(ended) = running.join_next().await {
        let (outcome, size) = ended_well(ended)??;
        match outcome {
            Outcome::Present => pushed.present += 1,
            Outcome::Mounted => pushed.mounted += 1,
            Outcome::Sent => {
                pushed.sent += 1;
                pushed.bytes += size;
            }
        }
    }
    for (descriptor, bytes) in &belongings.documents {
        let target = if descriptor.digest == push.image.digest {
            let reference = push.repository.reference();
            reference.tag.clone().unwrap_or_else(|| reference.target())
        } else {
            descriptor.digest.to_string()
        };
        let putting = put_document(&push.repository, &target, descriptor, bytes);
        let put = putting.await;
        put.map_err(|err| push.repository.failed("push the manifest of", err))?;
    }
    Ok(pushed)
}

/// Asks for one blob, before many ask at once: a token server that is slow or refuses is waited for once.
async fn knock(repository: &Repository, blob: &Descriptor, observer: &dyn Observer) -> Result<()> {
    let asked = Attempts::new(&repository.retry, observer)
        .run(|| repository.has_blob(&blob.digest))
        .await;
    asked
        .map_err(|err| repository.failed("push", err))
        .map(drop)
}

/// Sends a manifest, and looks whether it is the same there.
async fn put_document(
    repository: &Repository,
    target: &str,
    descriptor: &Descriptor,
    bytes: &[u8],
) -> Result<()> {
    let url = repository.url(&format!("manifests/{target}"))?;
    let call = Call {
        method: Method::PUT,
        content: Content::Bytes {
            media_type: &descriptor.media_type,
            bytes,
        },
        limit: 0,
    };
    let (url, call) = (&url, &call);
    let reply = Attempts::new(&repository.retry, &())
        .run(|| async {
            let address = repository.address(url.clone(), Vec::new()).await?;
            repository.client.call(&address, call).await
        })
        .await?;
    let said = reply.header("docker-content-digest");
    let said: Option<Digest> = said.and_then(|text| text.parse().ok());
    match said {
        Some(said) if said != descriptor.digest => Err(Error::Unverifiable {
            url: crate::safe_url::SafeUrl::from(&reply.url),
            problem: format!("is {said} to the registry, and {} here", descriptor.digest),
        }),
        _ => Ok(()),
    }
}

/// What belongs to an image.
#[derive(Default)]
struct Belongings {
    /// Each once.
    blobs: Vec<Descriptor>,
    /// Each behind those that it names.
    documents: Vec<(Descriptor, Vec<u8>)>,
    known: HashSet<Digest>,
}

impl Belongings {
    fn of(layout: &Layout, image: &Descriptor) -> Result<Self> {
        let mut belongings = Self::default();
        belongings.add(layout, image, 0)?;
        Ok(belongings)
    }

    fn add(&mut self, layout: &Layout, descriptor: &Descriptor, depth: usize) -> Result<()> {
        if !self.known.insert(descriptor.digest) {
            return Ok(());
        }
        let kind = descriptor.media_type.as_str();
        if media_type::is_index(kind) && depth < MAX_DEPTH {
            for entry in layout.inner_index(descriptor)?.manifests {
                self.add(layout, &entry, depth + 1)?;
            }
        } else if media_type::is_manifest(kind) {
            let manifest = layout.manifest(descriptor)?;
            for blob in manifest.layers.into_iter().chain([manifest.config]) {
                if self.known.insert(blob.digest) {
                    self.blobs.push(blob);
                }
            }
        } else if depth > 0 && !media_type::is_index(kind) {
            // An exported cache may be an index of layers.
            self.blobs.push(descriptor.clone());
            return Ok(());
        } else {
            return Err(Error::Damaged {
                place: format!("{} of `{}`", descriptor.digest, layout.path().display()),
                problem: format!("cannot be pushed: it is `{}`", kind.escape_debug()),
            });
        }
        let bytes = layout.read(descriptor, crate::oci::MAX_MANIFEST)?;
        self.documents.push((descriptor.clone(), bytes));
        Ok(())
    }
}

//! Fetches out of the layers of images, in place of downloading them.
//!
//! What a cache says is believed as little as possible. Layers are what their descriptors say, or nothing. A file that was
//! wanted by its digest is hashed. What was unpacked of an archive cannot be compared with the archive's digest; that is
//! taken only from images whose own digest the user trusts. Whatever goes wrong is a warning, and a miss.

use super::{
    Blobs, Descriptor, Digest,
    cache::{self, Cache, Outcome},
    key::{self, Add, Base, Own},
    media_type::LayerFormat,
};
use crate::{
    archive::{self, LayerPacking, Placing},
    digest::Sha256Digest,
    error::{Error, Result, chain},
    fetch::{Context, Shortcut, Staged, Wanted as Fetch},
    fs::{self, Context as _, Dir, Staging},
    observe::{Event, Fetched, Observer},
    rel_path::RelPath,
    safe_url::SafeUrl,
    stream::bridge::run_blocking,
};
use futures::{FutureExt, future::BoxFuture};
use rustix::fs::FileType;
use std::{
    collections::HashSet,
    ffi::OsStr,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Results of one image that are tried for a fetch, at most. Whoever wrote the cache decides how many it has.
const MAX_RESULTS: usize = 8;

/// Images that fetches may be in.
pub struct Imports {
    images: Vec<Image>,
    /// The directory in the images that fetches are in.
    directory: RelPath,
}

struct Image {
    blobs: Arc<dyn Blobs>,
    caches: Vec<Cache>,
    is_trusted: bool,
}

/// What is wanted of an image.
#[derive(Clone, Debug)]
struct Wanted {
    name: String,
    sha256: Sha256Digest,
    directory: RelPath,
    extract: bool,
}

/// Refuses a file of so many bytes.
type CheckSize = dyn Fn(u64) -> Result<()>;

/// What was taken from an image.
struct Taken {
    staged: Staged,
    /// What was read for it.
    bytes: u64,
    /// Where that is from.
    from: SafeUrl,
}

impl Imports {
    /// Looks at images. Those whose digest is one of `trusted` are believed what was unpacked of archives. `warn` hears of
    /// those that cannot be used.
    pub async fn open(
        images: Vec<Arc<dyn Blobs>>,
        trusted: &[Digest],
        directory: RelPath,
        warn: &(dyn Fn(String) + Sync),
    ) -> Self {
        let mut usable = Vec::new();
        for blobs in images {
            let shown = blobs.shown();
            let top = match blobs.top().await {
                Ok(top) => top,
                Err(err) => {
                    warn(format!("no cache is used from {shown}: {}", chain(&err)));
                    continue;
                }
            };
            let mut caches = Vec::new();
            for found in cache::read(&top, &*blobs).await {
                match found {
                    Ok(cache) => caches.push(cache),
                    Err(problem) => warn(format!("no cache is used from {shown}: {problem}")),
                }
            }
            let is_trusted = trusted.contains(&top.digest);
            usable.push(Image {
                blobs,
                caches,
                is_trusted,
            });
        }
        Self {
            images: usable,
            directory,
        }
    }

    async fn find(
        &self,
        wanted: &Wanted,
        context: &Context,
        observer: &dyn Observer,
    ) -> Option<Taken> {
        for image in &self.images {
            if wanted.extract && !image.is_trusted {
                continue;
            }
            for (cache, outcome) in image.results(wanted) {
                match image.take(wanted, cache, outcome, context).await {
                    Ok(taken) => return Some(taken),
                    Err(problem) => observer.on_event(&Event::Warning(format!(
                        "{} is not taken from {}: {problem}",
                        wanted.name,
                        image.blobs.shown()
                    ))),
                }
            }
        }
        None
    }

    /// Returns what is wanted, if that can be found by its digest.
    async fn wanted(&self, fetch: &Fetch<'_>) -> Option<Vec<Wanted>> {
        let request = fetch.request;
        if request.signed.is_some() {
            return None;
        }
        // Why nothing is known, if it is not, is told by the fetch that follows.
        let sha256 = (request.expected)().await.ok()?.sha256?;
        let name = request.file_name.to_str()?;
        let places = request.placings.iter().zip(fetch.places);
        let wanted = places.map(|(placing, dest)| {
            let extract = match placing {
                Placing::Keep => false,
                Placing::Extract => true,
                Placing::Repack(_) => return None,
            };
            let parts = dest.components();
            Some(Wanted {
                name: name.to_owned(),
                sha256,
                directory: parts.fold(self.directory.clone(), |way, part| way.join(part)),
                extract,
            })
        });
        wanted.collect()
    }
}

impl Shortcut for Imports {
    fn take<'a>(
        &'a self,
        fetch: Fetch<'a>,
        context: &'a Context,
    ) -> BoxFuture<'a, Option<Vec<Staged>>> {
        async move {
            let wanted = self.wanted(&fetch).await?;
            let sha256 = wanted.first()?.sha256;
            let observer = fetch.observer;
            let begin = Instant::now();
            let (mut bytes, mut staged, mut from) = (0, Vec::new(), None);
            for wanted in &wanted {
                let Some(taken) = self.find(wanted, context, observer).await else {
                    // It is fetched for all places, then.
                    remove(staged, context).await;
                    return None;
                };
                bytes += taken.bytes;
                staged.push(taken.staged);
                from.get_or_insert(taken.from);
            }
            observer.on_event(&Event::Started {
                url: &from?,
                size: Some(bytes),
            });
            observer.on_event(&Event::Finished(&Fetched {
                bytes,
                sha256,
                wait: begin - context.start,
                transfer: begin.elapsed(),
                unpack: std::time::Duration::ZERO,
            }));
            Some(staged)
        }
        .boxed()
    }
}

impl Wanted {
    /// Returns results that are said to be this, each once, the newest of each record first.
    fn outcomes<'a>(&self, cache: &'a Cache) -> impl Iterator<Item = &'a Outcome> {
        let directory = String::from_utf8_lossy(self.directory.as_bytes());
        let directory = match &*directory {
            "" => "/".to_owned(),
            directory => format!("/{directory}/"),
        };
        let own = key::own(&Own {
            directory: &directory,
            extract: self.extract,
            name: &self.name,
            sha256: self.sha256,
        });
        let add = Add {
            file_name: &self.name,
            dest: &directory,
            unpack: self.extract,
        };
        let sources = key::http_source(&self.name, &self.sha256);
        let sources: HashSet<usize> = cache.roots(sources).collect();
        let selector = key::selector(&format!("/{}", self.name));
        let mut records: Vec<usize> = cache.roots(own).collect();
        records.extend(cache.on_top(key::add(&add, Base::Scratch), selector, &sources));
        let mut known = HashSet::new();
        records
            .into_iter()
            .flat_map(|record| &cache.entries[record].outcomes)
            .filter(move |outcome| known.insert(*outcome))
    }
}

impl Image {
    /// Returns the results that are tried.
    fn results(&self, wanted: &Wanted) -> impl Iterator<Item = (&Cache, &Outcome)> {
        let of = |cache| wanted.outcomes(cache).map(move |outcome| (cache, outcome));
        self.caches.iter().flat_map(of).take(MAX_RESULTS)
    }

    /// Applies the layers of a result, and takes what is wanted out of that. The error is why that cannot be.
    async fn take(
        &self,
        wanted: &Wanted,
        cache: &Cache,
        outcome: &Outcome,
        context: &Context,
    ) -> Result<Taken, String> {
        let numbers = cache.layers_of(outcome)?;
        let mut layers = Vec::with_capacity(numbers.len());
        for number in numbers {
            layers.push(cache.layers[number].content.clone()?);
        }
        let bytes = layers
            .iter()
            .map(|(layer, _)| layer.size)
            .fold(0, u64::saturating_add);
        let taken = self.apply(wanted, layers, context).await;
        taken
            .map(|staged| Taken {
                staged,
                bytes,
                from: SafeUrl::of_file(Path::new(&self.blobs.shown())),
            })
            .map_err(|err| chain(&err))
    }

    async fn apply(
        &self,
        wanted: &Wanted,
        layers: Vec<(Descriptor, Digest)>,
        context: &Context,
    ) -> Result<Staged> {
        let staging = Arc::clone(&context.staging);
        let root = run_blocking(move || staging.fresh()).await?;
        let sizes = layers.iter().map(|(layer, _)| layer.size);
        let downloaded = sizes.fold(0, u64::saturating_add);
        let applied = self.apply_all(layers, &root, context).await;
        let limits = context.limits.clone();
        // A file with holes takes no room until it is copied.
        let check = move |size| limits.check_expanded(size, downloaded);
        let (wanted, staging) = (wanted.clone(), Arc::clone(&context.staging));
        run_blocking(move || {
            let picked = applied.and_then(|()| wanted.pick(&root, &staging, &check));
            if !matches!(&picked, Ok(staged) if staged.directory.starts_with(&root)) {
                // What cannot be removed now goes with the staging area.
                let _ = fs::remove_tree(&root);
            }
            picked
        })
        .await
    }

    async fn apply_all(
        &self,
        layers: Vec<(Descriptor, Digest)>,
        root: &Path,
        context: &Context,
    ) -> Result<()> {
        let stop = Stop::default();
        // One budget for all layers: however many there are, together they are one fetch.
        let mut limits = context.limits.clone();
        for (layer, diff_id) in layers {
            let blob = Stoppable {
                inner: self.blobs.open(&layer).await?,
                stop: Arc::clone(&stop.0),
            };
            // Decoders have windows of many megabytes here, too. Only now: a blob that is downloaded needs a slot for that.
            let slot = context.placing_slots.wait(layer.size).await;
            let _slot = slot.ok_or(Error::Cancelled)?;
            let (root, mut left) = (root.to_owned(), limits);
            // The staging area lives as long as anybody writes in it.
            let staging = Arc::clone(&context.staging);
            limits = run_blocking(move || {
                let _staging = staging;
                let packing = match LayerFormat::of(&layer.media_type) {
                    Some(LayerFormat::Gzip) => LayerPacking::Gzip,
                    Some(LayerFormat::Zstd) => LayerPacking::Zstd,
                    Some(LayerFormat::Tar) | None => LayerPacking::None,
                };
                let actual = Digest(archive::apply_layer(blob, packing, &root, &mut left)?);
                if actual == diff_id {
                    return Ok(left);
                }
                Err(Error::Damaged {
                    place: format!("the content of layer {}", layer.digest),
                    problem: format!("has the digest {actual}, expected {diff_id}"),
                })
            })
            .await?;
        }
        Ok(())
    }
}

impl Wanted {
    /// Takes what is wanted out of what layers make.
    fn pick(&self, root: &Path, staging: &Staging, check: &CheckSize) -> Result<Staged> {
        let mut directory = Dir::open(root)?;
        for part in self.directory.components() {
            directory = directory.open_child(part)?;
        }
        let name = OsStr::new(&self.name);
        let is_alone = || Ok::<_, Error>(directory.names()? == [name]);
        let is_file = || {
            let found = directory.look(name)?;
            Ok::<_, Error>(matches!(found, Some((FileType::RegularFile, _))))
        };
        if !self.extract || (is_alone()? && is_file()?) {
            match self.pick_file(&directory, staging, check) {
                // An archive with a file of its own name.
                Err(Error::Damaged { .. }) if self.extract => {}
                picked => return picked,
            }
        }
        Ok(staged(directory.path().to_owned()))
    }

    /// Copies a file, which is proven by that.
    fn pick_file(&self, directory: &Dir, staging: &Staging, check: &CheckSize) -> Result<Staged> {
        let name = OsStr::new(&self.name);
        let path = directory.path().join(name);
        let place = || format!("{} in the layers", self.name);
        if !matches!(directory.look(name)?, Some((FileType::RegularFile, _))) {
            return Err(Error::Damaged {
                place: place(),
                problem: "is no file".into(),
            });
        }
        let new = staging.fresh()?;
        let mut content = directory.open_file(name)?;
        check(content.metadata().context("look at", &path)?.len())?;
        let mut file = super::DigestWriter::new(fs::create_new(&new.join(name))?);
        let copied = io::copy(&mut content, &mut file);
        copied.map_err(|source| Error::Fs {
            action: "copy",
            path,
            source,
        })?;
        let (_, actual, _) = file.finish();
        if actual == Digest(self.sha256) {
            return Ok(staged(new));
        }
        let _ = fs::remove_tree(&new);
        Err(Error::Damaged {
            place: place(),
            problem: format!("has the digest {actual}, wanted is sha256:{}", self.sha256),
        })
    }
}

/// Ends jobs when whoever waits for them has given up.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A reader that fails when it is to stop.
struct Stoppable<R> {
    inner: R,
    stop: Arc<AtomicBool>,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(Error::Cancelled));
        }
        self.inner.read(buffer)
    }
}

/// Removes what nobody needs any more. What cannot be removed now goes with the staging area.
async fn remove(all: Vec<Staged>, context: &Context) {
    let staging = Arc::clone(&context.staging);
    let removing = run_blocking(move || {
        let _staging = staging;
        for staged in all {
            let _ = fs::remove_tree(&staged.directory);
        }
        Ok(())
    });
    let _ = removing.await;
}

fn staged(directory: PathBuf) -> Staged {
    Staged {
        directory,
        warnings: Vec::new(),
        unpacked: None,
    }
}

#[cfg(test)]
mod tests;

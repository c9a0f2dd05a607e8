//! Fetches out of the layers of images, in place of downloading them.
//!
//! What a cache says is believed as little as possible. Layers are what their descriptors say, or nothing. A file that was
//! wanted by its digest is hashed, and is as good as a download then: also for being unpacked or packed anew. What was
//! unpacked of an archive cannot be compared with the archive's digest; that is taken if it has the hash that a lock has
//! for it, or else from images whose own digest the user trusts. Whatever goes wrong is a warning, and a miss.

mod sought;

use super::{
    Blobs, Descriptor, Digest,
    cache::{self, Cache, Outcome},
    media_type::LayerFormat,
};
use crate::{
    archive::{self, LayerPacking, Placing},
    digest::Sha256Digest,
    error::{Error, Result, chain},
    fetch::{Context, Request, Shortcut, Staged, Wanted, fetch},
    fs,
    http::Source,
    observe::{Event, Fetched, Warnings},
    rel_path::RelPath,
    safe_url::SafeUrl,
    stream::bridge::run_blocking,
    verify::Expected,
};
use futures::{FutureExt, future::BoxFuture};
use sought::{Believed, Sought, promises_archive};
use std::{
    collections::HashSet,
    io::{self, Read},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
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

/// What was taken from an image.
struct Taken {
    staged: Staged,
    /// Whether it is the file, and not what that was unpacked to.
    is_file: bool,
    /// What was read for it.
    bytes: u64,
    /// Where that is from.
    from: SafeUrl,
}

/// What was taken for all places of a fetch.
struct All {
    staged: Vec<Staged>,
    bytes: u64,
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
        let mut unmet = trusted.to_vec();
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
            unmet.retain(|digest| *digest != top.digest);
            usable.push(Image {
                blobs,
                caches,
                is_trusted,
            });
        }
        for digest in unmet {
            warn(format!(
                "no image that was given has the trusted digest {digest}"
            ));
        }
        Self {
            images: usable,
            directory,
        }
    }
}

impl Shortcut for Imports {
    fn take<'a>(
        &'a self,
        wanted: Wanted<'a>,
        context: &'a Context,
    ) -> BoxFuture<'a, Option<Vec<Staged>>> {
        async move {
            let begin = Instant::now();
            let search = Search::new(self, wanted, context).await?;
            let taken = match search.as_placed().await {
                Some(taken) => taken,
                None => search.by_its_file().await?,
            };
            wanted.observer.on_event(&Event::Started {
                url: &taken.from,
                size: Some(taken.bytes),
            });
            wanted.observer.on_event(&Event::Finished(&Fetched {
                bytes: taken.bytes,
                sha256: search.sha256,
                wait: begin - context.start,
                transfer: begin.elapsed(),
                unpack: Duration::ZERO,
            }));
            Some(taken.staged)
        }
        .boxed()
    }
}

/// A search for one fetch.
struct Search<'a> {
    imports: &'a Imports,
    wanted: Wanted<'a>,
    sha256: Sha256Digest,
    context: &'a Context,
    /// What was looked for in vain in which image, whatever would have been believed. What went wrong is not told twice.
    missed: Mutex<HashSet<(usize, Sought)>>,
}

impl<'a> Search<'a> {
    /// Begins a search, if something can be found by its digest.
    async fn new(imports: &'a Imports, wanted: Wanted<'a>, context: &'a Context) -> Option<Self> {
        if wanted.request.signed.is_some() {
            return None;
        }
        // Why nothing is known, if it is not, is told by the fetch that follows.
        let expected = (wanted.request.expected)().await.ok()?;
        Some(Self {
            imports,
            wanted,
            sha256: expected.sha256?,
            context,
            missed: Mutex::default(),
        })
    }

    /// Looks for what the fetch would have made, in each of its places.
    async fn as_placed(&self) -> Option<All> {
        let request = self.wanted.request;
        let name = request.file_name.to_str()?;
        let places = request.placings.iter().zip(self.wanted.places);
        let sought = places.map(|(placing, place)| {
            let believed = match placing {
                Placing::Keep => Believed::File,
                Placing::Extract => self.wanted.tree.map_or(Believed::Unpacked, Believed::Tree),
                Placing::Repack(_) => return None,
            };
            let extract = matches!(placing, Placing::Extract);
            Some(self.sought(name, place, extract, believed))
        });
        let sought: Option<Vec<Sought>> = sought.collect();
        let (mut bytes, mut staged, mut from) = (0, Vec::new(), None);
        for sought in sought? {
            let Some(taken) = self.find(&sought).await else {
                // It is looked for elsewhere for all places, then.
                remove(staged, self.context).await;
                return None;
            };
            if sought.extract && taken.is_file {
                // Whoever made the layers took it for no archive. Here, that is seen by its content.
                remove(staged, self.context).await;
                return self.made_of(taken, name).await;
            }
            bytes += taken.bytes;
            staged.push(taken.staged);
            from.get_or_insert(taken.from);
        }
        Some(All {
            staged,
            bytes,
            from: from?,
        })
    }

    /// Looks for the file that would be fetched, and makes of it what would be made of that.
    async fn by_its_file(&self) -> Option<All> {
        let mut names = Vec::new();
        names.extend(self.wanted.request.file_name.to_str().map(str::to_owned));
        for name in self
            .wanted
            .request
            .sources
            .iter()
            .filter_map(Source::file_name)
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for place in self.wanted.places {
            for name in &names {
                for extract in [false, true] {
                    // Whether what is no archive was to be unpacked makes a difference only to what it is called.
                    if extract && promises_archive(name) {
                        continue;
                    }
                    let sought = self.sought(name, place, extract, Believed::File);
                    if let Some(taken) = self.find(&sought).await {
                        return self.made_of(taken, name).await;
                    }
                }
            }
        }
        None
    }

    fn sought(&self, name: &str, place: &RelPath, extract: bool, believed: Believed) -> Sought {
        Sought {
            name: name.to_owned(),
            sha256: self.sha256,
            directory: self.imports.directory.join_all(place),
            extract,
            believed,
        }
    }

    /// Looks for one thing in all images. What cannot be used is told.
    async fn find(&self, sought: &Sought) -> Option<Taken> {
        for (number, image) in self.imports.images.iter().enumerate() {
            if sought.believed == Believed::Unpacked && !image.is_trusted {
                continue;
            }
            let file = Sought {
                believed: Believed::File,
                ..sought.clone()
            };
            if self.missed().contains(&(number, file.clone())) {
                continue;
            }
            for (cache, outcome) in image.results(sought) {
                match image.take(sought, cache, outcome, self.context).await {
                    Ok(taken) => return Some(taken),
                    // What was unpacked has no file of its name, as a rule.
                    Err(_) if sought.extract && sought.believed == Believed::File => {}
                    Err(problem) => self.warn(&image.blobs.shown(), &sought.name, &problem),
                }
            }
            self.missed().insert((number, file));
        }
        None
    }

    /// Makes of a file, which is what was wanted, what was to become of it.
    async fn made_of(&self, taken: Taken, name: &str) -> Option<All> {
        let Wanted {
            request, observer, ..
        } = self.wanted;
        let Taken {
            staged: file,
            bytes,
            from,
            ..
        } = taken;
        if matches!(request.placings[..], [Placing::Keep]) && request.file_name == name {
            let staged = vec![file];
            return Some(All {
                staged,
                bytes,
                from,
            });
        }
        let expected = Expected {
            sha256: Some(self.sha256),
            ..Expected::default()
        };
        let again = Request {
            name: request.name.clone(),
            sources: vec![Source::File(file.directory.join(name))],
            expected: expected.known(),
            signed: None,
            placings: request.placings.clone(),
            file_name: request.file_name.clone(),
        };
        let made = fetch(&again, self.context, &Warnings(observer)).await;
        remove(vec![file], self.context).await;
        match made {
            Ok(staged) => Some(All {
                staged,
                bytes,
                from,
            }),
            Err(err) => {
                self.warn(&from.to_string(), name, &chain(&err));
                None
            }
        }
    }

    fn warn(&self, image: &str, name: &str, problem: &str) {
        let text = format!("{name} is not taken from {image}: {problem}");
        self.wanted.observer.on_event(&Event::Warning(text));
    }

    fn missed(&self) -> MutexGuard<'_, HashSet<(usize, Sought)>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Image {
    /// Returns the results that are tried.
    fn results(&self, sought: &Sought) -> impl Iterator<Item = (&Cache, &Outcome)> {
        let of = |cache| sought.outcomes(cache).map(move |outcome| (cache, outcome));
        self.caches.iter().flat_map(of).take(MAX_RESULTS)
    }

    /// Applies the layers of a result, and takes what is looked for out of that. The error is why that cannot be.
    async fn take(
        &self,
        sought: &Sought,
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
        let taken = self.apply(sought, layers, context).await;
        taken
            .map(|(staged, is_file)| Taken {
                staged,
                is_file,
                bytes,
                from: SafeUrl::of_file(Path::new(&self.blobs.shown())),
            })
            .map_err(|err| chain(&err))
    }

    /// Returns what is looked for, and whether it is the file itself.
    async fn apply(
        &self,
        sought: &Sought,
        layers: Vec<(Descriptor, Digest)>,
        context: &Context,
    ) -> Result<(Staged, bool)> {
        let staging = Arc::clone(&context.staging);
        let root = run_blocking(move || staging.fresh()).await?;
        let sizes = layers.iter().map(|(layer, _)| layer.size);
        let downloaded = sizes.fold(0, u64::saturating_add);
        let applied = self.apply_all(layers, &root, context).await;
        let limits = context.limits.clone();
        // A file with holes takes no room until it is copied.
        let check = move |size| limits.check_expanded(size, downloaded);
        let (sought, staging) = (sought.clone(), Arc::clone(&context.staging));
        run_blocking(move || {
            let picked = applied.and_then(|()| sought.pick(&root, &staging, &check));
            // Files are copied, trees stay where they are.
            let is_tree = matches!(&picked, Ok(staged) if staged.directory.starts_with(&root));
            if !is_tree {
                // What cannot be removed now goes with the staging area.
                let _ = fs::remove_tree(&root);
            }
            picked.map(|staged| (staged, !is_tree))
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

#[cfg(test)]
mod tests;

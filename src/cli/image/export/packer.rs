//! From fetches to layers: each is packed as soon as it has arrived, and what was unpacked for that is removed.

use crate::{
    archive::{self, Unpacked},
    batch::Item,
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::{Context, Staged},
    fs,
    observe::{Event, Observer},
    oci::{
        Layout,
        cache::{Added, Fetched},
        image,
        key::{self, Own},
        layer::{self, NewLayer, Origin, Packing},
        media_type::LayerFormat,
    },
    rel_path::RelPath,
    stream::bridge::run_blocking,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::Semaphore;

/// Returns how many layers are packed at once. Small ones do not keep all threads of their compressor busy, so that two are
/// faster; but with two cores and Zstandard two take 165 MB, and that grows with the cores.
fn packed_at_once() -> usize {
    if archive::cores() > 4 { 1 } else { 2 }
}

/// What is to become a layer.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The name of the file.
    pub(super) name: String,
    /// Where instructions say that it is from.
    pub(super) url: String,
    /// Where it goes in the image.
    pub(super) directory: RelPath,
    /// Whether it is unpacked if it is an archive.
    pub(super) extract: bool,
}

/// What has become a layer.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    wanted: Wanted,
    sha256: Sha256Digest,
    unpacked: Option<Unpacked>,
    layer: NewLayer,
}

/// Turns fetches into layers.
pub(super) struct Packer {
    context: Context,
    layout: Arc<Layout>,
    format: LayerFormat,
    turns: Semaphore,
    stop: Arc<AtomicBool>,
}

impl Packer {
    pub(super) fn new(context: Context, layout: Arc<Layout>, format: LayerFormat) -> Self {
        Self {
            context,
            layout,
            format,
            turns: Semaphore::new(packed_at_once()),
            stop: Arc::default(),
        }
    }

    /// Returns the layers of all that is wanted, in its order.
    pub(super) async fn pack(
        &self,
        items: Vec<Item>,
        wanted: Vec<Wanted>,
        transfers: usize,
    ) -> Result<Vec<Packed>> {
        let items = items.into_iter().map(|item| self.item(item, &wanted));
        let packed = stream::iter(items).buffer_unordered(transfers);
        let packed: Vec<Vec<(usize, Packed)>> = packed.try_collect().await?;
        let mut packed = packed.concat();
        packed.sort_by_key(|(position, _)| *position);
        Ok(packed.into_iter().map(|(_, packed)| packed).collect())
    }

    async fn item(&self, item: Item, wanted: &[Wanted]) -> Result<Vec<(usize, Packed)>> {
        let name = item.request.name.clone();
        let packed = self.fetch_and_pack(item, wanted).await;
        packed.map_err(|source| Error::Fetch {
            name,
            source: Box::new(source),
        })
    }

    async fn fetch_and_pack(
        &self,
        mut item: Item,
        wanted: &[Wanted],
    ) -> Result<Vec<(usize, Packed)>> {
        let digest = Arc::new(Remembering {
            inner: Arc::clone(&item.observer),
            sha256: Mutex::default(),
        });
        item.observer = Arc::clone(&digest) as Arc<dyn Observer>;
        let staged = item.get(&self.context).await?;
        let sha256 = *digest.sha256.lock().unwrap_or_else(PoisonError::into_inner);
        let sha256 = sha256.ok_or(Error::Cancelled)?;
        let mut packed = Vec::new();
        for ((position, _), staged) in item.places.iter().zip(staged) {
            for warning in &staged.warnings {
                digest.on_event(&Event::Warning(warning.clone()));
            }
            let wanted = wanted[*position].clone();
            let unpacked = staged.unpacked;
            let layer = self.layer(staged, &wanted.directory).await?;
            let layer = Packed {
                wanted,
                sha256,
                unpacked,
                layer,
            };
            packed.push((*position, layer));
        }
        Ok(packed)
    }

    /// Packs what was fetched, and removes it.
    async fn layer(&self, staged: Staged, directory: &RelPath) -> Result<NewLayer> {
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|_closed| Error::Cancelled)?;
        let (layout, directory) = (Arc::clone(&self.layout), directory.clone());
        let (format, stop) = (self.format, Arc::clone(&self.stop));
        let staging = Arc::clone(&self.context.staging);
        run_blocking(move || {
            // Lives as long as anybody reads or writes in it.
            let _staging = staging;
            let packing = Packing {
                directory: &directory,
                origin: match staged.unpacked {
                    Some(_) => Origin::Archive,
                    None => Origin::Download,
                },
                format,
                go_on: &|| !stop.load(Ordering::Relaxed),
            };
            let layer = layer::pack(&staged.directory, &layout, &packing)?;
            fs::remove_tree(&staged.directory)?;
            Ok(layer)
        })
        .await
    }
}

/// Whoever gives up a run waits for nothing that is still packed.
impl Drop for Packer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Packed {
    /// Returns how `ADD` would make it, if it could.
    fn add(&self) -> Option<Added> {
        let (name, directory) = (&self.wanted.name, self.wanted.directory.as_bytes());
        let can = is_plain(name.as_bytes())
            && is_plain(directory)
            && self.unpacked != Some(Unpacked::Other);
        can.then(|| Added {
            file_name: self.wanted.name.clone(),
            sha256: self.sha256,
            dest: self.directory(),
            // Of a file that is no archive it makes no difference, but for the name.
            unpack: self.wanted.extract,
        })
    }

    fn directory(&self) -> String {
        key::directory(&self.wanted.directory)
    }

    /// Returns what builds find it by, as layer `number`.
    pub(super) fn fetched(&self, number: usize) -> Fetched {
        let own = Own {
            directory: &self.directory(),
            extract: self.wanted.extract,
            name: &self.wanted.name,
            sha256: self.sha256,
        };
        Fetched {
            add: self.add(),
            own: Some(key::own(&own)),
            layers: vec![number],
        }
    }

    /// Returns the instruction that finds it.
    pub(super) fn instruction(&self) -> String {
        let (sha256, url, name) = (&self.sha256, &self.wanted.url, &self.wanted.name);
        match self.add() {
            Some(add) => {
                let unpack = if add.unpack { " --unpack" } else { "" };
                let dest = &add.dest;
                format!("ADD --link{unpack} --checksum=sha256:{sha256} {url} {dest}")
            }
            None => format!(
                "# no instruction makes the layer of {}",
                name.escape_debug()
            ),
        }
    }

    /// Returns the layer with what the image says of it.
    pub(super) fn added(&self) -> image::Added {
        let (sha256, name) = (&self.sha256, &self.wanted.name);
        let how = if self.unpacked.is_some() {
            "unpacked in"
        } else {
            "in"
        };
        image::Added {
            layer: self.layer.clone(),
            created_by: format!(
                "fetch-content: {name} sha256:{sha256} {how} {}",
                self.directory()
            ),
        }
    }
}

/// Returns whether a path or URL stands in an instruction as it is: nothing in it is quoted or replaced, and how BuildKit
/// reads the rest is not worth guessing.
pub(super) fn is_plain(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/:._-+~@=,".contains(byte);
    text.iter().all(is_plain)
}

/// Remembers the digest of what was fetched.
struct Remembering {
    inner: Arc<dyn Observer>,
    sha256: Mutex<Option<Sha256Digest>>,
}

impl Observer for Remembering {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::Finished(fetched) = event {
            let mut sha256 = self.sha256.lock().unwrap_or_else(PoisonError::into_inner);
            *sha256 = Some(fetched.sha256);
        }
        self.inner.on_event(event);
    }
}

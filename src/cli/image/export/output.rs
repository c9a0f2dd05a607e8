//! Where an image goes: into a layout, or into a tar of one.

use crate::{
    cli::{
        image::{push::push, registry::reference},
        ui::Ui,
    },
    error::{Error, Result},
    fs::{self, Staging},
    oci::{
        Descriptor, Layout, Manifest, image, media_type,
        registry::{Connection, Push, Repository},
    },
    stream::bridge::run_blocking,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the name of an image at a registry begins with, where a directory is possible as well.
pub(in crate::cli::image) const REGISTRY: &str = "docker://";

/// A layout under construction.
pub(super) struct Output {
    /// What is written to.
    pub(super) layout: Arc<Layout>,
    /// The tar that it becomes, and where that is made.
    tar: Option<(PathBuf, Arc<Staging>)>,
}

impl Output {
    /// Opens an existing layout, begins a new one, or one that becomes a tar.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let is_tar = path.extension().is_some_and(|extension| extension == "tar");
        if !is_tar || fs::leads_to_directory(path) {
            let layout = Arc::new(Layout::create(path)?);
            return Ok(Self { layout, tar: None });
        }
        let staging = Arc::new(Staging::inside(path.parent().unwrap_or(Path::new("")))?);
        let layout = Layout::create_within(&staging)?;
        Ok(Self {
            layout: Arc::new(layout),
            tar: Some((path.to_owned(), staging)),
        })
    }

    /// Makes the tar, if it is to be one.
    pub(super) fn publish(&self) -> Result<()> {
        let Some((path, staging)) = &self.tar else {
            return Ok(());
        };
        let name = path.file_name().unwrap_or_default();
        let directory = staging.fresh()?;
        self.layout.pack(&directory.join(name))?;
        staging.publish_file(&directory, name)
    }
}

/// Where a cache goes.
pub(super) enum CacheOutput {
    /// Into a layout.
    Layout(PathBuf),
    /// To a registry.
    Registry(Box<Repository>),
}

/// A cache that is written, and where that is.
pub(super) struct WrittenCache {
    layout: PathBuf,
    image: Descriptor,
}

impl CacheOutput {
    /// Tells a registry from a directory.
    pub(super) fn of(typed: &str, connection: &Connection) -> Result<Self> {
        let Some(name) = typed.strip_prefix(REGISTRY) else {
            return Ok(Self::Layout(typed.into()));
        };
        let repository = Repository::writing(&reference(name)?, connection)?;
        Ok(Self::Registry(Box::new(repository)))
    }

    /// Writes a cache, with its layers from an image: to where it belongs, or where it can be pushed from.
    pub(super) fn write(
        &self,
        tag: &str,
        image: &Layout,
        (config, manifest): &(Vec<u8>, Manifest),
    ) -> Result<WrittenCache> {
        let path = match self {
            Self::Layout(path) => path.clone(),
            Self::Registry(_) => image.scratch()?,
        };
        if fs::are_same(&path, image.path()) {
            return Err(Error::usage("--cache-to is the layout of the image itself"));
        }
        let layout = Layout::create(&path)?;
        for layer in &manifest.layers {
            layout.copy_blob(image, layer)?;
        }
        layout.put(media_type::CACHE_CONFIG, config)?;
        let written = image::put_manifest(&layout, manifest)?;
        layout.tag(tag, written.clone())?;
        Ok(WrittenCache {
            layout: path,
            image: written,
        })
    }

    /// Pushes what was written, if it is to be at a registry.
    pub(super) async fn push(
        self,
        written: WrittenCache,
        transfers: usize,
        ui: &Arc<Ui>,
    ) -> Result<()> {
        let Self::Registry(repository) = self else {
            return Ok(());
        };
        let WrittenCache { layout, image } = written;
        let layout = run_blocking(move || Layout::open(&layout)).await?;
        let job = Push {
            repository: *repository,
            layout: Arc::new(layout),
            image,
            mount_from: Vec::new(),
            transfers,
        };
        push(&job, ui).await
    }
}

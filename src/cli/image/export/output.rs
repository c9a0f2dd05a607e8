//! Where an image goes: into a layout, or into a tar of one.

use crate::{
    error::{Error, Result},
    fs::{self, Staging},
    oci::{Layout, Manifest, image, media_type},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A layout under construction.
pub(super) struct Output {
    /// What is written to.
    pub(super) layout: Arc<Layout>,
    /// The tar that it becomes, and where that is made.
    tar: Option<(PathBuf, Staging)>,
}

impl Output {
    /// Opens an existing layout, begins a new one, or one that becomes a tar.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let is_tar = path.extension().is_some_and(|extension| extension == "tar");
        if !is_tar || fs::leads_to_directory(path) {
            let layout = Arc::new(Layout::create(path)?);
            return Ok(Self { layout, tar: None });
        }
        let staging = Staging::inside(path.parent().unwrap_or(Path::new("")))?;
        let layout = Layout::create(&staging.fresh()?)?;
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

/// Writes a cache, with its layers from an image, into another layout.
pub(super) fn cache(
    path: &Path,
    tag: &str,
    image: &Layout,
    (config, manifest): &(Vec<u8>, Manifest),
) -> Result<()> {
    if fs::are_same(path, image.path()) {
        return Err(Error::usage("--cache-to is the layout of the image itself"));
    }
    let layout = Layout::create(path)?;
    for layer in &manifest.layers {
        layout.copy_blob(image, layer)?;
    }
    layout.put(media_type::CACHE_CONFIG, config)?;
    let manifest = image::put_manifest(&layout, manifest)?;
    layout.tag(tag, manifest)
}

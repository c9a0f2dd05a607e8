//! An image: what it begins with, and what is put on top.

use super::{
    Descriptor, Digest, HistoryEntry, ImageConfig, Layout, MAX_CONFIG, Manifest, Platform,
    cache::BaseImage,
    key,
    layer::NewLayer,
    media_type::{self, LayerFormat},
};
use crate::error::{Error, Result};

/// An image that others are built on.
#[derive(Clone, Debug)]
pub struct Base {
    /// What its tag leads to.
    pub digest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, lowest first, with types that an OCI manifest may have.
    pub layers: Vec<Descriptor>,
    /// The digests of their content.
    pub diff_ids: Vec<Digest>,
}

impl Base {
    /// Returns nothing: an image from scratch.
    #[must_use]
    pub fn scratch(platform: &Platform) -> Self {
        let mut config = ImageConfig::new(&platform.os, &platform.architecture);
        if let Some(variant) = &platform.variant {
            config.0.insert("variant".into(), variant.clone().into());
        }
        Self {
            digest: Digest::of(b""),
            config,
            layers: Vec::new(),
            diff_ids: Vec::new(),
        }
    }

    /// Reads an image of a layout. Of several, that for `platform` is taken.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none, [`Error::Damaged`] if it makes no sense.
    pub fn read(layout: &Layout, tag: Option<&str>, platform: &Platform) -> Result<Self> {
        let top = layout.find(tag)?;
        let descriptor = if media_type::is_index(&top.media_type) {
            let images = layout.inner_index(&top)?.manifests;
            let fits =
                |image: &&Descriptor| image.platform.as_ref().is_some_and(|of| of.fits(platform));
            images.iter().find(fits).cloned().ok_or_else(|| {
                let (os, architecture) = (&platform.os, &platform.architecture);
                let path = layout.path().display();
                Error::usage(format!("`{path}` has no image for {os}/{architecture}"))
            })?
        } else {
            top.clone()
        };
        let manifest = layout.manifest(&descriptor)?;
        let place = format!(
            "the image {} of `{}`",
            descriptor.digest,
            layout.path().display()
        );
        let damaged = |problem: String| Error::Damaged {
            place: place.clone(),
            problem,
        };
        if !media_type::is_config(&manifest.config.media_type) {
            let of = manifest.config.media_type.escape_debug();
            return Err(damaged(format!(
                "is no image, its configuration is of the type `{of}`"
            )));
        }
        let mut config = ImageConfig::parse(&layout.read(&manifest.config, MAX_CONFIG)?, &place)?;
        config.set_inline_cache(None);
        let diff_ids = config.diff_ids().map_err(damaged)?;
        let (layers, ids) = (manifest.layers.len(), diff_ids.len());
        if layers != ids {
            return Err(damaged(format!("has {layers} layers, but {ids} diff ids")));
        }
        let layers = manifest.layers.iter().map(|layer| {
            let format = LayerFormat::of(&layer.media_type).ok_or_else(|| {
                let of = layer.media_type.escape_debug();
                damaged(format!("has a layer of the unknown type `{of}`"))
            })?;
            Ok(Descriptor::new(
                format.media_type(),
                layer.digest,
                layer.size,
            ))
        });
        let mut base = Self {
            digest: top.digest,
            config,
            layers: layers.collect::<Result<_>>()?,
            diff_ids,
        };
        base.fill_history().map_err(damaged)?;
        Ok(base)
    }

    /// Gives every layer a step of the history: without, BuildKit's daemon crashes on an inline cache.
    fn fill_history(&mut self) -> Result<(), String> {
        let history = self.config.history()?;
        let steps = history.iter().filter(|entry| !entry.empty_layer).count();
        for _ in steps..self.layers.len() {
            self.config.push_history(&HistoryEntry::default());
        }
        Ok(())
    }

    /// Returns what builds call it that begin with it.
    #[must_use]
    pub fn described(&self) -> BaseImage {
        let platform = self.config.platform().unwrap_or_default();
        let by_digest = key::image(&self.digest, &platform);
        BaseImage {
            records: std::iter::once(by_digest)
                .chain(key::image_layers(&self.diff_ids))
                .collect(),
            layers: self.layers.len(),
        }
    }
}

impl Platform {
    /// Returns whether what is built for this runs there, as far as names tell.
    pub(super) fn fits(&self, wanted: &Self) -> bool {
        (&self.os, &self.architecture) == (&wanted.os, &wanted.architecture)
            && (wanted.variant.is_none() || self.variant == wanted.variant)
    }
}

/// A layer, and how it was made.
#[derive(Clone, Debug)]
pub struct Added {
    /// The layer.
    pub layer: NewLayer,
    /// By which command.
    pub created_by: String,
}

/// Writes an image: base and layers, configuration with `inline_cache`, manifest. It is not tagged yet. `created` is when
/// it was made, as RFC 3339 has it.
///
/// # Errors
/// [`Error::Fs`].
pub fn write(
    layout: &Layout,
    base: &Base,
    added: &[Added],
    inline_cache: Option<String>,
    created: &str,
) -> Result<Descriptor> {
    let (mut config, mut layers) = (base.config.clone(), base.layers.clone());
    let mut diff_ids = base.diff_ids.clone();
    for Added { layer, created_by } in added {
        layout.adopt(&layer.blob.path, &layer.blob.digest)?;
        layers.push(layer.descriptor());
        diff_ids.push(layer.diff_id);
        config.push_history(&HistoryEntry {
            created: Some(created.to_owned()),
            created_by: Some(created_by.clone()),
            ..HistoryEntry::default()
        });
    }
    config.set_diff_ids(&diff_ids);
    config.0.insert("created".into(), created.into());
    config.set_inline_cache(inline_cache);
    let config = layout.put(media_type::CONFIG, &config.to_json())?;
    put_manifest(layout, &Manifest::new(config, layers))
}

/// Writes a manifest.
///
/// # Errors
/// [`Error::Fs`].
pub fn put_manifest(layout: &Layout, manifest: &Manifest) -> Result<Descriptor> {
    let json = serde_json::to_vec(manifest)
        .map_err(|err| Error::usage(format!("cannot write a manifest: {err}")))?;
    layout.put(media_type::MANIFEST, &json)
}

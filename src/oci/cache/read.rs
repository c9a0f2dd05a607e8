//! Finding the descriptions of caches in what a tag leads to.

use super::{
    exported,
    graph::{Cache, check_size},
    inline,
    model::MAX_EXPORTED,
};
use crate::{
    error::chain,
    oci::{Blobs, Descriptor, ImageConfig, Index, MAX_CONFIG, MAX_MANIFEST, Manifest, media_type},
};
use serde::Deserialize;

/// Images of an index that are looked at, at most.
const MAX_IMAGES: usize = 64;

/// What a manifest or an index can lead to.
#[derive(Debug)]
pub enum Document {
    /// A manifest.
    Manifest(Box<Manifest>),
    /// An index.
    Index(Index),
}

impl Document {
    /// Reads a manifest or an index. Which of them it is, its content tells, and not who refers to it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            #[serde(default)]
            media_type: Option<String>,
            #[serde(default)]
            manifests: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            config: Option<serde::de::IgnoredAny>,
        }
        let not_read = |err: serde_json::Error| format!("a manifest cannot be read: {err}");
        let probe: Probe = serde_json::from_slice(json).map_err(not_read)?;
        let is_index = match (&probe.media_type, probe.manifests, probe.config) {
            (_, Some(_), Some(_)) => return Err("a manifest is an index, too".into()),
            (Some(media_type), ..) if media_type::is_index(media_type) => true,
            (Some(media_type), ..) if media_type::is_manifest(media_type) => false,
            (Some(media_type), ..) => {
                let media_type = media_type.escape_debug();
                return Err(format!("`{media_type}` is neither a manifest nor an index"));
            }
            (None, Some(_), None) => true,
            (None, None, _) => false,
        };
        if is_index {
            serde_json::from_slice(json)
                .map(Self::Index)
                .map_err(not_read)
        } else {
            serde_json::from_slice(json)
                .map(Self::Manifest)
                .map_err(not_read)
        }
    }
}

/// A description, or why it cannot be used.
pub type Found = Result<Cache, String>;

/// Returns the descriptions of all caches that a descriptor leads to.
pub async fn read(top: &Descriptor, blobs: &dyn Blobs) -> Vec<Found> {
    match document(top, blobs).await {
        Err(problem) => vec![Err(problem)],
        Ok(Document::Manifest(manifest)) => {
            let found = of_manifest(top, &manifest, blobs).await;
            found.into_iter().collect()
        }
        Ok(Document::Index(index)) => of_index(top, &index, blobs).await,
    }
}

async fn document(blob: &Descriptor, blobs: &dyn Blobs) -> Result<Document, String> {
    Document::parse(&get(blob, MAX_MANIFEST, blobs).await?)
}

async fn get(blob: &Descriptor, limit: u64, blobs: &dyn Blobs) -> Result<Vec<u8>, String> {
    blobs.read(blob, limit).await.map_err(|err| chain(&err))
}

async fn of_index(top: &Descriptor, index: &Index, blobs: &dyn Blobs) -> Vec<Found> {
    let is_config = |entry: &&Descriptor| entry.media_type == media_type::CACHE_CONFIG;
    if let Some(config) = index.manifests.iter().find(is_config) {
        return vec![exported(top, config, &index.manifests, blobs).await];
    }
    let is_manifest = |entry: &&Descriptor| media_type::is_manifest(&entry.media_type);
    let mut caches = Vec::new();
    for entry in index.manifests.iter().filter(is_manifest).take(MAX_IMAGES) {
        match document(entry, blobs).await {
            Ok(Document::Manifest(manifest)) => {
                caches.extend(of_manifest(entry, &manifest, blobs).await);
            }
            Ok(Document::Index(_)) => caches.push(Err("an index says it is a manifest".into())),
            Err(problem) => caches.push(Err(problem)),
        }
    }
    caches
}

/// Returns the description in a manifest or in the configuration of an image, if there is one.
async fn of_manifest(entry: &Descriptor, manifest: &Manifest, blobs: &dyn Blobs) -> Option<Found> {
    if manifest.config.media_type == media_type::CACHE_CONFIG {
        return Some(exported(entry, &manifest.config, &manifest.layers, blobs).await);
    }
    if !media_type::is_config(&manifest.config.media_type) {
        return None;
    }
    let config = get(&manifest.config, MAX_CONFIG, blobs)
        .await
        .and_then(|json| {
            let place = format!("blob {}", manifest.config.digest);
            ImageConfig::parse(&json, &place).map_err(|err| chain(&err))
        });
    match config {
        Err(problem) => Some(Err(problem)),
        Ok(config) => {
            let base64 = config.inline_cache()?;
            Some(inline::decode(base64, &config, manifest))
        }
    }
}

async fn exported(
    list: &Descriptor,
    config: &Descriptor,
    layers: &[Descriptor],
    blobs: &dyn Blobs,
) -> Found {
    check_size("the manifest of the cache", list.size)?;
    exported::decode(&get(config, MAX_EXPORTED, blobs).await?, layers)
}

//! What fuzz targets see of this room.

use super::{Found, exported, graph::UNCOMPRESSED, inline, model::Config};
use crate::oci::{Descriptor, Digest, HistoryEntry, ImageConfig, Manifest, media_type};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Layers of the image.
const LAYERS: u8 = 3;

/// See [`crate::fuzzing::cache`].
pub(crate) fn read(json: &[u8]) -> [Found; 2] {
    let config: Config = serde_json::from_slice(json).unwrap_or_default();
    // Of all blobs but every fourth, the manifest knows.
    let known = config
        .layers
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 4 != 3);
    let blobs = known.map(|(_, entry)| layer(entry.blob));
    let blobs: Vec<Descriptor> = blobs.collect();
    [exported::decode(json, &blobs), of_image(json)]
}

fn layer(digest: Digest) -> Descriptor {
    Descriptor::new(media_type::LAYER, digest, 0).annotated(UNCOMPRESSED, digest.to_string())
}

fn of_image(json: &[u8]) -> Found {
    let digests: Vec<Digest> = (0..LAYERS).map(|number| Digest::of(&[number])).collect();
    let layers = digests.iter().copied().map(layer).collect();
    let manifest = Manifest::new(Descriptor::of(media_type::CONFIG, b""), layers);
    let mut config = ImageConfig::new("linux", "amd64");
    config.set_diff_ids(&digests);
    for _ in &digests {
        config.push_history(&HistoryEntry::default());
    }
    inline::decode(&STANDARD.encode(json), &config, &manifest)
}

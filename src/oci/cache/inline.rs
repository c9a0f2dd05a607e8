//! The description of a cache in the configuration of an image.

use super::{
    graph::{Cache, Layer, UNCOMPRESSED},
    model::{Record, TableEntry},
};
use crate::oci::{Digest, ImageConfig, Manifest};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Returns records as they stand in a configuration: base64 of JSON.
#[must_use]
pub fn encode(records: &[Record]) -> String {
    // Nothing in a record is a map, let alone one that cannot be written.
    STANDARD.encode(serde_json::to_vec(records).unwrap_or_default())
}

/// Reads the description of an image that has one. The error is what is wrong with it.
///
/// What lies in the image's history is no matter to us; but if it is shorter than the layers are many, BuildKit's daemon
/// crashes, and an image that is so badly made is not believed anything else.
pub(super) fn decode(
    base64: &str,
    config: &ImageConfig,
    manifest: &Manifest,
) -> Result<Cache, String> {
    let json = STANDARD
        .decode(base64)
        .map_err(|err| format!("the inline cache is not base64: {err}"))?;
    let records: Vec<Record> = serde_json::from_slice(&json)
        .map_err(|err| format!("the inline cache cannot be read: {err}"))?;
    let diff_ids = config.diff_ids()?;
    let layers = manifest.layers.len();
    if diff_ids.len() != layers {
        let count = diff_ids.len();
        return Err(format!(
            "the image has {layers} layers, but {count} diff ids"
        ));
    }
    let history = config.history()?;
    let steps = history.iter().filter(|entry| !entry.empty_layer).count();
    if steps < layers {
        return Err(format!(
            "the image has {layers} layers, but a history of {steps}"
        ));
    }
    Cache::new(stack(manifest, &diff_ids), records)
}

/// Returns the layers of an image, each on top of the one before.
fn stack(manifest: &Manifest, diff_ids: &[Digest]) -> Vec<Layer> {
    let layers = manifest.layers.iter().zip(diff_ids).enumerate();
    let layer = |(number, (descriptor, id)): (usize, (&crate::oci::Descriptor, &Digest))| {
        let entry = TableEntry {
            blob: descriptor.digest,
            parent: 0,
        };
        let found = descriptor.clone().annotated(UNCOMPRESSED, id.to_string());
        Layer::new(&entry, number.checked_sub(1), Some(&found))
    };
    layers.map(layer).collect()
}

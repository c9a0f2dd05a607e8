//! The description of a cache that stands alone: a configuration, and a manifest that lists the layers.

use super::{
    graph::{Cache, UNCOMPRESSED, check_size, table},
    model::{Config, Prefix, Record, TableEntry},
};
use crate::{
    error::{Error, Result},
    oci::{Descriptor, Digest, Manifest, media_type},
};
use std::collections::HashMap;

/// What tells when a layer was made.
const CREATED_AT: &str = "buildkit/createdat";

/// A layer that is to be exported.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its blob.
    pub descriptor: Descriptor,
    /// The digest of its content.
    pub diff_id: Digest,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
}

/// Returns the configuration and the manifest of a cache. Results of `records` are numbers in `layers`.
///
/// Layers are listed once for each way to them: what old readers know is a layer with everything below it, so a layer that
/// is used on top of several others is several entries of the table.
///
/// # Errors
/// [`Error::Usage`] if it is more than BuildKit reads.
pub fn export(records: &[Record], layers: &[Blob]) -> Result<(Vec<u8>, Manifest)> {
    let mut ways = Ways::default();
    let mut exported = Vec::with_capacity(records.len());
    for record in records {
        let mut prefixes = Vec::new();
        for prefix in &record.prefixes {
            let below: Vec<i64> = (0..=prefix.layer).collect();
            prefixes.push(ways.to(&below, prefix.created_at.as_deref(), layers)?);
        }
        for chain in &record.chains {
            prefixes.push(ways.to(&chain.layers, chain.created_at.as_deref(), layers)?);
        }
        exported.push(Record {
            prefixes,
            chains: Vec::new(),
            ..record.clone()
        });
    }
    let descriptors = ways.layers.iter().map(|&number| {
        let blob = &layers[number];
        let annotated = blob.descriptor.clone();
        annotated
            .annotated(CREATED_AT, &blob.created)
            .annotated(UNCOMPRESSED, blob.diff_id.to_string())
    });
    let descriptors = descriptors.collect();
    let config = Config {
        layers: ways.entries,
        records: exported,
    };
    let config = to_json(&config)?;
    let manifest = Manifest::new(
        Descriptor::of(media_type::CACHE_CONFIG, &config),
        descriptors,
    );
    for (what, size) in [
        ("the cache", config.len()),
        ("the manifest of the cache", to_json(&manifest)?.len()),
    ] {
        check_size(what, size as u64).map_err(too_much)?;
    }
    Ok((config, manifest))
}

/// Says what can be done about a cache that is too large.
fn too_much(what: String) -> Error {
    Error::Usage {
        what,
        hint: Some(
            "write records for one way of using it only (--instructions link or plain), or make several images".into(),
        ),
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|err| Error::usage(format!("cannot write a cache: {err}")))
}

/// The ways through the layers that results take. Each is an entry of the table.
#[derive(Default)]
struct Ways {
    entries: Vec<TableEntry>,
    /// For each entry, the number of its layer.
    layers: Vec<usize>,
    known: HashMap<(i64, usize), i64>,
}

impl Ways {
    fn to(&mut self, numbers: &[i64], created: Option<&str>, layers: &[Blob]) -> Result<Prefix> {
        let mut here = -1;
        for &number in numbers {
            let number =
                super::graph::index(number, layers.len(), "layer").map_err(Error::usage)?;
            here = *self.known.entry((here, number)).or_insert_with(|| {
                self.layers.push(number);
                self.entries.push(TableEntry {
                    blob: layers[number].descriptor.digest,
                    parent: here,
                });
                i64::try_from(self.entries.len()).unwrap_or(i64::MAX) - 1
            });
        }
        Ok(Prefix {
            layer: here,
            created_at: created.map(str::to_owned),
        })
    }
}

/// Reads the description of a cache, with the blobs that its manifest or index lists. The error is what is wrong with it.
pub(super) fn decode(json: &[u8], blobs: &[Descriptor]) -> Result<Cache, String> {
    check_size("the cache", json.len() as u64)?;
    let config: Config =
        serde_json::from_slice(json).map_err(|err| format!("the cache cannot be read: {err}"))?;
    Cache::new(table(&config.layers, blobs)?, config.records)
}

//! Descriptions as real daemons wrote them, and what nobody should write, see `testdata/oci/README.md`.

use super::{
    Added, Blob, Cache, Described, Fetched, Found, Instructions, Outcome, encode, export,
    model::Record, read, records,
};
use crate::{
    error::{Error, Result},
    oci::{BlobReader, Blobs, Descriptor, Digest, Manifest, key, media_type},
};
use futures::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use std::{collections::HashMap, path::Path};

mod hostile;

const TIME: &str = "2024-01-02T03:04:05Z";

/// Blobs in memory. They are found by digest, but nobody checks that: samples were made readable.
#[derive(Default)]
struct Memory(HashMap<Digest, Vec<u8>>);

impl Memory {
    fn put(&mut self, media_type: &str, json: &Value) -> Descriptor {
        let content = json.to_string().into_bytes();
        let descriptor = Descriptor::of(media_type, &content);
        self.0.insert(descriptor.digest, content);
        descriptor
    }

    async fn read_cache(&self, top: &Descriptor) -> Vec<Found> {
        read(top, self).await
    }
}

impl Blobs for Memory {
    fn shown(&self) -> String {
        "memory".into()
    }

    fn top(&self) -> BoxFuture<'_, Result<Descriptor>> {
        async { Err(Error::Cancelled) }.boxed()
    }

    fn read<'a>(&'a self, blob: &'a Descriptor, limit: u64) -> BoxFuture<'a, Result<Vec<u8>>> {
        let found = self.0.get(&blob.digest).cloned();
        let found = found.filter(|found| found.len() as u64 <= limit);
        async { found.ok_or_else(|| Error::usage("not there, or too large")) }.boxed()
    }

    fn open<'a>(&'a self, _: &'a Descriptor) -> BoxFuture<'a, Result<BlobReader>> {
        async { Err(Error::Cancelled) }.boxed()
    }
}

fn sample(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/oci/{name}.json"));
    serde_json::from_str(&crate::fs::read_to_string(&path).unwrap()).unwrap()
}

/// Reads a sample whose manifest or index refers to a configuration.
async fn sample_cache(name: &str, config: &str) -> Cache {
    let mut memory = Memory::default();
    let manifest = sample(&format!("{name}-manifest"));
    let config = sample(&format!("{name}-{config}"));
    let descriptors = manifest["manifests"].as_array().cloned();
    let descriptors = descriptors.unwrap_or_else(|| vec![manifest["config"].clone()]);
    let referred = descriptors.last().unwrap()["digest"].as_str().unwrap();
    let content = config.to_string().into_bytes();
    memory.0.insert(referred.parse().unwrap(), content);
    let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
    let top = memory.put(&media_type, &manifest);
    let mut found = memory.read_cache(&top).await;
    assert_eq!(found.len(), 1);
    found.remove(0).unwrap()
}

/// Returns the layers of the usable results of each record.
fn results(cache: &Cache) -> Vec<Vec<Vec<usize>>> {
    let entries = cache.entries.iter().map(|entry| {
        let usable = entry.outcomes.iter();
        usable
            .map(|outcome| cache.layers_of(outcome).unwrap())
            .collect()
    });
    entries.collect()
}

#[tokio::test]
async fn everything_that_daemons_wrote_is_read() {
    for (name, config, layers, records, usable) in [
        ("real-inline-copylink", "config", 3, 8, 5),
        ("real-inline-addchecksum", "config", 2, 7, 3),
        ("real-inline-v20.10", "config", 2, 4, 2),
        ("real-local-imagemanifest", "cacheconfig", 5, 8, 5),
        ("real-local-indexvariant", "cacheconfig", 5, 8, 5),
        ("real-local-dockertypes", "cacheconfig", 5, 8, 5),
        ("real-local-zstd", "cacheconfig", 5, 8, 5),
        ("real-local-modemin", "cacheconfig", 1, 5, 1),
        ("real-local-modemax", "cacheconfig", 3, 5, 3),
        ("real-local-addchecksum", "cacheconfig", 3, 7, 3),
    ] {
        let cache = sample_cache(name, config).await;
        let found: Vec<_> = results(&cache).concat();
        let numbers = (cache.layers.len(), cache.entries.len(), found.len());
        assert_eq!(numbers, (layers, records, usable), "{name}");
    }
}

#[tokio::test]
async fn chains_and_prefixes_are_different_layers() {
    let cache = sample_cache("real-inline-copylink", "config").await;
    // The second `COPY --link` alone, and everything up to it.
    assert_eq!(cache.entries[7].outcomes, [Outcome::Chain(vec![2])]);
    assert_eq!(results(&cache)[7], [[2]]);
    assert_eq!(cache.entries[4].outcomes, [Outcome::Prefix(2)]);
    assert_eq!(results(&cache)[4], [[0, 1, 2]]);
}

/// The worked example: alpha is layer 1, beta is 2, gamma is 1 and 3.
fn crafted() -> Described {
    let sample: Vec<Record> = serde_json::from_value(sample("crafted-inline-records")).unwrap();
    let fetch = |number: usize, name: &str, sha256: &str, layers: &[usize]| Fetched {
        add: Some(Added {
            file_name: format!("{name}.tar.gz"),
            sha256: sha256.parse().unwrap(),
            dest: match name {
                "alpha" => "/fetches/".to_owned(),
                name => format!("/fetches/{name}/"),
            },
            unpack: name != "alpha",
        }),
        // What it was made from is not known.
        own: Some(sample[12 + number].digest.parse().unwrap()),
        layers: layers.to_vec(),
    };
    let of = |name: &str| key_vector(name);
    Described {
        base: None,
        fetches: vec![
            fetch(0, "alpha", &of("alpha"), &[1]),
            fetch(1, "beta", &of("beta"), &[2]),
            fetch(2, "gamma", &of("gamma"), &[1, 3]),
        ],
        created: Some(TIME.into()),
        instructions: Instructions::Both,
    }
}

fn key_vector(name: &str) -> String {
    match name {
        "alpha" => "53e35d29ee4cdf993257141f30b95451cb722bf7c3762fbe7dc6f3bdd00d235b",
        "beta" => "1bb10742041579e4e14f5ebcb85899911fcaa0e84849fa35b9a3458b290b3635",
        _ => "0000000000000000000000000000000000000000000000000000000000000000",
    }
    .to_owned()
}

/// Puts the sample's name for gamma, whose checksum is not known, in the place of ours.
fn with_gamma(mut records: Vec<Record>) -> Vec<Record> {
    let sample: Vec<Record> = serde_json::from_value(sample("crafted-inline-records")).unwrap();
    assert_eq!(
        records[2].digest,
        key::http_source("gamma.tar.gz", &key_vector("gamma").parse().unwrap()).to_string()
    );
    records[2].digest.clone_from(&sample[2].digest);
    records
}

#[test]
fn the_worked_example_is_written_byte_for_byte() {
    let records = with_gamma(records(&crafted()));
    let expected: Vec<Record> = serde_json::from_value(sample("crafted-inline-records")).unwrap();
    assert_eq!(records, expected);
    let config = sample("crafted-image-config");
    assert_eq!(encode(&records), config["moby.buildkit.cache.v0"]);
}

#[test]
fn the_worked_example_is_exported_as_it_was() {
    let image: Manifest = serde_json::from_value(sample("crafted-image-manifest")).unwrap();
    let config = sample("crafted-image-config");
    let blobs = image.layers.iter().enumerate().map(|(number, layer)| Blob {
        descriptor: layer.clone(),
        diff_id: serde_json::from_value(config["rootfs"]["diff_ids"][number].clone()).unwrap(),
        created: TIME.into(),
    });
    let blobs: Vec<Blob> = blobs.collect();
    let (config, manifest) = export(&with_gamma(records(&crafted())), &blobs).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config, sample("crafted-cacheconfig-layers"));
    let expected: Manifest =
        serde_json::from_value(sample("crafted-cache-manifest-layers")).unwrap();
    assert_eq!(manifest.layers, expected.layers);
    assert_eq!(manifest.config.size, expected.config.size);
}

#[tokio::test]
async fn chains_skip_and_repeat_layers() {
    for name in ["crafted-image", "chains", "layers"] {
        let cache = match name {
            "crafted-image" => sample_cache(name, "config").await,
            form => crafted_cache(form).await,
        };
        let blobs = |numbers: &Vec<usize>| numbers.iter().map(|&n| cache.layers[n].blob).collect();
        let blobs = |record: usize| -> Vec<Vec<Digest>> {
            results(&cache)[record].iter().map(blobs).collect()
        };
        let image: Manifest = serde_json::from_value(sample("crafted-image-manifest")).unwrap();
        let layer = |number: usize| image.layers[number].digest;
        assert_eq!(blobs(5), [[1, 3].map(layer)], "{name}");
        assert_eq!(blobs(8), [[1, 2, 1, 3].map(layer)], "{name}");
        assert_eq!(blobs(11), [[1, 2, 3].map(layer)], "{name}");
    }
}

async fn crafted_cache(form: &str) -> Cache {
    let mut memory = Memory::default();
    let manifest = sample(&format!("crafted-cache-manifest-{form}"));
    let config = sample(&format!("crafted-cacheconfig-{form}"));
    let digest = manifest["config"]["digest"].as_str().unwrap();
    let content = config.to_string().into_bytes();
    memory.0.insert(digest.parse().unwrap(), content);
    let top = memory.put(media_type::MANIFEST, &manifest);
    memory.read_cache(&top).await.remove(0).unwrap()
}

#[tokio::test]
async fn a_reader_of_layers_misses_what_has_only_chains() {
    let mut config = sample("crafted-cacheconfig-chains");
    for record in config["records"].as_array_mut().unwrap() {
        record.as_object_mut().unwrap().remove("chains");
    }
    let manifest = sample("crafted-cache-manifest-chains");
    let blobs: Vec<Descriptor> = serde_json::from_value(manifest["layers"].clone()).unwrap();
    let cache = super::exported::decode(config.to_string().as_bytes(), &blobs).unwrap();
    assert_eq!(results(&cache).concat(), [[0; 0]; 0]);
    // What we export, it finds.
    let cache = crafted_cache("layers").await;
    assert!(
        cache.entries[3..]
            .iter()
            .all(|entry| entry.outcomes.len() == 1)
    );
}

#[tokio::test]
async fn operations_are_found_through_their_sources() {
    let cache = sample_cache("real-inline-addchecksum", "config").await;
    let find = |name: &str, dest: &str, unpack: bool| {
        let sources: std::collections::HashSet<_> = cache
            .roots(key::http_source(
                &format!("{name}.tar.gz"),
                &key_vector(name).parse().unwrap(),
            ))
            .collect();
        let operation = key::Add {
            file_name: &format!("{name}.tar.gz"),
            dest,
            unpack,
        };
        let selector = key::selector(&format!("/{name}.tar.gz"));
        let digest = key::add(&operation, key::Base::Scratch);
        let found = cache.on_top(digest, selector, &sources).next()?;
        cache.layers_of(cache.entries[found].outcomes.first()?).ok()
    };
    assert_eq!(find("alpha", "/fetches/", false), Some(vec![0]));
    assert_eq!(find("beta", "/fetches/beta/", true), Some(vec![1]));
    assert_eq!(find("beta", "/fetches/beta", true), None);
    assert_eq!(find("beta", "/fetches/beta/", false), None);
    assert_eq!(find("gamma", "/fetches/gamma/", true), None);
}

#[test]
fn the_newest_result_comes_first() {
    let record = json!([{"digest": "x", "layers": [
        {"layer": 0, "createdAt": "2024-01-02T03:04:05Z"},
        {"layer": 1},
        {"layer": 2, "createdAt": "2024-01-02T05:04:05.5+01:00"},
    ], "chains": [{"layers": [3], "createdAt": "2025-01-01T00:00:00Z"}]}]);
    let cache = hostile::on_layers(4, &record).unwrap();
    let expected = [
        Outcome::Chain(vec![3]),
        Outcome::Prefix(2),
        Outcome::Prefix(0),
        Outcome::Prefix(1),
    ];
    assert_eq!(cache.entries[0].outcomes, expected);
}

#[test]
fn builds_that_begin_with_an_image_find_everything_below_it() {
    let mut described = crafted();
    let names = [Digest::of(b"digest"), Digest::of(b"layers")];
    described.base = Some(super::BaseImage {
        records: names.to_vec(),
        layers: 1,
    });
    let written = serde_json::to_value(records(&described)).unwrap();
    // Two names of the base, three sources, three operations; then merges of both generations.
    let merge = json!([[{"link": 0}, {"link": 1}], [{"link": 5}]]);
    assert_eq!(
        (&written[8]["inputs"], &written[9]["inputs"]),
        (&merge, &merge)
    );
    assert_eq!(
        written[8]["layers"],
        json!([{"layer": 1, "createdAt": TIME}])
    );
    assert_eq!(written[13]["chains"][0]["layers"], json!([0, 1, 2, 1, 3]));
    // On top of each other, `gamma` brings only what is new.
    assert_eq!(written[14]["inputs"][0], json!([{"link": 0}, {"link": 1}]));
    assert_eq!(
        written[16]["layers"],
        json!([{"layer": 3, "createdAt": TIME}])
    );
}

#[test]
fn only_what_was_asked_for_is_written() {
    let count = |instructions| {
        let described = Described {
            instructions,
            ..crafted()
        };
        let names: Vec<Digest> = records(&described)
            .iter()
            .map(|record| record.digest.parse().unwrap())
            .collect();
        let merges = [key::Generation::New, key::Generation::Old].map(key::merge);
        let merges = names.iter().filter(|name| merges.contains(name)).count();
        (names.len(), merges)
    };
    assert_eq!(count(Instructions::Both), (15, 4));
    assert_eq!(count(Instructions::Link), (13, 4));
    assert_eq!(count(Instructions::Plain), (9, 0));
}

#[test]
fn more_than_is_read_is_not_written() {
    let described = Described {
        fetches: vec![crafted().fetches[0].clone(); 1000],
        ..crafted()
    };
    let blob = Blob {
        descriptor: Descriptor::of(media_type::LAYER, b""),
        diff_id: Digest::of(b""),
        created: TIME.into(),
    };
    let err = export(&records(&described), &[blob.clone(), blob]).unwrap_err();
    assert!(
        err.to_string()
            .contains("more than the 1048576 that BuildKit reads"),
        "{err}"
    );
    assert!(err.hint().unwrap().contains("--instructions link"));
}

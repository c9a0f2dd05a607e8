//! Descriptions that nobody should write. None of them may be used, or make anything panic.

use super::{Memory, TIME, sample};
use crate::oci::{
    Descriptor, Digest, ImageConfig, Manifest,
    cache::{Cache, exported, graph::MAX_RECORDS, inline},
    media_type,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

fn blob(number: usize) -> Descriptor {
    Descriptor::of(media_type::LAYER, number.to_string().as_bytes())
        .annotated("containerd.io/uncompressed", Digest::of(b"").to_string())
}

/// Reads records on layers that are each below nothing.
pub(super) fn on_layers(layers: usize, records: &Value) -> Result<Cache, String> {
    let blobs: Vec<_> = (0..layers).map(blob).collect();
    let table: Vec<_> = blobs
        .iter()
        .map(|blob| json!({"blob": blob.digest, "parent": -1}))
        .collect();
    let config = json!({"layers": table, "records": records}).to_string();
    exported::decode(config.as_bytes(), &blobs)
}

#[test]
fn numbers_of_nothing_and_loops_spoil_everything() {
    let digest = Digest::of(b"x");
    for (records, problem) in [
        (
            json!([{"digest": digest, "layers": [{"layer": 2}]}]),
            "record 0: there is no layer 2, of 2",
        ),
        (
            json!([{"digest": digest, "layers": [{"layer": -1}]}]),
            "there is no layer -1",
        ),
        (
            json!([{"digest": digest, "chains": [{"layers": [0, 2]}]}]),
            "there is no layer 2",
        ),
        (
            json!([{"digest": digest, "chains": [{"layers": [i64::MIN]}]}]),
            "there is no layer -9223372036854775808",
        ),
        (
            json!([{"digest": digest, "inputs": [[{"link": 1}]]}]),
            "there is no record 1, of 1",
        ),
        (
            json!([{"digest": digest, "inputs": [[{"link": 0}]]}]),
            "record 0 is made from itself",
        ),
        (
            json!([{"digest": digest, "inputs": [[]]}]),
            "one of its inputs has no alternative",
        ),
        (
            json!([
                {"digest": digest, "inputs": [[{"link": 1}]]},
                {"digest": digest, "inputs": [[{"link": 2}]]},
                {"digest": digest, "inputs": [[{"link": 3}], [{"link": 1}]]},
                {"digest": digest},
            ]),
            "record 1 is made from itself",
        ),
        (json!([{"digest": 3}]), "the cache cannot be read"),
        (
            json!([{"digest": digest, "layers": [{"layer": 1e30}]}]),
            "the cache cannot be read",
        ),
        (json!({}), "the cache cannot be read"),
    ] {
        let err = on_layers(2, &records).unwrap_err();
        assert!(err.contains(problem), "{err}");
    }
}

#[test]
fn tables_that_make_no_sense_spoil_everything() {
    let blob = blob(0).digest;
    for (table, problem) in [
        (
            json!([{"blob": blob, "parent": 0}]),
            "layer 0 is below itself",
        ),
        (
            json!([{"blob": blob, "parent": 1}, {"blob": blob}]),
            "is below itself",
        ),
        (
            json!([{"blob": blob, "parent": 2}]),
            "there is no layer 2, of 1",
        ),
        (
            json!([{"blob": blob, "parent": -2}]),
            "there is no layer -2, of 1",
        ),
        (json!([{"blob": "sha256:../../x"}]), "is not a digest"),
        (json!([{"parent": -1}]), "missing field `blob`"),
    ] {
        let config = json!({"layers": table, "records": []}).to_string();
        let err = exported::decode(config.as_bytes(), &[]).unwrap_err();
        assert!(err.contains(problem), "{err}");
    }
    let config = [b"{}".as_slice(), &vec![b' '; 1 << 20]].concat();
    let err = exported::decode(&config, &[]).unwrap_err();
    assert!(err.contains("more than the 1048576"), "{err}");
}

#[test]
fn a_missing_parent_is_the_first_layer() {
    let blobs = [blob(0), blob(1)];
    let table = json!([{"blob": blobs[0].digest, "parent": -1}, {"blob": blobs[1].digest}]);
    let records = json!([{"digest": "x", "layers": [{"layer": 1}]}]);
    let config = json!({"layers": table, "records": records}).to_string();
    let cache = exported::decode(config.as_bytes(), &blobs).unwrap();
    let outcome = &cache.entries[0].outcomes[0];
    assert_eq!(cache.layers_of(outcome).unwrap(), [0, 1]);
}

#[test]
fn results_that_cannot_be_used_spoil_only_themselves() {
    let mut blobs = vec![blob(0), blob(1), blob(2), blob(3)];
    blobs[1].annotations.clear();
    blobs[2].media_type = "text/plain".into();
    blobs[3]
        .annotations
        .insert("containerd.io/uncompressed".into(), "x".into());
    let mut table: Vec<_> = blobs
        .iter()
        .map(|blob| json!({"blob": blob.digest, "parent": -1}))
        .collect();
    table.push(json!({"blob": Digest::of(b"nowhere"), "parent": -1}));
    let chain = |layers: &[usize]| json!({"layers": layers, "createdAt": TIME});
    let chains = [&[0][..], &[0, 1], &[2], &[3], &[4], &[], &[0; 1001]].map(chain);
    let config = json!({"layers": table, "records": [{"digest": "x", "chains": chains}]});
    let cache = exported::decode(config.to_string().as_bytes(), &blobs).unwrap();
    let mut problems = cache.entries[0].outcomes.iter().map(|outcome| {
        let problem = cache.layers_of(outcome).err();
        problem.unwrap_or_default()
    });
    let mut next = || problems.next().unwrap();
    assert_eq!(next(), "");
    assert!(next().contains("has no annotation `containerd.io/uncompressed`"));
    assert!(next().contains("is of the unknown type `text/plain`"));
    assert!(next().contains("`x` is not a digest"));
    assert!(next().contains("the manifest has no blob sha256:"));
    assert_eq!(next(), "it is a chain of no layers");
    assert_eq!(next(), "it has more than 1000 layers");
}

#[test]
fn deep_graphs_are_no_matter() {
    const DEPTH: usize = 9_000;
    let records = (0..DEPTH).map(|number| match number {
        0 => json!({"digest": "x"}),
        number => json!({"digest": "x", "inputs": [[{"link": number - 1}]]}),
    });
    let mut records: Vec<_> = records.collect();
    records.reverse();
    for (number, record) in records.iter_mut().enumerate() {
        if number + 1 < DEPTH {
            record["inputs"][0][0]["link"] = json!(number + 1);
        }
    }
    assert_eq!(
        on_layers(0, &Value::Array(records)).unwrap().entries.len(),
        DEPTH
    );
}

#[test]
fn random_names_are_found_by_nobody() {
    let records = json!([{"digest": "random:x"}, {"digest": "y", "inputs": [[{"link": 0}]]}]);
    let cache = on_layers(0, &records).unwrap();
    assert_eq!(cache.entries[0].digest, "");
}

#[test]
fn images_that_contradict_themselves_have_no_cache() {
    let manifest: Manifest = serde_json::from_value(sample("crafted-image-manifest")).unwrap();
    let good = sample("crafted-image-config");
    let read = |change: &dyn Fn(&mut Value)| {
        let mut config = good.clone();
        change(&mut config);
        let config = ImageConfig::parse(config.to_string().as_bytes(), "x").unwrap();
        inline::decode(config.inline_cache().unwrap(), &config, &manifest)
    };
    assert!(read(&|_| ()).is_ok());
    let set =
        |field: &'static str, value: Value| move |config: &mut Value| config[field] = value.clone();
    let cache = |bytes: &[u8]| set("moby.buildkit.cache.v0", STANDARD.encode(bytes).into());
    let history = json!([{}, {}, {}, {"empty_layer": true}, {"empty_layer": true}]);
    for (change, problem) in [
        (
            &set("history", history) as &dyn Fn(&mut Value),
            "the image has 4 layers, but a history of 3",
        ),
        (&set("history", Value::Null), "a history of 0"),
        (
            &set("rootfs", json!({"diff_ids": []})),
            "4 layers, but 0 diff ids",
        ),
        (
            &set("rootfs", json!({"diff_ids": ["x"]})),
            "rootfs.diff_ids",
        ),
        (&set("moby.buildkit.cache.v0", json!("~~")), "is not base64"),
        (&cache(b"{}"), "cannot be read"),
        (
            &cache(b"[{\"digest\":\"x\",\"chains\":[{\"layers\":[4]}]}]"),
            "there is no layer 4, of 4",
        ),
    ] {
        let err = read(change).unwrap_err();
        assert!(err.contains(problem), "{err}");
    }
}

#[tokio::test]
async fn documents_that_are_something_else_have_no_cache() {
    let mut memory = Memory::default();
    let nothing = Descriptor::of("x", b"nowhere");
    for document in [
        json!([]),
        json!({"schemaVersion": 2}),
        json!({"schemaVersion": 2, "mediaType": media_type::LAYER}),
        json!({"schemaVersion": 2, "manifests": [], "config": {}}),
        json!({"schemaVersion": 2, "config": nothing, "layers": [{"digest": "x", "size": -1}]}),
        json!({"schemaVersion": 2, "mediaType": media_type::INDEX}),
    ] {
        let top = memory.put(media_type::MANIFEST, &document);
        let found = memory.read_cache(&top).await;
        assert!(matches!(&found[..], [Err(_)]), "{document}: {found:?}");
    }
    assert!(memory.read_cache(&nothing).await[0].is_err());
    // An index of itself, and of what is not there.
    let inner = memory.put(
        media_type::INDEX,
        &json!({"schemaVersion": 2, "manifests": []}),
    );
    let claims = Descriptor {
        media_type: media_type::MANIFEST.into(),
        ..inner
    };
    let index = json!({"schemaVersion": 2, "manifests": [claims, nothing]});
    let top = memory.put(media_type::INDEX, &index);
    let found = memory.read_cache(&top).await;
    assert!(matches!(&found[..], [Err(problem)] if problem == "an index says it is a manifest"));
    // An image without a cache is no problem.
    let config = memory.put(media_type::CONFIG, &json!({}));
    let manifest = Manifest::new(config, Vec::new());
    let top = memory.put(
        media_type::MANIFEST,
        &serde_json::to_value(&manifest).unwrap(),
    );
    assert!(memory.read_cache(&top).await.is_empty());
}

#[test]
fn no_cache_has_endless_records() {
    let records = vec![json!({"digest": ""}); MAX_RECORDS + 1];
    assert!(on_layers(1, &json!(records[1..])).is_ok());
    let err = on_layers(1, &json!(records)).unwrap_err();
    assert!(
        err.contains("it has 65537 records, and may have 65536"),
        "{err}"
    );
}

#[tokio::test]
async fn manifests_that_daemons_do_not_read_have_no_cache() {
    let mut memory = Memory::default();
    let config = memory.put(
        media_type::CACHE_CONFIG,
        &json!({"layers": [], "records": []}),
    );
    for (media_type, config, layers) in [
        (media_type::MANIFEST, json!(config), "layers"),
        (media_type::INDEX, Value::Null, "manifests"),
    ] {
        let read = async |memory: &mut Memory, remark: usize| {
            let mut manifest = json!({
                "schemaVersion": 2,
                "mediaType": media_type,
                "annotations": {"remark": "x".repeat(remark)},
            });
            manifest[layers] = json!([]);
            match &config {
                Value::Null => {
                    manifest[layers] = json!([memory.put(
                        media_type::CACHE_CONFIG,
                        &json!({"layers": [], "records": []}),
                    )]);
                }
                config => manifest["config"] = config.clone(),
            }
            let size = manifest.to_string().len();
            let top = memory.put(media_type, &manifest);
            (size, memory.read_cache(&top).await)
        };
        let (empty, _) = read(&mut memory, 0).await;
        let (size, found) = read(&mut memory, (1 << 20) - empty).await;
        assert_eq!(size, 1 << 20);
        assert!(matches!(&found[..], [Ok(_)]), "{found:?}");
        let (_, found) = read(&mut memory, (1 << 20) - empty + 1).await;
        let [Err(problem)] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(
            problem.contains("the manifest of the cache has 1048577 bytes"),
            "{problem}"
        );
    }
}

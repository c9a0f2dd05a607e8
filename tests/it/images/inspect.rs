//! `image inspect`: layers, their fetches, and what a cache can be used for.

use super::*;

fn inspect(sandbox: &Sandbox, words: &[&str]) -> String {
    printed(sandbox.binary().args(["image", "inspect"]).args(words))
}

#[test]
fn layers_are_shown_with_their_fetches_and_records_with_their_results() {
    let sandbox = stocked();
    success(export(
        &sandbox,
        &["--output", "image", "--cache-to", "cache"],
    ));
    let text = inspect(&sandbox, &["image"]);
    let layers: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("layer "))
        .collect();
    assert_eq!(layers.len(), 4);
    let zip = sha256_hex(&stored(&sandbox, TASK_B, "script.zip"));
    assert!(
        layers[2].ends_with(&format!(
            "script.zip sha256:{zip} unpacked in /fetches/scripts/"
        )),
        "{text}"
    );
    for line in [
        "cache\t16 records",
        "\tlinux/amd64",
        "\tno result",
        "\tlayers 0 1 3",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let json: Value = serde_json::from_str(&inspect(&sandbox, &["image", "--json"])).expect("JSON");
    let image = Image::read(&sandbox.path("image"), "latest");
    assert_eq!(
        json["images"][0]["layers"][1]["digest"],
        image.layers()[1]["digest"]
    );
    assert_eq!(
        json["images"][0]["layers"][1]["diffId"],
        image.config["rootfs"]["diff_ids"][1]
    );
    let blobs = |json: &Value| -> Vec<Value> {
        let cache = &json["caches"][0];
        let numbers = cache["records"][4]["results"][0]["layers"].as_array();
        let numbers = numbers.expect("layers").iter();
        numbers
            .map(|number| {
                let pointer = format!("/layers/{number}");
                cache.pointer(&pointer).expect("a layer").clone()
            })
            .collect()
    };
    let inline = blobs(&json);
    assert_eq!(inline[0], image.layers()[1]["digest"]);
    // Alone, the same layers are in another table.
    let json: Value = serde_json::from_str(&inspect(&sandbox, &["cache", "--json"])).expect("JSON");
    assert_eq!(blobs(&json), inline);
}

#[test]
fn why_a_cache_cannot_be_used_is_told() {
    let sandbox = stocked();
    success(export(&sandbox, &["--output", "image"]));
    let image = Image::read(&sandbox.path("image"), "latest");
    let mut config = image.config.clone();
    config["history"] = json!([]);
    let put = |content: &Value| {
        let bytes = content.to_string();
        let hex = sha256_hex(bytes.as_bytes());
        sandbox.write(&format!("image/blobs/sha256/{hex}"), &bytes);
        json!({"mediaType": content["mediaType"], "digest": format!("sha256:{hex}"), "size": bytes.len()})
    };
    let mut manifest = image.manifest.clone();
    let media_type = manifest["config"]["mediaType"].clone();
    manifest["config"] = put(&config);
    manifest["config"]["mediaType"] = media_type;
    let index = json!({"schemaVersion": 2, "manifests": [put(&manifest)]});
    sandbox.write("image/index.json", index.to_string());
    let text = inspect(&sandbox, &["image"]);
    assert!(
        text.contains("problem\tthe image has 4 layers, but a history of 0"),
        "{text}"
    );
    // A blob that was damaged.
    let digest = image.layers()[0]["digest"].as_str().expect("a digest");
    let manifest = index["manifests"][0]["digest"].as_str().expect("a digest");
    assert!(text.contains(digest));
    sandbox.write(&format!("image/blobs/{}", manifest.replace(':', "/")), "{}");
    let outcome = sandbox
        .binary()
        .args(["image", "inspect", "image"])
        .run()
        .expect_code(4);
    outcome.expect_stderr(&["has 2 bytes, expected"]);
}

#[test]
fn what_is_not_there_is_told() {
    let sandbox = stocked();
    success(export(&sandbox, &["--output", "image"]));
    for (words, problem) in [
        (&["nowhere"][..], "cannot open `nowhere`"),
        (
            &["fetches.json"],
            "neither a directory nor an uncompressed tar",
        ),
        (&["image", "--tag", "other"], "hint: its tags are latest"),
    ] {
        let outcome = sandbox
            .binary()
            .args(["image", "inspect"])
            .args(words)
            .run();
        let codes = [2, 6];
        outcome.expect_one_of(&codes).expect_stderr(&[problem]);
    }
}

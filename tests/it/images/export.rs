//! `image export`: layers, their image, their cache, and what other tools make of that.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::*;
use crate::support::sandbox::artifact;
use crate::support::server::{Reply, Server};
use crate::support::skip::have_programs;
use crate::support::tree::Tree;

/// The members of a layer, with modes.
fn members(layout: &Path, descriptor: &Value) -> Vec<String> {
    let tar = uncompressed(layout, descriptor);
    let mut archive = tar::Archive::new(&tar[..]);
    let entries = archive.entries().expect("a tar");
    let names = entries.map(|entry| {
        let entry = entry.expect("a member");
        let mode = entry.header().mode().expect("a mode");
        format!("{} {mode:o}", entry.path_bytes().escape_ascii())
    });
    names.collect()
}

fn uncompressed(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let packed = blob(layout, descriptor);
    let media_type = descriptor["mediaType"].as_str().expect("a type");
    match media_type.rsplit('.').next() {
        Some("tar") => packed,
        Some("tar+zstd") => zstd::decode_all(&packed[..]).expect("Zstandard"),
        Some("tar+gzip") => {
            let mut tar = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(&packed[..]);
            decoder.read_to_end(&mut tar).expect("gzip");
            tar
        }
        _ => panic!("{media_type}"),
    }
}

#[test]
fn every_fetch_is_a_layer() {
    let sandbox = stocked();
    for compression in ["zstd", "gzip", "none"] {
        let layout = sandbox.path(compression);
        success(export(
            &sandbox,
            &["--output", compression, "--compression", compression],
        ));
        let image = Image::read(&layout, "latest");
        let layers = image.layers();
        assert_eq!(layers.len(), 4);
        assert_eq!(
            members(&layout, &layers[1]),
            ["fetches/ 755", "fetches/plain.txt 600"]
        );
        assert_eq!(
            members(&layout, &layers[0]),
            [
                "fetches/ 755",
                "fetches/tool/ 755",
                "fetches/tool/again 755",
                "fetches/tool/data 644",
                "fetches/tool/empty/ 700",
                "fetches/tool/link 777",
                "fetches/tool/run 755",
                "fetches/tool/secret 600",
            ]
        );
        assert_eq!(
            members(&layout, &layers[3])[..2],
            ["fetches/ 755", "fetches/deps/ 755"]
        );
        // Every layer has the digest of its content, and a step of the history: without, daemons crash.
        let config = &image.config;
        assert_eq!(config["history"].as_array().expect("history").len(), 4);
        assert!(
            config["history"][2]["created_by"]
                .as_str()
                .expect("how")
                .contains("script.zip")
        );
        for (number, layer) in layers.iter().enumerate() {
            let diff_id = format!("sha256:{}", sha256_hex(&uncompressed(&layout, layer)));
            assert_eq!(config["rootfs"]["diff_ids"][number], diff_id);
        }
    }
}

#[test]
fn the_same_fetches_give_the_same_bytes() {
    let (one, two) = (stocked(), stocked());
    success(export(&one, &["--output", "image"]));
    let masked = two
        .program("sh")
        .args(["-c", "umask 077; exec \"$@\"", "sh"]);
    let binary = env!("CARGO_BIN_EXE_fetch-content");
    success(
        masked
            .args([binary])
            .args(EXPORT)
            .args(["--output", "image"]),
    );
    success(export(&two, &["--output", "image.tar"]));
    success(export(
        &two,
        &["--output", "again.tar", "--concurrency", "1"],
    ));
    let tree = |sandbox: &Sandbox| {
        Tree::of(sandbox.path("image"))
            .without_mtimes()
            .without_modes()
    };
    tree(&one).assert_same(&tree(&two), "the image");
    assert!(two.read("image.tar") == two.read("again.tar"));
}

#[test]
fn builds_find_the_layers() {
    let sandbox = stocked();
    let stdout = printed(export(&sandbox, &["--output", "image", "--dockerfile"]));
    let sha256 = |task, name| sha256_hex(&stored(&sandbox, task, name));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        lines,
        [
            format!("# image {}", top(&sandbox, "image")),
            format!(
                "ADD --link --unpack --checksum=sha256:{} https://upstream.invalid/tool.tar.gz /fetches/",
                sha256(TASK_A, "tool.tar.gz")
            ),
            format!(
                "ADD --link --checksum=sha256:{} https://upstream.invalid/plain.txt /fetches/",
                sha256(TASK_A, "plain.txt")
            ),
            "# no instruction makes the layer of script.zip".to_owned(),
            format!(
                "ADD --link --unpack --checksum=sha256:{} https://upstream.invalid/library.tar.xz /fetches/deps/library/",
                sha256(TASK_B, "library.tar.xz")
            ),
        ]
    );
    let records = Image::read(&sandbox.path("image"), "latest").records;
    let records = records.as_array().expect("records");
    // Three sources, three operations, two merges of both generations, two operations on top, four of our own.
    assert_eq!(records.len(), 3 + 3 + 4 + 2 + 4);
    let results = |number: usize| (&records[number]["layers"], &records[number]["chains"]);
    let created = "1970-01-01T00:00:00Z";
    let prefix = |layer: usize| json!([{"layer": layer, "createdAt": created}]);
    let chain = |layers: &[usize]| json!([{"layers": layers, "createdAt": created}]);
    assert_eq!(results(3), (&prefix(0), &Value::Null));
    assert_eq!(results(4), (&Value::Null, &chain(&[1])));
    assert_eq!(results(6), (&prefix(1), &Value::Null));
    // The zip is left out.
    assert_eq!(results(8), (&Value::Null, &chain(&[0, 1, 3])));
    assert_eq!(
        records[6]["digest"],
        "sha256:5dbfbafede47210a7bd7363461bc885ec7310febe761daffdf666bfdae5970ff"
    );
}

#[test]
fn what_no_instruction_can_say_has_only_our_own_record() {
    let sandbox = stocked();
    let plain = json!({"task": TASK_A, "artifact": "public/plain.txt", "extract": false});
    for (dest, records) in [("a b", 1), ("$HOME", 1), ("a\nRUN x", 1), ("a-b/c", 3)] {
        let mut entry = plain.clone();
        entry["dest"] = dest.into();
        sandbox.write("fetches.json", json!([entry]).to_string());
        let stdout = printed(export(&sandbox, &["--output", "image", "--dockerfile"]));
        assert_eq!(
            stdout.contains("\n# no instruction"),
            records == 1,
            "{stdout}"
        );
        assert_eq!(stdout.lines().count(), 2);
        let image = Image::read(&sandbox.path("image"), "latest");
        assert_eq!(image.records.as_array().expect("records").len(), records);
    }
}

#[test]
fn an_image_is_built_on_another_one() {
    let sandbox = stocked();
    sandbox.write(
        "base.json",
        json!([{"task": TASK_A, "artifact": "public/plain.txt", "extract": false}]).to_string(),
    );
    let base = [
        "image",
        "export",
        "--fetches",
        "base.json",
        "--store",
        "store",
        "--output",
        "base",
    ];
    success(
        sandbox
            .binary()
            .args(base)
            .args(["--directory", "/", "--platform", "linux/arm64/v8"]),
    );
    let words = [
        "--output",
        "base",
        "--base",
        "base",
        "--tag",
        "more",
        "--compression",
        "gzip",
    ];
    success(export(
        &sandbox,
        &[&words[..], &["--platform", "linux/arm64"]].concat(),
    ));
    let image = Image::read(&sandbox.path("base"), "more");
    let below = Image::read(&sandbox.path("base"), "latest");
    assert_eq!(image.layers().len(), 5);
    assert_eq!(image.layers()[0], below.layers()[0]);
    assert_eq!(
        image.config["history"].as_array().expect("history").len(),
        5
    );
    assert_eq!(
        (&image.config["architecture"], &image.config["variant"]),
        (&json!("arm64"), &json!("v8"))
    );
    // The base is known by its digest and by its layers.
    let merge = &image.records[2 + 3 + 3];
    assert_eq!(merge["inputs"][0], json!([{"link": 0}, {"link": 1}]));
    assert_eq!(merge["layers"][0]["layer"], 1);
    let only = below.config["rootfs"]["diff_ids"][0]
        .as_str()
        .expect("a digest");
    let source = sha256_hex(format!("buildkit.source.v0:{only}").as_bytes());
    let record = sha256_hex(format!("sha256:{source}@0").as_bytes());
    assert_eq!(image.records[1]["digest"], format!("sha256:{record}"));
}

#[test]
fn a_cache_is_written_alone() {
    let sandbox = stocked();
    success(export(
        &sandbox,
        &["--output", "image", "--cache-to", "cache", "--no-cache"],
    ));
    assert_eq!(
        Image::read(&sandbox.path("image"), "latest").records,
        Value::Null
    );
    let cache = sandbox.path("cache");
    let exported = Image::read(&cache, "latest");
    let config = &exported.manifest["config"];
    assert_eq!(
        config["mediaType"],
        "application/vnd.buildkit.cacheconfig.v0"
    );
    let table = exported.config["layers"].as_array().expect("a table");
    assert_eq!(table.len(), exported.layers().len());
    for (entry, layer) in table.iter().zip(exported.layers()) {
        assert_eq!(entry["blob"], layer["digest"]);
        let diff_id = format!("sha256:{}", sha256_hex(&uncompressed(&cache, layer)));
        assert_eq!(layer["annotations"]["containerd.io/uncompressed"], diff_id);
    }
}

#[test]
fn what_cannot_be_exported_leaves_nothing_behind() {
    let sandbox = stocked();
    let whiteout = tar_of(&[file("a/.wh.b", "")]);
    let path = format!("store/task/{TASK_B}/artifacts/public/bad.tar.gz");
    sandbox.write(&path, gz(&whiteout));
    let mut list = fetches();
    let entry = json!({"task": TASK_B, "artifact": "public/bad.tar.gz"});
    list.as_array_mut().expect("a list").push(entry);
    sandbox.write("fetches.json", list.to_string());
    for output in ["new/image", "new/image.tar"] {
        let outcome = export(&sandbox, &["--output", output]).run().expect_code(5);
        outcome.expect_stderr(&[
            "`fetches/a/.wh.b`",
            "names that begin with `.wh.` remove files",
        ]);
        assert!(!sandbox.path("new").exists());
    }
    sandbox.write("other/file", "");
    for (words, problem) in [
        (
            &["--output", "other"][..],
            "`other` is no image layout, but not empty",
        ),
        (
            &["--output", "x", "--tag", "a/b"],
            "expected up to 128 letters",
        ),
        (
            &["--output", "x", "--platform", "linux"],
            "such as `linux/arm64`",
        ),
        (
            &["--output", "x", "--created", "today"],
            "2027-01-31T00:00:00Z",
        ),
        (
            &["--output", "x", "--directory", "a/../b"],
            "--directory has a `..` component",
        ),
        (
            &["--output", "x", "--base", "other"],
            "`other` is no image layout",
        ),
    ] {
        export(&sandbox, words)
            .run()
            .expect_code(2)
            .expect_stderr(&[problem]);
    }
    assert!(!sandbox.path("x").exists());
}

#[test]
fn who_ends_early_leaves_nothing_that_looks_like_an_image() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let tar = tar_of(&[file("tool/data", noise(3_000_000, 3))]);
    server.serve(&artifact(TASK_A, "public/tool.tar"), Reply::ok(&tar));
    let stalled = artifact(TASK_B, "public/other.bin");
    let other = noise(800_000, 4);
    let list = json!([
        {"task": TASK_A, "artifact": "public/tool.tar"},
        {"task": TASK_B, "artifact": "public/other.bin"},
    ]);
    sandbox.write("fetches.json", list.to_string());
    let start = |output: &str| {
        let words = [
            "image",
            "export",
            "--fetches",
            "fetches.json",
            "--output",
            output,
        ];
        let binary = sandbox.binary().args(words);
        binary.env("TASKCLUSTER_ROOT_URL", server.root())
    };
    for output in ["new/image", "new/image.tar"] {
        server.serve(&stalled, Reply::ok(&other).stall_after(500_000));
        let running = start(output).spawn();
        server.wait_for_stall(&stalled);
        running.signal(Signal::TERM);
        running.finish().expect_code(143);
        assert!(!sandbox.path("new").exists());
    }
    server.serve(&stalled, Reply::ok(&other).stall_after(500_000));
    let running = start("image").spawn();
    server.wait_for_stall(&stalled);
    running.signal(Signal::KILL);
    running.finish();
    assert!(!sandbox.path("image/index.json").exists());
    server.serve(&stalled, Reply::ok(&other));
    success(start("image"));
    assert_eq!(
        Image::read(&sandbox.path("image"), "latest").layers().len(),
        2
    );
    let left = fs::read_dir(sandbox.path("image")).expect("the layout");
    assert_eq!(left.count(), 3);
}

/// What `task-artifacts` makes of the same list.
fn fetched(sandbox: &Sandbox) -> Tree {
    success(task_artifacts(sandbox, "dest"));
    // Downloads are 0600 in images, as BuildKit has them.
    let plain = sandbox.path("dest/plain.txt");
    fs::set_permissions(plain, fs::Permissions::from_mode(0o600)).expect("set permissions");
    Tree::of(sandbox.path("dest")).without_directory_mtimes()
}

#[test]
fn umoci_unpacks_what_was_fetched() {
    if !have_programs("umoci_unpacks_what_was_fetched", &["umoci"]) {
        return;
    }
    let sandbox = stocked();
    let expected = fetched(&sandbox).without_mtimes_of(&["plain.txt".to_owned()]);
    for compression in ["zstd", "gzip"] {
        success(export(
            &sandbox,
            &["--output", compression, "--compression", compression],
        ));
        let bundle = format!("bundle-{compression}");
        let unpack = [
            "unpack",
            "--rootless",
            "--image",
            &format!("{compression}:latest"),
            &bundle,
        ];
        let outcome = sandbox.program("umoci").args(unpack).run();
        if compression == "zstd" && outcome.stderr.contains("blob is not correct mediatype") {
            crate::support::skip::skip(
                "umoci_unpacks_what_was_fetched (zstd)",
                "this umoci knows no Zstandard",
            );
            continue;
        }
        outcome.expect_code(0);
        let actual = Tree::of(sandbox.path(format!("{bundle}/rootfs/fetches")));
        let actual = actual.without_directory_mtimes();
        expected.assert_same(
            &actual.without_mtimes_of(&["plain.txt".to_owned()]),
            compression,
        );
    }
}

#[test]
fn skopeo_copies_both_ways() {
    if !have_programs("skopeo_copies_both_ways", &["skopeo"]) {
        return;
    }
    let sandbox = stocked();
    success(export(
        &sandbox,
        &["--output", "image", "--cache-to", "cache"],
    ));
    let copy = |from: &str, to: &str| {
        let words = ["copy", "--insecure-policy", from, to];
        printed(
            sandbox
                .program("skopeo")
                .args(words)
                .env("HOME", sandbox.path("home")),
        );
    };
    copy("oci:image:latest", "oci:copy:x");
    let (image, copied) = (
        Image::read(&sandbox.path("image"), "latest"),
        Image::read(&sandbox.path("copy"), "x"),
    );
    assert_eq!(
        (image.manifest, image.records),
        (copied.manifest, copied.records.clone())
    );
    assert_ne!(copied.records, Value::Null);
    copy("oci:cache:latest", "oci-archive:cache.tar:y");
    printed(
        sandbox
            .binary()
            .args(["image", "inspect", "--tag", "y", "cache.tar"]),
    );
}

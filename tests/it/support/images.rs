//! Images to push and to pull, and layouts of them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::archives::{gz, sha256_hex};
use super::sandbox::{Outcome, Sandbox};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What a blob is called.
pub(crate) fn digest(content: &[u8]) -> String {
    format!("sha256:{}", sha256_hex(content))
}

/// What leads to a blob.
pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

/// An image in memory.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Image {
    /// An image for this machine's platform with these layers, which are whatever they are.
    pub(crate) fn of(layers: &[Vec<u8>]) -> Self {
        Self::for_architecture("amd64", layers)
    }

    /// An image of a real layer with one file.
    pub(crate) fn real(content: &[u8]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "file", content)
            .expect("append to a tar");
        let tar = tar.into_inner().expect("end a tar");
        let mut image = Self::of(&[gz(&tar)]);
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {}, "unknown": [1, 2],
            "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]},
            "history": [{"created_by": "test"}],
        });
        image.config = config.to_string().into_bytes();
        image.describe();
        image
    }

    pub(crate) fn for_architecture(architecture: &str, layers: &[Vec<u8>]) -> Self {
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| digest(l)).collect::<Vec<_>>()},
        });
        let mut image = Self {
            manifest: Vec::new(),
            config: config.to_string().into_bytes(),
            layers: layers.to_vec(),
        };
        image.describe();
        image
    }

    /// Writes the manifest. The spaces are nobody's canonical form.
    fn describe(&mut self) {
        let layers = self.layers.iter().map(|layer| descriptor(LAYER, layer));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &self.config),
            "layers": layers.collect::<Vec<_>>(),
        });
        self.manifest = serde_json::to_vec_pretty(&manifest).expect("write JSON");
    }

    pub(crate) fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// Configuration and layers.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.layers.iter().chain([&self.config])
    }

    /// Writes a layout with this image, tagged `latest`.
    pub(crate) fn layout(&self, sandbox: &Sandbox, name: &str) -> PathBuf {
        for blob in self.blobs() {
            put(sandbox, name, blob);
        }
        layout_of(sandbox, name, MANIFEST, &self.manifest)
    }

    /// Panics unless a layout has this image with a tag, and nothing but layouts' files.
    pub(crate) fn assert_in(&self, layout: &Path, tag: &str) {
        let index = fs::read(layout.join("index.json")).expect("an index");
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        let entries = index["manifests"].as_array().expect("a list");
        let tagged = |entry: &&Value| {
            entry["annotations"]["org.opencontainers.image.ref.name"].as_str() == Some(tag)
        };
        let entry = entries.iter().find(tagged).expect("an entry");
        assert_eq!(entry["digest"], self.digest(), "{index}");
        for blob in self.blobs().chain([&self.manifest]) {
            let path = layout.join("blobs/sha256").join(sha256_hex(blob));
            let found = fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
            assert!(found == *blob, "{} differs", path.display());
        }
        let mut names: Vec<String> = fs::read_dir(layout)
            .expect("list the layout")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
    }
}

/// Writes a blob into a layout.
pub(crate) fn put(sandbox: &Sandbox, layout: &str, content: &[u8]) {
    sandbox.write(
        &format!("{layout}/blobs/sha256/{}", sha256_hex(content)),
        content,
    );
}

/// Makes a layout of a directory with blobs, with this manifest or index as `latest`.
pub(crate) fn layout_of(
    sandbox: &Sandbox,
    name: &str,
    media_type: &str,
    manifest: &[u8],
) -> PathBuf {
    put(sandbox, name, manifest);
    let mut entry = descriptor(media_type, manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    sandbox.write(&format!("{name}/index.json"), index.to_string());
    sandbox.write(
        &format!("{name}/oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    );
    sandbox.path(name)
}

/// Expects success, and the digest on standard output.
pub(crate) fn expect(outcome: Outcome, image: &Image) -> Outcome {
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        format!("{}\n", image.digest()),
        "{outcome:?}"
    );
    outcome
}

#![expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]

use super::{Layout, MAX_MANIFEST, tag_of};
use crate::oci::{Descriptor, Digest, Index, Manifest, media_type};
use serde_json::{Value, json};
use std::{fs, io::Write, path::Path};

fn image(layout: &Layout, content: &str) -> Descriptor {
    let config = layout.put(media_type::CONFIG, b"{}").unwrap();
    let layer = layout.put(media_type::LAYER, content.as_bytes()).unwrap();
    let manifest = Manifest::new(config, vec![layer]);
    let json = serde_json::to_vec(&manifest).unwrap();
    layout.put(media_type::MANIFEST, &json).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_found_by_its_tag() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("new/layout");
    let layout = Layout::create(&path).unwrap();
    let (one, two) = (image(&layout, "one"), image(&layout, "two"));
    layout.tag("latest", one.clone()).unwrap();
    layout.tag("other", one.clone()).unwrap();
    layout.tag("latest", two.clone()).unwrap();
    drop(layout);
    assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);

    let layout = Layout::open(&path).unwrap();
    for (tag, image) in [(None, &two), (Some("latest"), &two), (Some("other"), &one)] {
        let found = layout.find(tag).unwrap();
        assert_eq!(
            (found.digest, tag_of(&found)),
            (image.digest, tag.or(Some("latest")))
        );
        let manifest = layout.manifest(&found).unwrap();
        assert!(layout.holds(&manifest.layers[0]).unwrap());
    }
    let err = layout.find(Some("x\n")).unwrap_err();
    assert!(
        err.to_string().contains("nothing with the tag `x\\n`"),
        "{err}"
    );
    assert_eq!(err.hint().unwrap(), "its tags are other, latest");
    // It was not opened to be written.
    assert!(layout.put("x", b"").is_err());
    assert_eq!(names(&path.join("blobs/sha256")).len(), 5);
}

#[test]
fn what_others_have_written_in_the_index_stays() {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::create(temp.path()).unwrap();
    let image = image(&layout, "x");
    let other = json!({
        "mediaType": media_type::MANIFEST,
        "digest": Digest::of(b"other"),
        "size": 5,
        "urls": ["https://h/x"],
        "data": "b3RoZXI=",
        "platform": {"architecture": "a", "os": "o", "os.features": ["f"]},
    });
    let index = json!({
        "schemaVersion": 2,
        "manifests": [other],
        "subject": {"digest": "x"},
    });
    let path = temp.path().join("index.json");
    fs::write(&path, index.to_string()).unwrap();
    layout.tag("latest", image).unwrap();
    let written: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(written["manifests"][0], other);
    assert_eq!(written["subject"], index["subject"]);
    assert_eq!(written["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn the_same_content_gives_the_same_index() {
    let index = |order: [&str; 2]| {
        let temp = tempfile::tempdir().unwrap();
        let layout = Layout::create(temp.path()).unwrap();
        for content in order {
            image(&layout, content);
        }
        layout.tag("a", image(&layout, "x")).unwrap();
        fs::read_to_string(temp.path().join("index.json")).unwrap()
    };
    assert_eq!(index(["x", "y"]), index(["y", "x"]));
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b");
    let layout = Layout::create(&path).unwrap();
    let mut blob = layout.new_blob().unwrap();
    blob.write_all(b"abc").unwrap();
    let err = blob.finish_as(&Descriptor::of("x", b"abd")).unwrap_err();
    assert!(
        err.to_string().contains(&Digest::of(b"abd").to_string()),
        "{err}"
    );
    layout.new_blob().unwrap().write_all(b"abc").unwrap();
    drop(layout);
    assert_eq!(names(temp.path()), [""; 0]);
}

#[test]
fn blobs_that_are_not_what_they_should_be_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::create(temp.path()).unwrap();
    let descriptor = layout.put("x", b"content").unwrap();
    assert_eq!(layout.read(&descriptor, 7).unwrap(), b"content");
    let read = |limit| layout.read(&descriptor, limit).unwrap_err().to_string();
    assert!(read(6).contains("may have 6 at most"), "{}", read(6));
    for (content, problem) in [
        (&b"contenT"[..], "has the digest sha256:"),
        (b"conten", "has 6 bytes, expected 7"),
        (b"content!", "has 8 bytes, expected 7"),
    ] {
        fs::write(layout.blob_path(&descriptor.digest), content).unwrap();
        assert!(read(99).contains(problem), "{}", read(99));
        assert!(!layout.holds(&descriptor).unwrap());
    }
    // Written again, it is right again.
    layout.put("x", b"content").unwrap();
    assert!(layout.holds(&descriptor).unwrap());
    assert!(!layout.holds(&Descriptor::of("x", b"other")).unwrap());
}

#[test]
fn a_tar_is_read_as_the_directory_in_it() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("layout");
    let layout = Layout::create(&path).unwrap();
    let descriptor = image(&layout, "content");
    layout.tag("t", descriptor.clone()).unwrap();
    drop(layout);
    for prefix in ["", "./"] {
        let file = temp.path().join("x.tar");
        let mut tar = tar::Builder::new(fs::File::create(&file).unwrap());
        for name in ["oci-layout", "index.json", "blobs"] {
            let from = path.join(name);
            let to = Path::new(prefix).join(name);
            if from.is_dir() {
                tar.append_dir_all(to, from).unwrap();
            } else {
                tar.append_path_with_name(from, to).unwrap();
            }
        }
        tar.finish().unwrap();
        let layout = Layout::open(&file).unwrap();
        let manifest = layout.manifest(&layout.find(Some("t")).unwrap()).unwrap();
        let read = layout.read(&manifest.layers[0], MAX_MANIFEST).unwrap();
        assert_eq!(read, b"content");
        let missing = Descriptor::of("x", b"missing");
        assert!(layout.blob(&missing).unwrap_err().is_absence());
        assert!(!layout.holds(&missing).unwrap());
    }
}

#[test]
fn what_is_no_layout_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    fs::create_dir(path("other")).unwrap();
    fs::write(path("other/file"), "").unwrap();
    fs::create_dir(path("future")).unwrap();
    fs::write(path("future/oci-layout"), r#"{"imageLayoutVersion":"2"}"#).unwrap();
    fs::write(path("text"), "no tar at all").unwrap();
    for (name, problem) in [
        ("other", "other` is no image layout: cannot open `"),
        ("future", "its version is `2`, expected 1.0.0"),
        ("text", "neither a directory nor an uncompressed tar"),
    ] {
        let err = Layout::open(&path(name)).unwrap_err().to_string();
        assert!(err.contains(problem), "{err}");
    }
    let err = Layout::create(&path("other")).unwrap_err().to_string();
    assert!(err.contains("is no image layout, but not empty"), "{err}");
    assert!(Layout::create(&path("future")).is_err());
    assert_eq!(names(&path("other")), ["file"]);
}

#[test]
fn too_large_an_index_is_refused_before_it_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::create(temp.path()).unwrap();
    layout.tag("a", image(&layout, "x")).unwrap();
    let index = fs::OpenOptions::new()
        .write(true)
        .open(temp.path().join("index.json"));
    index.unwrap().set_len(MAX_MANIFEST + 1).unwrap();
    let err = layout.index().unwrap_err().to_string();
    assert!(err.ends_with("has more than 4194304 bytes"), "{err}");
    let nonsense = serde_json::to_vec(&Index::new(Vec::new())).unwrap();
    let no_manifest = layout.put(media_type::MANIFEST, &nonsense).unwrap();
    assert!(layout.manifest(&no_manifest).is_err());
}

//! Keys as real daemons made them, see `testdata/oci/README.md`.

use super::*;
use serde_json::Value;

struct Vectors(Vec<Value>);

impl Vectors {
    fn new() -> Self {
        let vectors = include_str!("../../../testdata/oci/key-vectors.json");
        Self(serde_json::from_str(vectors).unwrap())
    }

    /// Takes the only vector that is about this.
    fn take(&mut self, what: &str) -> Value {
        let of = |vector: &Value| vector["what"].as_str().unwrap().contains(what);
        let found = self.0.iter().position(of);
        self.0
            .remove(found.unwrap_or_else(|| panic!("none about {what}")))
    }
}

fn text(digest: Digest) -> Value {
    Value::String(digest.to_string())
}

const ALPHA: &str = "53e35d29ee4cdf993257141f30b95451cb722bf7c3762fbe7dc6f3bdd00d235b";
const BETA: &str = "1bb10742041579e4e14f5ebcb85899911fcaa0e84849fa35b9a3458b290b3635";

#[test]
fn everything_is_called_what_daemons_call_it() {
    let mut vectors = Vectors::new();
    downloads_and_operations(&mut vectors);
    images(&mut vectors);
    contents(&mut vectors);
    assert_eq!(vectors.0, [Value::Null; 0]);
}

fn downloads_and_operations(vectors: &mut Vectors) {
    for (name, checksum) in [("alpha.tar.gz", ALPHA), ("beta.tar.gz", BETA)] {
        let vector = vectors.take("http source with checksum");
        assert_eq!(
            text(http_source(name, &checksum.parse().unwrap())),
            vector["record"]
        );
    }
    for name in ["/alpha.tar.gz", "/beta.tar.gz"] {
        assert_eq!(text(selector(name)), vectors.take("selector")["selector"]);
    }
    let alpha = Add {
        file_name: "alpha.tar.gz",
        dest: "/fetches/",
        unpack: false,
    };
    let beta = Add {
        file_name: "beta.tar.gz",
        dest: "/fetches/beta/",
        unpack: true,
    };
    for (what, operation, base) in [
        ("base is scratch", &alpha, Base::Scratch),
        ("--link --unpack", &beta, Base::Scratch),
        ("on top of a previous state", &alpha, Base::State),
    ] {
        assert_eq!(text(add(operation, base)), vectors.take(what)["record"]);
    }
    for (what, generation) in [
        ("BuildKit >= 0.17", Generation::New),
        ("BuildKit < 0.17", Generation::Old),
    ] {
        assert_eq!(text(merge(generation)), vectors.take(what)["record"]);
    }
}

fn images(vectors: &mut Vectors) {
    let by_digest = vectors.take("FROM image, first key");
    let digest = "sha256:03ca8a1831cad0aec10e73a8c7709a29547e97bf1de22c2b054673dc5fb11ac8";
    let platform = Platform {
        architecture: "amd64".into(),
        os: "linux".into(),
        variant: None,
        os_version: None,
        ..Platform::default()
    };
    assert_eq!(
        text(image(&digest.parse().unwrap(), &platform)),
        by_digest["record"]
    );
    let by_layers = vectors.take("FROM image, second key");
    let layer: Digest = by_layers["key"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        image_layers(&[layer]).map(text).unwrap(),
        by_layers["record"]
    );
}

fn contents(vectors: &mut Vectors) {
    let file = vectors.take("COPY of one regular file");
    let hash = file_content(0o644, 13, &b"content of a\n"[..]).unwrap();
    assert_eq!(text(hash), file["file_hash"]);
    assert_eq!(text(content(&[hash])), file["record"]);
    let directory = vectors.take("COPY of a directory");
    let child = file_content(0o644, 13, &b"content of b\n"[..]).unwrap();
    let hash = directory_content(0o755, &[(b"b.txt", child)]);
    assert_eq!(text(hash), directory["dir_hash"]);
    assert_eq!(text(content(&[hash])), directory["record"]);
    // Its content is not among the samples, the hash of that is.
    let download = vectors.take("content key of the downloaded");
    let hash = download["file_hash"].as_str().unwrap().parse().unwrap();
    assert_eq!(text(content(&[hash])), download["record"]);
}

#[test]
fn dangerous_letters_are_escaped_as_go_does_it() {
    assert_eq!(
        go_json(&"<a>&\u{2028}\"\\é"),
        "\"\\u003ca\\u003e\\u0026\\u2028\\\"\\\\é\""
    );
}

#[test]
fn chains_depend_on_order() {
    let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
    assert_eq!(chain_id(&[]), None);
    assert_eq!(chain_id(&[one]), Some(one));
    assert_eq!(
        chain_id(&[one, two]),
        Some(Digest::of(format!("{one} {two}").as_bytes()))
    );
    assert_ne!(chain_id(&[one, two]), chain_id(&[two, one]));
}

#[test]
fn fetches_that_differ_in_anything_are_called_differently() {
    let fetch = Own {
        directory: "/fetches/",
        extract: true,
        name: "a.tar.gz",
        sha256: ALPHA.parse().unwrap(),
    };
    let others = [
        Own {
            directory: "/fetches/a/",
            ..fetch
        },
        Own {
            extract: false,
            ..fetch
        },
        Own {
            name: "b.tar.gz",
            ..fetch
        },
        Own {
            sha256: BETA.parse().unwrap(),
            ..fetch
        },
    ];
    for other in others {
        assert_ne!(own(&fetch), own(&other), "{other:?}");
    }
    let text = format!(
        r#"fetch-content.fetch.v0:{{"directory":"/fetches/","extract":true,"name":"a.tar.gz","sha256":"{ALPHA}"}}"#
    );
    let record = format!("{}@0", Digest::of(text.as_bytes()));
    assert_eq!(own(&fetch), Digest::of(record.as_bytes()));
}

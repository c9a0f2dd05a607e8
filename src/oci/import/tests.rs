#![expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]

use super::{Believed, Image, Imports, Sought};
use crate::{
    archive::{Limits, Placing},
    digest::Sha256Digest,
    fetch::{Context, Request, Shortcut, Wanted, placing_slots},
    fs::Staging,
    http::{Client, RetryPolicy, Settings},
    observe::{Event, Observer},
    oci::{
        Blobs, Digest, Layout, Platform, Tagged,
        cache::{self, Described, Fetched},
        image::{self, Added, Base},
        key::{self, Own},
        layer::{self, Origin, Packing},
        media_type::LayerFormat,
    },
    rel_path::RelPath,
    verify::Expected,
};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

const CONTENT: &[u8] = b"content";

fn sha256() -> Sha256Digest {
    Digest::of(CONTENT).0
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// Makes an image with a layer of `fetches/a.txt`, which is said to be there `said` times.
fn image(at: &Path, said: usize) -> Arc<dyn Blobs> {
    let layout = Layout::create(&at.join("layout")).unwrap();
    let tree = at.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("a.txt"), CONTENT).unwrap();
    let packing = Packing {
        directory: &path("fetches"),
        origin: Origin::Download,
        format: LayerFormat::Tar,
        go_on: &|| true,
    };
    let added = Added {
        layer: layer::pack(&tree, &layout, &packing).unwrap(),
        created_by: String::new(),
    };
    let own = Own {
        directory: "/fetches/",
        extract: false,
        name: "a.txt",
        sha256: sha256(),
    };
    // Each time on top of itself once more, so that no two are the same.
    let fetched = |count| Fetched {
        add: None,
        own: Some(key::own(&own)),
        layers: vec![0; count],
    };
    let described = Described {
        fetches: (1..=said).chain(1..=said).map(fetched).collect(),
        ..Described::default()
    };
    let records = cache::encode(&cache::records(&described));
    let platform = Platform {
        architecture: "amd64".into(),
        os: "linux".into(),
        variant: None,
        os_version: None,
        ..Platform::default()
    };
    let base = Base::scratch(&platform);
    let image = image::write(
        &layout,
        &base,
        &[added],
        Some(records),
        "2000-01-01T00:00:00Z",
    );
    layout.tag("latest", image.unwrap()).unwrap();
    Arc::new(Tagged {
        layout: Arc::new(layout),
        tag: None,
    })
}

async fn imports(image: Arc<dyn Blobs>) -> Imports {
    let warn = |text: String| panic!("{text}");
    Imports::open(vec![image], &[], path("fetches"), &warn).await
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn on_event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(match event {
            Event::Started { size, .. } => format!("started {size:?}"),
            Event::Finished(fetched) => format!("finished {}", fetched.bytes),
            other => format!("{other:?}"),
        });
    }
}

/// Takes a file for these places. Returns in how many it is, what was heard of it, and what is left of other things.
async fn taken(
    imports: &Imports,
    at: &Path,
    places: &[&str],
) -> (Option<usize>, Vec<String>, usize) {
    let context = Context {
        client: Client::new(Settings::default()).unwrap(),
        retry: RetryPolicy::default(),
        placing_slots: placing_slots(),
        limits: Limits::default(),
        staging: Arc::new(Staging::inside(at).unwrap()),
        start: Instant::now(),
    };
    let expected = Expected {
        sha256: Some(sha256()),
        ..Expected::default()
    };
    let heard = Heard::default();
    let request = Request {
        name: "a".into(),
        sources: Vec::new(),
        expected: expected.known(),
        signed: None,
        placings: vec![Placing::Keep; places.len()],
        file_name: "a.txt".into(),
    };
    let places: Vec<RelPath> = places.iter().map(|place| path(place)).collect();
    let wanted = Wanted {
        request: &request,
        places: &places,
        tree: None,
        observer: &heard,
    };
    let staged = imports.take(wanted, &context).await;
    let staging = context.staging.fresh().unwrap();
    let left = fs::read_dir(staging.parent().unwrap()).unwrap().count();
    let staged = staged.map(|staged| staged.len());
    let heard = heard.0.lock().unwrap().clone();
    (staged, heard, left - 1)
}

#[tokio::test]
async fn what_is_found_for_all_places_is_told_once() {
    let temp = tempfile::tempdir().unwrap();
    let imports = imports(image(temp.path(), 1)).await;
    let (staged, heard, left) = taken(&imports, temp.path(), &["", ""]).await;
    assert_eq!((staged, left), (Some(2), 2));
    let [started, finished] = &heard[..] else {
        panic!("{heard:?}");
    };
    let bytes = finished.strip_prefix("finished ").unwrap();
    assert_eq!(*started, format!("started Some({bytes})"));
}

#[tokio::test]
async fn a_file_of_one_place_is_for_all_places_and_leaves_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let imports = imports(image(temp.path(), 1)).await;
    let (staged, heard, left) = taken(&imports, temp.path(), &["", "elsewhere"]).await;
    assert_eq!((staged, left), (Some(2), 2));
    assert_eq!(heard.len(), 2, "{heard:?}");
}

#[tokio::test]
async fn what_is_not_found_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let imports = imports(image(temp.path(), 1)).await;
    let taken = taken(&imports, temp.path(), &["elsewhere", "nowhere"]).await;
    assert_eq!(taken, (None, Vec::new(), 0));
}

#[tokio::test]
async fn few_results_are_tried_and_none_of_them_twice() {
    for (said, tried) in [(1, 1), (7, 7), (8, 8), (20, 8)] {
        let temp = tempfile::tempdir().unwrap();
        let imports = imports(image(temp.path(), said)).await;
        let image: &Image = &imports.images[0];
        let sought = Sought {
            name: "a.txt".into(),
            sha256: sha256(),
            directory: path("fetches"),
            extract: false,
            believed: Believed::File,
        };
        assert_eq!(image.results(&sought).count(), tried);
    }
}

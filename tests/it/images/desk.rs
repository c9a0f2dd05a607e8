//! Images and task graphs: what `kind run`, `inputs` and `image import` take out of layers where upstreams have nothing any
//! more, and what `image export` makes of the fetches of a task.

use super::import::replace_layer;
use super::*;
use crate::desk::{Upstream, run, serve_well, write_graph};
use crate::support::archives::Member;
use crate::support::server::Server;
use crate::support::serving::Serving;
use crate::support::tree::Tree;

/// An archive and a file that is none.
fn upstreams() -> Vec<Upstream> {
    let archive = tar_of(&[
        dir("one/"),
        file("one/run", "#!/bin/sh\n").mode(0o755),
        file("one/secret", "s").mode(0o600),
        symlink("one/link", "run"),
        file("one/data", noise(40_000, 1)),
    ]);
    vec![
        ("one".to_owned(), "one.tar.gz".to_owned(), gz(&archive)),
        ("two".to_owned(), "two.bin".to_owned(), noise(30_000, 2)),
    ]
}

/// Makes an image of the upstreams, each in the place where the toolchain wants it. Returns its digest.
fn image_of(sandbox: &Sandbox, upstreams: &[Upstream], extract: bool) -> String {
    let entries = upstreams.iter().zip(["", "second"]);
    let entries = entries.map(|((_, name, content), dest)| {
        let artifact = format!("public/{name}");
        sandbox.write(&format!("old/task/{TASK_A}/artifacts/{artifact}"), content);
        json!({"task": TASK_A, "artifact": artifact, "extract": extract, "dest": dest})
    });
    let entries: Vec<Value> = entries.collect();
    sandbox.write("fetches.json", json!(entries).to_string());
    let words = [
        "image",
        "export",
        "--fetches",
        "fetches.json",
        "--store",
        "old",
        "--output",
        "image",
    ];
    printed(sandbox.binary().args(words)).trim().to_owned()
}

/// A sandbox with a graph whose upstreams a server has, or had.
fn graph(upstreams: &[Upstream]) -> (Sandbox, Server) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    write_graph(&sandbox, &server.root(), upstreams);
    (sandbox, server)
}

const KIND_RUN: [&str; 6] = ["kind", "run", "one", "two", "--attempts", "1"];

/// What a store has, without the times.
fn listed(sandbox: &Sandbox, store: &str) -> Vec<String> {
    let listed = printed(run(sandbox, &["store", "ls", "--store", store]));
    let lines = listed.lines().map(|line| {
        let columns: Vec<&str> = line.split('\t').take(4).collect();
        columns.join(" ")
    });
    lines
        .filter(|line| !line.contains("chain-of-trust"))
        .collect()
}

#[test]
fn fetch_tasks_are_performed_with_files_out_of_an_image() {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    // One is packed anew, for which its file is enough.
    let kind = String::from_utf8(sandbox.read("taskcluster/kinds/fetch/kind.yml")).expect("text");
    let repacked =
        "      artifact-name: uno.tar.zst\n      strip-components: 1\n      add-prefix: uno/\n";
    let kind = kind.replacen("  two:\n", &format!("{repacked}  two:\n"), 1);
    sandbox.write("taskcluster/kinds/fetch/kind.yml", &kind);
    serve_well(&server, &upstreams);
    success(run(&sandbox, &KIND_RUN).args(["--store", "expected"]));
    let asked = server.requests().len();

    image_of(&sandbox, &upstreams[..1], false);
    let words = ["--store", "store", "--cache-from", "image"];
    let outcome = success(run(&sandbox, &KIND_RUN).args(words));
    outcome.expect_stderr(&["[fetch-one] start `image`", "fetched 2 of 2"]);
    assert_eq!(server.paths()[asked..], ["/two.bin"]);
    assert_eq!(listed(&sandbox, "store"), listed(&sandbox, "expected"));
    assert_eq!(listed(&sandbox, "store").len(), 2);
}

#[test]
fn a_file_that_was_to_be_unpacked_is_proven_as_well() {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    let digest = image_of(&sandbox, &upstreams, true);
    let mut list: Value = serde_json::from_slice(&sandbox.read("fetches.json")).expect("JSON");
    // The archive cannot be made again of what it was unpacked to, whoever is trusted.
    let words = [
        "--store",
        "store",
        "--cache-from",
        "image",
        "--trust-cache",
        &digest,
    ];
    let directory = ["--cache-directory", "/fetches/second"];
    run(&sandbox, &KIND_RUN)
        .args(words)
        .args(directory)
        .run()
        .expect_code(3)
        .expect_stderr(&[
            "warning: --trust-cache has no effect",
            "fetch-two: task",
            "cannot fetch fetch-one",
        ]);
    assert_eq!(server.paths(), ["/one.tar.gz"]);
    // The same for those who list entries, which extract what they can unless told otherwise.
    list[1]["sha256"] = sha256_hex(&upstreams[1].2).into();
    sandbox.write("fetches.json", json!([list[1]]).to_string());
    let words = [
        "task-artifacts",
        "--fetches",
        "fetches.json",
        "--dest",
        "dest",
    ];
    let fetch = sandbox.binary().args(words).args(["--cache-from", "image"]);
    success(fetch.env("TASKCLUSTER_ROOT_URL", server.root()));
    assert_eq!(sandbox.read("dest/second/two.bin"), upstreams[1].2);
    assert_eq!(server.requests().len(), 1);
}

/// Layers in the place of that with the first file: what is in them, and how they are warned of.
fn hostile() -> Vec<(Vec<Member>, &'static str)> {
    vec![
        (vec![file("../outside/new", "x")], "`..` component"),
        (
            vec![symlink("fetches", "../outside"), file("fetches/new", "x")],
            "leads out of the tree",
        ),
        (
            vec![symlink("fetches", "../outside")],
            "is not taken from `image`",
        ),
        (vec![file("../outside/.wh.kept", "")], "`..` component"),
        (
            vec![file("fetches/one.tar.gz", "other")],
            "has the digest sha256:",
        ),
        (
            vec![symlink("fetches/one.tar.gz", "../../outside/kept")],
            "is no file",
        ),
        (vec![dir("fetches/one.tar.gz/")], "is no file"),
    ]
}

#[test]
fn fetch_tasks_do_without_a_bad_image_and_write_nothing_outside() {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    serve_well(&server, &upstreams);
    image_of(&sandbox, &upstreams, false);
    sandbox.write("outside/kept", "kept");
    for (number, (members, warning)) in hostile().into_iter().enumerate() {
        replace_layer(&sandbox, 0, &members);
        let store = format!("store{number}");
        let words = ["--store", &store, "--cache-from", "image"];
        let outcome = success(run(&sandbox, &KIND_RUN).args(words));
        outcome.expect_stderr(&["warning: ", warning, "fetched 2 of 2"]);
        assert_eq!(Tree::of(sandbox.path("outside")).paths(), ["kept"]);
        success(run(&sandbox, &["store", "verify", "--store", &store]));
    }
    let asked = server
        .paths()
        .iter()
        .filter(|path| *path == "/one.tar.gz")
        .count();
    assert_eq!(asked, hostile().len());
}

const INPUTS: [&str; 6] = [
    "inputs",
    "all",
    "--kinds",
    "taskcluster/kinds",
    "--attempts",
    "1",
];

/// Makes the inputs with an image; nobody else has them.
fn inputs<'a>(sandbox: &'a Sandbox, store: &str, words: &[&str]) -> Invocation<'a> {
    let dest = format!("in-{store}");
    let inputs = run(sandbox, &INPUTS).args(["--store", store, "--dest", &dest]);
    inputs.args(["--cache-from", "image"]).args(words)
}

/// A sandbox with inputs that were made once, with a lock, into `expected`, and whose upstreams are gone.
fn dead(extract: bool) -> (Sandbox, Server, String) {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    serve_well(&server, &upstreams);
    let words = ["--store", "known", "--dest", "expected", "--lock", "lock"];
    success(run(&sandbox, &INPUTS).args(words));
    let digest = image_of(&sandbox, &upstreams, extract);
    (sandbox, Server::start(), digest)
}

fn made(sandbox: &Sandbox, directory: &str) -> Tree {
    let loose = ["second/two.bin".to_owned()];
    Tree::of(sandbox.path(directory))
        .without_directory_mtimes()
        .without_mtimes_of(&loose)
}

/// Says that upstreams are at a server that has none of them.
fn move_graph(sandbox: &Sandbox, server: &Server) {
    write_graph(sandbox, &server.root(), &upstreams());
}

#[test]
fn inputs_come_out_of_an_image() {
    let (sandbox, server, _) = dead(false);
    move_graph(&sandbox, &server);
    // The image has the archive as a file, which proves itself, and is unpacked here.
    success(inputs(&sandbox, "files", &[])).expect_stderr(&["start `image`", "fetched 2 of 2"]);
    made(&sandbox, "expected").assert_same(&made(&sandbox, "in-files"), "files of an image");
    // They are in the store: nobody is asked again.
    let again = run(&sandbox, &INPUTS).args(["--store", "files", "--dest", "again"]);
    success(again).expect_stderr(&["fetched 0 of 2"]);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn trees_come_out_of_a_trusted_image_and_not_into_the_store() {
    let (sandbox, server, digest) = dead(true);
    move_graph(&sandbox, &server);
    let trusted = ["--trust-cache", &digest];
    success(inputs(&sandbox, "trees", &trusted)).expect_stderr(&["fetched 2 of 2"]);
    made(&sandbox, "expected").assert_same(&made(&sandbox, "in-trees"), "trees of an image");
    assert_eq!(server.requests().len(), 0);
    let stored = listed(&sandbox, "trees");
    assert!(
        stored.len() == 1 && stored[0].contains("two.bin"),
        "{stored:?}"
    );
    // Who does not trust the image gets nothing of it that the other got.
    let outcome = inputs(&sandbox, "trees", &[]).run().expect_code(3);
    outcome.expect_stderr(&["cannot fetch public/one.tar.gz of fetch-one"]);
    // What becomes a lock is made from what was verified.
    let outcome = inputs(&sandbox, "trees", &trusted)
        .args(["--lock", "new"])
        .run();
    outcome.expect_code(3).expect_stderr(&[
        "warning: --trust-cache has no effect with --lock",
        "cannot fetch public/one.tar.gz of fetch-one",
    ]);
    assert!(!sandbox.path("new").exists());
}

#[test]
fn a_lock_is_held_by_what_comes_out_of_an_image() {
    let (sandbox, server, digest) = dead(true);
    move_graph(&sandbox, &server);
    let words = ["--trust-cache", &digest, "--locked", "lock"];
    success(inputs(&sandbox, "trees", &words)).expect_stderr(&["fetched 2 of 2"]);
    let lock = String::from_utf8(sandbox.read("lock")).expect("text");
    let sha256 = sha256_hex(&upstreams()[0].2);
    sandbox.write("other", lock.replace(&sha256, &sha256_hex(b"other")));
    let words = ["--trust-cache", &digest, "--locked", "other"];
    inputs(&sandbox, "others", &words)
        .run()
        .expect_one_of(&[2, 3]);
    assert!(!sandbox.path("in-others/one").exists());
}

#[test]
fn a_lock_of_what_is_defined_otherwise_now_is_not_held() {
    let (sandbox, _, digest) = dead(true);
    let server = Server::start();
    let mut changed = upstreams();
    changed[0].2 = gz(&tar_of(&[file("one/run", "other")]));
    serve_well(&server, &changed);
    write_graph(&sandbox, &server.root(), &changed);
    // The image has what the lock has, and nobody wants that any more.
    let words = ["--locked", "lock", "--trust-cache", &digest];
    let outcome = inputs(&sandbox, "changed", &words).run().expect_code(2);
    outcome.expect_stderr(&["the inputs are not those of lock: fetch-one is "]);
    assert!(!sandbox.path("in-changed").exists());
}

#[test]
fn locks_of_a_deployment_s_artifacts_know_trees_too() {
    let (sandbox, server, _) = dead(true);
    move_graph(&sandbox, &server);
    let (mut lock, one) = read_lock(&sandbox);
    lock["inputs"][one]["task"] = TASK_B.into();
    sandbox.write("lock", lock.to_string());
    success(inputs(&sandbox, "trees", &["--locked", "lock"])).expect_stderr(&["fetched 2 of 2"]);
    made(&sandbox, "expected").assert_same(&made(&sandbox, "in-trees"), "trees of an image");
}

#[test]
fn inputs_of_a_task_come_out_of_an_image() {
    let (sandbox, _, digest) = dead(true);
    let list = pinned(&sandbox).to_string();
    let deployment = Serving::writing(sandbox.path("ci"));
    let definition = json!({
        "created": "2026-01-02T03:04:05.000Z", "expires": "3000-01-02T03:04:05.000Z",
        "payload": {"env": {"MOZ_FETCHES": list}},
    });
    let path = format!("/api/queue/v1/task/{TASK_B}");
    deployment.send("PUT", &path, &definition).expect(200);
    let words = [
        "inputs",
        "--task-id",
        TASK_B,
        "--store",
        "store",
        "--dest",
        "made",
    ];
    let run = |words: &[&str], more: &[&str]| {
        let run = run(&sandbox, words).args(["--attempts", "1"]).args(more);
        run.env("TASKCLUSTER_ROOT_URL", deployment.root())
    };
    // The deployment has the list, and nothing that is in it.
    run(&words, &[]).run().expect_code(3);
    let image = ["--cache-from", "image", "--trust-cache", &digest];
    success(run(&words, &image)).expect_stderr(&["fetched 2 of 2"]);
    made(&sandbox, "expected").assert_same(&made(&sandbox, "made"), "inputs of a task");
    assert_eq!(listed(&sandbox, "store").len(), 1);
    assert!(listed(&sandbox, "store")[0].starts_with(&format!("{TASK_A} public/two.bin")));
}

#[test]
fn inputs_do_without_a_bad_image_and_write_nothing_outside() {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    serve_well(&server, &upstreams);
    image_of(&sandbox, &upstreams, true);
    sandbox.write("outside/kept", "kept");
    let hostile = hostile()
        .into_iter()
        .filter(|(_, warning)| !warning.contains("is no file"));
    for (number, (members, warning)) in hostile.enumerate() {
        let digest = replace_layer(&sandbox, 0, &members);
        let store = format!("store{number}");
        let outcome = success(inputs(&sandbox, &store, &["--trust-cache", &digest]));
        // Believing an image is believing what it has unpacked, but not where.
        if warning != "has the digest sha256:" {
            outcome.expect_stderr(&["warning: ", warning]);
            assert_eq!(sandbox.read(&format!("in-{store}/one/run")), b"#!/bin/sh\n");
        }
        assert_eq!(Tree::of(sandbox.path("outside")).paths(), ["kept"]);
    }
}

/// The lock, and what it has for the archive.
fn read_lock(sandbox: &Sandbox) -> (Value, usize) {
    let lock: Value = serde_json::from_slice(&sandbox.read("lock")).expect("JSON");
    let inputs = lock["inputs"].as_array().expect("inputs");
    let one = inputs
        .iter()
        .position(|input| input["label"] == "fetch-one");
    let one = one.expect("the archive");
    (lock, one)
}

#[test]
fn trees_that_a_lock_knows_need_no_trust() {
    let (sandbox, server, _) = dead(true);
    move_graph(&sandbox, &server);
    let (lock, one) = read_lock(&sandbox);
    assert_eq!(lock["inputs"][one]["tree"].as_str().map(str::len), Some(64));
    let locked = ["--locked", "lock"];
    success(inputs(&sandbox, "trees", &locked)).expect_stderr(&["fetched 2 of 2"]);
    made(&sandbox, "expected").assert_same(&made(&sandbox, "in-trees"), "trees of an image");
    // The same content is the same lock, wherever it is unpacked.
    let upstream = Server::start();
    serve_well(&upstream, &upstreams());
    move_graph(&sandbox, &upstream);
    let words = ["--store", "else", "--dest", "in-else", "--lock", "again"];
    success(run(&sandbox, &INPUTS).args(words));
    assert_eq!(sandbox.read("again"), sandbox.read("lock"));
    // Older locks do not know it: nothing is taken then, and nothing is wrong.
    let mut old = lock.clone();
    for input in old["inputs"].as_array_mut().expect("inputs") {
        input.as_object_mut().expect("an input").remove("tree");
    }
    sandbox.write("old-lock", old.to_string());
    let asked = upstream.requests().len();
    success(inputs(&sandbox, "old", &["--locked", "old-lock"]));
    assert_eq!(upstream.paths()[asked..], ["/one.tar.gz"]);
}

/// What the archive unpacks to, in its layer.
fn layer_of_one(change: impl Fn(&mut Vec<Member>)) -> Vec<Member> {
    let mut members = vec![
        dir("fetches/"),
        dir("fetches/one/"),
        file("fetches/one/run", "#!/bin/sh\n").mode(0o755),
        file("fetches/one/secret", "s").mode(0o600),
        symlink("fetches/one/link", "run"),
        file("fetches/one/data", noise(40_000, 1)),
    ];
    change(&mut members);
    members
}

type Change = fn(&mut Vec<Member>);

#[test]
fn trees_that_are_not_those_of_the_lock_are_a_warning_and_a_miss() {
    let (sandbox, _, _) = dead(true);
    let server = Server::start();
    serve_well(&server, &upstreams());
    move_graph(&sandbox, &server);
    let cases: [(Change, bool); 8] = [
        (|_| {}, true),
        // Layers do not make what anybody can write to.
        (
            |members| members[2] = file("fetches/one/run", "#!/bin/sh\n").mode(0o777),
            true,
        ),
        (
            |members| members[2] = file("fetches/one/run", "#!/bin/sh\r").mode(0o755),
            false,
        ),
        (
            |members| members[2] = file("fetches/one/run", "#!/bin/sh\n").mode(0o644),
            false,
        ),
        (
            |members| members[3] = file("fetches/one/secret", "s").mode(0o644),
            false,
        ),
        (
            |members| members[4] = symlink("fetches/one/link", "data"),
            false,
        ),
        (|members| members.push(file("fetches/one/more", "")), false),
        (|members| members.truncate(5), false),
    ];
    for (number, (change, fits)) in cases.into_iter().enumerate() {
        let digest = replace_layer(&sandbox, 0, &layer_of_one(change));
        let asked = server.requests().len();
        // Trust does not outweigh what is known.
        let words = ["--locked", "lock", "--trust-cache", &digest];
        let store = format!("store{number}");
        let outcome = success(inputs(&sandbox, &store, &words));
        assert_eq!(
            server.requests().len() == asked,
            fits,
            "{number}: {outcome:?}"
        );
        if !fits {
            outcome.expect_stderr(&[
                "one.tar.gz is not taken from `image`: what one.tar.gz unpacks to",
                "has the tree hash ",
            ]);
        }
        let made = made(&sandbox, &format!("in-{store}")).without_mtimes();
        self::made(&sandbox, "expected")
            .without_mtimes()
            .assert_same(&made, &store);
    }
}

#[test]
fn an_archive_that_a_layer_has_as_it_is_is_unpacked() {
    let (sandbox, server, _) = dead(true);
    move_graph(&sandbox, &server);
    let (_, name, archive) = &upstreams()[0];
    let members = [dir("fetches/"), file(format!("fetches/{name}"), archive)];
    let digest = replace_layer(&sandbox, 0, &members);
    for (store, words) in [
        ("locked", ["--locked", "lock"]),
        ("trusted", ["--trust-cache", &digest]),
    ] {
        success(inputs(&sandbox, store, &words)).expect_stderr(&["fetched 2 of 2"]);
        let made = made(&sandbox, &format!("in-{store}"));
        self::made(&sandbox, "expected").assert_same(&made, store);
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_lock_does_not_vouch_for_what_has_been_lying_in_the_store() {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    serve_well(&server, &upstreams);
    let inputs = |words: [&str; 6]| success(run(&sandbox, &INPUTS).args(words));
    inputs(["--store", "new", "--dest", "new-inputs", "--lock", "lock"]);
    success(run(&sandbox, &INPUTS).args(["--store", "old", "--dest", "old-inputs"]));
    let find = ["-c", "find old -name secret"];
    let kept = printed(sandbox.program("sh").args(find));
    let kept = sandbox.path(kept.trim());
    let time = std::fs::metadata(&kept)
        .and_then(|kept| kept.modified())
        .expect("a time");
    std::fs::write(&kept, "x").expect("a writable file");
    let file = std::fs::File::options().write(true).open(&kept);
    file.and_then(|file| file.set_modified(time))
        .expect("its time as before");
    inputs(["--store", "old", "--dest", "locked", "--lock", "again"]);
    assert_eq!(sandbox.read("again"), sandbox.read("lock"));
    assert_eq!(sandbox.read("locked/one/secret"), b"s");
}

fn import<'a>(sandbox: &'a Sandbox, server: &Server, words: &[&str]) -> Invocation<'a> {
    let import = sandbox
        .binary()
        .args(["image", "import", "--dest", "imported"]);
    let import = import
        .args(words)
        .env("TASKCLUSTER_ROOT_URL", server.root());
    import.env("HOME", sandbox.path("home").to_str().expect("a path"))
}

/// The list with the digests of everything.
fn pinned(sandbox: &Sandbox) -> Value {
    let mut list: Value = serde_json::from_slice(&sandbox.read("fetches.json")).expect("JSON");
    let entries = list.as_array_mut().expect("a list").iter_mut();
    for (entry, (.., content)) in entries.zip(upstreams()) {
        entry["sha256"] = sha256_hex(&content).into();
    }
    list
}

#[test]
fn fetches_are_imported_by_lock_list_or_graph_and_nobody_is_asked() {
    let (sandbox, server, digest) = dead(true);
    move_graph(&sandbox, &server);
    let list = pinned(&sandbox);
    sandbox.write("pinned.json", list.to_string());
    let graph = [
        "all",
        "--kinds",
        "taskcluster/kinds",
        "--cache-from",
        "image",
    ];
    let cases: [&[&str]; 4] = [
        &["--locked", "lock", "--cache-from", "image"],
        &[
            "--fetches",
            "pinned.json",
            "--cache-from",
            "image",
            "--trust-cache",
            &digest,
        ],
        &[&graph[..], &["--trust-cache", &digest]].concat(),
        &[&graph[..], &["--locked", "lock"]].concat(),
    ];
    for words in cases {
        success(import(&sandbox, &server, words)).expect_stderr(&["fetched 2 of 2"]);
        made(&sandbox, "expected").assert_same(&made(&sandbox, "imported"), &words.join(" "));
        std::fs::remove_dir_all(sandbox.path("imported")).expect("remove what was imported");
    }
    assert_eq!(server.requests().len(), 0);
    assert!(!sandbox.path("home").exists(), "no store is needed");
}

#[test]
fn what_no_image_has_is_named_and_nothing_is_put_anywhere() {
    let (sandbox, server, _) = dead(true);
    serve_well(&server, &upstreams());
    move_graph(&sandbox, &server);
    let outcome = import(
        &sandbox,
        &server,
        &["all", "--root", ".", "--cache-from", "image"],
    )
    .run();
    outcome.expect_code(3).expect_stderr(&[
        "error: 1 of 2 fetches are in none of the images: public/one.tar.gz of fetch-one\n",
        "hint: --cache-directory must be",
    ]);
    let elsewhere = [
        "--locked",
        "lock",
        "--cache-from",
        "image",
        "--cache-directory",
        "/other",
    ];
    let outcome = import(&sandbox, &server, &elsewhere).run().expect_code(3);
    outcome.expect_stderr(&["2 of 2 fetches are in none of the images: public/one.tar.gz of fetch-one, public/two.bin of fetch-two\n"]);
    let nowhere = ["--locked", "lock", "--cache-from", "nowhere"];
    let outcome = import(&sandbox, &server, &nowhere).run().expect_code(3);
    outcome.expect_stderr(&[
        "warning: no cache is used: cannot open `nowhere`",
        "2 of 2 fetches",
    ]);
    for (number, (members, warning)) in hostile().into_iter().enumerate() {
        replace_layer(&sandbox, 0, &members);
        let bad = import(
            &sandbox,
            &server,
            &["--locked", "lock", "--cache-from", "image"],
        )
        .run();
        let bad = bad.expect_code(3);
        let bad = bad.expect_stderr(&[
            "warning: one.tar.gz is not taken from `image`",
            "1 of 2 fetches",
        ]);
        if number < 4 {
            bad.expect_stderr(&[warning]);
        }
    }
    assert!(!sandbox.path("imported").exists());
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn what_cannot_be_looked_for_is_found_before_an_image_is() {
    let (sandbox, server, _) = dead(true);
    let unpinned = ["--fetches", "fetches.json", "--cache-from", "nowhere"];
    let outcome = import(&sandbox, &server, &unpinned).run().expect_code(2);
    outcome
        .expect_stderr(&[
            &format!(
                "the SHA-256 is not known of public/one.tar.gz of task {TASK_A}, public/two.bin"
            ),
            "hint: pin it with `sha256` in the list",
        ])
        .expect_not_in_stderr(&["nowhere"]);
    import(&sandbox, &server, &["--locked", "lock"])
        .run()
        .expect_code(2)
        .expect_stderr(&["--cache-from"]);
    import(
        &sandbox,
        &server,
        &["--locked", "fetches.json", "--cache-from", "image"],
    )
    .run()
    .expect_code(2)
    .expect_stderr(&["fetches.json is no lock file"]);
}

#[test]
fn the_fetches_of_a_task_become_an_image() {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    serve_well(&server, &upstreams[..1]);
    sandbox.write("dist/two.bin", &upstreams[1].2);
    let words = [
        "image",
        "export",
        "all",
        "--kinds",
        "taskcluster/kinds",
        "--store",
        "store",
        "--dockerfile",
    ];
    let export =
        |output: &str| run(&sandbox, &words).args(["--distdir", "dist", "--output", output]);
    let first = printed(export("of-task"));
    // It is the same image as that of a list with the same artifacts.
    let digest = image_of(&sandbox, &upstreams, true);
    let (one, two) = (sha256_hex(&upstreams[0].2), sha256_hex(&upstreams[1].2));
    let root = server.root();
    let lines = [
        format!("# image {digest}"),
        format!("ADD --link --unpack --checksum=sha256:{one} {root}/one.tar.gz /fetches/"),
        format!("ADD --link --unpack --checksum=sha256:{two} {root}/two.bin /fetches/second/"),
    ];
    assert_eq!(first.lines().collect::<Vec<_>>(), lines);
    assert_eq!(server.paths(), ["/one.tar.gz"]);
    // A second time nobody is asked: the store has it all.
    assert_eq!(printed(export("again.tar")), first);
    assert_eq!(server.requests().len(), 1);
    export("x")
        .args(["--fetches", "fetches.json"])
        .run()
        .expect_code(2);
    let unknown = ["image", "export", "nothing", "--root", ".", "--output", "x"];
    let unknown = run(&sandbox, &unknown).run().expect_code(2);
    unknown.expect_stderr(&["there is no task `nothing`"]);
    assert!(!sandbox.path("x").exists());
}

//! `kind run` and `inputs`: fetch tasks performed here, and the directories that their artifacts fill.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::archives::{dir, file, gz, noise, sha256_hex, tar_of, xz};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, TASK_B, vouching_for};
use crate::support::server::{Reply, Server};
use crate::support::serving::Serving;
use crate::support::tree::{Kind, Tree};

/// An upstream of a graph: the name of the task, the file, its content.
pub(crate) type Upstream = (String, String, Vec<u8>);

/// Writes a graph with these upstreams, of which a toolchain `all` wants the first two.
pub(crate) fn write_graph(sandbox: &Sandbox, server: &str, upstreams: &[Upstream]) {
    let mut kind = String::from(
        "loader: taskgraph.loader.transform:loader\ntransforms: [taskgraph.transforms.fetch, \
         taskgraph.transforms.run, taskgraph.transforms.task]\ntasks:\n",
    );
    for (name, file, content) in upstreams {
        let (sha256, size) = (sha256_hex(content), content.len());
        let _ = write!(
            kind,
            "  {name}:\n    description: {name}\n    fetch:\n      type: static-url\n      url: {server}/{file}\n      \
             sha256: {sha256}\n      size: {size}\n"
        );
    }
    let (one, two) = (&upstreams[0].0, &upstreams[1].0);
    let toolchain = format!(
        "loader: taskgraph.loader.transform:loader\nkind-dependencies: [fetch]\ntransforms: [taskgraph.transforms.run, \
         taskgraph.transforms.cached_tasks, taskgraph.transforms.task]\ntasks:\n  all:\n    description: all\n    \
         worker-type: b-linux\n    worker: {{docker-image: {{in-tree: x}}, max-run-time: 1}}\n    run: {{using: \
         toolchain-script, script: all.sh, toolchain-artifact: public/build/all.tar.xz}}\n    fetches:\n      fetch: \
         [{one}, {{artifact: {two}, dest: second}}]\n"
    );
    sandbox.write(
        "taskcluster/config.yml",
        "trust-domain: acme\ntaskgraph: {}\n",
    );
    sandbox.write("taskcluster/kinds/fetch/kind.yml", kind);
    sandbox.write("taskcluster/kinds/toolchain/kind.yml", toolchain);
    sandbox.write("taskcluster/scripts/toolchain/all.sh", "true\n");
}

pub(crate) fn run<'a>(sandbox: &'a Sandbox, words: &[&str]) -> Invocation<'a> {
    sandbox
        .binary()
        .args(words)
        .env("HOME", sandbox.path("home").to_str().expect("a path"))
}

fn success(invocation: Invocation) -> Outcome {
    invocation.run().expect_code(0)
}

fn archive(seed: u64) -> Vec<u8> {
    tar_of(&[
        dir("tool/"),
        file("tool/run", "#!/bin/sh\n").mode(0o755),
        file("tool/data", noise(40_000, seed)),
    ])
}

/// Two archives.
fn two() -> Vec<Upstream> {
    vec![
        ("one".to_owned(), "one.tar.gz".to_owned(), gz(&archive(1))),
        ("two".to_owned(), "two.tar.xz".to_owned(), xz(&archive(2))),
    ]
}

/// Serves each upstream without any trouble.
pub(crate) fn serve_well(server: &Server, upstreams: &[Upstream]) {
    for (_, file, content) in upstreams {
        server.serve(&format!("/{file}"), Reply::ok(content));
    }
}

fn twenty() -> Vec<Upstream> {
    let upstream = |n: u64| {
        let content = noise(30_000 + usize::try_from(n).expect("small"), n);
        (format!("up{n}"), format!("up{n}.bin"), content)
    };
    (0..20).map(upstream).collect()
}

/// Serves each upstream with its own kind of trouble.
fn serve_badly(server: &Server, upstreams: &[Upstream]) {
    for (number, (_, file, content)) in upstreams.iter().enumerate() {
        let good = Reply::ranged(content, "\"v1\"");
        let trouble = match number % 6 {
            0 => good.clone().cut_after(content.len() / 3),
            1 => Reply::status(503),
            2 => good.clone().reset_after(content.len() / 2),
            3 => Reply::reset_before_response(),
            4 => Reply::ok(noise(content.len(), 999)),
            _ => Reply::redirect(302, server.url(&format!("/{file}?again"))),
        };
        server.serve_in_turn(&format!("/{file}"), [trouble, good.clone()]);
        server.serve(&format!("/{file}?again"), good);
    }
}

#[test]
fn all_tasks_are_performed_whatever_servers_do_and_the_second_time_none() {
    let (sandbox, server, upstreams) = (Sandbox::new(), Server::start(), twenty());
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_badly(&server, &upstreams);
    success(run(&sandbox, &["kind", "run", "--all", "--store", "store"])).expect_stderr(&[
        "fetch-up7: task",
        "made it: public/up7.bin",
        "fetched 20 of 20",
    ]);
    let asked = server.requests().len();
    success(run(&sandbox, &["kind", "run", "--all", "--store", "store"])).expect_stderr(&[
        "fetch-up7: task",
        "has it already",
        "fetched 0 of 20",
    ]);
    assert_eq!(server.requests().len(), asked);
    let listed = run(&sandbox, &["store", "--store", "store", "ls"]).run();
    for (_, file, content) in &upstreams {
        let line = format!("public/{file}\t{}\t{}", content.len(), sha256_hex(content));
        assert!(listed.stdout.contains(&line), "{line} in {listed:?}");
    }
    success(run(&sandbox, &["store", "--store", "store", "verify"]));
}

#[test]
fn a_task_that_fails_stops_the_others_only_if_asked_to() {
    let (sandbox, server, upstreams) = (Sandbox::new(), Server::start(), twenty());
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_well(&server, &upstreams);
    server.serve("/up3.bin", Reply::status(404));
    let outcome = run(&sandbox, &["kind", "run", "--all", "--store", "store"]).run();
    outcome.expect_code(3).expect_stderr(&[
        "cannot fetch fetch-up3",
        "404",
        "1 of 20 tasks failed",
    ]);
    let again = run(
        &sandbox,
        &["kind", "run", "--all", "--fail-fast", "--store", "store"],
    )
    .run();
    again
        .expect_code(3)
        .expect_stderr(&["cannot fetch fetch-up3"])
        .expect_not_in_stderr(&["tasks failed"]);
    server.serve("/up3.bin", Reply::ok(&upstreams[3].2));
    success(run(&sandbox, &["kind", "run", "up3", "--store", "store"]))
        .expect_stderr(&["fetched 1 of 1"]);
}

#[test]
fn what_was_made_before_a_kill_stays_and_the_rest_is_made_then() {
    let (sandbox, server, upstreams) = (Sandbox::new(), Server::start(), twenty());
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_well(&server, &upstreams);
    let (_, last, content) = &upstreams[19];
    server.serve(
        &format!("/{last}"),
        Reply::ok(content).stall_after(content.len() / 2),
    );
    let words = ["kind", "run", "--all", "--store", "store"];
    let names: Vec<_> = upstreams[..19].iter().map(|(name, ..)| name).collect();
    success(run(&sandbox, &["kind", "run", "--store", "store"]).args(names));
    let running = run(&sandbox, &words).spawn();
    server.wait_for_stall(&format!("/{last}"));
    running.signal(Signal::KILL);
    running.finish();
    server.serve(&format!("/{last}"), Reply::ok(content));
    success(run(&sandbox, &words)).expect_stderr(&["has it already", "fetched 1 of 20"]);
    success(run(&sandbox, &["store", "--store", "store", "verify"]));
    let left: Vec<_> = fs::read_dir(sandbox.path("store"))
        .expect("the store")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with(".fetch-content"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn files_come_from_folders_and_mirrors_before_upstream() {
    let (sandbox, mirror) = (Sandbox::new(), Server::start());
    let upstreams = vec![
        ("one".to_owned(), "one.bin".to_owned(), noise(1000, 1)),
        ("two".to_owned(), "two.bin".to_owned(), noise(1000, 2)),
        ("three".to_owned(), "three.bin".to_owned(), noise(1000, 3)),
    ];
    let upstream = Server::start();
    write_graph(&sandbox, &upstream.root(), &upstreams);
    sandbox.write("old/one.bin", "not the same any more");
    sandbox.write("dist/one.bin", &upstreams[0].2);
    mirror.serve("/pub/two.bin", Reply::ok(&upstreams[1].2));
    upstream.serve("/three.bin", Reply::ok(&upstreams[2].2));
    let mirror_url = mirror.url("/pub/");
    let words = [
        "kind",
        "run",
        "--all",
        "--store",
        "store",
        "--distdir",
        "old",
        "--distdir",
        "dist",
    ];
    success(run(&sandbox, &words).args(["--mirror", &mirror_url]));
    assert_eq!(upstream.paths(), ["/three.bin"]);
    assert_eq!(mirror.count("/pub/one.bin"), 0);
}

#[test]
fn inputs_are_the_same_as_extracting_them_and_the_second_time_needs_no_network() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let upstreams = two();
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_well(&server, &upstreams);
    let words = [
        "inputs",
        "all",
        "--kinds",
        "taskcluster/kinds",
        "--store",
        "store",
        "--lock",
        "lock",
    ];
    success(run(&sandbox, &words).args(["--dest", "first"])).expect_stderr(&["fetched 2 of 2"]);
    let first = Tree::of(sandbox.path("first"));
    for path in ["tool/run", "second/tool/data"] {
        assert!(
            matches!(first.at(path).kind, Kind::File { .. }),
            "{path} in {first}"
        );
    }
    let asked = server.requests().len();
    success(run(&sandbox, &words).args(["--dest", "second"]));
    assert_eq!(server.requests().len(), asked);
    assert_eq!(
        Tree::of(sandbox.path("second/second/tool")),
        Tree::of(sandbox.path("first/second/tool"))
    );

    let inode = |path: &str| fs::metadata(sandbox.path(path)).expect("a file").ino();
    success(run(&sandbox, &words).args(["--dest", "third", "--copy"]));
    assert_ne!(inode("third/tool/data"), inode("first/tool/data"));

    // What was changed in one place is not what others get.
    fs::write(sandbox.path("first/tool/data"), "changed").expect("change a file");
    success(run(&sandbox, &words).args(["--dest", "fourth"]));
    assert_eq!(sandbox.read("fourth/tool/data"), noise(40_000, 1));
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn a_lock_demands_the_same_artifacts() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let mut upstreams = two();
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_well(&server, &upstreams);
    let words = [
        "inputs",
        "all",
        "--kinds",
        "taskcluster/kinds",
        "--dest",
        "fetches",
    ];
    success(run(&sandbox, &words).args(["--store", "store", "--lock", "lock"]));
    // What is performed elsewhere is the same task there.
    success(run(&sandbox, &words).args(["--store", "elsewhere", "--locked", "lock"]));
    upstreams[1].2 = xz(&archive(3));
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_well(&server, &upstreams);
    let outcome = run(&sandbox, &words)
        .args(["--store", "store", "--locked", "lock"])
        .run();
    outcome
        .expect_code(2)
        .expect_stderr(&["the inputs are not those of lock", "fetch-two"]);
    assert_eq!(sandbox.read("fetches/second/tool/data"), noise(40_000, 2));
}

#[test]
fn inputs_come_from_the_index_of_a_deployment() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let upstreams = two();
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_well(&server, &upstreams);
    success(run(&sandbox, &["kind", "run", "--all", "--store", "ci"]));
    let asked = server.requests().len();
    let deployment = Serving::start(sandbox.path("ci"), &[], &[]);
    let words = [
        "inputs",
        "all",
        "--kinds",
        "taskcluster/kinds",
        "--store",
        "desk",
    ];
    success(
        run(&sandbox, &words)
            .args(["--dest", "fetches"])
            .env("TASKCLUSTER_ROOT_URL", deployment.root()),
    );
    assert_eq!(server.requests().len(), asked, "upstream is not asked");
    assert_eq!(sandbox.read("fetches/tool/data"), noise(40_000, 1));
    drop(deployment);
    success(run(&sandbox, &words).args(["--dest", "again"]));
    assert_eq!(sandbox.read("again/second/tool/data"), noise(40_000, 2));
}

#[test]
fn inputs_come_from_mirrors_before_upstream() {
    let (sandbox, upstream, mirror) = (Sandbox::new(), Server::start(), Server::start());
    let upstreams = two();
    write_graph(&sandbox, &upstream.root(), &upstreams);
    serve_well(&upstream, &upstreams);
    mirror.serve("/pub/two.tar.xz", Reply::ok(&upstreams[1].2));
    let words = [
        "inputs", "all", "--root", ".", "--store", "store", "--mirror",
    ];
    success(run(&sandbox, &words).args([mirror.url("/pub")]));
    assert_eq!(upstream.paths(), ["/one.tar.gz"]);
    assert_eq!(sandbox.read("fetches/second/tool/data"), noise(40_000, 2));
}

/// A task whose definition and inputs `server` has.
fn serve_task(server: &Serving, fetches: &Value) {
    let archive = gz(&archive(1));
    let chain = vouching_for(&[("public/tool.tar.gz", &archive)]);
    for (name, content) in [
        ("public/tool.tar.gz", &archive[..]),
        ("public/plain", b"plain"),
        ("public/chain-of-trust.json", chain.as_bytes()),
    ] {
        server.put(TASK_B, name, content).expect(200);
    }
    let definition = json!({
        "created": "2026-01-02T03:04:05.000Z", "expires": "3000-01-02T03:04:05.000Z",
        "payload": {"env": {"MOZ_FETCHES": fetches.to_string()}},
    });
    let path = format!("/api/queue/v1/task/{TASK_A}");
    server.send("PUT", &path, &definition).expect(200);
}

#[test]
fn inputs_are_those_of_a_task_of_a_deployment() {
    let sandbox = Sandbox::new();
    let deployment = Serving::writing(sandbox.path("ci"));
    let fetches = json!([
        {"task": TASK_B, "artifact": "public/tool.tar.gz", "dest": "sub", "extract": true, "verify-hash": true},
        {"task": TASK_B, "artifact": "public/plain", "extract": false},
    ]);
    serve_task(&deployment, &fetches);
    let words = ["inputs", "--task-id", TASK_A, "--store", "desk", "--dest"];
    let at_the_desk = run(&sandbox, &words).args(["desk-dest"]);
    success(at_the_desk.env("TASKCLUSTER_ROOT_URL", deployment.root()));
    success(
        run(&sandbox, &["task-artifacts", "--dest", "task-dest"])
            .env("TASKCLUSTER_ROOT_URL", deployment.root())
            .env("MOZ_FETCHES", fetches.to_string()),
    );
    let made = ["sub", "plain"].map(str::to_owned);
    let (desk, task) = ["desk-dest", "task-dest"]
        .map(|dest| Tree::of(sandbox.path(dest)).without_mtimes_of(&made))
        .into();
    desk.assert_same(&task, "inputs (-), task-artifacts (+)");

    run(&sandbox, &words)
        .args(["none"])
        .run()
        .expect_code(2)
        .expect_stderr(&["--task-id needs a deployment", "set TASKCLUSTER_ROOT_URL"]);
    run(
        &sandbox,
        &["inputs", "--task-id", TASK_B, "--store", "desk"],
    )
    .env("TASKCLUSTER_ROOT_URL", deployment.root())
    .run()
    .expect_stderr(&[&format!("task {TASK_B}")])
    .expect_one_of(&[2, 3]);
}

#[test]
fn gc_removes_what_is_unpacked_of_what_is_gone() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let upstreams = two();
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_well(&server, &upstreams);
    let words = ["inputs", "all", "--store", "store"];
    success(run(&sandbox, &words));
    let tree = |number: usize| {
        let digest = sha256_hex(&upstreams[number].2);
        sandbox.path("store/trees").join(digest)
    };
    success(run(&sandbox, &["store", "gc", "--store", "store"]));
    assert!(tree(0).is_dir() && tree(1).is_dir(), "both are needed");
    let listed = run(&sandbox, &["store", "ls", "--store", "store"]).run();
    let mut lines = listed.stdout.lines();
    let one = lines.find(|line| line.contains("one.tar.gz"));
    let (task, _) = one.and_then(|line| line.split_once('\t')).expect("a task");
    fs::remove_dir_all(sandbox.path("store/task").join(task)).expect("remove a task");
    success(run(&sandbox, &["store", "gc", "--store", "store"]));
    assert!(!tree(0).exists() && tree(1).is_dir());
    // What was laid out before stays.
    assert_eq!(sandbox.read("fetches/tool/data"), noise(40_000, 1));
}

/// Content is kept once in the store, but two artifacts of it have names of their own.
#[test]
fn the_same_content_under_two_names_is_two_files() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(1000, 1);
    let upstreams = vec![
        ("one".to_owned(), "one.bin".to_owned(), content.clone()),
        ("two".to_owned(), "two.bin".to_owned(), content.clone()),
    ];
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_well(&server, &upstreams);
    for dest in ["first", "second"] {
        success(run(
            &sandbox,
            &["inputs", "all", "--store", "store", "--dest", dest],
        ));
        assert_eq!(sandbox.read(&format!("{dest}/one.bin")), content);
        assert_eq!(sandbox.read(&format!("{dest}/second/two.bin")), content);
    }
    let mode = |path: &str| {
        let found = fs::metadata(sandbox.path(path)).expect("a file");
        found.mode() & 0o777
    };
    assert_eq!(mode("second/one.bin"), 0o644);
}

#[test]
fn what_cannot_be_unpacked_is_named() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let mut upstreams = two();
    upstreams[1].2.truncate(20_000);
    write_graph(&sandbox, &server.root(), &upstreams);
    serve_well(&server, &upstreams);
    run(&sandbox, &["inputs", "all", "--store", "store"])
        .run()
        .expect_code(5)
        .expect_stderr(&[
            "error: cannot fetch public/two.tar.xz of fetch-two\n",
            "the archive is damaged",
        ]);
    assert!(!sandbox.path("fetches/tool").exists());
}

#[test]
fn what_nobody_has_is_named() {
    let sandbox = Sandbox::new();
    let upstreams = two();
    write_graph(&sandbox, "http://127.0.0.1:9", &upstreams);
    sandbox.write(
        "taskcluster/kinds/build/kind.yml",
        "loader: taskgraph.loader.transform:loader\nkind-dependencies: [toolchain]\ntransforms: \
         [taskgraph.transforms.run, taskgraph.transforms.task]\ntasks:\n  app:\n    description: app\n    worker-type: \
         b-linux\n    fetches: {toolchain: [all]}\n",
    );
    let words = [
        "inputs",
        "app",
        "--kind",
        "build",
        "--kinds",
        "taskcluster/kinds",
        "--store",
        "store",
    ];
    run(&sandbox, &words).run().expect_code(2).expect_stderr(&[
        "toolchain-all is not in the store",
        "--task toolchain-all=TASK_ID",
    ]);
    run(
        &sandbox,
        &[
            "inputs",
            "nothing",
            "--kinds",
            "taskcluster/kinds",
            "--store",
            "store",
        ],
    )
    .run()
    .expect_code(2)
    .expect_stderr(&["there is no task `nothing`"]);
}

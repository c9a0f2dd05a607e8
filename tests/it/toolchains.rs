//! `inputs` of a task that is built with a toolchain: the toolchain comes from a deployment, by digest or by task.

use serde_json::{Value, json};

use crate::support::archives::{dir, file, gz, noise, sha256_hex, tar_of};
use crate::support::sandbox::{
    Invocation, Outcome, Sandbox, TASK_A, TASK_B, artifact, chain_of_trust, vouching_for,
};
use crate::support::server::{Reply, Server};
use crate::support::serving::Serving;

const SCRIPT: &str = "make all install\n";
const PATCH: &str = "--- a\n+++ b\n";
const NAME: &str = "public/build/compiler.tar.gz";

/// A kind whose toolchain is made of a script, patches, an image, an argument and the fetch `source`.
const TOOLCHAINS: &str = "loader: taskgraph.loader.transform:loader
kind-dependencies: [fetch]
transforms: [taskgraph.transforms.run, taskgraph.transforms.cached_tasks, taskgraph.transforms.task]
tasks:
  compiler:
    description: compiler
    worker-type: b-linux
    worker: {docker-image: {in-tree: builder}, max-run-time: 1}
    run:
      using: toolchain-script
      script: compiler.sh
      resources: [patches/*]
      arguments: [--fast]
      toolchain-artifact: public/build/compiler.tar.gz
    fetches: {fetch: [source]}
";

/// A kind whose tasks want the toolchain, one of them with a chain of trust.
const BUILDS: &str = "loader: taskgraph.loader.transform:loader
kind-dependencies: [fetch, toolchain]
transforms: [taskgraph.transforms.run, taskgraph.transforms.task]
tasks:
  app:
    description: app
    worker-type: b-linux
    fetches: {toolchain: [compiler]}
  trusting:
    description: app
    worker-type: b-linux
    fetches: {toolchain: [{artifact: compiler, dest: sub, verify-hash: true}]}
  test:
    description: test
    worker-type: b-linux
    fetches: {fetch: [source]}
";

/// What the toolchain is made from.
fn source() -> Vec<u8> {
    noise(3000, 7)
}

/// What a task has made of it.
fn compiler(seed: u64) -> Vec<u8> {
    let run = file("bin/cc", "#!/bin/sh\n").mode(0o755);
    gz(&tar_of(&[
        dir("bin/"),
        run,
        file("lib", noise(20_000, seed)),
    ]))
}

/// Writes the graph; `upstream` has the source.
fn write_graph(sandbox: &Sandbox, upstream: &str) {
    let source = source();
    let fetches = format!(
        "loader: taskgraph.loader.transform:loader\ntransforms: [taskgraph.transforms.fetch, \
         taskgraph.transforms.run, taskgraph.transforms.task]\ntasks:\n  source:\n    description: source\n    fetch: \
         {{type: static-url, url: {upstream}/source.bin, sha256: {}, size: {}}}\n",
        sha256_hex(&source),
        source.len()
    );
    for (path, text) in [
        ("config.yml", "trust-domain: acme\ntaskgraph: {}\n"),
        ("kinds/fetch/kind.yml", &fetches),
        ("kinds/toolchain/kind.yml", TOOLCHAINS),
        ("kinds/build/kind.yml", BUILDS),
        ("scripts/toolchain/compiler.sh", SCRIPT),
    ] {
        sandbox.write(&format!("taskcluster/{path}"), text);
    }
    sandbox.write("patches/one.patch", PATCH);
}

/// Where the index has the source, worked out from the description of the digest and not by the program.
fn source_path(level: u8) -> String {
    format!(
        "acme.cache.level-{level}.content.v1.source.hash.{}",
        source_digest()
    )
}

/// A digest as taskgraph makes them.
fn digest_of(lines: &[&str]) -> String {
    sha256_hex(lines.join("\n").as_bytes())
}

fn source_digest() -> String {
    let source = source();
    let (sha256, size) = (sha256_hex(&source), source.len().to_string());
    digest_of(&["--sha256", &sha256, "--size", &size, "source.bin"])
}

/// Where the index has the toolchain, worked out likewise: it is the same if the files, the name of the artifact, the image,
/// the arguments and what it is made from are.
fn compiler_path(level: u8, script: &str) -> String {
    let files = format!(
        "{} patches/one.patch\n{} taskcluster/scripts/toolchain/compiler.sh\n",
        sha256_hex(PATCH.as_bytes()),
        sha256_hex(script.as_bytes())
    );
    let parent = format!("content.v1/source/{}", source_digest());
    let digest = digest_of(&[
        &sha256_hex(files.as_bytes()),
        NAME,
        "builder",
        "--fast",
        &parent,
        "True",
    ]);
    format!("acme.cache.level-{level}.toolchains.v3.compiler.hash.{digest}")
}

/// The path of a namespace in the API of the index.
fn lookup(namespace: &str) -> String {
    format!("/api/index/v1/task/{namespace}")
}

/// The index's answer that a namespace leads to a task.
fn leads_to(namespace: &str, task: &str) -> Reply {
    let expires = "3000-01-02T03:04:05.000Z";
    let entry =
        json!({"namespace": namespace, "taskId": task, "rank": 1, "data": {}, "expires": expires});
    Reply::ok(entry.to_string())
}

/// `inputs` of a task of the kind `build`, into `fetches`.
fn inputs<'a>(sandbox: &'a Sandbox, task: &str, words: &[&str]) -> Invocation<'a> {
    let run = sandbox
        .binary()
        .args(["inputs", task, "--kind", "build", "--dest", "fetches"]);
    run.args(words)
        .env("HOME", sandbox.path("home"))
        .env_remove("TASKCLUSTER_ROOT_URL")
}

/// The same from a deployment, and with the store `desk`.
fn inputs_from<'a>(
    sandbox: &'a Sandbox,
    deployment: &str,
    task: &str,
    words: &[&str],
) -> Invocation<'a> {
    let run = inputs(sandbox, task, &["--store", "desk"]).args(words);
    run.env("TASKCLUSTER_ROOT_URL", deployment)
}

fn success(invocation: Invocation) -> Outcome {
    invocation.run().expect_code(0)
}

/// A deployment that has the toolchain, where the index says so.
fn deployment_with_compiler(sandbox: &Sandbox) -> Serving {
    let deployment = Serving::writing(sandbox.path("ci"));
    deployment.put(TASK_B, NAME, &compiler(1)).expect(200);
    deployment
        .index(&compiler_path(3, SCRIPT), TASK_B, 1)
        .expect(200);
    deployment
}

#[test]
fn a_toolchain_is_found_by_the_digest_of_what_it_is_made_by() {
    let (sandbox, upstream) = (Sandbox::new(), Server::start());
    write_graph(&sandbox, &upstream.root());
    let deployment = deployment_with_compiler(&sandbox);
    success(inputs_from(
        &sandbox,
        deployment.root(),
        "app",
        &["--lock", "lock"],
    ));
    assert_eq!(sandbox.read("fetches/lib"), noise(20_000, 1));
    assert_eq!(sandbox.fetched().at("bin/cc").mode, Some(0o755));
    let lock: Value = serde_json::from_slice(&sandbox.read("lock")).expect("a lock");
    let input = &lock["inputs"][0];
    assert_eq!(
        (&input["label"], &input["task"]),
        (&json!("toolchain-compiler"), &json!(TASK_B)),
        "{lock}"
    );

    // With another script it is another toolchain, which nobody has built yet.
    let script = "make install\n";
    sandbox.write("taskcluster/scripts/toolchain/compiler.sh", script);
    let unknown = inputs_from(&sandbox, deployment.root(), "app", &[]).run();
    unknown.expect_code(2).expect_stderr(&[
        "toolchain-compiler is not in the store",
        "--task toolchain-compiler=TASK_ID",
    ]);
    deployment.put(TASK_A, NAME, &compiler(2)).expect(200);
    deployment
        .index(&compiler_path(3, script), TASK_A, 1)
        .expect(200);
    success(inputs_from(&sandbox, deployment.root(), "app", &[]));
    assert_eq!(sandbox.read("fetches/lib"), noise(20_000, 2));

    // Both are in the store, with what leads to them.
    drop(deployment);
    sandbox.write("taskcluster/scripts/toolchain/compiler.sh", SCRIPT);
    success(inputs(&sandbox, "app", &["--store", "desk"]));
    assert_eq!(sandbox.read("fetches/lib"), noise(20_000, 1));
    // What the toolchain itself is made from was not wanted.
    assert_eq!(upstream.paths(), [""; 0]);
}

#[test]
fn the_index_is_asked_for_the_most_trusted_first_and_again_after_a_failure() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    write_graph(&sandbox, &server.root());
    let [three, two] = [3, 2].map(|level| compiler_path(level, SCRIPT));
    server.serve_in_turn(&lookup(&three), [Reply::status(503), Reply::status(404)]);
    server.serve(&lookup(&two), leads_to(&two, TASK_B));
    server.serve(&artifact(TASK_B, NAME), Reply::ok(compiler(1)));
    let words = ["--level", "1"];
    success(inputs_from(&sandbox, &server.root(), "app", &words));
    assert_eq!(
        server.paths(),
        [
            lookup(&three),
            lookup(&three),
            lookup(&two),
            artifact(TASK_B, NAME)
        ]
    );
    // A release takes nothing that anybody could have made.
    let words = ["--level", "3"];
    let refused = inputs_from(&sandbox, &server.root(), "app", &words).run();
    refused.expect_code(2);
    assert_eq!(server.count(&lookup(&two)), 1);
}

#[test]
fn a_named_task_is_taken_and_the_index_not_asked() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    write_graph(&sandbox, &server.root());
    // Nothing is computed of it either.
    let toolchains = TOOLCHAINS.replace("compiler.sh", "not-there.sh");
    sandbox.write("taskcluster/kinds/toolchain/kind.yml", toolchains);
    let unnamed = inputs_from(&sandbox, &server.root(), "app", &[]).run();
    unnamed
        .expect_code(2)
        .expect_stderr(&["toolchain-compiler is not in the store: ", "not-there.sh"]);
    server.serve(&artifact(TASK_A, NAME), Reply::ok(compiler(5)));
    let named = format!("toolchain-compiler={TASK_A}");
    let words = ["--task", &named];
    success(inputs_from(&sandbox, &server.root(), "app", &words));
    assert_eq!(sandbox.read("fetches/lib"), noise(20_000, 5));
    assert_eq!(server.paths(), [artifact(TASK_A, NAME)]);
    // The store has it by its task now, and by nothing else.
    success(inputs(&sandbox, "app", &["--store", "desk"]).args(words));
    inputs(&sandbox, "app", &["--store", "desk"])
        .run()
        .expect_code(2);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_named_task_must_be_there_and_be_one_of_the_inputs() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    write_graph(&sandbox, &server.root());
    let named = format!("toolchain-compiler={TASK_A}");
    let missing = inputs_from(&sandbox, &server.root(), "app", &["--task", &named]).run();
    missing.expect_code(3).expect_stderr(&[
        &format!("cannot fetch {NAME} of toolchain-compiler"),
        "answered 404 Not Found",
    ]);
    assert!(!sandbox.fetches().exists());
    let without = inputs(&sandbox, "app", &["--store", "desk", "--task", &named]).run();
    without.expect_code(2).expect_stderr(&[
        "toolchain-compiler is not in the store",
        "TASKCLUSTER_ROOT_URL",
    ]);
    server.serve("/source.bin", Reply::ok(source()));
    let other = inputs_from(&sandbox, &server.root(), "test", &["--task", &named]);
    success(other).expect_stderr(&[
        "--task toolchain-compiler=… has no effect: test takes nothing of that task",
    ]);
    // One of a fetch is as good.
    server.serve(&artifact(TASK_B, "public/source.bin"), Reply::ok("other"));
    let named = format!("fetch-source={TASK_B}");
    let words = ["--task", &named];
    success(inputs_from(&sandbox, &server.root(), "test", &words));
    assert_eq!(sandbox.read("fetches/source.bin"), b"other");
}

#[test]
fn a_chain_of_trust_must_vouch_for_a_toolchain_that_asks_for_it() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    write_graph(&sandbox, &server.root());
    let path = compiler_path(3, SCRIPT);
    server.serve(&lookup(&path), leads_to(&path, TASK_B));
    server.serve(&artifact(TASK_B, NAME), Reply::ok(compiler(1)));
    let vouched = |seed| Reply::ok(vouching_for(&[(NAME, &compiler(seed))]));
    server.serve(&chain_of_trust(TASK_B), vouched(2));
    let refused = inputs_from(&sandbox, &server.root(), "trusting", &[]).run();
    refused
        .expect_code(4)
        .expect_stderr(&[&format!("cannot fetch {NAME} of toolchain-compiler")]);
    assert!(!sandbox.fetches().exists());
    server.serve(&chain_of_trust(TASK_B), vouched(1));
    success(inputs_from(&sandbox, &server.root(), "trusting", &[]));
    assert_eq!(sandbox.read("fetches/sub/lib"), noise(20_000, 1));
}

/// An index remembers tasks for longer than a deployment keeps what they have made.
#[test]
fn what_has_expired_behind_the_index_comes_from_where_it_still_is() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    write_graph(&sandbox, &server.root());
    let gone = Reply::api_error(410, "ResourceExpired", "Artifact has expired");
    let [three, two] = [3, 2].map(|level| compiler_path(level, SCRIPT));
    server.serve(&lookup(&three), leads_to(&three, TASK_A));
    server.serve(&artifact(TASK_A, NAME), gone.clone());
    let refused = inputs_from(&sandbox, &server.root(), "app", &[]).run();
    refused.expect_code(3).expect_stderr(&[
        &format!("cannot fetch {NAME} of toolchain-compiler"),
        "answered 410 Gone",
        "run the task that makes it again",
    ]);
    // At a lower level it may have been built since.
    server.serve(&lookup(&two), leads_to(&two, TASK_B));
    server.serve(&artifact(TASK_B, NAME), Reply::ok(compiler(1)));
    let words = ["--level", "2"];
    success(inputs_from(&sandbox, &server.root(), "app", &words));
    assert_eq!(sandbox.read("fetches/lib"), noise(20_000, 1));

    let path = source_path(3);
    server.serve(&lookup(&path), leads_to(&path, TASK_A));
    server.serve(&artifact(TASK_A, "public/source.bin"), gone);
    server.serve("/source.bin", Reply::ok(source()));
    success(inputs_from(&sandbox, &server.root(), "test", &[])).expect_stderr(&["410 Gone"]);
    assert_eq!(sandbox.read("fetches/source.bin"), source());
    assert_eq!(server.count("/source.bin"), 1);
}

#[test]
fn a_lock_demands_the_toolchain_of_a_task_wherever_the_index_leads_since() {
    let (sandbox, upstream) = (Sandbox::new(), Server::start());
    write_graph(&sandbox, &upstream.root());
    let deployment = deployment_with_compiler(&sandbox);
    let words = ["--lock", "lock"];
    success(inputs_from(&sandbox, deployment.root(), "app", &words));
    // Built once more, with another result.
    deployment.put(TASK_A, NAME, &compiler(2)).expect(200);
    deployment
        .index(&compiler_path(3, SCRIPT), TASK_A, 2)
        .expect(200);
    let elsewhere = |words: &[&str]| {
        let run = inputs(&sandbox, "app", &["--store", "elsewhere"]).args(words);
        success(run.env("TASKCLUSTER_ROOT_URL", deployment.root()));
        sandbox.read("fetches/lib")
    };
    assert_eq!(elsewhere(&["--locked", "lock"]), noise(20_000, 1));
    assert_eq!(elsewhere(&[]), noise(20_000, 2));
}

//! What the README says is so: every command in it runs, its samples of the log are what is logged, and its table of
//! variables is that of `--help`. Also: the quickstart's data is what its script makes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::kinds::parameters;
use crate::support::archives::unzst;
use crate::support::git::{Upstream, have_git, serve_files};
use crate::support::images::Image;
use crate::support::platform::Platform;
use crate::support::registry::Registry;
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, artifact};
use crate::support::server::{Reply, Server};
use crate::support::serving::Serving;
use crate::support::skip::have_programs;
use crate::support::tree::{Kind, Tree};

/// The command of the second block, which is what runs this.
const TESTS: &str = "tests/run";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(relative: &str) -> String {
    let path = root().join(relative);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("cannot read {relative}: {err}"))
}

/// The fenced blocks of the README in a language.
fn blocks(language: &str) -> Vec<String> {
    let readme = read("README.md");
    let mut blocks = Vec::new();
    for fenced in readme.split("\n```").skip(1).step_by(2) {
        let (first, text) = fenced.split_once('\n').unwrap_or((fenced, ""));
        if first == language {
            blocks.push(text.to_owned());
        }
    }
    blocks
}

/// A sandbox that looks like a clone, without anything built.
fn clone() -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["testdata", "tests"] {
        symlink(root().join(name), sandbox.path(name)).expect("link into the clone");
    }
    sandbox
}

/// Runs a command of the README as it stands there; only the program is the one under test.
fn shell<'a>(sandbox: &'a Sandbox, command: &str) -> Invocation<'a> {
    let binary = Path::new(env!("CARGO_BIN_EXE_fetch-content"));
    let directory = binary.parent().expect("the program's directory");
    let mut path = directory.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("PATH") {
        path.push(":");
        path.push(others);
    }
    let command = command.replace("cargo run --release --", "fetch-content");
    sandbox
        .program("sh")
        .args(["-euc", &command])
        .env("PATH", path)
}

fn expect_success(outcome: Outcome) -> Outcome {
    assert!(outcome.status.success(), "{outcome:?}");
    outcome
}

/// Serves the quickstart's store as a queue, and one of its archives as an upstream's release.
fn serve(server: &Server) {
    let store = root().join("testdata/quickstart/store");
    for path in files(&store) {
        let content = fs::read(&path).expect("read an artifact");
        let name = path.strip_prefix(&store).expect("a path in the store");
        let url = format!("/api/queue/v1/{}", name.display());
        server.serve(&url, Reply::ok(&content));
        if path.ends_with("crc-1.2.tar.xz") {
            server.serve("/crc-1.2.tar.xz", Reply::ok(&content));
        }
    }
}

/// Serves the repository of the README's example.
fn serve_repository(server: &Server, upstream: &Upstream) {
    let repository = upstream.repository("widget");
    repository
        .write("README", "A widget.\n")
        .program("make", "#!/bin/sh\n");
    let commit = repository.commit();
    assert!(
        read("README.md").contains(&commit),
        "the commit is {commit}"
    );
    serve_files(server, &repository, "/widget.git", None);
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("list the store");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Part of what a command says when it has done its work.
fn words_of(command: &str) -> &'static str {
    match command.split("fetch-content ").nth(1) {
        Some(upload) if upload.starts_with("upload") => "created ",
        Some(kind) if kind.starts_with("kind") => "",
        Some(cache) if cache.starts_with("cache") => "",
        None if command.contains("run-task ") => "",
        _ => "fetched ",
    }
}

/// The names in a tar archive.
fn members(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let members = archive.entries().expect("a tar archive").map(|entry| {
        let entry = entry.expect("a member");
        entry.path().expect("a name").display().to_string()
    });
    members.collect()
}

/// Says that this is a task of a deployment, with a proxy.
fn in_task<'a>(run: Invocation<'a>, deployment: &str) -> Invocation<'a> {
    run.env("DEPLOYMENT", deployment)
        .env("TASKCLUSTER_ROOT_URL", deployment)
        .env("TASKCLUSTER_PROXY_URL", deployment)
        .env("TASK_ID", TASK_A)
        .env("RUN_ID", "0")
}

#[test]
fn every_command_runs() {
    let (sandbox, server) = (clone(), Server::start());
    serve(&server);
    let artifacts = [
        "public/build/crc.tar.zst",
        "public/greet.h",
        "public/latest.tar.zst",
    ];
    let platform = Platform::start(&artifacts, None);
    let queue = Serving::writing(sandbox.path("queue"));
    sandbox.write("parameters.yml", parameters("1", "github-push"));
    let upstream = Upstream::new();
    let with_git = have_git("every_command_runs (git-checkout-archive)");
    if with_git {
        serve_repository(&server, &upstream);
    }
    let registry = Registry::start();
    let image = Image::of(&[b"layer".to_vec()]);
    registry.hold("ci/inputs", "latest", &image);
    for command in blocks("sh") {
        // This test is a part of the tests.
        let without_git = !with_git && command.contains("git-checkout-archive");
        if without_git || command.trim() == TESTS {
            continue;
        }
        let deployment = match &command {
            upload if upload.contains("fetch-content upload") => platform.api.root(),
            submit if submit.contains(" submit ") => queue.root().to_owned(),
            _ => server.root(),
        };
        let run = shell(&sandbox, &command)
            .env("UPSTREAM", server.root())
            .env("REGISTRY", registry.server.address().to_string());
        let outcome = expect_success(in_task(run, &deployment).run());
        outcome.expect_stderr(&[words_of(&command)]);
    }
    assert!(artifacts.iter().all(|name| platform.artifact(name).present));
    registry.assert_holds("mine/inputs", "1", &image);
    assert_eq!(registry.count("PUT", "/blobs/"), 0);
    let members = members(&unzst(&sandbox.read("artifacts/crc.tar.zst")));
    assert!(
        members.contains(&"third_party/crc/include/crc/crc32.h".to_owned()),
        "{members:?}"
    );
    let tree = sandbox.tree();
    for path in [
        "fetches/sysroot/usr/include/greet.h",
        "fetches/host/tools.zip",
        "inputs/check-inputs.sh",
        "served/check-inputs.sh",
        "from-image/check-inputs.sh",
        "from-layers/check-inputs.sh",
        "imported/check-inputs.sh",
        "caches/pip/.cachelog",
    ] {
        assert!(matches!(tree.at(path).kind, Kind::File { .. }), "{path}");
    }
}

#[test]
fn every_subcommand_tells_its_options() {
    let sandbox = Sandbox::new();
    let help = |subcommand: &str| {
        let run = sandbox.binary().args(subcommand.split_whitespace());
        expect_success(run.args(["--help"]).run()).stdout
    };
    assert!(read("README.md").contains("`fetch-content --help`"));
    let all = help("");
    let commands = all.split("Commands:\n").nth(1).expect("subcommands");
    let lines = commands.lines().take_while(|line| !line.is_empty());
    // What goes on from the line before is indented more.
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<_> = names.filter(|name| !["", "help"].contains(name)).collect();
    assert!(names.len() >= 4, "{all}");
    for name in names {
        assert!(help(name).contains("Usage: fetch-content"), "{name}");
    }
}

#[test]
fn the_test_runner_is_what_ci_runs() {
    for script in [
        TESTS,
        "tests/setup",
        ".ci/run",
        "testdata/quickstart/make.sh",
    ] {
        let metadata = fs::metadata(root().join(script)).expect(script);
        assert_eq!(metadata.permissions().mode() & 0o111, 0o111, "{script}");
    }
    let ci = read(".ci/run");
    assert!(ci.lines().any(|line| line == TESTS), "{ci}");
}

#[test]
fn the_quickstart_needs_no_server_and_leaves_what_it_should() {
    let (sandbox, commands) = (clone(), blocks("sh"));
    let first = "cargo run --release -- inputs linux64-greet";
    assert!(commands[0].contains(first), "{commands:?}");
    assert_eq!(commands[1].trim(), TESTS);
    let outcome = expect_success(shell(&sandbox, &commands[0]).run());
    let check = "sh target/quickstart/check-inputs.sh";
    assert!(read("README.md").contains(&format!("`{check}`")), "{check}");
    let checked = expect_success(shell(&sandbox, check).run());
    assert_eq!(checked.stdout, "Bonjour: all inputs are there\n");

    let tree = Tree::of(sandbox.path("target/quickstart"));
    let link = |target: &str| Kind::Symlink {
        target: target.to_owned(),
    };
    assert_eq!(tree.at("sysroot/lib64").kind, link("usr/lib"));
    assert_eq!(tree.at("tools/bin/hello").kind, link("greet"));
    assert_eq!(tree.at("sysroot/usr/share/empty").kind, Kind::Dir);
    assert!(tree.at("sysroot/usr/bin/sysroot-cc").same_as.is_some());
    for (path, mode) in [
        ("tools/bin/greet", 0o755),
        ("testing/samples/text/empty.txt", 0o600),
        ("testing/samples/numbers/primes.txt", 0o444),
    ] {
        assert_eq!(tree.at(path).mode, Some(mode), "{path}");
        assert_eq!(tree.at(path).mtime, Some((1_704_164_646, 0)), "{path}");
    }
    let hidden = tree.paths().into_iter().find(|path| path.starts_with('.'));
    assert_eq!(hidden, None, "{outcome:?}");
}

/// A log without what changes from run to run: times, rates and the order of lines.
fn comparable(log: &str) -> Vec<String> {
    let mut lines: Vec<_> = log.lines().map(comparable_line).collect();
    lines.sort();
    lines
}

fn comparable_line(line: &str) -> String {
    let line = line.split("\"value\":").next().unwrap_or_default();
    let words = line.split_whitespace().map(|word| {
        let number = word
            .trim_start_matches('(')
            .trim_end_matches(['m', 'µ', 's']);
        match number.parse::<f64>() {
            Ok(_) if number.contains('.') || number != word => "#",
            _ if word.contains("B/s") => "RATE",
            _ => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_samples_of_the_log_are_real() {
    let samples: Vec<_> = blocks("text")
        .into_iter()
        .filter(|sample| sample.starts_with('['))
        .collect();
    let [run, failure] = samples.as_slice() else {
        panic!("not two samples: {samples:?}");
    };
    let sandbox = clone();
    let commands = blocks("sh");
    let plain = commands
        .iter()
        .find(|command| command.contains("--fetches - "));
    let outcome = expect_success(shell(&sandbox, plain.expect("a command")).run());
    assert_eq!(comparable(&outcome.stderr), comparable(run), "{outcome:?}");

    let (task, name) = ("M-LMJ6eeS-ms23bBxYBzhA", "public/build/tools.zip");
    let server = Server::start();
    server.serve_in_turn(
        &artifact(task, name),
        [Reply::status(503), Reply::status(404)],
    );
    let outcome = sandbox
        .task_artifacts(&server, &json!([{"task": task, "artifact": name}]))
        .run()
        .expect_code(3);
    let port = format!(":{}/", server.address().port());
    let logged = outcome.stderr.replace(&port, ":8080/");
    assert_eq!(comparable(&logged), comparable(failure), "{outcome:?}");
}

/// The program's own variables and their defaults, from lines that `parse` understands.
fn tunables(text: &str, parse: impl Fn(&str) -> Option<(&str, &str)>) -> BTreeMap<String, String> {
    let found = text.lines().filter_map(parse);
    found
        .filter(|(name, _)| name.starts_with("FETCH_CONTENT_"))
        .map(|(name, default)| (name.to_owned(), default.to_owned()))
        .collect()
}

#[test]
fn variables_and_defaults_are_those_of_the_help() {
    let readme = tunables(&read("README.md"), |line| {
        let mut cells = line.split('|').map(str::trim);
        let name = cells.nth(1)?.trim_matches('`');
        Some((name, cells.next()?))
    });
    let sandbox = Sandbox::new();
    let help = expect_success(sandbox.binary().args(["--help"]).run());
    let help = tunables(&help.stdout, |line| {
        let (name, rest) = line.trim_start().split_once(' ')?;
        Some((name, rest.split_once('[')?.1.trim_end_matches(']')))
    });
    assert!(help.len() > 5, "{help:?}");
    assert_eq!(readme, help, "README (left), --help (right)");
}

#[test]
fn the_quickstart_s_data_is_what_its_script_makes() {
    let tools = ["bash", "tar", "zstd", "xz", "bzip2", "zip", "awk"];
    let test = "the_quickstart_s_data_is_what_its_script_makes";
    if !have_programs(test, &tools) {
        return;
    }
    let sandbox = clone();
    fs::create_dir(sandbox.path("made")).expect("make a directory");
    let make = "testdata/quickstart/make.sh made";
    expect_success(shell(&sandbox, make).run());
    // Other versions of the tools make other bytes of the same content.
    let fetch = |data: &str, dest: &str| {
        let command = format!(
            "fetch-content task-artifacts --store {data}/store --fetches {data}/fetches.json --dest {dest}"
        );
        expect_success(shell(&sandbox, &command).run());
        Tree::of(sandbox.path(dest)).without_mtimes()
    };
    let here = fetch("testdata/quickstart", "here");
    here.assert_same(&fetch("made", "there"), "checked in (-), made (+)");
}

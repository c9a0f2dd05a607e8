//! Ends that come early: signals, and death without a chance to clean up.
//!
//! A run is caught in the act by a reply that stalls: the server says when it has sent everything up to the
//! stall, and the staging directory shows how far extraction has come.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::archives::{file, gz, noise, sha256_hex, tar_of, zip_of, zst};
use crate::support::sandbox::{Running, Sandbox, TASK_A, artifact, wait_until};
use crate::support::server::{Reply, Server};
use crate::support::tree::{Kind, Tree};

const PROMPTLY: Duration = Duration::from_secs(10);

/// A tar archive of many files, long enough that half of it shows on disk whatever is buffered on the way.
fn many_files() -> Vec<u8> {
    let members: Vec<_> = (0..40)
        .map(|n| file(format!("tool/{n:02}"), noise(100_000, n)))
        .collect();
    tar_of(&members)
}

fn entry(name: &str) -> Value {
    json!({"task": TASK_A, "artifact": format!("public/{name}"), "extract": true})
}

/// The path of one of `TASK_A`'s public artifacts.
fn path_of(name: &str) -> String {
    artifact(TASK_A, &format!("public/{name}"))
}

/// What is in the directory besides staging.
fn published(dir: &Path) -> Vec<String> {
    let tree = Tree::of(dir);
    let paths = tree.paths().into_iter();
    paths
        .filter(|path| !path.starts_with(".fetch-content."))
        .map(str::to_owned)
        .collect()
}

/// The staging directories.
fn staged(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(".fetch-content."))
        .collect()
}

/// The number of regular files below a directory.
fn files_below(dir: &Path) -> usize {
    let tree = Tree::of(dir);
    let paths = tree.paths();
    paths
        .iter()
        .filter(|path| matches!(tree.at(path).kind, Kind::File { .. }))
        .count()
}

/// Starts a download that stalls in the middle of an archive or a file.
fn stalled_download<'a>(sandbox: &'a Sandbox, server: &Server, name: &str) -> Running<'a> {
    let content = if name == "a.bin" {
        noise(800_000, 1)
    } else if name == "a.tar.zst" {
        zst(&many_files())
    } else {
        many_files()
    };
    let most = content.len() * 3 / 4;
    server.serve(&path_of(name), Reply::ok(content).stall_after(most));
    let running = sandbox
        .task_artifacts(server, &json!([entry(name)]))
        .spawn();
    server.wait_for_stall(&path_of(name));
    running
}

#[test]
fn sigterm_and_sigint_end_a_download() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let running = stalled_download(&sandbox, &server, "a.bin");
        running.signal(signal);
        let outcome = running.finish().expect_code(code).expect_within(PROMPTLY);
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn sigterm_and_sigint_end_an_extraction() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        for name in ["a.tar", "a.tar.zst"] {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            sandbox.write("fetches/before", "b");
            let running = stalled_download(&sandbox, &server, name);
            wait_until("files in staging", || files_below(&sandbox.fetches()) > 5);
            running.signal(signal);
            let outcome = running.finish().expect_code(code).expect_within(PROMPTLY);
            assert_eq!(sandbox.fetched().paths(), ["before"], "{outcome:?}");
        }
    }
}

#[test]
fn sigterm_ends_a_static_url() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a.bin", Reply::ok(noise(9000, 1)).stall_after(5000));
    let tar = gz(&many_files());
    let half = tar.len() / 2;
    server.serve("/a.tar.gz", Reply::ok(&tar).stall_after(half));
    for (path, content, dest) in [
        ("/a.bin", noise(9000, 1), "out/a.bin"),
        ("/a.tar.gz", tar, "out/a.tar.zst"),
    ] {
        let url = server.url(path);
        let running = sandbox.static_url(content, &url, dest).spawn();
        server.wait_for_stall(path);
        running.signal(Signal::TERM);
        let outcome = running.finish().expect_code(143).expect_within(PROMPTLY);
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn a_signal_ends_the_pause_before_a_retry() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::status(503).header("Retry-After", "100"));
    let running = sandbox.static_url("x", &server.url("/a"), "out/a").spawn();
    server.wait_for_request("/a");
    running.signal(Signal::TERM);
    let outcome = running.finish().expect_code(143).expect_within(PROMPTLY);
    sandbox.assert_empty(&outcome);
}

#[test]
fn a_kill_leaves_nothing_under_a_final_name() {
    for name in ["a.bin", "a.tar", "a.tar.zst"] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let running = stalled_download(&sandbox, &server, name);
        if name != "a.bin" {
            wait_until("files in staging", || files_below(&sandbox.fetches()) > 5);
        }
        wait_until("a staging directory", || {
            !staged(&sandbox.fetches()).is_empty()
        });
        running.signal(Signal::KILL);
        let outcome = running.finish();
        assert_eq!(outcome.status.code(), None, "{outcome:?}");
        assert!(published(&sandbox.fetches()).is_empty(), "{outcome:?}");
        assert_eq!(staged(&sandbox.fetches()).len(), 1, "{outcome:?}");

        // The next run, of something else, succeeds and removes the debris.
        server.serve(&path_of("b.bin"), Reply::ok("b"));
        sandbox
            .task_artifacts(&server, &json!([entry("b.bin")]))
            .run()
            .expect_code(0);
        assert_eq!(sandbox.fetched().paths(), ["b.bin"], "{name}");
        // And so does another try of the same.
        server.release(&path_of(name));
        let fetches = json!([entry(name)]);
        sandbox
            .task_artifacts(&server, &fetches)
            .run()
            .expect_code(0);
        let expected = if name == "a.bin" { 2 } else { 41 };
        assert_eq!(files_below(&sandbox.fetches()), expected, "{name}");
        assert!(staged(&sandbox.fetches()).is_empty(), "{name}");
    }
}

#[test]
fn a_kill_while_a_zip_is_extracted_leaves_nothing_under_a_final_name() {
    let members: Vec<_> = (0..20_000)
        .map(|n| file(format!("tool/{:02}/{n:05}", n % 50), "small"))
        .collect();
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve(&path_of("a.zip"), Reply::ok(zip_of(&members)));
    let mut running = sandbox
        .task_artifacts(&server, &json!([entry("a.zip")]))
        .spawn();
    let tool = || {
        let staging = staged(&sandbox.fetches());
        let roots = staging.iter().map(|name| sandbox.fetches().join(name));
        roots
            .map(|root| directories_below(&root))
            .max()
            .unwrap_or(0)
    };
    wait_until("directories in staging", || {
        tool() > 10 || running.has_ended()
    });
    running.signal(Signal::KILL);
    let outcome = running.finish();
    assert_eq!(outcome.status.code(), None, "it was too fast: {outcome:?}");
    assert!(published(&sandbox.fetches()).is_empty(), "{outcome:?}");

    server.serve(&path_of("b.bin"), Reply::ok("b"));
    sandbox
        .task_artifacts(&server, &json!([entry("b.bin")]))
        .run()
        .expect_code(0);
    assert_eq!(sandbox.fetched().paths(), ["b.bin"]);
}

/// The number of directories below one; cheap, for it's called while they come into being.
fn directories_below(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| 1 + directories_below(&entry.path()))
        .sum()
}

#[test]
fn a_kill_of_a_static_url_leaves_no_dest() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(90_000, 1);
    server.serve("/a.bin", Reply::ok(&content).stall_after(50_000));
    sandbox.write("out/a.bin", "old");
    let url = server.url("/a.bin");
    let running = sandbox.static_url(&content, &url, "out/a.bin").spawn();
    server.wait_for_stall("/a.bin");
    let out = sandbox.path("out");
    wait_until("a staging directory", || !staged(&out).is_empty());
    running.signal(Signal::KILL);
    running.finish();
    assert_eq!(published(&out), ["a.bin"]);
    assert_eq!(sandbox.read("out/a.bin"), b"old");
    server.release("/a.bin");
    sandbox
        .static_url(&content, &url, "out/a.bin")
        .run()
        .expect_code(0);
    assert_eq!(Tree::of(&out).paths(), ["a.bin"]);
    assert_eq!(sha256_hex(&sandbox.read("out/a.bin")), sha256_hex(&content));
}

#[test]
fn the_staging_of_a_running_neighbour_is_left_alone() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let neighbour = stalled_download(&sandbox, &server, "a.tar");
    wait_until("files in staging", || files_below(&sandbox.fetches()) > 5);
    let before = staged(&sandbox.fetches());
    assert_eq!(before.len(), 1);

    server.serve(&path_of("b.bin"), Reply::ok("b"));
    sandbox
        .task_artifacts(&server, &json!([entry("b.bin")]))
        .run()
        .expect_code(0);
    assert_eq!(published(&sandbox.fetches()), ["b.bin"]);
    assert_eq!(staged(&sandbox.fetches()), before);

    server.release(&path_of("a.tar"));
    neighbour.finish().expect_code(0);
    assert_eq!(files_below(&sandbox.fetches()), 41);
    assert!(staged(&sandbox.fetches()).is_empty());
}

#[test]
fn a_failing_neighbour_does_not_remove_a_shared_destination() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let neighbour = stalled_download(&sandbox, &server, "a.tar");
    let fetches = json!([entry("missing")]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(3);
    server.release(&path_of("a.tar"));
    neighbour.finish().expect_code(0);
    assert_eq!(files_below(&sandbox.fetches()), 40);
}

#[test]
fn staging_is_private() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let running = stalled_download(&sandbox, &server, "a.tar");
    wait_until("files in staging", || files_below(&sandbox.fetches()) > 5);
    let [staging] = &staged(&sandbox.fetches())[..] else {
        panic!("not one staging directory");
    };
    assert_eq!(sandbox.fetched().at(staging).mode, Some(0o700));
    drop(running);
}

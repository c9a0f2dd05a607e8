//! Networks and disks that fail: what is retried, how soon, how often, and that nothing is left of a failure.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::archives::{file, gz, noise, tar_of, zip_of, zst};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, artifact};
use crate::support::server::{Reply, Server, refused_address};
use crate::support::skip::skip;

/// Longer than any of these runs should take, shorter than the real pauses of a retry.
const SOON: Duration = Duration::from_secs(5);

/// One entry of `TASK_A`.
fn entry(name: &str) -> Value {
    json!({"task": TASK_A, "artifact": name, "extract": true})
}

/// A run of `static-url` for `/a`, whose right content is `content`.
fn get<'a>(sandbox: &'a Sandbox, server: &Server, content: &[u8]) -> Invocation<'a> {
    sandbox.static_url(content, &server.url("/a"), "out/a")
}

/// The pause before the second request.
fn first_pause(server: &Server) -> Duration {
    let requests = server.requests();
    requests[1].at - requests[0].at
}

/// Expects that the first reply is got over by one retry, with a line that says so.
fn expect_one_retry(first: Reply) -> Outcome {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(50_000, 9);
    server.serve_in_turn("/a", [first, Reply::ok(&content)]);
    let outcome = get(&sandbox, &server, &content)
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "300")
        .run()
        .expect_code(0)
        .expect_stderr(&["[a] retry 1 of 4 in [TIME]: "])
        .expect_within(SOON);
    assert_eq!(server.count("/a"), 2, "{outcome:?}");
    assert!(sandbox.read("out/a") == content, "{outcome:?}");
    outcome
}

#[test]
fn statuses_that_can_pass_are_retried() {
    for status in [408, 425, 429, 500, 502, 503, 504, 520] {
        let outcome = expect_one_retry(Reply::with_status(status, "<html>busy</html>"));
        outcome.expect_stderr(&[&status.to_string()]);
    }
}

#[test]
fn broken_connections_are_retried() {
    let content = noise(50_000, 9);
    let whole = || Reply::ok(&content);
    for (what, first) in [
        ("closed", Reply::close_before_response()),
        ("reset", Reply::reset_before_response()),
        ("cut at once", whole().cut_after(0)),
        ("cut", whole().cut_after(30_000)),
        ("cut before the last byte", whole().cut_after(49_999)),
        ("reset in the body", whole().reset_after(30_000)),
        ("truncated chunks", whole().chunked().cut_after(30_000)),
        ("no last chunk", whole().chunked().cut_after(50_000)),
    ] {
        let outcome = expect_one_retry(first);
        assert_eq!(outcome.lines("[a] retry").len(), 1, "{what}: {outcome:?}");
    }
}

#[test]
fn silence_is_retried_after_the_stall_timeout() {
    let content = noise(50_000, 9);
    expect_one_retry(Reply::ok(&content).stall_after(30_000));
    expect_one_retry(Reply::ok(&content).stall_after(0));
    expect_one_retry(Reply::ok(&content).once_served("/never"));
}

#[test]
fn silence_for_ever_is_an_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok(noise(5000, 9)).stall_after(3000));
    let outcome = get(&sandbox, &server, &noise(5000, 9))
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "150")
        .env("FETCH_CONTENT_ATTEMPTS", "3")
        .run()
        .expect_code(3)
        .expect_within(SOON);
    assert_eq!(server.count("/a"), 3, "{outcome:?}");
    sandbox.assert_empty(&outcome);
}

#[test]
fn slow_is_not_stalled() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(1000, 9);
    let pace = Duration::from_millis(60);
    server.serve("/a", Reply::ok(&content).slowly(100, pace));
    get(&sandbox, &server, &content)
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "400")
        .run()
        .expect_code(0);
    assert_eq!(server.count("/a"), 1);
}

#[test]
fn the_total_time_has_a_limit() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(100_000, 9);
    let pace = Duration::from_millis(50);
    server.serve("/a", Reply::ok(&content).slowly(10, pace));
    let outcome = get(&sandbox, &server, &content)
        .env("FETCH_CONTENT_TOTAL_TIMEOUT_MS", "400")
        .run()
        .expect_code(3)
        .expect_within(SOON);
    sandbox.assert_empty(&outcome);
}

#[test]
fn attempts_run_out() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::status(503));
    let outcome = get(&sandbox, &server, b"x")
        .run()
        .expect_code(3)
        .expect_stderr(&["503", "/a"])
        .expect_within(SOON);
    assert_eq!(server.count("/a"), 5, "{outcome:?}");
    for retry in 1..=4 {
        let line = format!("[a] retry {retry} of 4 in [TIME]: ");
        assert_eq!(outcome.lines(&line).len(), 1, "{outcome:?}");
    }
    assert_eq!(outcome.lines("error:").len(), 1, "{outcome:?}");
    sandbox.assert_empty(&outcome);
}

#[test]
fn attempts_can_be_configured() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::status(500));
    let outcome = get(&sandbox, &server, b"x")
        .env("FETCH_CONTENT_ATTEMPTS", "1")
        .run()
        .expect_code(3)
        .expect_not_in_stderr(&["retry 1"]);
    assert_eq!(server.count("/a"), 1, "{outcome:?}");
}

#[test]
fn options_go_before_variables() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok("x").stall_after(0));
    let outcome = get(&sandbox, &server, b"x")
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "20000")
        .args([
            "--attempts",
            "2",
            "--stall-timeout",
            "0.2",
            "--retry-base",
            "0.001",
        ])
        .run()
        .expect_code(3)
        .expect_stderr(&["sent nothing for 200ms", "gave up after 2 attempts"])
        .expect_within(SOON);
    assert_eq!(server.count("/a"), 2, "{outcome:?}");
    for mistake in [
        ["--attempts", "0"],
        ["--stall-timeout", "-1"],
        ["--connections", "x"],
    ] {
        get(&sandbox, &server, b"x")
            .args(mistake)
            .run()
            .expect_code(2);
    }
}

#[test]
fn retry_after_in_seconds_is_obeyed() {
    for status in [429, 503] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let busy = Reply::status(status).header("Retry-After", "1");
        server.serve_in_turn("/a", [busy, Reply::ok("x")]);
        let outcome = get(&sandbox, &server, b"x").run().expect_code(0);
        let pause = first_pause(&server);
        let expected = Duration::from_millis(950)..Duration::from_secs(3);
        assert!(expected.contains(&pause), "{pause:?} {outcome:?}");
    }
}

#[test]
fn retry_after_as_a_date_is_obeyed() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let date = SystemTime::now() + Duration::from_secs(2); // whole seconds: one to two from now
    let busy = Reply::status(503).header("Retry-After", httpdate::fmt_http_date(date));
    server.serve_in_turn("/a", [busy, Reply::ok("x")]);
    let outcome = get(&sandbox, &server, b"x").run().expect_code(0);
    let pause = first_pause(&server);
    let expected = Duration::from_millis(500)..Duration::from_secs(4);
    assert!(expected.contains(&pause), "{pause:?} {outcome:?}");
}

#[test]
fn a_retry_after_without_sense_is_ignored() {
    for value in ["soon", "-1", "", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        expect_one_retry(Reply::status(503).header("Retry-After", value));
    }
}

#[test]
fn a_long_retry_after_is_bounded() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let busy = Reply::status(503).header("Retry-After", "3600");
    server.serve_in_turn("/a", [busy, Reply::ok("x")]);
    get(&sandbox, &server, b"x")
        .env("FETCH_CONTENT_RETRY_AFTER_MAX_MS", "200")
        .run()
        .expect_code(0)
        .expect_within(SOON);
    assert!(first_pause(&server) >= Duration::from_millis(190));
}

#[test]
fn answers_that_stay_are_not_retried() {
    for (status, code, message) in [
        (400, "InputError", "That is no artifact name"),
        (401, "AuthenticationFailed", "Bad mac"),
        (
            403,
            "InsufficientScopes",
            "You lack queue:get-artifact:private/x",
        ),
        (404, "ResourceNotFound", "Artifact not found"),
        (410, "ResourceExpired", "Artifact has expired"),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let path = artifact(TASK_A, "public/x");
        server.serve(&path, Reply::api_error(status, code, message));
        let outcome = sandbox
            .task_artifacts(&server, &json!([entry("public/x")]))
            .env_remove("FETCH_CONTENT_RETRY_BASE_MS")
            .run()
            .expect_code(3)
            .expect_stderr(&[&status.to_string(), message, "public/x"])
            .expect_not_in_stderr(&["requestInfo", "---", "errorCode", "retry 1"])
            .expect_within(SOON);
        // The proxy, which is this server too, may open what is closed to everybody.
        let requests = if matches!(status, 401 | 403) { 2 } else { 1 };
        assert_eq!(server.count(&path), requests, "{outcome:?}");
        assert_eq!(outcome.lines("error:").len(), 1, "{outcome:?}");
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn an_error_artifact_tells_its_reason() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let path = artifact(TASK_A, "public/x");
    let body = json!({"reason": "file-missing-on-worker", "message": "No such file `x`"});
    server.serve(&path, Reply::with_status(424, body.to_string()));
    let outcome = sandbox
        .task_artifacts(&server, &json!([entry("public/x")]))
        .run()
        .expect_code(3)
        .expect_stderr(&["424", "file-missing-on-worker", "No such file `x`"]);
    assert_eq!(server.count(&path), 1, "{outcome:?}");
}

#[test]
fn an_error_page_needs_not_be_json() {
    for body in [
        &b""[..],
        b"<html><body>gone</body></html>",
        b"\x1b[31mred\x07\xff\xfe",
        b"{\"message\": 5}",
        b"[]",
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.serve("/a", Reply::with_status(404, body));
        get(&sandbox, &server, b"x")
            .run()
            .expect_code(3)
            .expect_stderr(&["404"])
            .expect_not_in_stderr(&["\u{1b}", "\u{7}"]);
    }
}

#[test]
fn a_huge_error_page_is_not_read_whole() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let page = Reply::with_status(404, vec![b'x'; 4_000_000]).stall_after(3_000_000);
    server.serve("/a", page);
    let outcome = get(&sandbox, &server, b"x")
        .run()
        .expect_code(3)
        .expect_within(SOON);
    assert!(
        outcome.stderr.len() < 4000,
        "{} bytes",
        outcome.stderr.len()
    );
}

#[test]
fn statuses_that_are_no_content_are_no_content() {
    for status in [204, 206, 300, 304] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.serve("/a", Reply::status(status));
        let outcome = get(&sandbox, &server, b"").run().expect_one_of(&[0, 3, 4]);
        assert!(status < 300 || !outcome.status.success(), "{outcome:?}");
    }
}

#[test]
fn a_content_length_that_lies_is_noticed() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(5000, 9);
    // Claims more than comes: truncated, as far as anyone can tell.
    server.serve("/a", Reply::ok(&content[..4000]).claiming_length(5000));
    let outcome = get(&sandbox, &server, &content).run().expect_code(3);
    assert_eq!(server.count("/a"), 5);
    sandbox.assert_empty(&outcome);
    // Claims less than comes: the claim is the size.
    server.serve("/a", Reply::ok(&content).claiming_length(4000));
    let outcome = get(&sandbox, &server, &content).run().expect_code(4);
    sandbox.assert_empty(&outcome);
    // Not a number at all.
    let reply = Reply::ok(&content).without_length();
    server.serve("/a", reply.header("Content-Length", "many"));
    let outcome = get(&sandbox, &server, &content)
        .run()
        .expect_one_of(&[3, 4]);
    sandbox.assert_empty(&outcome);
}

#[test]
fn a_server_that_speaks_no_http_is_an_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    // The head of the second response is inside the body that was claimed to be shorter.
    server.serve("/a", Reply::ok("x").header("Bad\u{0}Name", "v"));
    let outcome = get(&sandbox, &server, b"x").run().expect_code(3);
    sandbox.assert_empty(&outcome);
}

#[test]
fn a_refused_connection_is_retried_then_an_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let address = refused_address();
    let outcome = sandbox
        .task_artifacts(&server, &json!([entry("public/x")]))
        .env("TASKCLUSTER_ROOT_URL", format!("http://{address}"))
        .env("FETCH_CONTENT_ATTEMPTS", "3")
        .run()
        .expect_code(3)
        .expect_stderr(&["refused", "public/x"])
        .expect_within(SOON);
    assert_eq!(outcome.lines("[x] retry").len(), 2, "{outcome:?}");
    sandbox.assert_empty(&outcome);
}

#[test]
fn a_retry_extracts_into_a_clean_place() {
    let wanted = tar_of(&[
        file("tool/first", noise(60_000, 1)),
        file("tool/second", noise(60_000, 2)),
    ]);
    // The broken attempt has a member that the good one has not, and half of another.
    let broken = tar_of(&[
        file("tool/stray", noise(40_000, 3)),
        file("tool/first", noise(400_000, 4)),
    ]);
    for (name, compress) in [
        ("a.tar", (|bytes| bytes.to_vec()) as fn(&[u8]) -> Vec<u8>),
        ("a.tar.gz", gz),
        ("a.tar.zst", zst),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let (good, bad) = (compress(&wanted), compress(&broken));
        let (three_quarters, name) = (bad.len() * 3 / 4, format!("public/{name}"));
        server.serve_in_turn(
            &artifact(TASK_A, &name),
            [
                Reply::ok(&bad).cut_after(three_quarters),
                Reply::ok(&bad).reset_after(three_quarters),
                Reply::ok(&good),
            ],
        );
        let outcome = sandbox
            .task_artifacts(&server, &json!([entry(&name)]))
            .run()
            .expect_code(0);
        assert_eq!(
            sandbox.fetched().paths(),
            ["tool", "tool/first", "tool/second"],
            "{outcome:?}"
        );
        assert!(sandbox.read("fetches/tool/first") == noise(60_000, 1));
        assert!(sandbox.read("fetches/tool/second") == noise(60_000, 2));
    }
}

#[test]
fn a_zip_cut_in_the_middle_is_retried() {
    let zip = zip_of(&[file("a", noise(60_000, 1))]);
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve_in_turn(
        &artifact(TASK_A, "public/a.zip"),
        [Reply::ok(&zip).cut_after(30_000), Reply::ok(&zip)],
    );
    sandbox
        .task_artifacts(&server, &json!([entry("public/a.zip")]))
        .run()
        .expect_code(0);
    assert_eq!(sandbox.fetched().paths(), ["a"]);
}

#[test]
fn a_damaged_archive_that_is_complete_is_not_retried() {
    let tar = tar_of(&[file("a", noise(60_000, 1)), file("b", noise(60_000, 2))]);
    let mut damaged_gz = gz(&tar);
    damaged_gz[40_000] ^= 0x55;
    let mut bad_header = tar.clone();
    let second = 512 + 60_000_usize.next_multiple_of(512);
    bad_header[second..second + 512].fill(0x41);
    // Long enough for a whole block: a frame that breaks off before is not known to hold a tar.
    let cut_zst = zst(&tar_of(&[file("a", noise(600_000, 1))]))[..400_000].to_vec();
    let zip = zip_of(&[file("a", noise(60_000, 1))]);
    for (name, content) in [
        ("a.tar.gz", damaged_gz),
        ("a.tar", bad_header),
        ("a.tar.zst", cut_zst),
        ("b.tar", tar[..30_000].to_vec()),
        ("a.zip", zip[..50_000].to_vec()),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let path = artifact(TASK_A, &format!("public/{name}"));
        server.serve(&path, Reply::ok(&content));
        let outcome = sandbox
            .task_artifacts(&server, &json!([entry(&format!("public/{name}"))]))
            .run()
            .expect_code(5)
            .expect_stderr(&[name]);
        assert_eq!(server.count(&path), 1, "{outcome:?}");
        assert_eq!(outcome.lines("error:").len(), 1, "{outcome:?}");
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn one_failure_cancels_the_others() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let slow = artifact(TASK_A, "public/slow.tar");
    let slower = artifact(TASK_A, "public/slower.bin");
    let missing = artifact(TASK_A, "public/missing");
    let tar = tar_of(&[file("a", noise(60_000, 1)), file("b", noise(60_000, 2))]);
    server.serve(&slow, Reply::ok(&tar).stall_after(90_000));
    server.serve(
        &slower,
        Reply::ok(noise(9000, 1))
            .stall_after(5000)
            .once_stalled(&slow),
    );
    let reply = Reply::api_error(404, "ResourceNotFound", "Artifact not found");
    server.serve(&missing, reply.once_stalled(&slower));
    let fetches = json!([
        entry("public/slow.tar"),
        entry("public/slower.bin"),
        entry("public/missing"),
    ]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(3)
        .expect_stderr(&["public/missing"])
        .expect_within(SOON);
    let [error] = outcome.lines("error:")[..] else {
        panic!("not one error: {outcome:?}");
    };
    assert!(!error.contains("slow"), "{outcome:?}");
    sandbox.assert_empty(&outcome);
}

#[test]
fn one_failure_means_that_nothing_is_published() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let good = artifact(TASK_A, "public/good.tar.gz");
    let archive = gz(&tar_of(&[file("a", "a")]));
    server.serve(&good, Reply::ok(&archive));
    let bad = artifact(TASK_A, "public/bad");
    server.serve(&bad, Reply::status(410).once_served(&good));
    sandbox.write("fetches/before", "b");
    let before = sandbox.tree();
    let outcome = sandbox
        .task_artifacts(
            &server,
            &json!([entry("public/good.tar.gz"), entry("public/bad")]),
        )
        .run()
        .expect_code(3);
    let after = sandbox.tree().without_mtimes();
    before
        .without_mtimes()
        .assert_same(&after, "after a failure");
    assert!(!outcome.stderr.contains("PERFHERDER_DATA"), "{outcome:?}");
}

#[test]
fn a_failure_does_not_wait_for_a_pause_to_end() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let busy = artifact(TASK_A, "public/busy");
    let missing = artifact(TASK_A, "public/missing");
    server.serve(&busy, Reply::status(503).header("Retry-After", "60"));
    server.serve(&missing, Reply::status(404).once_served(&busy));
    sandbox
        .task_artifacts(
            &server,
            &json!([entry("public/busy"), entry("public/missing")]),
        )
        .run()
        .expect_code(3)
        .expect_within(SOON);
}

#[test]
fn a_destination_below_a_file_is_an_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok("x"));
    server.serve(&artifact(TASK_A, "public/x"), Reply::ok("x"));
    sandbox.write("file", "f");
    let before = sandbox.tree();
    sandbox
        .static_url("x", &server.url("/a"), "file/below/a")
        .run()
        .expect_one_of(&[2, 6])
        .expect_stderr(&["[TMP]/file"]);
    for dest in ["file", "file/below"] {
        sandbox
            .task_artifacts(&server, &json!([entry("public/x")]))
            .env("MOZ_FETCHES_DIR", sandbox.path(dest))
            .run()
            .expect_one_of(&[2, 6])
            .expect_stderr(&["[TMP]/file"]);
    }
    before.assert_same(&sandbox.tree(), "the sandbox");
    assert!(server.requests().is_empty(), "{:?}", server.paths());
}

#[test]
fn a_dest_of_an_entry_below_a_file_is_an_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve(&artifact(TASK_A, "public/x"), Reply::ok("x"));
    server.serve(&artifact(TASK_A, "public/y"), Reply::ok("y"));
    let mut below = entry("public/y");
    below["dest"] = json!("x/below");
    // `x` is a file that the first entry publishes; the second needs a directory there: the later wins, or an error.
    let outcome = sandbox
        .task_artifacts(&server, &json!([entry("public/x"), below]))
        .run()
        .expect_one_of(&[0, 2, 6]);
    if outcome.status.success() {
        assert_eq!(sandbox.fetched().paths(), ["x", "x/below", "x/below/y"]);
    } else {
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn dest_that_is_a_directory_is_an_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok("x"));
    sandbox.write("out/a/kept", "k");
    let before = sandbox.tree();
    get(&sandbox, &server, b"x")
        .run()
        .expect_one_of(&[2, 6])
        .expect_stderr(&["[TMP]/out/a"]);
    let after = sandbox.tree().without_mtimes();
    before.without_mtimes().assert_same(&after, "the sandbox");
}

#[test]
fn a_destination_that_is_not_writable_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve(&artifact(TASK_A, "public/x"), Reply::ok("x"));
    let locked = sandbox.path("locked");
    std::fs::create_dir(&locked).expect("a directory");
    let mode = |mode| std::fs::set_permissions(&locked, PermissionsExt::from_mode(mode));
    mode(0o555).expect("lock the directory");
    if std::fs::write(locked.join("probe"), "").is_ok() {
        return skip(
            "a_destination_that_is_not_writable_is_an_error",
            "modes do not stop this user (root)",
        );
    }
    for dest in ["locked", "locked/below"] {
        sandbox
            .task_artifacts(&server, &json!([entry("public/x")]))
            .env("MOZ_FETCHES_DIR", sandbox.path(dest))
            .run()
            .expect_one_of(&[2, 6])
            .expect_stderr(&["[TMP]/locked"]);
    }
    mode(0o755).expect("unlock the directory");
    assert!(server.requests().is_empty(), "{:?}", server.paths());
}

#[test]
fn pauses_grow_and_have_jitter() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::status(503));
    let start = Instant::now();
    get(&sandbox, &server, b"x")
        .env("FETCH_CONTENT_RETRY_BASE_MS", "100000")
        .env("FETCH_CONTENT_RETRY_MAX_MS", "50")
        .run()
        .expect_code(3);
    assert!(start.elapsed() < SOON, "the cap holds");
}

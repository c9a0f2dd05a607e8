//! Transfers that break and go on: what is asked for again, what is not, and when everything starts over.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use serde_json::json;

use crate::support::archives::{file, noise, sha256_hex, stored_zip_of, tar_of, zip_of, zst};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, artifact};
use crate::support::server::{Reply, Server};

const SIZE: usize = 1_000_000;

/// A run of `static-url` for `/a`.
fn get<'a>(sandbox: &'a Sandbox, server: &Server, content: &[u8]) -> Invocation<'a> {
    sandbox
        .static_url(content, &server.url("/a"), "out/a")
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "500")
}

/// Fetches `/a`, which is answered with these replies in turn, and expects the content.
fn expect_content(
    server: &Server,
    content: &[u8],
    replies: impl IntoIterator<Item = Reply>,
) -> Outcome {
    let sandbox = Sandbox::new();
    server.serve_in_turn("/a", replies);
    let outcome = get(&sandbox, server, content).run().expect_code(0);
    assert!(sandbox.read("out/a") == content, "{outcome:?}");
    outcome
}

/// The `Range` of each request for `/a`.
fn ranges(server: &Server) -> Vec<Option<String>> {
    let requests = server.requests();
    requests
        .iter()
        .map(|seen| seen.header("range").map(str::to_owned))
        .collect()
}

fn from(byte: usize) -> String {
    format!("bytes={byte}-")
}

#[test]
fn a_broken_transfer_goes_on_where_it_broke() {
    let content = noise(SIZE, 1);
    let whole = || Reply::ranged(&content, "one");
    for (first, all_that_was_sent) in [
        (whole().cut_after(750_000), true),
        // The system throws away what it has of a connection that is reset.
        (whole().reset_after(750_000), false),
        (whole().stall_after(750_000), true),
    ] {
        let server = Server::start();
        let outcome = expect_content(&server, &content, [first, whole()])
            .expect_stderr(&["[a] retry 1 of 4 in [TIME]: "]);
        let requests = server.requests();
        assert_eq!(requests.len(), 2, "{outcome:?}");
        assert_eq!(requests[1].header("if-range"), Some("\"one\""));
        if all_that_was_sent {
            outcome.expect_stderr(&["[a] goes on after 750.0 kB"]);
            assert_eq!(requests[1].header("range"), Some("bytes=750000-"));
        }
    }
}

#[test]
fn progress_renews_the_attempts() {
    // Nine cuts with a budget of five attempts; a tenth more of it arrives each time.
    let content = noise(SIZE, 2);
    let server = Server::start();
    let cut = || Reply::ranged(&content, "one").cut_after(SIZE / 10);
    let outcome = expect_content(
        &server,
        &content,
        (0..10)
            .map(|_| cut())
            .chain([Reply::ranged(&content, "one")]),
    );
    assert_eq!(outcome.lines("[a] goes on after").len(), 9, "{outcome:?}");
    assert_eq!(server.sent("/a"), SIZE as u64, "{outcome:?}");
}

#[test]
fn bytes_that_have_arrived_are_not_sent_again() {
    let content = vec![7; 40_000_000];
    let server = Server::start();
    let whole = || Reply::ranged(&content, "one");
    expect_content(&server, &content, [whole().cut_after(30_000_000), whole()]);
    let sent = server.sent("/a");
    assert!(sent <= 42_000_000, "{sent}");
}

#[test]
fn an_archive_is_unpacked_through_a_break() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let archive = zst(&tar_of(&[file("a", noise(600_000, 3)), file("b", b"end")]));
    let path = artifact(TASK_A, "public/x.tar.zst");
    let whole = || Reply::ranged(&archive, "one");
    server.serve_in_turn(&path, [whole().cut_after(400_000), whole()]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/x.tar.zst"}]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("fetches/b"), b"end", "{outcome:?}");
    assert_eq!(sandbox.read("fetches/a").len(), 600_000);
    assert_eq!(server.sent(&path), archive.len() as u64);
}

/// Members as large as that are decoded before the archive is whole.
const LARGE: usize = 5 << 20;

#[test]
fn a_zip_is_decoded_through_a_break() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let members = [
        file("a", noise(LARGE, 21)),
        file("b", b"small"),
        file("c", noise(LARGE, 22)),
    ];
    let archive = zip_of(&members);
    let path = artifact(TASK_A, "public/x.zip");
    let whole = || Reply::ranged(&archive, "one");
    let slowly = whole().slowly(1 << 20, Duration::from_millis(20));
    server.serve_in_turn(&path, [whole().cut_after(3_000_000), slowly]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/x.zip"}]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert!(sandbox.read("fetches/a") == noise(LARGE, 21), "{outcome:?}");
    assert_eq!(sandbox.read("fetches/b"), b"small");
    assert!(sandbox.read("fetches/c") == noise(LARGE, 22), "{outcome:?}");
    assert_eq!(server.sent(&path), archive.len() as u64);
}

#[test]
fn what_was_decoded_of_a_poisoned_zip_is_not_used() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let members = |seed| ["a", "b"].map(|name| file(name, noise(LARGE, seed)));
    let archive = |seed| stored_zip_of(&members(seed));
    let (poisoned, archive) = (archive(23), archive(24));
    assert_eq!(poisoned.len(), archive.len());
    let path = artifact(TASK_A, "public/x.zip");
    let cut = Reply::ranged(&poisoned, "one").cut_after(7_000_000);
    server.serve_in_turn(&path, [cut, Reply::ranged(&archive, "one")]);
    let (artifact, sha256) = ("public/x.zip", sha256_hex(&archive));
    let fetches = json!([{"task": TASK_A, "artifact": artifact, "sha256": sha256}]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0)
        .expect_stderr(&["sha256 mismatch on"]);
    for name in ["a", "b"] {
        let content = sandbox.read(&format!("fetches/{name}"));
        assert!(content == noise(LARGE, 24), "{name}");
    }
    assert_eq!(sandbox.fetched().paths(), ["a", "b"]);
}

#[test]
fn whoever_has_sent_the_beginning_is_asked_for_the_rest() {
    // A redirector may lead elsewhere next time, where another file of that name is.
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(SIZE, 4);
    let whole = || Reply::ranged(&content, "one");
    server.serve("/a", Reply::redirect(302, server.url("/mirror")));
    server.serve_in_turn("/mirror", [whole().cut_after(500_000), whole()]);
    get(&sandbox, &server, &content).run().expect_code(0);
    assert_eq!(server.paths(), ["/a", "/mirror", "/mirror"]);
}

#[test]
fn a_storage_url_that_has_expired_is_asked_for_anew() {
    for refusal in [400, 403, 404, 503] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let content = noise(SIZE, 4);
        server.serve_in_turn(
            "/a",
            [
                Reply::redirect(303, server.url("/old?sig=1")),
                Reply::redirect(303, server.url("/new?sig=2")),
            ],
        );
        let whole = || Reply::ranged(&content, "one");
        server.serve_in_turn(
            "/old?sig=1",
            [whole().cut_after(500_000), Reply::status(refusal)],
        );
        server.serve("/new?sig=2", whole());
        get(&sandbox, &server, &content).run().expect_code(0);
        assert_eq!(
            server.paths(),
            ["/a", "/old?sig=1", "/old?sig=1", "/a", "/new?sig=2"]
        );
        assert_eq!(ranges(&server)[4], Some(from(500_000)));
    }
}

#[test]
fn a_part_is_as_long_as_it_says() {
    // Chunked, so that no transport tells.
    let content = noise(SIZE, 17);
    let part = |to: usize| {
        Reply::with_status(206, &content[400_000..to])
            .header("ETag", "\"one\"")
            .header("Content-Range", "bytes 400000-999999/1000000")
            .chunked()
    };
    let mut longer = content.clone();
    longer.extend_from_slice(b"more");
    let too_long = Reply::with_status(206, &longer[400_000..])
        .header("ETag", "\"one\"")
        .header("Content-Range", "bytes 400000-999999/1000000")
        .chunked();
    // As an artifact: nothing but the parts says what is right.
    let path = artifact(TASK_A, "public/a");
    let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": false}]);
    for second in [part(400_000), part(700_000), too_long] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let whole = Reply::ranged(&content, "one");
        server.serve_in_turn(&path, [whole.clone().cut_after(400_000), second, whole]);
        let run = sandbox.task_artifacts(&server, &fetches).run();
        let outcome = run.expect_code(0);
        assert!(sandbox.read("fetches/a") == content, "{outcome:?}");
        assert!(server.count(&path) <= 4, "{:?}", ranges(&server));
    }
}

#[test]
fn servers_that_do_not_send_what_they_say_are_given_up() {
    let content = noise(SIZE, 17);
    let mut longer = content.clone();
    longer.extend_from_slice(b"more");
    for (sent, words) in [
        (&content[..0], "ended after 400000 bytes of 1000000"),
        (&longer[400_000..], "there is more than was announced"),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let lie = Reply::with_status(206, sent)
            .header("ETag", "\"one\"")
            .header("Content-Range", "bytes 400000-999999/1000000")
            .chunked();
        let whole = Reply::ranged(&content, "one");
        server.serve_in_turn("/a", [whole.cut_after(400_000), lie]);
        let outcome = get(&sandbox, &server, &content)
            .run()
            .expect_code(3)
            .expect_stderr(&[words]);
        assert!(server.count("/a") < 20, "{outcome:?}");
    }
}

#[test]
fn many_small_steps_are_progress() {
    // A balancer that cuts each connection after a little; none of them brings a hundredth.
    let content = noise(SIZE, 18);
    let server = Server::start();
    let cut = || Reply::ranged(&content, "one").cut_after(SIZE / 125);
    expect_content(
        &server,
        &content,
        (0..124)
            .map(|_| cut())
            .chain([Reply::ranged(&content, "one")]),
    );
}

#[test]
fn last_modified_will_do() {
    let content = noise(SIZE, 5);
    let date = "Tue, 14 Nov 2023 22:13:20 GMT";
    let whole = || {
        Reply::ok(&content)
            .header("Last-Modified", date)
            .with_ranges()
    };
    let server = Server::start();
    expect_content(&server, &content, [whole().cut_after(400_000), whole()]);
    assert_eq!(server.requests()[1].header("if-range"), Some(date));
    assert_eq!(ranges(&server), [None, Some(from(400_000))]);
}

#[test]
fn without_something_to_tell_a_change_by_it_starts_over() {
    let content = noise(SIZE, 6);
    for plain in [
        Reply::ok(&content).with_ranges(),
        Reply::ok(&content)
            .header("ETag", "W/\"weak\"")
            .with_ranges(),
    ] {
        let server = Server::start();
        expect_content(&server, &content, [plain.clone().cut_after(400_000), plain])
            .expect_not_in_stderr(&["goes on after"]);
        assert_eq!(ranges(&server), [None, None]);
    }
}

#[test]
fn what_cannot_be_gone_on_with_starts_over() {
    let content = noise(SIZE, 7);
    let whole = || Reply::ranged(&content, "one");
    for (second, problem) in [
        (
            Reply::ok(&content).header("ETag", "\"one\""),
            "the server sends the whole again",
        ),
        (
            Reply::ok(&content),
            "the server does not say whether it has changed",
        ),
        (Reply::ranged(&content, "two"), "it has changed"),
        (
            Reply::with_status(206, &content[400_000..])
                .header("ETag", "\"two\"")
                .header("Content-Range", "bytes 400000-999999/1000000"),
            "it has changed",
        ),
        (whole().refusing_ranges(), "it is shorter now"),
        (
            whole().shifting_ranges(1),
            "the server sends bytes 400001 to 1000000 of 1000000, not bytes 400000 to",
        ),
        (
            Reply::with_status(206, &content[400_000..]).header("ETag", "\"one\""),
            "the server does not say which part",
        ),
        (
            Reply::with_status(206, &content[400_000..])
                .header("ETag", "\"one\"")
                .header("Content-Range", "bytes 400000-999999/1000001"),
            "the server sends bytes 400000 to 1000000 of 1000001, not",
        ),
    ] {
        let server = Server::start();
        expect_content(
            &server,
            &content,
            [whole().cut_after(400_000), second, whole()],
        )
        .expect_stderr(&[&format!("cannot be resumed at byte 400000: {problem}")]);
        assert_eq!(
            ranges(&server),
            [None, Some(from(400_000)), None],
            "{problem}"
        );
    }
}

#[test]
fn content_that_changed_meanwhile_is_never_mixed() {
    let (old, new) = (noise(SIZE, 8), noise(SIZE, 9));
    let server = Server::start();
    expect_content(
        &server,
        &new,
        [
            Reply::ranged(&old, "old").cut_after(600_000),
            Reply::ranged(&new, "new"),
        ],
    );
    assert_eq!(ranges(&server), [None, Some(from(600_000)), None]);
}

#[test]
fn a_poisoned_beginning_is_fetched_anew_once() {
    // Two edges of a cache claim to have the same, and one does not.
    let content = noise(SIZE, 10);
    let mut poisoned = content.clone();
    poisoned[100] ^= 1;
    let server = Server::start();
    expect_content(
        &server,
        &content,
        [
            Reply::ranged(&poisoned, "one").cut_after(600_000),
            Reply::ranged(&content, "one"),
        ],
    )
    .expect_stderr(&["sha256 mismatch on"]);
    assert_eq!(ranges(&server), [None, Some(from(600_000)), None]);
}

#[test]
fn encoded_content_is_not_resumed() {
    let content = noise(SIZE, 11);
    let encoded = || {
        Reply::gzipped(&content)
            .header("ETag", "\"one\"")
            .with_ranges()
    };
    let server = Server::start();
    expect_content(&server, &content, [encoded().cut_after(500_000), encoded()]);
    assert_eq!(ranges(&server), [None, None]);
}

#[test]
fn a_server_that_stays_away_is_given_up() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(SIZE, 12);
    let whole = Reply::ranged(&content, "one").cut_after(500_000);
    server.serve_in_turn("/a", [whole, Reply::status(503)]);
    let outcome = get(&sandbox, &server, &content)
        .run()
        .expect_code(3)
        .expect_stderr(&["gave up after 5 attempts in [TIME]"]);
    assert_eq!(server.count("/a"), 5, "{outcome:?}");
    sandbox.assert_empty(&outcome);
}

#[test]
fn what_is_gone_is_not_waited_for() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(SIZE, 13);
    let whole = Reply::ranged(&content, "one").cut_after(500_000);
    server.serve_in_turn("/a", [whole, Reply::status(404)]);
    get(&sandbox, &server, &content).run().expect_code(3);
    assert_eq!(server.count("/a"), 2);
}

#[test]
fn a_transfer_that_crawls_is_broken_off_and_goes_on_elsewhere() {
    let content = noise(SIZE, 14);
    let whole = || Reply::ranged(&content, "one");
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve_in_turn(
        "/a",
        [whole().slowly(10, Duration::from_millis(20)), whole()],
    );
    get(&sandbox, &server, &content)
        .env("FETCH_CONTENT_MIN_SPEED", "100000")
        .run()
        .expect_code(0)
        .expect_stderr(&["bytes/s for 500ms, less than 100000", "[a] goes on after"]);
}

/// What may go wrong with one answer.
fn any_reply(content: &[u8], other: &[u8]) -> impl Strategy<Value = Reply> + use<> {
    let size = content.len();
    let body = prop_oneof![
        8 => Just(Reply::ranged(content, "one")),
        1 => Just(Reply::ok(content)),
        1 => Just(Reply::ranged(content, "two")),
        1 => Just(Reply::ranged(other, "two")),
        1 => Just(Reply::ranged(other, "one")),
        1 => Just(Reply::ranged(&content[..size / 2], "one")),
        1 => Just(Reply::ok(content).chunked()),
        1 => Just(Reply::gzipped(content).header("ETag", "\"one\"").with_ranges()),
    ];
    let broken = (body, 0..size, 0..8).prop_map(|(reply, at, fault)| match fault {
        0 | 1 => reply.cut_after(at),
        2 => reply.reset_after(at),
        3 => reply.stall_after(at),
        4 => reply.refusing_ranges(),
        5 => reply.shifting_ranges(at % 3),
        _ => reply,
    });
    prop_oneof![
        6 => broken,
        1 => prop::sample::select(vec![206, 304, 400, 403, 404, 408, 416, 429, 500, 503]).prop_map(Reply::status),
        1 => Just(Reply::close_before_response()),
        1 => Just(Reply::reset_before_response()),
    ]
}

#[test]
fn any_network_brings_the_exact_content_or_an_error() {
    let content = noise(300_000, 15);
    let other = noise(300_000, 16);
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    };
    let scripts = prop::collection::vec(any_reply(&content, &other), 1..8);
    TestRunner::new(config)
        .run(&scripts, |replies| {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            server.serve_in_turn("/a", replies);
            let outcome = get(&sandbox, &server, &content)
                .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "150")
                .run()
                .expect_one_of(&[0, 3, 4]);
            if outcome.status.success() {
                prop_assert!(sandbox.read("out/a") == content, "{outcome:?}");
            } else {
                sandbox.assert_empty(&outcome);
            }
            Ok(())
        })
        .expect("the exact content or a clean error");
}

#[test]
fn an_outage_of_three_seconds_costs_less_than_six() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::status(503));
    let run = get(&sandbox, &server, b"x")
        .env_remove("FETCH_CONTENT_RETRY_BASE_MS")
        .env_remove("FETCH_CONTENT_ATTEMPTS")
        .spawn();
    server.wait_for_request("/a");
    std::thread::sleep(Duration::from_secs(3));
    server.serve("/a", Reply::ok("x"));
    run.finish()
        .expect_code(0)
        .expect_within(Duration::from_millis(6500));
}

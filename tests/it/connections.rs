//! Several connections for one body: when there are more than one, what they bring, and what happens when they fail.

use std::time::Duration;

use crate::support::archives::noise;
use crate::support::sandbox::{Invocation, Outcome, Sandbox};
use crate::support::server::{Reply, Server};

const SIZE: usize = 30_000_000;

/// What a connection brings in a second of the servers here that limit it: 10 MB.
fn limited(reply: Reply) -> Reply {
    reply.slowly(100_000, Duration::from_millis(10))
}

fn content() -> Vec<u8> {
    noise(1_000_003, 1).into_iter().cycle().take(SIZE).collect()
}

fn get<'a>(sandbox: &'a Sandbox, server: &Server, content: &[u8]) -> Invocation<'a> {
    sandbox
        .static_url(content, &server.url("/a"), "out/a")
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "5000")
}

fn expect_content(server: &Server, content: &[u8]) -> Outcome {
    let sandbox = Sandbox::new();
    let outcome = get(&sandbox, server, content).run().expect_code(0);
    assert!(sandbox.read("out/a") == content, "{outcome:?}");
    outcome
}

/// How many requests asked for a part.
fn parts(server: &Server) -> usize {
    let requests = server.requests();
    requests
        .iter()
        .filter(|seen| seen.header("range").is_some())
        .count()
}

#[test]
fn a_limit_per_connection_is_got_over() {
    let (server, content) = (Server::start(), content());
    server.serve("/a", limited(Reply::ranged(&content, "one")));
    let outcome = expect_content(&server, &content);
    assert!(
        (3..=17).contains(&server.most_at_once()),
        "{} {outcome:?}",
        server.most_at_once()
    );
    // What the first connection had sent when the second took over is lost.
    assert!(
        server.sent("/a") < (SIZE + SIZE / 20) as u64,
        "{}",
        server.sent("/a")
    );
}

#[test]
fn the_number_of_connections_has_a_limit() {
    for (most, allowed) in [("1", 1), ("2", 2)] {
        let (sandbox, server, content) = (Sandbox::new(), Server::start(), content());
        server.serve("/a", limited(Reply::ranged(&content, "one")));
        get(&sandbox, &server, &content)
            .env("FETCH_CONTENT_CONNECTIONS", most)
            .run()
            .expect_code(0);
        // The one that is replaced may still be there for a moment.
        assert!(
            server.most_at_once() <= allowed + usize::from(allowed > 1),
            "{}",
            server.most_at_once()
        );
    }
}

#[test]
fn a_server_that_does_not_offer_ranges_is_not_asked_for_them() {
    let (server, content) = (Server::start(), content());
    server.serve("/a", limited(Reply::ok(&content).header("ETag", "\"one\"")));
    expect_content(&server, &content);
    assert_eq!(server.count("/a"), 1);
}

#[test]
fn ranges_that_turn_out_to_be_ignored_cost_nothing() {
    let (server, content) = (Server::start(), content());
    let first = Reply::ok(&content)
        .header("ETag", "\"one\"")
        .header("Accept-Ranges", "bytes");
    server.serve("/a", limited(first));
    let outcome = expect_content(&server, &content).expect_not_in_stderr(&["retry"]);
    assert!(server.count("/a") <= 4, "{outcome:?}");
}

#[test]
fn further_connections_that_are_refused_cost_nothing() {
    // As with a limit of connections per client.
    let (server, content) = (Server::start(), content());
    server.serve_in_turn(
        "/a",
        [limited(Reply::ranged(&content, "one")), Reply::status(503)],
    );
    let outcome = expect_content(&server, &content).expect_not_in_stderr(&["retry"]);
    assert!(server.count("/a") <= 4, "{outcome:?}");
}

#[test]
fn parts_that_break_are_gone_on_with() {
    let (server, content) = (Server::start(), content());
    let whole = || limited(Reply::ranged(&content, "one"));
    let cut = || Reply::ranged(&content, "one").cut_after(1_000_000);
    server.serve_in_turn("/a", [whole(), whole(), cut(), cut(), cut(), whole()]);
    let outcome = expect_content(&server, &content);
    assert!(parts(&server) >= 5, "{outcome:?}");
}

#[test]
fn parts_of_something_else_are_never_mixed_in() {
    let (server, content) = (Server::start(), content());
    let mut other = content.clone();
    other.reverse();
    server.serve_in_turn(
        "/a",
        [
            limited(Reply::ranged(&content, "one")),
            limited(Reply::ranged(&content, "one")),
            Reply::ranged(&other, "two"),
            Reply::ranged(&other, "two"),
            Reply::ranged(&other, "two"),
            Reply::ranged(&content, "one"),
        ],
    );
    expect_content(&server, &content);
}

#[test]
fn a_connection_that_falls_silent_is_replaced() {
    // The first sends a burst and then nothing; others are quick. Nobody waits for the stall time-out.
    let (sandbox, server, content) = (Sandbox::new(), Server::start(), content());
    let whole = || Reply::ranged(&content, "one");
    server.serve_in_turn("/a", [whole().stall_after(5_000_000), whole()]);
    get(&sandbox, &server, &content)
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "20000")
        .run()
        .expect_code(0)
        .expect_not_in_stderr(&["retry"])
        .expect_within(Duration::from_secs(10));
}

#[test]
fn parts_come_from_where_a_redirect_led_and_credentials_do_not() {
    let (sandbox, server, storage, content) =
        (Sandbox::new(), Server::start(), Server::start(), content());
    server.serve("/a", Reply::redirect(303, storage.url("/blob?sig=1")));
    storage.serve("/blob?sig=1", limited(Reply::ranged(&content, "one")));
    get(&sandbox, &server, &content)
        .args(["-H", "Authorization: secret"])
        .run()
        .expect_code(0);
    assert_eq!(server.count("/a"), 1);
    assert!(parts(&storage) > 2);
    let leaked = storage
        .requests()
        .iter()
        .any(|seen| seen.header("authorization").is_some());
    assert!(!leaked);
}

#[test]
fn a_storage_url_that_expires_meanwhile_is_renewed() {
    let (server, content) = (Server::start(), content());
    server.serve_in_turn(
        "/a",
        [
            Reply::redirect(303, server.url("/old?sig=1")),
            Reply::redirect(303, server.url("/new?sig=2")),
        ],
    );
    let old = || limited(Reply::ranged(&content, "one"));
    server.serve_in_turn(
        "/old?sig=1",
        [old(), old(), Reply::with_status(403, "Request has expired")],
    );
    server.serve("/new?sig=2", limited(Reply::ranged(&content, "one")));
    expect_content(&server, &content).expect_not_in_stderr(&["sig="]);
    assert!(server.count("/a") >= 2);
}

#[test]
fn servers_that_do_not_agree_on_a_tag_are_no_obstacle() {
    // A farm: two of three requests get to a node with another tag for the same file.
    let (server, content) = (Server::start(), content());
    let node = |tag: &str| limited(Reply::ranged(&content, tag));
    server.serve_in_turn(
        "/a",
        (0..100).map(|n| node(if n % 3 == 0 { "one" } else { "two" })),
    );
    expect_content(&server, &content);
    assert!(server.count("/a") < 20, "{}", server.count("/a"));
}

//! `--mirror`: the same content from somewhere else.

use std::time::Duration;

use crate::support::archives::noise;
use crate::support::sandbox::{Invocation, Sandbox};
use crate::support::server::{Reply, Server};

fn get<'a>(sandbox: &'a Sandbox, server: &Server, content: &[u8]) -> Invocation<'a> {
    sandbox
        .static_url(content, &server.url("/a"), "out/a")
        .args(["--mirror", &server.url("/b"), "--mirror", &server.url("/c")])
}

#[test]
fn a_mirror_stands_in_for_what_is_gone() {
    let content = noise(50_000, 1);
    for broken in [
        Reply::status(404),
        Reply::status(503),
        Reply::close_before_response(),
        Reply::ok(&content[1..]),
        Reply::ok(noise(50_000, 2)),
        Reply::ok(&content).cut_after(20_000),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.serve("/a", broken);
        server.serve("/b", Reply::ok(&content));
        let outcome = get(&sandbox, &server, &content)
            .run()
            .expect_code(0)
            .expect_stderr(&[
                "warning: ",
                "http://127.0.0.1:[PORT]/a",
                "; next is http://127.0.0.1:[PORT]/b",
            ])
            .expect_not_in_stderr(&["retry"])
            .expect_within(Duration::from_secs(5));
        assert_eq!(server.paths(), ["/a", "/b"], "{outcome:?}");
        assert!(sandbox.read("out/a") == content);
    }
}

#[test]
fn mirrors_can_go_first() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/b", Reply::status(404));
    server.serve("/c", Reply::ok("x"));
    get(&sandbox, &server, b"x")
        .args(["--mirrors-first"])
        .run()
        .expect_code(0);
    assert_eq!(server.paths(), ["/b", "/c"]);
}

#[test]
fn all_are_tried_again_that_may_come_back() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::status(404));
    server.serve_in_turn(
        "/b",
        [Reply::status(503), Reply::status(503), Reply::ok("x")],
    );
    server.serve("/c", Reply::ok("wrong"));
    get(&sandbox, &server, b"x")
        .run()
        .expect_code(0)
        .expect_stderr(&["retry 2 of 4"]);
    assert_eq!(server.paths(), ["/a", "/b", "/c", "/b", "/b"]);
}

#[test]
fn the_error_names_the_last_hope() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let outcome = get(&sandbox, &server, b"x")
        .run()
        .expect_code(3)
        .expect_stderr(&["http://127.0.0.1:[PORT]/c answered 404"]);
    assert_eq!(server.paths(), ["/a", "/b", "/c"], "{outcome:?}");
    sandbox.assert_empty(&outcome);
}

#[test]
fn headers_are_not_for_mirrors() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/b", Reply::ok("x"));
    get(&sandbox, &server, b"x")
        .args(["-H", "Authorization: secret"])
        .run()
        .expect_code(0);
    let requests = server.requests();
    assert_eq!(requests[0].header("authorization"), Some("secret"));
    assert_eq!(requests[1].header("authorization"), None);
}

#[test]
fn a_break_is_gone_on_with_before_a_mirror_is_asked() {
    let content = noise(500_000, 3);
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let whole = || Reply::ranged(&content, "one");
    server.serve_in_turn("/a", [whole().cut_after(200_000), whole()]);
    get(&sandbox, &server, &content).run().expect_code(0);
    assert_eq!(server.paths(), ["/a", "/a"]);
}

#[test]
fn a_malformed_mirror_is_named() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let outcome = get(&sandbox, &server, b"x")
        .args(["--mirror", "gopher://h/x"])
        .run()
        .expect_code(2)
        .expect_stderr(&["error: --mirror: "]);
    assert!(server.paths().is_empty(), "{outcome:?}");
}

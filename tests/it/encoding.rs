//! `Content-Encoding`: whoever uploaded an artifact decided on it, whatever is asked for, and digests are those of the
//! decoded bytes.

use serde_json::json;

use crate::support::archives::{gz, noise};
use crate::support::sandbox::{Sandbox, TASK_A, artifact};
use crate::support::server::{Reply, Server};

/// Sent as it is, with a label that says gzip.
fn labelled(body: &[u8]) -> Reply {
    Reply::ok(body).header("Content-Encoding", "gzip")
}

#[test]
fn the_name_that_counts_is_that_before_redirects() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(5000, 3);
    let file = gz(&content);
    server.serve("/a.log", Reply::redirect(302, "/stored.gz"));
    server.serve("/b.gz", Reply::redirect(302, "/stored"));
    server.serve("/stored.gz", labelled(&file));
    server.serve("/stored", labelled(&file));
    for (name, expected) in [("a.log", &content), ("b.gz", &file)] {
        let url = server.url(&format!("/{name}"));
        sandbox
            .static_url(expected, &url, name)
            .run()
            .expect_code(0);
        assert!(sandbox.read(name) == *expected, "{name}");
    }
}

#[test]
fn several_members_are_one_content() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let (head, tail) = (noise(5000, 3), noise(5000, 4));
    server.serve("/a", labelled(&[gz(&head), gz(&tail)].concat()));
    sandbox
        .static_url([head, tail].concat(), &server.url("/a"), "a")
        .run()
        .expect_code(0);
}

#[test]
fn no_bytes_are_an_empty_content() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", labelled(b""));
    server.serve("/b", labelled(b"").chunked());
    server.serve("/c", labelled(&gz(b"")));
    for name in ["a", "b", "c"] {
        let url = server.url(&format!("/{name}"));
        sandbox.static_url("", &url, name).run().expect_code(0);
        assert!(sandbox.read(name).is_empty());
    }
}

#[test]
fn an_encoded_body_that_is_cut_is_retried() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = noise(50_000, 3);
    let file = gz(&content);
    // Between the members, what came is well-formed.
    let members = [gz(&content[..20_000]), gz(&content[20_000..])];
    let (boundary, both) = (members[0].len(), members.concat());
    for (reply, whole) in [
        (labelled(&file).cut_after(30_000), &file),
        (labelled(&file).chunked().cut_after(30_000), &file),
        (labelled(&both).cut_after(boundary), &both),
        (labelled(&both).chunked().cut_after(boundary), &both),
    ] {
        server.serve_in_turn("/a", [reply, labelled(whole)]);
        let outcome = sandbox
            .static_url(&content, &server.url("/a"), "a")
            .run()
            .expect_code(0);
        assert_eq!(outcome.lines("[a] retry").len(), 1, "{outcome:?}");
    }
}

#[test]
fn a_header_of_the_caller_replaces_what_is_accepted() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok("x"));
    sandbox
        .static_url("x", &server.url("/a"), "a")
        .args(["-H", "Accept-Encoding: identity"])
        .run()
        .expect_code(0);
    let [request] = &server.requests()[..] else {
        panic!("{:?}", server.requests());
    };
    let values = request
        .headers
        .iter()
        .filter(|(name, _)| name == "accept-encoding");
    let values: Vec<_> = values.map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["identity"]);
}

#[test]
fn errors_are_read_through_their_encoding() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let body = json!({"code": "ResourceNotFound", "message": "Artifact not found\n\n---\n\n* x"});
    let error = Reply::with_status(404, gz(body.to_string().as_bytes()));
    let path = artifact(TASK_A, "public/x");
    server.serve(&path, error.header("Content-Encoding", "gzip"));
    let entry = json!([{"task": TASK_A, "artifact": "public/x"}]);
    sandbox
        .task_artifacts(&server, &entry)
        .run()
        .expect_code(3)
        .expect_stderr(&["answered 404 Not Found: Artifact not found\n"]);
    // One that says so and is not, or is a bomb, is shown as little.
    for body in [b"no gzip".to_vec(), gz(&vec![b'x'; 50_000_000])] {
        let error = Reply::with_status(404, body);
        server.serve(&path, error.header("Content-Encoding", "gzip"));
        let outcome = sandbox
            .task_artifacts(&server, &entry)
            .run()
            .expect_code(3)
            .expect_stderr(&["answered 404 Not Found"]);
        assert!(outcome.stderr.len() < 4000, "{outcome:?}");
    }
}

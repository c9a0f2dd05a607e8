//! Artifacts that take more than one GET: storage behind redirects, credentials, and the object service.

use serde_json::{Value, json};

use crate::support::sandbox::{Outcome, Sandbox, TASK_A, artifact};
use crate::support::server::{Reply, Server};

/// What a signature in a URL looks like here; it must never be seen.
const SIGNED: &str = "X-Amz-Signature=s1gnature";

/// One entry of `TASK_A`.
fn entry(name: &str) -> Value {
    json!({"task": TASK_A, "artifact": name, "extract": false})
}

/// Expects that nothing a log should not have is in it.
fn expect_no_secrets(outcome: Outcome) -> Outcome {
    outcome.expect_not_in_stderr(&["s1gnature"])
}

#[test]
fn a_storage_that_refuses_once_is_asked_by_a_fresh_url() {
    for status in [400, 403] {
        let (sandbox, queue, storage) = (Sandbox::new(), Server::start(), Server::start());
        let path = artifact(TASK_A, "public/x");
        let redirect =
            |name: &str| Reply::redirect(303, storage.url(&format!("/{name}?{SIGNED}-{name}")));
        queue.serve_in_turn(&path, [redirect("old"), redirect("new")]);
        storage.serve(
            "/old",
            Reply::with_status(status, format!("expired: {SIGNED}-old")),
        );
        storage.serve("/new", Reply::ok("x"));
        let outcome = sandbox
            .task_artifacts(&queue, &json!([entry("public/x")]))
            .run()
            .expect_code(0)
            .expect_stderr(&["[x] retry 1 of 1 in ", &format!("/old?… answered {status}")]);
        let outcome = expect_no_secrets(outcome);
        assert_eq!(queue.count(&path), 2, "{outcome:?}");
        assert_eq!(storage.requests().len(), 2, "{outcome:?}");
        assert_eq!(sandbox.read("fetches/x"), b"x");
    }
}

#[test]
fn a_storage_that_refuses_for_ever_is_asked_twice() {
    for status in [400, 403] {
        let (sandbox, queue, storage) = (Sandbox::new(), Server::start(), Server::start());
        let path = artifact(TASK_A, "public/x");
        queue.serve(
            &path,
            Reply::redirect(303, storage.url(&format!("/blob?{SIGNED}"))),
        );
        let refusal = Reply::with_status(status, "<Error><Code>AccessDenied</Code></Error>");
        storage.serve("/blob", refusal);
        let outcome = sandbox
            .task_artifacts(&queue, &json!([entry("public/x")]))
            .run()
            .expect_code(3)
            .expect_stderr(&["gave up after 2 attempts", &status.to_string(), "/blob?…"]);
        assert_eq!(queue.count(&path), 2, "{outcome:?}");
        assert_eq!(storage.requests().len(), 2, "{outcome:?}");
        sandbox.assert_empty(&expect_no_secrets(outcome));
    }
}

#[test]
fn what_a_storage_does_not_have_is_not_asked_for_again() {
    for status in [401, 404, 410] {
        let (sandbox, queue, storage) = (Sandbox::new(), Server::start(), Server::start());
        let path = artifact(TASK_A, "public/x");
        queue.serve(&path, Reply::redirect(303, storage.url("/blob")));
        storage.serve("/blob", Reply::status(status));
        let outcome = sandbox
            .task_artifacts(&queue, &json!([entry("public/x")]))
            .run()
            .expect_code(3);
        assert_eq!(queue.count(&path), 1, "{outcome:?}");
        assert_eq!(storage.requests().len(), 1, "{outcome:?}");
    }
}

//! Artifacts that take more than one GET: storage behind redirects, credentials, and the object service.

use serde_json::{Value, json};

use crate::support::archives::sha256_hex;
use crate::support::hawk::{Account, attributes};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, artifact, chain_of_trust};
use crate::support::server::{Reply, Seen, Server};

/// What a signature in a URL looks like here; it must never be seen.
const SIGNED: &str = "X-Amz-Signature=s1gnature";

/// The one who runs the program.
const ME: Account = Account {
    id: "project/me:laptop",
    token: "t0ken-of-mine",
    certificate: None,
};

/// One entry of `TASK_A`.
fn entry(name: &str) -> Value {
    json!({"task": TASK_A, "artifact": name, "extract": false})
}

/// A run with an account's credentials and without a proxy.
fn fetch_as<'a>(
    sandbox: &'a Sandbox,
    queue: &Server,
    account: &Account,
    fetches: &Value,
) -> Invocation<'a> {
    let run = sandbox
        .task_artifacts(queue, fetches)
        .env_remove("TASKCLUSTER_PROXY_URL")
        .env("TASKCLUSTER_CLIENT_ID", account.id)
        .env("TASKCLUSTER_ACCESS_TOKEN", account.token);
    match &account.certificate {
        Some(certificate) => run.env("TASKCLUSTER_CERTIFICATE", certificate.to_string()),
        None => run,
    }
}

/// Expects that nothing a log should not have is in it: what tests mark by a `0` or `1` in a word, and what was sent as
/// a signature.
fn expect_no_secrets(outcome: Outcome, servers: &[&Server]) -> Outcome {
    let mut secrets: Vec<String> = ["s1gnature", "t0ken", "s3ed", "bewit", "Hawk"]
        .map(str::to_owned)
        .into();
    for seen in servers.iter().flat_map(|server| server.requests()) {
        if let Some(header) = seen.header("authorization") {
            let mut signed = attributes(header).expect("a Hawk header");
            let parts = ["mac", "ext", "nonce"].into_iter();
            secrets.extend(parts.filter_map(|name| signed.remove(name)));
        }
    }
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    outcome.expect_not_in_stderr(&secrets)
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
        let outcome = expect_no_secrets(outcome, &[]);
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
        sandbox.assert_empty(&expect_no_secrets(outcome, &[]));
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

/// Temporary credentials of the same one.
fn me_for_a_while() -> Account {
    let certificate = json!({
        "version": 1, "scopes": ["queue:get-artifact:*", "b"], "start": 1_700_000_000_000_u64,
        "expiry": 4_100_000_000_000_u64, "seed": "s3ed", "signature": "s1gnature", "issuer": "project/me",
    });
    Account {
        certificate: Some(certificate),
        ..ME
    }
}

/// Serves `path` to those who have signed for it.
fn serve_signed(server: &Server, path: &str, account: &Account, reply: Reply) {
    let account = account.clone();
    server.serve_by(path, move |seen| account.guard(seen, reply.clone()));
}

#[test]
fn private_artifacts_are_signed_for() {
    for account in [ME, me_for_a_while()] {
        let (sandbox, queue, storage) = (Sandbox::new(), Server::start(), Server::start());
        let names = [
            ("private/a", "private/a"),
            ("private/d e/50% b+c", "private/d%20e/50%25%20b%2Bc"),
            ("secret/a%20b", "secret/a%2520b"),
        ];
        for (name, encoded) in names {
            let url = storage.url(&format!("/{encoded}?{SIGNED}"));
            storage.serve(&format!("/{encoded}"), Reply::ok(name));
            serve_signed(
                &queue,
                &artifact(TASK_A, encoded),
                &account,
                Reply::redirect(303, url),
            );
        }
        let fetches = json!(names.map(|(name, _)| entry(name)));
        let outcome = fetch_as(&sandbox, &queue, &account, &fetches)
            .run()
            .expect_code(0);
        assert_eq!(sandbox.fetched().paths(), ["50% b+c", "a", "a%20b"]);
        assert_eq!(queue.requests().len(), names.len(), "{outcome:?}");
        for seen in storage.requests() {
            assert_eq!(seen.header("authorization"), None, "{seen:?}");
        }
        expect_no_secrets(outcome, &[&queue]);
    }
}

#[test]
fn every_attempt_is_signed_anew() {
    let (sandbox, queue) = (Sandbox::new(), Server::start());
    let path = artifact(TASK_A, "private/a");
    queue.serve_in_turn(&path, [Reply::status(503), Reply::ok("a")]);
    let outcome = fetch_as(&sandbox, &queue, &ME, &json!([entry("private/a")]))
        .run()
        .expect_code(0);
    let nonces = queue.requests();
    let nonces = nonces.iter().map(|seen| {
        let header = seen.header("authorization").expect("a signature");
        attributes(header).expect("a Hawk header")["nonce"].clone()
    });
    let [first, second] = &nonces.collect::<Vec<_>>()[..] else {
        panic!("not two requests: {outcome:?}");
    };
    assert_ne!(first, second);
}

#[test]
fn signatures_stay_with_the_deployment() {
    let (sandbox, queue, storage) = (Sandbox::new(), Server::start(), Server::start());
    let (first, hop) = (artifact(TASK_A, "private/a"), "/api/queue/v1/hop");
    serve_signed(&queue, &first, &ME, Reply::redirect(302, hop));
    serve_signed(&queue, hop, &ME, Reply::redirect(303, storage.url("/away")));
    storage.serve(
        "/away",
        Reply::redirect(302, queue.url("/api/auth/v1/back")),
    );
    queue.serve("/api/auth/v1/back", Reply::ok("a"));
    fetch_as(&sandbox, &queue, &ME, &json!([entry("private/a")]))
        .run()
        .expect_code(0);
    let signed = |seen: &Seen| seen.header("authorization").is_some();
    let by_queue: Vec<bool> = queue.requests().iter().map(signed).collect();
    assert_eq!(by_queue, [true, true, false]);
    assert!(!storage.requests().iter().any(signed));
}

#[test]
fn credentials_that_are_not_accepted_are_told() {
    let path = artifact(TASK_A, "private/a");
    let wrong = Account {
        token: "wrong-t0ken",
        ..ME
    };
    let (sandbox, queue) = (Sandbox::new(), Server::start());
    serve_signed(&queue, &path, &ME, Reply::ok("a"));
    let outcome = fetch_as(&sandbox, &queue, &wrong, &json!([entry("private/a")]))
        .run()
        .expect_code(3)
        .expect_stderr(&[
            "401",
            "Unauthorized: Bad mac",
            "hint: the credentials",
            "clock",
        ]);
    assert_eq!(queue.requests().len(), 1, "{outcome:?}");
    sandbox.assert_empty(&expect_no_secrets(outcome, &[&queue]));

    let stale = "Unauthorized: Stale timestamp";
    queue.serve_by(&path, move |_| {
        Reply::api_error(401, "AuthenticationFailed", stale).header("WWW-Authenticate", "hawk")
    });
    fetch_as(&sandbox, &queue, &ME, &json!([entry("private/a")]))
        .run()
        .expect_code(3)
        .expect_stderr(&[stale, "the clock of this machine"]);
    assert_eq!(queue.requests().len(), 2);
}

#[test]
fn the_proxy_signs_where_there_is_one() {
    let (sandbox, queue, proxy) = (Sandbox::new(), Server::start(), Server::start());
    proxy.serve(&artifact(TASK_A, "private/a"), Reply::ok("a"));
    let outcome = fetch_as(&sandbox, &queue, &ME, &json!([entry("private/a")]))
        .env("TASKCLUSTER_PROXY_URL", proxy.root())
        .run()
        .expect_code(0);
    assert!(queue.requests().is_empty(), "{outcome:?}");
    assert_eq!(proxy.requests()[0].header("authorization"), None);
}

#[test]
fn public_artifacts_are_signed_for_only_if_that_is_needed() {
    let (sandbox, queue) = (Sandbox::new(), Server::start());
    let (open, closed) = (
        artifact(TASK_A, "public/open"),
        artifact(TASK_A, "public/closed"),
    );
    queue.serve(&open, Reply::ok("o"));
    queue.serve_by(&closed, |seen| match seen.header("authorization") {
        Some(_) => ME.guard(seen, Reply::ok("c")),
        None => Reply::api_error(403, "InsufficientScopes", "You lack the scope"),
    });
    let fetches = json!([entry("public/open"), entry("public/closed")]);
    let outcome = fetch_as(&sandbox, &queue, &ME, &fetches)
        .run()
        .expect_code(0);
    let requests = queue.requests();
    let signed = |path: &str| -> Vec<bool> {
        let asked = requests.iter().filter(|seen| seen.path == path);
        asked
            .map(|seen| seen.header("authorization").is_some())
            .collect()
    };
    assert_eq!(signed(&open), [false], "{outcome:?}");
    assert_eq!(signed(&closed), [false, true], "{outcome:?}");

    // Without any other way one refusal is enough.
    let outcome = sandbox
        .task_artifacts(&queue, &json!([entry("public/closed")]))
        .env_remove("TASKCLUSTER_PROXY_URL")
        .run()
        .expect_code(3)
        .expect_stderr(&["You lack the scope", "TASKCLUSTER_CLIENT_ID"]);
    assert_eq!(queue.count(&closed), 3, "{outcome:?}");

    let proxy = Server::start();
    proxy.serve(&closed, Reply::ok("c"));
    sandbox
        .task_artifacts(&queue, &json!([entry("public/closed")]))
        .env("TASKCLUSTER_PROXY_URL", proxy.root())
        .run()
        .expect_code(0);
    assert_eq!((queue.count(&closed), proxy.count(&closed)), (4, 1));
}

#[test]
fn a_chain_of_trust_that_is_not_public_is_signed_for() {
    let (sandbox, queue) = (Sandbox::new(), Server::start());
    let trust = json!({"artifacts": {"private/a": {"sha256": sha256_hex(b"a")}}}).to_string();
    serve_signed(&queue, &chain_of_trust(TASK_A), &ME, Reply::ok(trust));
    serve_signed(&queue, &artifact(TASK_A, "private/a"), &ME, Reply::ok("a"));
    let mut entry = entry("private/a");
    entry["verify-hash"] = json!(true);
    let outcome = fetch_as(&sandbox, &queue, &ME, &json!([entry]))
        .run()
        .expect_code(0);
    assert_eq!(queue.count(&chain_of_trust(TASK_A)), 2, "{outcome:?}");
}

#[test]
fn credentials_that_are_not_whole_are_refused_first() {
    let certificate = me_for_a_while()
        .certificate
        .expect("a certificate")
        .to_string();
    let (id, token) = ("TASKCLUSTER_CLIENT_ID", "TASKCLUSTER_ACCESS_TOKEN");
    let of = "TASKCLUSTER_CERTIFICATE";
    for (set, named) in [
        (vec![(id, "me")], token),
        (vec![(id, "me"), (token, "")], token),
        (vec![(token, "t0ken")], id),
        (vec![(of, certificate.as_str())], id),
        (vec![(id, "me"), (of, certificate.as_str())], token),
        (vec![(id, "me"), (token, "t0ken"), (of, "s1gnature")], of),
        (
            vec![(id, "me"), (token, "t0ken"), (of, "[\"s1gnature\"]")],
            of,
        ),
        (vec![(id, "me\"s1gnature"), (token, "t0ken")], id),
    ] {
        let (sandbox, queue) = (Sandbox::new(), Server::start());
        let mut run = sandbox.task_artifacts(&queue, &json!([entry("public/a")]));
        for (name, value) in &set {
            run = run.env(name, value);
        }
        let outcome = run
            .run()
            .expect_code(2)
            .expect_stderr(&[&format!("error: {named} ")])
            .expect_not_in_stderr(&["s1gnature", "t0ken", "s3ed"]);
        assert!(queue.requests().is_empty(), "{set:?} {outcome:?}");
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn without_a_way_both_are_named() {
    let (sandbox, queue) = (Sandbox::new(), Server::start());
    let outcome = sandbox
        .task_artifacts(&queue, &json!([entry("private/a")]))
        .env_remove("TASKCLUSTER_PROXY_URL")
        .run()
        .expect_code(2)
        .expect_stderr(&[
            "`private/a` is private",
            "taskclusterProxy",
            "TASKCLUSTER_ACCESS_TOKEN",
        ]);
    assert!(queue.requests().is_empty(), "{outcome:?}");
}

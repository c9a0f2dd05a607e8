//! Signatures of chains of trust: `--chain-of-trust-key`.

use std::fmt::Write as _;

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::support::sandbox::{
    Invocation, Sandbox, TASK_A, TASK_B, artifact, chain_of_trust, vouching_for,
};
use crate::support::server::{Reply, Server};

/// Runs what must fail with this exit code, say this and leave nothing.
fn expect_refused(sandbox: &Sandbox, run: Invocation<'_>, said: &[&str]) {
    let outcome = run.run().expect_code(4).expect_stderr(said);
    sandbox.assert_empty(&outcome);
}

/// A worker's key from a seed.
fn worker(seed: u8) -> (Ed25519KeyPair, String) {
    let key = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes");
    let public = BASE64_STANDARD.encode(key.public_key().as_ref());
    (key, public)
}

/// A task whose chain of trust vouches for `public/a`, and is signed by worker 1.
fn signed_task() -> (Server, String) {
    let server = Server::start();
    let trust = vouching_for(&[("public/a", b"a")]);
    let signature = worker(1).0.sign(trust.as_bytes());
    server.serve(&artifact(TASK_A, "public/a"), Reply::ok("a"));
    server.serve(&chain_of_trust(TASK_A), Reply::ok(&trust));
    server.serve(&signature_of(TASK_A), Reply::ok(signature.as_ref()));
    (server, trust)
}

fn signature_of(task: &str) -> String {
    chain_of_trust(task) + ".sig"
}

fn entry() -> Value {
    json!({"task": TASK_A, "artifact": "public/a", "extract": false, "verify-hash": true})
}

fn with_worker_keys<'a>(sandbox: &'a Sandbox, server: &Server, keys: &[&str]) -> Invocation<'a> {
    let keys = keys.iter().flat_map(|key| ["--chain-of-trust-key", key]);
    let fetches = json!([entry()]);
    sandbox.task_artifacts(server, &fetches).args(keys)
}

#[test]
fn a_chain_of_trust_signed_by_any_of_the_keys_is_believed() {
    let (server, _) = signed_task();
    let (good, other) = (worker(1).1, worker(2).1);
    let mut hex = String::new();
    for byte in worker(1).0.public_key().as_ref() {
        let _ = write!(hex, "{byte:02x}");
    }
    let sandbox = Sandbox::new();
    sandbox.write("keys", format!("{other}\n\n  {good}\n"));
    for keys in [&[&*good][..], &[&other, &good], &[&hex], &["@keys"]] {
        let before = server.count(&signature_of(TASK_A));
        with_worker_keys(&sandbox, &server, keys)
            .env("MOZ_FETCHES", json!([entry(), entry()]).to_string())
            .run()
            .expect_code(0);
        assert_eq!(
            server.count(&signature_of(TASK_A)),
            before + 1,
            "once per task"
        );
    }
    // Without a key it is not asked for.
    let before = server.count(&signature_of(TASK_A));
    with_worker_keys(&sandbox, &server, &[])
        .run()
        .expect_code(0);
    assert_eq!(server.count(&signature_of(TASK_A)), before);
}

#[test]
fn a_chain_of_trust_that_is_not_signed_so_is_refused() {
    let (server, trust) = signed_task();
    let (good, other) = (worker(1).1, worker(2).1);
    let refused = |key: &str, said: &str| {
        let sandbox = Sandbox::new();
        let run = with_worker_keys(&sandbox, &server, &[key]);
        expect_refused(&sandbox, run, &[said, &format!("of task {TASK_A}")]);
    };
    let does_not_fit = "chain-of-trust.json.sig of task aaaaaaaaQ0CabcdefghijA does not fit";
    refused(&other, does_not_fit);
    // Another digest, and the artifact that fits it.
    let tampered = vouching_for(&[("public/a", b"b")]);
    server.serve(&artifact(TASK_A, "public/a"), Reply::ok("b"));
    server.serve(&chain_of_trust(TASK_A), Reply::ok(&tampered));
    refused(&good, does_not_fit);
    // The same values, and other bytes.
    server.serve(&artifact(TASK_A, "public/a"), Reply::ok("a"));
    server.serve(&chain_of_trust(TASK_A), Reply::ok(format!("{trust}\n")));
    refused(&good, does_not_fit);
    server.serve(&chain_of_trust(TASK_A), Reply::ok(&trust));
    for bad in [&b""[..], b"signature", &[0; 64]] {
        server.serve(&signature_of(TASK_A), Reply::ok(bad));
        refused(&good, does_not_fit);
    }
    let before = server.count(&signature_of(TASK_A));
    server.serve(&signature_of(TASK_A), Reply::status(404));
    refused(
        &good,
        "is not signed: task aaaaaaaaQ0CabcdefghijA has no public/chain-of-trust.json.sig",
    );
    assert_eq!(server.count(&signature_of(TASK_A)), before + 1);
}

#[test]
fn a_chain_of_trust_of_another_task_is_refused_though_signed() {
    let (server, trust) = signed_task();
    let key = worker(1).1;
    for (trust, said) in [
        (
            trust.replace(TASK_A, TASK_B),
            "is signed for task `bbbbbbbbR1GabcdefghijQ`, not for task",
        ),
        (
            trust.replace("taskId", "id"),
            "is signed for task ``, not for task",
        ),
    ] {
        server.serve(&chain_of_trust(TASK_A), Reply::ok(&trust));
        let signature = worker(1).0.sign(trust.as_bytes());
        server.serve(&signature_of(TASK_A), Reply::ok(signature.as_ref()));
        let sandbox = Sandbox::new();
        let run = with_worker_keys(&sandbox, &server, &[&key]);
        expect_refused(&sandbox, run, &[said]);
    }
}

#[test]
fn the_signature_of_a_chain_of_trust_is_retried_and_asked_for_at_the_same_time() {
    let (sandbox, (server, trust)) = (Sandbox::new(), signed_task());
    let signature = worker(1).0.sign(trust.as_bytes());
    let (path, trusted) = (signature_of(TASK_A), chain_of_trust(TASK_A));
    let good = Reply::ok(signature.as_ref());
    server.serve_in_turn(&path, [Reply::status(503), good]);
    server.serve(&trusted, Reply::ok(&trust).once_requested(&path));
    with_worker_keys(&sandbox, &server, &[&worker(1).1])
        .run()
        .expect_code(0);
    assert_eq!(server.count(&path), 2);
}

#[test]
fn worker_keys_that_are_none_or_have_no_effect() {
    let (sandbox, (server, _)) = (Sandbox::new(), signed_task());
    let key = worker(1).1;
    sandbox.write("empty", "\n");
    let before = sandbox.tree();
    for (bad, said) in [
        ("", "there is no key in ``"),
        ("beef", "`beef` is not an ed25519 public key"),
        (
            &key[1..],
            "is not an ed25519 public key: expected 32 bytes in base64 or hex",
        ),
        ("@missing", "missing"),
        ("@empty", "there is no key in `@empty`"),
    ] {
        with_worker_keys(&sandbox, &server, &[bad])
            .run()
            .expect_code(2)
            .expect_stderr(&[said]);
        before.assert_same(&sandbox.tree(), "the sandbox");
    }
    assert!(server.requests().is_empty(), "{:?}", server.paths());
    let entry = json!({"task": TASK_A, "artifact": "public/a", "extract": false});
    sandbox
        .task_artifacts(&server, &json!([entry]))
        .args(["--chain-of-trust-key", &key])
        .run()
        .expect_code(0)
        .expect_stderr(&[
            "warning: --chain-of-trust-key has no effect: no entry has `verify-hash`",
        ]);
    assert_eq!(server.paths(), [artifact(TASK_A, "public/a")]);
}

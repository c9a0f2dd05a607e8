//! Artifacts that take more than one GET: storage behind redirects, credentials, and the object service.

use serde_json::{Value, json};

use crate::support::archives::{sha256_hex, sha512_hex};
use crate::support::hawk::{Account, attributes, secrets_of};
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
    for server in servers {
        secrets.extend(secrets_of(&server.requests()));
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
fn what_the_api_refuses_for_good_is_asked_for_once() {
    let error = json!({"reason": "file-missing-on-worker", "message": "No such file"}).to_string();
    let api = |status, text| (status, Reply::api_error(status, "Code", text), text);
    for (status, reply, said) in [
        api(400, "Link cycle"),
        api(401, "Unauthorized: ext.certificate.expiry < now"),
        api(403, "You lack queue:get-artifact:private/a"),
        api(404, "Artifact not found"),
        api(410, "Artifact has expired"),
        (
            424,
            Reply::with_status(424, error),
            "file-missing-on-worker: No such file",
        ),
    ] {
        let (sandbox, queue, path) = (
            Sandbox::new(),
            Server::start(),
            artifact(TASK_A, "private/a"),
        );
        queue.serve(&path, reply);
        let fetches = json!([entry("private/a")]);
        let proxied = sandbox.task_artifacts(&queue, &fetches);
        for (number, run) in [proxied, fetch_as(&sandbox, &queue, &ME, &fetches)]
            .into_iter()
            .enumerate()
        {
            let outcome = run
                .run()
                .expect_code(3)
                .expect_stderr(&[&status.to_string(), said]);
            assert_eq!(queue.requests().len(), number + 1, "{outcome:?}");
            sandbox.assert_empty(&expect_no_secrets(outcome, &[&queue]));
        }
    }
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

/// The queue's own credentials for one object.
fn for_the_object() -> Account {
    Account {
        id: "queue/object",
        token: "0bject-t0ken",
        certificate: Some(json!({"version": 1, "seed": "s3ed-of-the-object"})),
    }
}

/// What `start-download` answers with a URL at the storage.
fn get_url(storage: &Server, path: &str, hashes: &Value) -> Value {
    let url = storage.url(&format!("{path}?{SIGNED}"));
    json!({"method": "getUrl", "url": url, "expires": "2026-01-02T03:06:05Z", "hashes": hashes})
}

/// The ways of `public/o b` of `TASK_A`, an object.
struct Object {
    queue: Server,
    storage: Server,
}

impl Object {
    const ARTIFACT: &str = "public/o%20b";
    const NAME: &str = "t/1/public/o b";
    const START: &str = "/api/object/v1/start-download/t%2F1%2Fpublic%2Fo%20b";

    /// A deployment that answers `start-download` with `start` and has `content` in its storage, at `/o`.
    fn new(start: impl Fn(&Server) -> Value, content: &[u8]) -> Self {
        let (queue, storage) = (Server::start(), Server::start());
        let simple = Reply::redirect(303, storage.url("/simple"));
        let simple = simple.header("x-taskcluster-artifact-storage-type", "object");
        queue.serve(&artifact(TASK_A, Self::ARTIFACT), simple);
        queue.serve(&Self::content_path(), Reply::ok(Self::answer()));
        let start = Reply::ok(start(&storage).to_string());
        queue.serve_by(Self::START, move |seen| Self::start(seen, start.clone()));
        storage.serve("/o", Reply::ok(content));
        Self { queue, storage }
    }

    fn content_path() -> String {
        artifact(TASK_A, Self::ARTIFACT).replace("/artifacts/", "/artifact-content/")
    }

    /// What `artifact-content` says.
    fn answer() -> String {
        let account = for_the_object();
        let certificate = account.certificate.expect("a certificate").to_string();
        let credentials = json!({"clientId": account.id, "accessToken": account.token, "certificate": certificate});
        json!({"storageType": "object", "name": Self::NAME, "credentials": credentials}).to_string()
    }

    /// Refuses what `start-download` is not to be asked.
    fn start(seen: &Seen, reply: Reply) -> Reply {
        let methods = json!({"acceptDownloadMethods": {"getUrl": true, "simple": true}});
        let json = seen.header("content-type") == Some("application/json");
        if seen.method != "PUT" || !json || serde_json::from_slice(&seen.body).ok() != Some(methods)
        {
            return Reply::api_error(400, "InputValidationError", &format!("not {seen:?}"));
        }
        for_the_object().guard(seen, reply)
    }

    fn fetch(&self, sandbox: &Sandbox) -> Outcome {
        let fetches = json!([entry("public/o b")]);
        let outcome = sandbox.task_artifacts(&self.queue, &fetches).run();
        for seen in self.storage.requests() {
            assert_eq!(seen.header("authorization"), None, "{seen:?}");
        }
        expect_no_secrets(outcome, &[&self.queue])
    }

    /// The number of requests to artifact, artifact-content, start-download and storage.
    fn requests(&self) -> [usize; 4] {
        [
            self.queue.count(&artifact(TASK_A, Self::ARTIFACT)),
            self.queue.count(&Self::content_path()),
            self.queue.count(Self::START),
            self.storage.requests().len(),
        ]
    }
}

#[test]
fn objects_are_verified_by_what_is_promised() {
    let (sha256, sha512) = (sha256_hex(b"content"), sha512_hex(b"content"));
    for hashes in [
        json!({"sha256": sha256, "sha512": sha512}),
        json!({"sha256": sha256, "md5": "of no use", "blake3": 5}),
        json!({"sha512": sha512}),
    ] {
        let sandbox = Sandbox::new();
        let object = Object::new(|storage| get_url(storage, "/o", &hashes), b"content");
        let outcome = object.fetch(&sandbox).expect_code(0);
        assert_eq!(sandbox.read("fetches/o b"), b"content");
        assert_eq!(object.requests(), [1, 1, 1, 1], "{outcome:?}");
        // Also where the storage has it in another encoding.
        object.storage.serve("/o", Reply::gzipped(b"content"));
        object.fetch(&Sandbox::new()).expect_code(0);
    }
}

#[test]
fn objects_that_are_not_what_is_promised_are_refused() {
    let (sha256, sha512) = (sha256_hex(b"content"), sha512_hex(b"content"));
    for (hashes, said) in [
        (
            json!({"sha256": sha256_hex(b"other"), "sha512": sha512}),
            "sha256 mismatch on ",
        ),
        (
            json!({"sha256": sha256, "sha512": sha512_hex(b"other")}),
            "sha512 mismatch on ",
        ),
    ] {
        let sandbox = Sandbox::new();
        let object = Object::new(|storage| get_url(storage, "/o", &hashes), b"content");
        let outcome = object.fetch(&sandbox).expect_code(4).expect_stderr(&[said]);
        assert_eq!(object.requests(), [2, 2, 2, 2], "{outcome:?}");
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn objects_without_a_usable_promise_are_not_asked_for() {
    for (hashes, said) in [
        (json!({}), "promises neither a sha256 nor a sha512"),
        (
            json!({"md5": "beef"}),
            "promises neither a sha256 nor a sha512",
        ),
        (json!({"sha256": "beef"}), "`beef` is not a SHA-256"),
        (
            json!({"sha256": sha256_hex(b"content"), "sha512": "beef"}),
            "`beef` is not a SHA-512",
        ),
    ] {
        let sandbox = Sandbox::new();
        let object = Object::new(|storage| get_url(storage, "/o", &hashes), b"content");
        let outcome = object.fetch(&sandbox).expect_code(4);
        let outcome = outcome.expect_stderr(&[said, "/start-download/"]);
        assert_eq!(object.requests(), [1, 1, 1, 0], "{outcome:?}");
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn what_is_promised_and_what_is_pinned_must_agree() {
    let hashes = json!({"sha256": sha256_hex(b"content")});
    let object = Object::new(|storage| get_url(storage, "/o", &hashes), b"content");
    for (pinned, code) in [(&b"content"[..], 0), (b"other", 4)] {
        let sandbox = Sandbox::new();
        let mut entry = entry("public/o b");
        entry["sha256"] = json!(sha256_hex(pinned));
        let run = sandbox.task_artifacts(&object.queue, &json!([entry]));
        let outcome = run.run().expect_code(code);
        assert_eq!(
            outcome.stderr.contains("wanted is sha256"),
            code == 4,
            "{outcome:?}"
        );
    }
}

#[test]
fn an_object_s_url_that_has_expired_is_asked_for_again() {
    let hashes = json!({"sha256": sha256_hex(b"content")});
    let sandbox = Sandbox::new();
    let object = Object::new(|storage| get_url(storage, "/o", &hashes), b"content");
    let starts =
        ["/old", "/o"].map(|path| Reply::ok(get_url(&object.storage, path, &hashes).to_string()));
    let asked = std::sync::atomic::AtomicUsize::new(0);
    object.queue.serve_by(Object::START, move |seen| {
        let start = asked
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            .min(1);
        Object::start(seen, starts[start].clone())
    });
    object
        .storage
        .serve("/old", Reply::with_status(403, "Request has expired"));
    let outcome = object.fetch(&sandbox).expect_code(0);
    let outcome = outcome.expect_stderr(&["[o b] retry 1 of 1 in ", "/old?… answered 403"]);
    assert_eq!(object.requests(), [2, 2, 2, 2], "{outcome:?}");
    assert_eq!(sandbox.read("fetches/o b"), b"content");
}

#[test]
fn objects_of_simple_storage_come_without_a_promise() {
    let sandbox = Sandbox::new();
    let simple = |storage: &Server| json!({"method": "simple", "url": storage.url("/hop")});
    let object = Object::new(simple, b"content");
    object.storage.serve("/hop", Reply::redirect(302, "/o"));
    let outcome = object.fetch(&sandbox).expect_code(0);
    assert_eq!(object.requests(), [1, 1, 1, 2], "{outcome:?}");
}

#[test]
fn objects_that_the_queue_cannot_redirect_to_are_found() {
    let (sandbox, hashes) = (Sandbox::new(), json!({"sha256": sha256_hex(b"content")}));
    let object = Object::new(|storage| get_url(storage, "/o", &hashes), b"content");
    let missing = Reply::api_error(404, "ResourceNotFound", "Object not available by simple");
    let missing = missing.header("X-Taskcluster-Artifact-Storage-Type", "object");
    object
        .queue
        .serve(&artifact(TASK_A, Object::ARTIFACT), missing);
    object.fetch(&sandbox).expect_code(0);
    // The artifact may as well not be there at all.
    let missing = Reply::api_error(404, "ResourceNotFound", "Artifact not found");
    object.queue.serve(&Object::content_path(), missing);
    object
        .fetch(&Sandbox::new())
        .expect_code(3)
        .expect_stderr(&["404", "Artifact not found"]);
    assert_eq!(object.requests(), [2, 2, 1, 1]);
}

#[test]
fn private_objects_take_the_way_of_private_artifacts() {
    let hashes = json!({"sha256": sha256_hex(b"content")});
    let private = |path: &str| path.replace("/public/", "/private/");
    let (ask, content) = (
        private(&artifact(TASK_A, Object::ARTIFACT)),
        private(&Object::content_path()),
    );
    for by_proxy in [false, true] {
        let (sandbox, proxy) = (Sandbox::new(), Server::start());
        let object = Object::new(|storage| get_url(storage, "/o", &hashes), b"content");
        let redirect = Reply::redirect(303, object.storage.url("/simple"))
            .header("x-taskcluster-artifact-storage-type", "object");
        let run = if by_proxy {
            proxy.serve(&ask, redirect);
            proxy.serve(&content, Reply::ok(Object::answer()));
            let run = fetch_as(&sandbox, &object.queue, &ME, &json!([entry("private/o b")]));
            run.env("TASKCLUSTER_PROXY_URL", proxy.root())
        } else {
            serve_signed(&object.queue, &ask, &ME, redirect);
            serve_signed(&object.queue, &content, &ME, Reply::ok(Object::answer()));
            fetch_as(&sandbox, &object.queue, &ME, &json!([entry("private/o b")]))
        };
        let outcome = expect_no_secrets(run.run().expect_code(0), &[&object.queue]);
        assert_eq!(sandbox.read("fetches/o b"), b"content");
        assert_eq!(object.queue.count(Object::START), 1, "{outcome:?}");
        let to_proxy = if by_proxy {
            vec![ask.clone(), content.clone()]
        } else {
            vec![]
        };
        assert_eq!(proxy.paths(), to_proxy, "{outcome:?}");
    }
}

/// Expects that an object that can be had but for a change of the server fails at once, with `said`.
fn expect_trouble(said: &str, change: impl FnOnce(&Server)) -> [usize; 4] {
    let (sandbox, hashes) = (Sandbox::new(), json!({"sha256": sha256_hex(b"content")}));
    let object = Object::new(|storage| get_url(storage, "/o", &hashes), b"content");
    change(&object.queue);
    let outcome = object.fetch(&sandbox).expect_code(3);
    sandbox.assert_empty(&outcome.expect_stderr(&[said]));
    object.requests()
}

#[test]
fn troubles_of_the_object_service_are_told_at_once() {
    let method = Reply::api_error(406, "NoMatchingMethod", "No matching method");
    let denied = Reply::api_error(403, "InsufficientScopes", "You lack object:download:x");
    let url = |url: &str| Reply::ok(json!({"method": "simple", "url": url}).to_string());
    let unknown = Reply::ok(json!({"method": "bewit-t0ken"}).to_string());
    for (start, said) in [
        (method, "No matching method"),
        (denied, "You lack object:download:x"),
        (unknown, "JSON of another shape"),
        (Reply::ok("<html>"), "it is not JSON"),
        (url("file:///etc/passwd"), "`file:` URL"),
        (url("s1gnature"), "its URL is none: "),
    ] {
        let serve = |queue: &Server| queue.serve_by(Object::START, move |_| start.clone());
        assert_eq!(expect_trouble(said, serve), [1, 1, 1, 0], "{said}");
    }
}

#[test]
fn troubles_with_an_object_s_credentials_are_told_at_once() {
    let denied = Reply::api_error(403, "InsufficientScopes", "You lack queue:get-artifact:x");
    let misnamed = Object::answer().replace("clientId", "client_id");
    let certificate = Object::answer().replace(r#":"{"#, r#":"["#);
    for (answer, said) in [
        (denied, "You lack queue:get-artifact:x"),
        (Reply::ok(misnamed), "JSON of another shape"),
        (Reply::ok(certificate), "malformed credentials"),
    ] {
        let serve = |queue: &Server| queue.serve(&Object::content_path(), answer);
        assert_eq!(expect_trouble(said, serve), [1, 1, 0, 0], "{said}");
    }
}

#[test]
fn passing_troubles_of_the_object_service_are_retried() {
    let (sandbox, hashes) = (Sandbox::new(), json!({"sha256": sha256_hex(b"content")}));
    let object = Object::new(|storage| get_url(storage, "/o", &hashes), b"content");
    let content = [Reply::status(503), Reply::ok(Object::answer())];
    object.queue.serve_in_turn(&Object::content_path(), content);
    let content = [Reply::ok(b"content").cut_after(3), Reply::ok(b"content")];
    object.storage.serve_in_turn("/o", content);
    object.fetch(&sandbox).expect_code(0);
    assert_eq!(sandbox.read("fetches/o b"), b"content");
}

#[test]
fn other_storage_takes_no_more_requests() {
    for storage_type in ["s3", "reference", "link"] {
        let (sandbox, queue, storage) = (Sandbox::new(), Server::start(), Server::start());
        let path = artifact(TASK_A, "public/x");
        let redirect = Reply::redirect(303, storage.url("/x"));
        queue.serve(
            &path,
            redirect.header("x-taskcluster-artifact-storage-type", storage_type),
        );
        storage.serve(
            "/x",
            Reply::ok("x").header("x-taskcluster-artifact-storage-type", "object"),
        );
        sandbox
            .task_artifacts(&queue, &json!([entry("public/x")]))
            .run()
            .expect_code(0);
        assert_eq!(queue.paths(), [path]);
    }
}

#[test]
fn a_chain_of_trust_that_is_an_object_is_verified() {
    let trust = json!({"artifacts": {"public/a": {"sha256": sha256_hex(b"a")}}}).to_string();
    for (promised, code) in [(trust.as_bytes(), 0), (b"other", 4)] {
        let hashes = json!({"sha256": sha256_hex(promised)});
        let (sandbox, object) = (
            Sandbox::new(),
            Object::new(|storage| get_url(storage, "/o", &hashes), trust.as_bytes()),
        );
        let redirect = Reply::redirect(303, object.storage.url("/simple"))
            .header("x-taskcluster-artifact-storage-type", "object");
        let (ask, queue) = (chain_of_trust(TASK_A), &object.queue);
        queue.serve(&ask, redirect);
        queue.serve(
            &ask.replace("/artifacts/", "/artifact-content/"),
            Reply::ok(Object::answer()),
        );
        queue.serve(&artifact(TASK_A, "public/a"), Reply::ok("a"));
        let mut entry = entry("public/a");
        entry["verify-hash"] = json!(true);
        let run = sandbox.task_artifacts(queue, &json!([entry]));
        let outcome = run.run().expect_code(code);
        assert_eq!(
            outcome.stderr.contains("sha256 mismatch on "),
            code == 4,
            "{outcome:?}"
        );
    }
}

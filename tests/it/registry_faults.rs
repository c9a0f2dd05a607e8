//! `image push` and `image pull` against a registry that misbehaves.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fetch_content::Limits;
use fetch_content::fetch::{Context, placing_slots};
use fetch_content::fs::Staging;
use fetch_content::http::{Client, RetryPolicy, Settings};
use fetch_content::oci::registry::{Connection, Logins, Remote, Repository};
use fetch_content::oci::{Blobs, Manifest};
use rustix::process::Signal;
use serde_json::json;

use crate::support::archives::noise;
use crate::support::images::{INDEX, Image, LAYER, MANIFEST, descriptor, digest, expect};
use crate::support::registry::{Fault, Registry, error};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, wait_until};
use crate::support::server::{Reply, Seen, Server};

/// What is sent whole, and a chunk.
const CHUNK: usize = 32 << 20;

/// More than that.
const LARGE: usize = CHUNK + (3 << 20);

const UPLOADS: &str = "/blobs/uploads/";

fn push<'a>(sandbox: &'a Sandbox, layout: impl AsRef<Path>, image: &str) -> Invocation<'a> {
    let run = sandbox.binary().args(["image", "push"]);
    anonymous(run.args([layout.as_ref()]).args([image]), sandbox)
}

fn pull<'a>(sandbox: &'a Sandbox, image: &str) -> Invocation<'a> {
    let run = sandbox.binary().args(["image", "pull", image, "--output"]);
    anonymous(run.args([sandbox.path("out")]), sandbox)
}

fn anonymous<'a>(run: Invocation<'a>, sandbox: &Sandbox) -> Invocation<'a> {
    run.env("HOME", sandbox.path("home"))
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "20000")
}

/// Expects that nothing but what was there before is.
fn expect_nothing_pulled(sandbox: &Sandbox, outcome: Outcome, code: i32) -> Outcome {
    let outcome = outcome.expect_code(code);
    assert!(!sandbox.path("out/index.json").exists(), "{outcome:?}");
    outcome
}

fn log_in(sandbox: &Sandbox, registry: &Registry) {
    let auth = BASE64_STANDARD.encode("me:s3cret");
    let config = json!({"auths": {registry.server.address().to_string(): {"auth": auth}}});
    sandbox.write("home/.docker/config.json", config.to_string());
}

#[test]
fn uploads_go_on_where_the_registry_is() {
    let image = Image::of(&[noise(LARGE, 1)]);
    let cases: [(Vec<Fault>, usize); 4] = [
        // Cut, with a part of it kept.
        (
            vec![Fault::Keep(10_000_000, Reply::reset_before_response())],
            2,
        ),
        // Kept whole, but the answer is lost.
        (vec![Fault::Keep(CHUNK, Reply::close_before_response())], 2),
        // It says that it is busy, and has a part.
        (
            vec![
                Fault::Keep(1_000_000, Reply::status(503).header("Retry-After", "0")),
                Fault::Keep(2_000_000, error(429, "TOOMANYREQUESTS")),
            ],
            4,
        ),
        // Out of order, it says, since it has more than it told.
        (vec![Fault::Keep(5_000_000, error(416, "RANGE"))], 2),
    ];
    for (faults, patches) in cases {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        let layout = image.layout(&sandbox, "layout");
        registry.script("PATCH", UPLOADS, faults);
        let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
        let outcome = expect(outcome, &image).expect_stderr(&["] retry 1 of 4 in"]);
        registry.assert_holds("a/b", "1", &image);
        assert_eq!(registry.count("PATCH", UPLOADS), patches, "{outcome:?}");
        // The configuration's and the layer's: nothing began again.
        assert_eq!(registry.count("POST", UPLOADS), 2, "{outcome:?}");
    }
}

#[test]
fn a_part_that_was_taken_is_not_sent_again() {
    let image = Image::of(&[noise(LARGE, 2)]);
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let layout = image.layout(&sandbox, "layout");
    registry.script(
        "PATCH",
        UPLOADS,
        [Fault::Keep(CHUNK - 7, Reply::reset_before_response())],
    );
    let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
    expect(outcome, &image);
    let requests = registry.server.requests();
    let ranges: Vec<_> = requests
        .iter()
        .filter_map(|seen| seen.header("content-range"))
        .collect();
    let (chunk, end) = (CHUNK - 1, LARGE - 1);
    let rest = format!("{}-{end}", CHUNK - 7);
    assert_eq!(ranges, [&format!("0-{chunk}"), &rest]);
}

#[test]
fn lost_sessions_begin_again() {
    let image = Image::of(&[noise(LARGE, 3)]);
    let lost = || error(404, "BLOB_UPLOAD_UNKNOWN");
    let range = |range: &str| Reply::status(202).header("Range", range);
    let silent = "the registry does not say how much it has got";
    let cases: [(&str, Fault, &str); 6] = [
        (
            "PATCH",
            Fault::Reply(lost()),
            "the registry has lost the upload (404",
        ),
        // It knows nothing of what it has got, or nobody can tell.
        (
            "PATCH",
            Fault::Keep(0, Reply::reset_before_response()),
            silent,
        ),
        (
            "PATCH",
            Fault::Keep(1, Reply::reset_before_response()),
            silent,
        ),
        // More than it can have.
        (
            "PATCH",
            Fault::Answer(range("0-999999999")),
            "it has 1000000000 bytes, and 0 to 33554432 is possible",
        ),
        (
            "PATCH",
            Fault::Answer(range("0-18446744073709551615")),
            "it has 18446744073709551615 bytes, and",
        ),
        (
            "PUT",
            Fault::Reply(lost()),
            "the registry has lost the upload (404",
        ),
    ];
    for (number, (method, fault, why)) in cases.into_iter().enumerate() {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        let layout = image.layout(&sandbox, "layout");
        registry.script(method, UPLOADS, [fault]);
        let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
        let outcome = expect(outcome, &image).expect_stderr(&["retry 1 of 4", why]);
        registry.assert_holds("a/b", "1", &image);
        assert_eq!(registry.count("POST", UPLOADS), 3, "{number} {outcome:?}");
    }
}

#[test]
fn a_registry_that_takes_nothing_is_given_up() {
    let image = Image::of(&[noise(LARGE, 12)]);
    for (range, patches) in [("0-0", 5), ("0-9999999", 10)] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        let layout = image.layout(&sandbox, "layout");
        let nothing = || Fault::Keep(0, Reply::status(202).header("Range", range));
        registry.script("PATCH", UPLOADS, (0..30).map(|_| nothing()));
        let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
        let outcome = outcome.expect_code(3).expect_stderr(&[
            "gave up after 5 attempts",
            "the registry takes nothing of it",
        ]);
        assert_eq!(registry.count("PATCH", UPLOADS), patches, "{outcome:?}");
    }
}

#[test]
fn the_end_of_an_upload_is_repeated_alone() {
    let image = Image::of(&[noise(LARGE, 11)]);
    let cases = [
        // It needs another moment, and then it is asked once more.
        (
            vec![
                Fault::Reply(Reply::status(503)),
                Fault::Reply(Reply::status(504)),
            ],
            3,
        ),
        // It has done it, and could not say so.
        (vec![Fault::Answer(Reply::close_before_response())], 1),
    ];
    for (faults, puts) in cases {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        let layout = image.layout(&sandbox, "layout");
        registry.hold_blob("a/b", &image.config);
        registry.script("PUT", UPLOADS, faults);
        let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
        let outcome = expect(outcome, &image);
        registry.assert_holds("a/b", "1", &image);
        assert_eq!(registry.count("PUT", UPLOADS), puts, "{outcome:?}");
        assert_eq!(registry.count("POST", UPLOADS), 1, "{outcome:?}");
    }
}

#[test]
fn what_does_not_arrive_as_it_was_sent_is_sent_again() {
    let image = Image::of(&[b"layer".to_vec()]);
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let layout = image.layout(&sandbox, "layout");
    registry.script("PUT", UPLOADS, [Fault::Reply(error(400, "DIGEST_INVALID"))]);
    let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
    expect(outcome, &image).expect_stderr(&["it did not arrive as it was sent"]);
    registry.assert_holds("a/b", "1", &image);
}

#[test]
fn a_registry_without_chunks_gets_all_at_once() {
    let image = Image::of(&[noise(LARGE, 4)]);
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let layout = image.layout(&sandbox, "layout");
    registry.script("PATCH", UPLOADS, [Fault::Reply(error(405, "UNSUPPORTED"))]);
    let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
    let outcome = expect(outcome, &image);
    registry.assert_holds("a/b", "1", &image);
    assert_eq!(registry.count("PATCH", UPLOADS), 1, "{outcome:?}");
}

#[test]
fn chunks_are_as_large_as_the_registry_wants() {
    let image = Image::of(&[noise(LARGE, 5)]);
    let least = CHUNK + (1 << 20);
    for (least, patches) in [(least, 2), (LARGE, 0), (1, 2)] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        let layout = image.layout(&sandbox, "layout");
        registry.demand_chunks_of(least as u64);
        let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
        let outcome = expect(outcome, &image);
        registry.assert_holds("a/b", "1", &image);
        assert_eq!(registry.count("PATCH", UPLOADS), patches, "{outcome:?}");
        let requests = registry.server.requests();
        let mut patches = requests.iter().filter(|seen| seen.method == "PATCH");
        let first = patches.next().map_or(LARGE, |seen| seen.body.len());
        assert!(first >= least, "{first}");
    }
}

#[test]
fn a_storage_that_does_not_tell_what_it_has_is_not_asked_again() {
    let image = Image::of(&[b"layer".to_vec()]);
    let (sandbox, registry, storage) = (Sandbox::new(), Registry::start(), Server::start());
    let layout = image.layout(&sandbox, "layout");
    storage.serve("/stored", Reply::status(403));
    storage.serve("/there", Reply::status(200));
    let to = |path: &str| Fault::Reply(Reply::redirect(307, storage.url(path)));
    registry.script("HEAD", &digest(&image.layers[0]), [to("/stored")]);
    registry.script("HEAD", &digest(&image.config), [to("/there")]);
    let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
    expect(outcome, &image).expect_stderr(&["1 blobs sent (5 B), 0 mounted, 1 were there"]);
}

#[test]
fn every_request_is_tried_again() {
    for (method, path) in [
        ("HEAD", "/blobs/sha256:"),
        ("POST", UPLOADS),
        ("PUT", UPLOADS),
        ("PUT", "/manifests/1"),
    ] {
        let image = Image::of(&[b"layer".to_vec()]);
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        let layout = image.layout(&sandbox, "layout");
        let faults = [
            Reply::status(503),
            Reply::status(429).header("Retry-After", "0"),
            Reply::reset_before_response(),
        ];
        registry.script(method, path, faults.map(Fault::Reply));
        let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
        expect(outcome, &image);
        registry.assert_holds("a/b", "1", &image);
    }
    for path in ["/manifests/1", "/blobs/sha256:"] {
        let image = Image::of(&[b"layer".to_vec()]);
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.hold("a/b", "1", &image);
        let faults = [Reply::status(502), Reply::close_before_response()];
        registry.script("GET", path, faults.map(Fault::Reply));
        expect(pull(&sandbox, &registry.image("a/b:1")).run(), &image);
        image.assert_in(&sandbox.path("out"), "1");
    }
}

#[test]
fn a_registry_s_wish_to_wait_is_obeyed() {
    let image = Image::of(&[b"layer".to_vec()]);
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let layout = image.layout(&sandbox, "layout");
    let busy = error(429, "TOOMANYREQUESTS").header("Retry-After", "1");
    registry.script("PUT", "/manifests/", [Fault::Reply(busy)]);
    let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
    let outcome = expect(outcome, &image);
    let requests = registry.server.requests();
    let puts: Vec<_> = requests
        .iter()
        .filter(|seen| seen.path.contains("/manifests/"))
        .map(|seen| seen.at)
        .collect();
    assert!(puts[1] - puts[0] >= Duration::from_secs(1), "{outcome:?}");
}

#[test]
fn refusals_are_told_at_once() {
    let image = Image::of(&[b"layer".to_vec()]);
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let layout = image.layout(&sandbox, "layout");
    registry.script("POST", UPLOADS, [Fault::Reply(error(403, "DENIED"))]);
    push(&sandbox, &layout, &registry.image("a/b:1"))
        .run()
        .expect_code(3)
        .expect_stderr(&[
            "error: cannot push blob sha256:",
            "answered 403 Forbidden: DENIED: it is DENIED",
            "hint: 127.0.0.1:[PORT] was asked without credentials",
        ]);
    assert_eq!(registry.count("PUT", "/manifests/"), 0);
}

#[test]
fn a_registry_that_is_down_is_no_reason_to_wait() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    sandbox.write(&format!("store/task/{TASK_A}/artifacts/x"), "content");
    let fetches = format!(r#"[{{"task": "{TASK_A}", "artifact": "x", "extract": false}}]"#);
    let down = || Fault::Reply(error(503, "UNAVAILABLE"));
    registry.script("GET", "/manifests/", (0..10).map(|_| down()));
    let image = format!("docker://{}", registry.image("a/b:1"));
    let words = ["task-artifacts", "--dest", "dest", "--store", "store"];
    let run = sandbox.binary().args(words).args(["--cache-from", &image]);
    anonymous(run, &sandbox)
        .env("MOZ_FETCHES", &fetches)
        .env("FETCH_CONTENT_RETRY_BASE_MS", "1")
        .run()
        .expect_code(0)
        .expect_stderr(&[
            "warning: no cache is used from ",
            "gave up after 3 attempts",
        ]);
    assert_eq!(registry.count("GET", "/manifests/"), 3);
    assert_eq!(sandbox.read("dest/x"), b"content");
}

#[test]
fn an_image_that_is_not_mounted_is_sent() {
    let image = Image::of(&[b"layer".to_vec()]);
    let refusal = || Fault::Reply(error(403, "DENIED"));
    // A session that the registry opened in place of a mount is used.
    for (faults, posts) in [(vec![], 2), (vec![refusal(), refusal()], 4)] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        let layout = image.layout(&sandbox, "layout");
        registry.hold("from/here", "1", &image);
        registry.refuse_mounts();
        registry.script("POST", "mount=", faults);
        let run = push(&sandbox, &layout, &registry.image("a/b:1"));
        let outcome = expect(run.args(["--mount-from", "from/here"]).run(), &image);
        let outcome = outcome.expect_stderr(&["2 blobs sent (", "0 mounted"]);
        registry.assert_holds("a/b", "1", &image);
        assert_eq!(registry.count("POST", UPLOADS), posts, "{outcome:?}");
    }
}

/// Lets everybody through who has one of the tokens that were given, of which each is good for so many requests.
fn with_tokens(registry: &Registry, tokens: &Server, good_for: usize) {
    let given = Arc::new(AtomicUsize::new(0));
    let (counter, used) = (Arc::clone(&given), AtomicUsize::new(0));
    let realm = tokens.url("/token");
    registry.guard(move |seen: &Seen| {
        let last = given.load(Ordering::SeqCst);
        let expected = format!("Bearer t0ken-{last}");
        let is_good = last > 0 && seen.header("authorization") == Some(&expected);
        if is_good && used.fetch_add(1, Ordering::SeqCst) < good_for {
            return None;
        }
        used.store(0, Ordering::SeqCst);
        let challenge = format!(r#"Bearer realm="{realm}",service="s",error="invalid_token""#);
        Some(error(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge))
    });
    tokens.serve_by("/token", move |_| {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::ok(json!({"access_token": format!("t0ken-{number}")}).to_string())
    });
}

#[test]
fn a_mount_that_no_token_allows_is_an_upload() {
    let image = Image::of(&[b"layer".to_vec()]);
    let (sandbox, registry, tokens) = (Sandbox::new(), Registry::start(), Server::start());
    let layout = image.layout(&sandbox, "layout");
    registry.hold("from/here", "1", &image);
    let realm = tokens.url("/token");
    registry.guard(move |seen| {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let refused = error(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge);
        (seen.header("authorization") != Some("Bearer t0ken")).then_some(refused)
    });
    tokens.serve_by("/token", |seen| {
        if seen.path.contains("from%2Fhere") {
            return error(403, "DENIED");
        }
        Reply::ok(json!({"token": "t0ken"}).to_string())
    });
    let run = push(&sandbox, &layout, &registry.image("a/b:1"));
    let outcome = run.args(["--mount-from", "from/here"]).run();
    expect(outcome, &image).expect_stderr(&["2 blobs sent (", "0 mounted"]);
    registry.assert_holds("a/b", "1", &image);
}

#[test]
fn tokens_that_expire_are_renewed() {
    let image = Image::of(&[noise(LARGE, 6), b"x".to_vec()]);
    let (sandbox, registry, tokens) = (Sandbox::new(), Registry::start(), Server::start());
    let layout = image.layout(&sandbox, "layout");
    log_in(&sandbox, &registry);
    with_tokens(&registry, &tokens, 2);
    let one = ["--concurrency", "1"];
    let outcome = push(&sandbox, &layout, &registry.image("a/b:1"))
        .args(one)
        .run();
    let outcome = expect(outcome, &image).expect_not_in_stderr(&["t0ken", "s3cret", "retry"]);
    registry.assert_holds("a/b", "1", &image);
    assert!(tokens.requests().len() > 3, "{outcome:?}");
    for seen in tokens.requests() {
        let basic = format!("Basic {}", BASE64_STANDARD.encode("me:s3cret"));
        assert_eq!(seen.header("authorization"), Some(basic.as_str()));
        assert!(
            seen.path.contains("scope=repository%3Aa%2Fb%3Apull%2Cpush"),
            "{seen:?}"
        );
    }
    let outcome = pull(&sandbox, &registry.image("a/b:1")).args(one).run();
    expect(outcome, &image).expect_not_in_stderr(&["t0ken", "s3cret", "retry"]);
    image.assert_in(&sandbox.path("out"), "1");
}

#[test]
fn a_token_that_opens_nothing_is_not_renewed_for_ever() {
    let image = Image::of(&[b"x".to_vec()]);
    let (sandbox, registry, tokens) = (Sandbox::new(), Registry::start(), Server::start());
    registry.hold("a/b", "1", &image);
    with_tokens(&registry, &tokens, 0);
    let outcome = pull(&sandbox, &registry.image("a/b:1")).run();
    let outcome = expect_nothing_pulled(&sandbox, outcome, 3);
    assert_eq!(tokens.requests().len(), 2, "{outcome:?}");
    outcome.expect_stderr(&["answered 401"]);
}

#[test]
fn a_token_server_that_is_slow_or_away_is_waited_for() {
    let image = Image::of(&[b"x".to_vec()]);
    let (sandbox, registry, tokens) = (Sandbox::new(), Registry::start(), Server::start());
    registry.hold("a/b", "1", &image);
    with_tokens(&registry, &tokens, 100);
    // In place of the answer that the last function scripted.
    let answer = json!({"token": "t0ken-0"}).to_string();
    registry.guard({
        let realm = tokens.url("/slow");
        move |seen| {
            let challenge = format!("Bearer realm=\"{realm}\"");
            let refused = error(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge);
            (seen.header("authorization") != Some("Bearer t0ken-0")).then_some(refused)
        }
    });
    tokens.serve_in_turn(
        "/slow",
        [
            Reply::status(503),
            Reply::close_before_response(),
            Reply::ok(&answer).slowly(5, Duration::from_millis(20)),
        ],
    );
    expect(pull(&sandbox, &registry.image("a/b:1")).run(), &image);
    assert_eq!(
        tokens.count("/slow?scope=repository%3Aa%2Fb%3Apull&client_id=fetch-content"),
        3
    );
    for (broken, problem) in [
        ("{}", "there is no token in the answer"),
        (
            "{\"token\": \"t0ken",
            "the answer is not what token servers answer",
        ),
    ] {
        tokens.serve("/slow", Reply::ok(broken));
        let outcome = pull(&sandbox, &registry.image("a/b:2"))
            .run()
            .expect_code(3);
        outcome
            .expect_stderr(&[problem])
            .expect_not_in_stderr(&["t0ken"]);
    }
}

#[test]
fn tokens_stay_with_the_registry() {
    let image = Image::of(&[b"layer".to_vec()]);
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let (tokens, storage) = (Server::start(), Server::start());
    registry.hold("a/b", "1", &image);
    log_in(&sandbox, &registry);
    with_tokens(&registry, &tokens, 100);
    let layer = digest(&image.layers[0]);
    storage.serve("/stored?sig=s1gnature", Reply::ok(&image.layers[0]));
    let elsewhere = Reply::redirect(307, storage.url("/stored?sig=s1gnature"));
    registry.script("GET", &layer, [Fault::Reply(elsewhere)]);
    let outcome = pull(&sandbox, &registry.image("a/b:1")).run();
    expect(outcome, &image).expect_not_in_stderr(&["t0ken", "s3cret", "s1gnature"]);
    assert_eq!(storage.requests().len(), 1);
    assert_eq!(storage.requests()[0].header("authorization"), None);

    // The same the other way round.
    let layout = image.layout(&sandbox, "layout");
    storage.serve("/up", Reply::status(201));
    let elsewhere = Reply::status(202).header("Location", storage.url("/up?sig=s1gnature"));
    let again = elsewhere.clone();
    registry.script(
        "POST",
        UPLOADS,
        [Fault::Reply(elsewhere), Fault::Reply(again)],
    );
    let outcome = push(&sandbox, &layout, &registry.image("c/d:1")).run();
    expect(outcome, &image).expect_not_in_stderr(&["t0ken", "s3cret", "s1gnature"]);
    let uploads = storage.requests();
    let uploads: Vec<_> = uploads.iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(uploads.len(), 2);
    for seen in uploads {
        assert_eq!(seen.header("authorization"), None);
        assert!(
            seen.path.contains("sig=s1gnature&digest=sha256%3A"),
            "{seen:?}"
        );
    }
}

/// An index of so many others, which nobody has.
fn index_of(count: usize) -> String {
    let inner = (0..count).map(|number| descriptor(INDEX, number.to_string().as_bytes()));
    let inner: Vec<_> = inner.collect();
    json!({"schemaVersion": 2, "manifests": inner}).to_string()
}

#[test]
fn hostile_manifests_are_refused() {
    let good = Image::of(&[b"layer".to_vec()]);
    let text = |image: &Image| String::from_utf8(image.manifest.clone()).unwrap();
    let wrong_size = text(&good).replace("\"size\": 5", "\"size\": -5");
    let wrong_digest = text(&good).replace("sha256:", "sha256:../../../");
    let padded = format!("{}{}", text(&good), " ".repeat(4 << 20));
    let (few, many) = (index_of(2), index_of(1001));
    let old = json!({"schemaVersion": 1, "name": "x"}).to_string();
    for (kind, content, code, problem) in [
        (MANIFEST, padded.as_str(), 3, "more than 4194304 bytes"),
        (MANIFEST, "{", 4, "is no manifest: EOF"),
        (MANIFEST, "[]", 4, "is no manifest: "),
        (
            MANIFEST,
            r#"{"schemaVersion":2}"#,
            4,
            "cannot be read: missing field `config`",
        ),
        (
            MANIFEST,
            &wrong_size,
            4,
            "cannot be read: invalid value: integer `-5`",
        ),
        (
            MANIFEST,
            &wrong_digest,
            4,
            "is not a digest: expected `sha256:`",
        ),
        (
            INDEX,
            &text(&good),
            4,
            "and calls itself application/vnd.oci.image.manifest",
        ),
        (
            "text/html",
            r#"{"schemaVersion":2}"#,
            4,
            "not known here: `text/html`, version 2",
        ),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            &old,
            4,
            "manifest.v1+prettyjws`, version 1",
        ),
        (INDEX, &few, 3, "answered 404"),
        (INDEX, &many, 4, "names too many manifests"),
    ] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.hold("a/b", "x", &good);
        registry.hold_manifest("a/b", "1", kind, content.as_bytes());
        let run = pull(&sandbox, &registry.image("a/b:1")).args(["--platform", "all"]);
        let outcome = expect_nothing_pulled(&sandbox, run.run(), code);
        outcome.expect_stderr(&[problem]);
    }
}

#[test]
fn content_that_is_not_what_was_asked_for_is_refused() {
    let (good, other) = (
        Image::of(&[b"layer".to_vec()]),
        Image::of(&[b"other".to_vec()]),
    );
    let other_manifest = || {
        let reply = Reply::ok(&other.manifest).header("Content-Type", MANIFEST);
        Fault::Reply(reply)
    };
    let (layer, config) = (digest(&good.layers[0]), digest(&good.config));
    let by_digest = format!("@{}", good.digest());
    let twice = |fault: &dyn Fn() -> Fault| vec![fault(), fault()];
    let bytes = |content: &'static [u8]| move || Fault::Reply(Reply::ok(content));
    for (name, path, faults, problem) in [
        (
            by_digest.as_str(),
            "/manifests/",
            twice(&other_manifest),
            "sha256 mismatch on",
        ),
        (
            ":1",
            layer.as_str(),
            twice(&bytes(b"LAYER")),
            "sha256 mismatch on",
        ),
        (
            ":1",
            &layer,
            twice(&bytes(b"layer and more")),
            "size mismatch on",
        ),
        (":1", &layer, twice(&bytes(b"lay")), "size mismatch on"),
        (":1", &config, twice(&bytes(b"{}")), "size mismatch on"),
    ] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.hold("a/b", "1", &good);
        registry.script("GET", path, faults);
        let run = pull(&sandbox, &registry.image(&format!("a/b{name}")));
        let outcome = expect_nothing_pulled(&sandbox, run.run(), 4);
        outcome.expect_stderr(&[problem, "gave up after 2 attempts"]);
        let bad = sandbox.path("out/blobs/sha256").join(&layer[7..]);
        assert!(std::fs::read(bad).map_or(true, |content| content == b"layer"));
    }
    // Once may be a cache's fault.
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.hold("a/b", "1", &good);
    registry.script("GET", &layer, [bytes(b"LAYER")()]);
    expect(pull(&sandbox, &registry.image("a/b:1")).run(), &good);
    good.assert_in(&sandbox.path("out"), "1");
}

#[test]
fn blobs_go_on_where_they_broke_and_a_second_run_goes_on_where_the_first_was() {
    let image = Image::of(&[noise(3_000_000, 7), noise(1000, 8)]);
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.hold("a/b", "1", &image);
    let large = digest(&image.layers[0]);
    let cut = Reply::ranged(&image.layers[0], &large).cut_after(1_000_000);
    registry.script("GET", &large, [Fault::Reply(cut)]);
    let run = pull(&sandbox, &registry.image("a/b:1")).args(["--connections", "1"]);
    expect(run.run(), &image).expect_stderr(&["goes on after "]);

    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.hold("a/b", "1", &image);
    registry.script("GET", &large, [Fault::Reply(error(403, "DENIED"))]);
    let one = ["--concurrency", "1"];
    let outcome = pull(&sandbox, &registry.image("a/b:1")).args(one).run();
    expect_nothing_pulled(&sandbox, outcome, 3);
    expect(pull(&sandbox, &registry.image("a/b:1")).run(), &image);
    image.assert_in(&sandbox.path("out"), "1");
}

#[test]
fn who_is_interrupted_leaves_only_what_is_complete() {
    let image = Image::of(&[noise(3_000_000, 10), b"small".to_vec()]);
    let (large, small) = (digest(&image.layers[0]), digest(&image.layers[1]));
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.hold("a/b", "1", &image);
        let stalled = Reply::ok(&image.layers[0]).stall_after(1_000_000);
        registry.script("GET", &large, [Fault::Reply(stalled)]);
        let running = pull(&sandbox, &registry.image("a/b:1")).spawn();
        registry
            .server
            .wait_for_stall(&format!("/v2/a/b/blobs/{large}"));
        let blobs = sandbox.path("out/blobs/sha256");
        wait_until("the small blob", || blobs.join(&small[7..]).exists());
        running.signal(signal);
        let outcome = running.finish();
        assert_eq!(outcome.status.code(), code, "{outcome:?}");
        assert!(!blobs.join(&large[7..]).exists(), "{outcome:?}");
        assert!(!sandbox.path("out/index.json").exists(), "{outcome:?}");
        let tree = sandbox.tree();
        let mut paths = tree.paths().into_iter();
        let staging = paths.any(|path| path.contains(".fetch-content."));
        assert_eq!(staging, signal == Signal::KILL, "{outcome:?}");
        // The next one goes on, and removes what was left.
        let outcome = pull(&sandbox, &registry.image("a/b:1")).run();
        expect(outcome, &image);
        image.assert_in(&sandbox.path("out"), "1");
        assert_eq!(registry.count("GET", &small), 1);
    }
}

#[test]
fn an_exported_cache_is_an_index_of_layers() {
    const CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";
    let (layer, config) = (b"layer".to_vec(), b"{\"records\":[]}".to_vec());
    let entries = [descriptor(LAYER, &layer), descriptor(CACHE, &config)];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    for blob in [&layer, &config] {
        registry.hold_blob("a/b", blob);
    }
    registry.hold_manifest("a/b", "1", INDEX, index.as_bytes());
    let outcome = pull(&sandbox, &registry.image("a/b:1")).run();
    assert_eq!(
        outcome.stdout.trim(),
        digest(index.as_bytes()),
        "{outcome:?}"
    );
    let outcome = push(&sandbox, sandbox.path("out"), &registry.image("c:1")).run();
    assert_eq!(
        outcome.stdout.trim(),
        digest(index.as_bytes()),
        "{outcome:?}"
    );
    outcome.expect_stderr(&["2 blobs sent ("]);
}

#[test]
fn mistakes_are_found_before_anybody_is_asked() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let image = Image::of(&[b"layer".to_vec()]);
    let layout = image.layout(&sandbox, "layout");
    let here = registry.image("a/b:1");
    let other = registry.image(&format!("a/b@{}", digest(b"other")));
    for (run, problem) in [
        (
            pull(&sandbox, "docker://h/x"),
            "it is given without a scheme",
        ),
        (
            pull(&sandbox, &here).args(["--platform", "linux"]),
            "--platform: `linux` is no platform",
        ),
        (
            push(&sandbox, &layout, "a.b/C"),
            "`a.b/C` is not the name of an image",
        ),
        (
            push(&sandbox, &layout, &here).args(["--tag", "none"]),
            "nothing with the tag `none`",
        ),
        (
            push(&sandbox, &layout, &here).args(["--mount-from", "A"]),
            "--mount-from: `A` is no repository",
        ),
        (
            push(&sandbox, &layout, &here).args(["--mount-from", "a:1"]),
            "--mount-from: `a:1` is no",
        ),
        (
            push(&sandbox, &layout, &other),
            "and is to be pushed as sha256:",
        ),
        (
            push(&sandbox, sandbox.path("layout/oci-layout"), &here),
            "is no image layout",
        ),
    ] {
        run.run().expect_code(2).expect_stderr(&[problem]);
    }
    assert!(registry.server.requests().is_empty());
    assert!(!sandbox.path("out").exists());
}

/// An image that the library reads, with all that belongs to a run.
fn remote(sandbox: &Sandbox, name: &str) -> Remote {
    let client = Client::new(Settings::default()).expect("a client");
    let connection = Connection {
        client: client.clone(),
        retry: RetryPolicy {
            attempts: 3,
            base: Duration::from_millis(5),
            ..RetryPolicy::default()
        },
        logins: Logins::default(),
        plain_http: false,
    };
    let reference = name.parse().expect("a reference");
    let repository = Repository::reading(&reference, &connection).expect("a repository");
    let staging = Staging::inside(&sandbox.path("work")).expect("a staging area");
    let context = Context {
        client,
        retry: connection.retry,
        placing_slots: placing_slots(),
        limits: Limits::default(),
        staging: Arc::new(staging),
        start: Instant::now(),
    };
    Remote::new(repository, Arc::new(context), Arc::new(()))
}

#[tokio::test]
async fn an_image_is_read_from_where_it_is() {
    let image = Image::of(&[noise(3_000_000, 9)]);
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.hold("a/b", "1", &image);
    let cut = Reply::ranged(&image.layers[0], "x").cut_after(1_000_000);
    registry.script("GET", &digest(&image.layers[0]), [Fault::Reply(cut)]);
    let remote = remote(&sandbox, &registry.image("a/b:1"));
    let top = remote.top().await.expect("a manifest");
    assert_eq!(top.digest.to_string(), image.digest());
    let manifest = remote.read(&top, 4096).await.expect("the manifest");
    assert_eq!(manifest, image.manifest);
    let manifest: Manifest = serde_json::from_slice(&manifest).expect("a manifest");
    let config = remote.read(&manifest.config, 4096).await;
    assert_eq!(config.expect("the configuration"), image.config);
    let err = remote.read(&manifest.config, 10).await.unwrap_err();
    assert!(err.to_string().contains("may have 10 at most"), "{err}");
    let mut layer = remote.open(&manifest.layers[0]).await.expect("the layer");
    let mut content = Vec::new();
    layer.read_to_end(&mut content).expect("read the layer");
    assert!(content == image.layers[0]);
    // The manifest came once, and nothing is left of the blobs.
    assert_eq!(registry.count("GET", "/manifests/"), 1);
    let files = sandbox.tree();
    let left = files
        .paths()
        .into_iter()
        .find(|path| path.contains(&*manifest.config.digest.hex()));
    assert_eq!(left, None);
    drop((layer, remote));
    assert!(!sandbox.path("work").exists());
}

//! Artifacts that are created: what queue, object service and storage are told, and what happens when they fail.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::acceptor::Acceptor;
use crate::support::archives::{noise, sha256_hex, sha512_hex};
use crate::support::hawk::{Account, secrets_of};
use crate::support::platform::{EXPIRES, Platform, SIGNED};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, wait_until};
use crate::support::server::{Reply, Seen, Server};

const PROMPTLY: Duration = Duration::from_secs(10);

/// The name of most artifacts here, with something to encode.
const NAME: &str = "public/build/a b.log";

const ME: Account = Account {
    id: "project/me:laptop",
    token: "t0ken-of-mine",
    certificate: None,
};

/// `upload` in run 0 of `TASK_A`, whose proxy is the deployment itself.
fn upload<'a>(sandbox: &'a Sandbox, platform: &Platform, storage: &str) -> Invocation<'a> {
    in_task(sandbox.binary().args(["upload"]), platform).args(["--storage", storage])
}

fn in_task<'a>(run: Invocation<'a>, platform: &Platform) -> Invocation<'a> {
    run.env("TASKCLUSTER_ROOT_URL", platform.api.root())
        .env("TASKCLUSTER_PROXY_URL", platform.api.root())
        .env("TASK_ID", TASK_A)
        .env("RUN_ID", "0")
}

/// Expects that nothing a log should not have is in it.
fn expect_no_secrets(outcome: Outcome, platform: &Platform) -> Outcome {
    let mut secrets: Vec<String> = ["s1gnature", "t0ken", "s3ed", "Hawk"]
        .map(str::to_owned)
        .into();
    secrets.extend(secrets_of(&platform.api.requests()));
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    outcome.expect_not_in_stderr(&secrets)
}

#[test]
fn files_are_put_where_the_queue_says() {
    let (big, empty) = (noise(300_000, 7), Vec::new());
    let names = [NAME, "public/big.tar.zst", "private/empty"];
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&names, None));
    sandbox.write("a.log", "log");
    sandbox.write("out/big", &big);
    sandbox.write("empty", &empty);
    let outcome = upload(&sandbox, &platform, "s3")
        .args([
            "public/build/a b.log=a.log",
            "public/big.tar.zst=out/big",
            "private/empty=empty",
        ])
        .run()
        .expect_code(0)
        .expect_stderr(&[
            &format!(
                "[public/big.tar.zst] done: 300.0 kB in [TIME] ([TIME]), sha256 {}",
                sha256_hex(&big)
            ),
            "created 3 artifacts: 300.0 kB in [TIME] ([TIME])",
            &format!("  public/build/a b.log        3 B {}\n", sha256_hex(b"log")),
            &format!("  private/empty               0 B {}\n", sha256_hex(b"")),
        ]);
    for (name, content, content_type) in [
        (names[0], b"log".to_vec(), "text/plain"),
        (names[1], big, "application/zstd"),
        (names[2], empty, "application/octet-stream"),
    ] {
        let artifact = platform.artifact(name);
        let expected = json!({
            "storageType": "s3", "contentType": content_type, "contentLength": content.len(), "expires": EXPIRES,
        });
        assert_eq!(artifact.description, expected, "{outcome:?}");
        assert_eq!(artifact.content, Some(content), "{name} {outcome:?}");
    }
    assert_eq!(platform.api.count(&Platform::status_path()), 1);
    assert!(platform.storage.most_at_once() > 0);
    expect_no_secrets(outcome, &platform);
}

#[test]
fn type_and_expiry_can_be_given() {
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
    sandbox.write("x", "x");
    let argument = format!("{NAME}=x");
    let outcome = upload(&sandbox, &platform, "s3")
        .args(["--content-type", "text/html; charset=utf-8"])
        .args(["--expires", "2039-01-01T02:00:00+02:00", &argument])
        .run()
        .expect_code(0);
    let description = platform.artifact(NAME).description;
    assert_eq!(description["contentType"], "text/html; charset=utf-8");
    assert_eq!(description["expires"], "2039-01-01T00:00:00.000Z");
    // Then nobody needs to know when the task expires.
    assert_eq!(
        platform.api.count(&Platform::status_path()),
        0,
        "{outcome:?}"
    );
}

#[test]
fn without_a_proxy_requests_are_signed() {
    for storage in ["s3", "object"] {
        let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], Some(&ME)));
        sandbox.write("x", "x");
        let argument = format!("{NAME}=x");
        let outcome = upload(&sandbox, &platform, storage)
            .env_remove("TASKCLUSTER_PROXY_URL")
            .env("TASKCLUSTER_CLIENT_ID", ME.id)
            .env("TASKCLUSTER_ACCESS_TOKEN", ME.token)
            .args([argument])
            .run()
            .expect_code(0);
        assert!(platform.artifact(NAME).present, "{outcome:?}");
        expect_no_secrets(outcome, &platform);
    }
}

#[test]
fn the_proxy_is_asked_and_the_object_service_is_not_asked_through_it() {
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
    // The proxy knows nothing but the queue's methods for this artifact.
    let proxy = Server::start();
    let api = platform.api.root();
    proxy.serve_by(&Platform::path(NAME), move |seen| forward(&api, seen));
    sandbox.write("x", "x");
    let outcome = upload(&sandbox, &platform, "object")
        .env("TASKCLUSTER_PROXY_URL", proxy.root())
        .env("TASKCLUSTER_CLIENT_ID", ME.id)
        .env("TASKCLUSTER_ACCESS_TOKEN", ME.token)
        .args([format!("{NAME}=x")])
        .run()
        .expect_code(0);
    assert!(platform.artifact(NAME).present, "{outcome:?}");
    let methods: Vec<String> = proxy.requests().into_iter().map(|s| s.method).collect();
    assert_eq!(methods, ["POST", "PUT"], "{outcome:?}");
    for seen in proxy.requests() {
        assert_eq!(seen.header("authorization"), None, "{seen:?}");
    }
}

/// Asks somebody else what to answer.
fn forward(root: &str, seen: &Seen) -> Reply {
    use std::io::{Read, Write};
    let address = root.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).expect("connect to the API");
    let head = format!(
        "{} {} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        seen.method,
        seen.path,
        seen.body.len()
    );
    stream.write_all(head.as_bytes()).expect("ask the API");
    stream.write_all(&seen.body).expect("ask the API");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("end the question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("hear the API");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Reply::with_status(status.expect("a status"), body)
}

#[test]
fn objects_are_sent_inline_or_put_and_then_finished() {
    for size in [0, 1, 8192, 8193, 200_000] {
        let content = noise(size, 3);
        let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
        sandbox.write("x", &content);
        let outcome = upload(&sandbox, &platform, "object")
            .args([format!("{NAME}=x")])
            .run()
            .expect_code(0);
        let outcome = outcome.expect_stderr(&[&sha256_hex(&content)]);
        let artifact = platform.artifact(NAME);
        assert_eq!(artifact.content.as_ref(), Some(&content), "{outcome:?}");
        let hashes = json!({"sha256": sha256_hex(&content), "sha512": sha512_hex(&content)});
        assert_eq!(artifact.hashes, Some(hashes), "{outcome:?}");
        assert!(artifact.present, "{outcome:?}");
        let puts = usize::from(size > 8192);
        assert_eq!(platform.storage.requests().len(), puts, "{outcome:?}");
        if puts == 1 {
            let seen = &platform.storage.requests()[0];
            assert_eq!(seen.header("content-encoding"), Some("identity"));
        }
        expect_no_secrets(outcome, &platform);
    }
}

#[test]
fn links_and_references_have_no_content() {
    let names = ["public/latest", "public/other.txt"];
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&names, None));
    let outcome = upload(&sandbox, &platform, "link")
        .args(["public/latest=public/build/x 1"])
        .run()
        .expect_code(0)
        .expect_stderr(&["created 1 artifact: 0 B", "  public/latest          - -\n"]);
    let outcome = expect_no_secrets(outcome, &platform);
    assert_eq!(
        platform.artifact(names[0]).description,
        json!({"storageType": "link", "artifact": "public/build/x 1", "expires": EXPIRES}),
        "{outcome:?}"
    );
    let url = "https://me:t0ken@example.com/x?a=b c";
    let outcome = upload(&sandbox, &platform, "reference")
        .args([format!("public/other.txt={url}")])
        .run()
        .expect_code(0);
    let outcome = expect_no_secrets(outcome, &platform);
    assert_eq!(
        platform.artifact(names[1]).description,
        json!({"storageType": "reference", "url": url, "contentType": "text/plain", "expires": EXPIRES}),
        "{outcome:?}"
    );
    assert!(platform.storage.requests().is_empty());
}

/// A storage that found the line too quiet.
fn timed_out() -> Reply {
    let said = "<?xml version=\"1.0\"?>\n<Error><Code>RequestTimeout</Code><Message>Your socket was idle.</Message></Error>";
    Reply::with_status(400, said)
}

#[test]
fn what_can_pass_is_tried_again_by_a_fresh_url() {
    let content = noise(100_000, 1);
    for (storage, again) in [
        ("s3", Platform::path(NAME)),
        ("object", Platform::upload_path(NAME)),
    ] {
        for failures in [
            vec![Reply::status(500), Reply::status(503)],
            vec![
                Reply::reset_before_response(),
                Reply::close_before_response(),
            ],
            vec![timed_out(), timed_out(), timed_out()],
            vec![Reply::status(429).header("Retry-After", "0")],
            vec![Reply::with_status(
                403,
                "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            )],
        ] {
            let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
            sandbox.write("x", &content);
            let count = failures.len();
            platform.script("PUT", &Platform::stored_path(NAME), failures);
            let outcome = upload(&sandbox, &platform, storage)
                .args([format!("{NAME}=x")])
                .run()
                .expect_code(0)
                .expect_stderr(&[&format!("[{NAME}] retry {count} of ")]);
            let artifact = platform.artifact(NAME);
            assert_eq!(artifact.content.as_ref(), Some(&content), "{outcome:?}");
            let urls = platform.storage.paths();
            assert_eq!(urls.len(), count + 1, "{outcome:?}");
            assert!(urls.windows(2).all(|pair| pair[0] != pair[1]), "{urls:?}");
            let method = if storage == "s3" { "POST" } else { "PUT" };
            assert_eq!(platform.count(method, &again), count + 1, "{outcome:?}");
            expect_no_secrets(outcome, &platform);
        }
    }
}

#[test]
fn every_step_is_tried_again_alone() {
    let steps = [
        ("POST", Platform::path(NAME)),
        ("PUT", Platform::upload_path(NAME)),
        ("PUT", Platform::stored_path(NAME)),
        ("POST", Platform::finish_path(NAME)),
        ("PUT", Platform::path(NAME)),
    ];
    for (number, (method, path)) in steps.iter().enumerate() {
        let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
        sandbox.write("x", noise(10_000, 1));
        platform.script(
            method,
            path,
            [Reply::status(502), Reply::close_before_response()],
        );
        let outcome = upload(&sandbox, &platform, "object")
            .args([format!("{NAME}=x")])
            .run()
            .expect_code(0);
        assert!(platform.artifact(NAME).present, "{outcome:?}");
        for (other, (method, path)) in steps.iter().enumerate() {
            // A fresh URL comes from the step before.
            let repeated = other == number || (number, other) == (2, 1);
            let expected = if repeated { 3 } else { 1 };
            assert_eq!(
                platform.count(method, path),
                expected,
                "{method} {path} {outcome:?}"
            );
        }
        expect_no_secrets(outcome, &platform);
    }
}

#[test]
fn what_the_api_refuses_is_told_and_not_asked_for_again() {
    let conflict = "Artifacts cannot be created for a task after it is resolved";
    for (status, code, said, hint) in [
        (400, "InputError", "Artifact expires after the task", None),
        (
            401,
            "AuthenticationFailed",
            "Bad mac",
            Some("hint: the credentials are wrong"),
        ),
        (
            403,
            "InsufficientScopes",
            "You lack queue:create-artifact:x/0",
            Some("hint: the missing scopes"),
        ),
        (404, "ResourceNotFound", "Task not found", None),
        (
            409,
            "RequestConflict",
            conflict,
            Some("hint: what has been created stays as it is"),
        ),
    ] {
        let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
        sandbox.write("x", "x");
        let path = Platform::path(NAME);
        platform.script("POST", &path, [Reply::api_error(status, code, said)]);
        let outcome = upload(&sandbox, &platform, "s3")
            .args([format!("{NAME}=x")])
            .run()
            .expect_code(3)
            .expect_stderr(&[
                &format!("error: cannot create artifact `{NAME}` of task {TASK_A}\n  caused by: "),
                &format!("answered {status} "),
                said,
            ]);
        assert_eq!(
            outcome.stderr.contains("hint: "),
            hint.is_some(),
            "{outcome:?}"
        );
        let outcome = outcome.expect_stderr(&[hint.unwrap_or_default()]);
        assert_eq!(platform.count("POST", &path), 1, "{outcome:?}");
        assert!(platform.storage.requests().is_empty(), "{outcome:?}");
    }
}

#[test]
fn another_content_of_the_same_name_is_a_conflict() {
    for storage in ["s3", "object"] {
        let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
        let run = || {
            let run = upload(&sandbox, &platform, storage);
            run.args([format!("{NAME}=x")]).run()
        };
        sandbox.write("x", "one");
        run().expect_code(0);
        // The same once more is none.
        run().expect_code(0);
        sandbox.write("x", "other");
        run()
            .expect_code(3)
            .expect_stderr(&["answered 409", "already exists"]);
        sandbox.write("x", "two");
        let outcome = run().expect_code(if storage == "s3" { 0 } else { 3 });
        if storage == "object" {
            // The queue cannot tell these apart; the object service can.
            outcome.expect_stderr(&[
                "/object/v1/upload/",
                "answered 409",
                "Object already exists",
            ]);
            assert_eq!(platform.artifact(NAME).content, Some(b"one".to_vec()));
        }
    }
}

#[test]
fn a_storage_that_refuses_for_good_is_asked_twice() {
    let too_large = "<Error><Code>EntityTooLarge</Code><Message>Your proposed upload exceeds the maximum</Message></Error>";
    for status in [400, 403] {
        let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
        sandbox.write("x", "x");
        let refusal = || Reply::with_status(status, too_large);
        platform.script(
            "PUT",
            &Platform::stored_path(NAME),
            [refusal(), refusal(), refusal()],
        );
        let outcome = upload(&sandbox, &platform, "s3")
            .args([format!("{NAME}=x")])
            .run()
            .expect_code(3)
            .expect_stderr(&[
                "gave up after 2 attempts",
                "EntityTooLarge: Your proposed upload",
            ])
            .expect_not_in_stderr(&["hint:"]);
        assert_eq!(platform.storage.requests().len(), 2, "{outcome:?}");
        expect_no_secrets(outcome, &platform);
    }
}

#[test]
fn answers_of_another_shape_are_told_without_what_they_hold() {
    let other_type = json!({"storageType": "reference", "x": "t0ken"}).to_string();
    let no_url = json!({"storageType": "s3", "putUrl": "s1gnature"}).to_string();
    let no_method = json!({"projectId": "ci", "uploadId": "t0ken", "uploadMethod": {}}).to_string();
    let create = || ("POST", Platform::path(NAME));
    for (storage, (method, path), answer, said) in [
        ("s3", create(), "t0ken".to_owned(), "it is not JSON"),
        (
            "s3",
            create(),
            "{\"t0ken\": 1}".to_owned(),
            "it is JSON of another shape",
        ),
        (
            "s3",
            create(),
            other_type.clone(),
            "it is about another storage",
        ),
        (
            "object",
            create(),
            other_type,
            "it is about another storage",
        ),
        ("s3", create(), no_url, "its URL is none"),
        (
            "object",
            ("PUT", Platform::upload_path(NAME)),
            no_method,
            "it names no way to upload",
        ),
    ] {
        let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
        sandbox.write("x", noise(9000, 1));
        platform.script(method, &path, [Reply::ok(answer)]);
        let outcome = upload(&sandbox, &platform, storage)
            .args([format!("{NAME}=x")])
            .run()
            .expect_code(3)
            .expect_stderr(&[said]);
        assert_eq!(platform.count(method, &path), 1, "{outcome:?}");
        assert!(platform.storage.requests().is_empty(), "{outcome:?}");
        expect_no_secrets(outcome, &platform);
    }
}

#[test]
fn a_backend_that_does_not_match_is_told() {
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
    sandbox.write("x", "x");
    let said = "No backend matched the given name and projectId";
    platform.script(
        "PUT",
        &Platform::upload_path(NAME),
        [Reply::api_error(400, "NoMatchingBackend", said)],
    );
    upload(&sandbox, &platform, "object")
        .args([format!("{NAME}=x")])
        .run()
        .expect_code(3)
        .expect_stderr(&["answered 400", said]);
}

#[test]
fn a_file_that_changes_meanwhile_is_not_uploaded() {
    for storage in ["s3", "object"] {
        let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
        let path = sandbox.write("x", noise(100_000, 1));
        // While the first attempt fails, somebody appends to it.
        platform
            .storage
            .serve_by(&Platform::stored_path(NAME), move |_| {
                let mut content = fs::read(&path).expect("read the file");
                content.push(b'!');
                fs::write(&path, content).expect("write to the file");
                Reply::status(503)
            });
        let outcome = upload(&sandbox, &platform, storage)
            .args([format!("{NAME}=x")])
            .run()
            .expect_code(6)
            .expect_stderr(&[
                "cannot upload `",
                "somebody has written to it or replaced it",
            ]);
        assert_eq!(platform.storage.requests().len(), 1, "{outcome:?}");
        assert!(platform.artifact(NAME).hashes.is_none(), "{outcome:?}");
    }
}

#[test]
fn a_storage_that_takes_nothing_is_given_up() {
    let (sandbox, platform, silent) = (
        Sandbox::new(),
        Platform::start(&[NAME], None),
        Acceptor::silent(),
    );
    // More than what the system buffers.
    let file = fs::File::create(sandbox.path("x")).expect("create a file");
    file.set_len(64 << 20).expect("make it large");
    let url = format!("http://{}/x?{SIGNED}", silent.address());
    let answer = json!({"storageType": "s3", "putUrl": url, "expires": EXPIRES, "contentType": "text/plain"});
    let answer = || Reply::ok(answer.to_string());
    platform.script(
        "POST",
        &Platform::path(NAME),
        [answer(), answer(), answer()],
    );
    let outcome = upload(&sandbox, &platform, "s3")
        .args(["--stall-timeout", "0.3", "--attempts", "2"])
        .args([format!("{NAME}=x")])
        .run()
        .expect_code(3)
        .expect_stderr(&["gave up after 2 attempts", "nothing was taken for 300ms"]);
    assert_eq!(silent.accepted(), 2, "{outcome:?}");
    expect_no_secrets(outcome.expect_within(PROMPTLY), &platform);
}

#[test]
fn a_storage_that_does_not_answer_is_given_up() {
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
    sandbox.write("x", "x");
    let stored = Platform::stored_path(NAME);
    let never = || Reply::ok("").once_requested("/nothing");
    platform.script("PUT", &stored, [never(), never()]);
    upload(&sandbox, &platform, "s3")
        .args(["--stall-timeout", "0.3", "--attempts", "2"])
        .args([format!("{NAME}=x")])
        .run()
        .expect_code(3)
        .expect_stderr(&["no answer for 300ms (1 B were sent until then)"])
        .expect_within(PROMPTLY);
}

#[test]
fn whoever_is_killed_in_the_middle_can_be_run_again() {
    for (storage, signal, code) in [
        ("s3", Signal::KILL, None),
        ("s3", Signal::TERM, Some(143)),
        ("object", Signal::KILL, None),
    ] {
        let (sandbox, platform, silent) = (
            Sandbox::new(),
            Platform::start(&[NAME], None),
            Acceptor::silent(),
        );
        let content = noise(9 << 20, 1);
        sandbox.write("x", &content);
        let put = json!({"url": format!("http://{}/x", silent.address()), "expires": EXPIRES, "headers": {}});
        let started = if storage == "s3" {
            // Created first, as the queue remembers it; then with a URL that leads to silence.
            let answer = json!({"storageType": "s3", "putUrl": put["url"]});
            platform.script(
                "POST",
                &Platform::path(NAME),
                [Reply::ok(answer.to_string())],
            );
            Platform::path(NAME)
        } else {
            let answer = json!({"uploadMethod": {"putUrl": put}});
            let path = Platform::upload_path(NAME);
            platform.script("PUT", &path, [Reply::ok(answer.to_string())]);
            path
        };
        let run = || upload(&sandbox, &platform, storage).args([format!("{NAME}=x")]);
        let running = run().spawn();
        platform.api.wait_for_request(&started);
        wait_until("the content is on its way", || silent.accepted() == 1);
        running.signal(signal);
        let outcome = running.finish().expect_within(PROMPTLY);
        assert_eq!(outcome.status.code(), code, "{outcome:?}");

        let outcome = run().run().expect_code(0);
        let artifact = platform.artifact(NAME);
        assert!(artifact.present, "{outcome:?}");
        assert!(artifact.content == Some(content), "{outcome:?}");
    }
}

#[test]
fn an_object_that_was_finished_before_the_kill_is_completed() {
    for (content, code) in [("same", 0), ("else", 3)] {
        let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
        sandbox.write("x", "same");
        let run = || upload(&sandbox, &platform, "object").args([format!("{NAME}=x")]);
        // As if killed before the queue heard of it.
        let refusal = Reply::api_error(400, "InputError", "no");
        platform.script("PUT", &Platform::path(NAME), [refusal]);
        run().run().expect_code(3);
        assert!(!platform.artifact(NAME).present);
        sandbox.write("x", content);
        let outcome = run().run().expect_code(code);
        assert_eq!(platform.artifact(NAME).present, code == 0, "{outcome:?}");
    }
}

#[test]
fn one_failure_ends_the_others() {
    let names = ["public/bad", "public/slow"];
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&names, None));
    sandbox.write("x", "x");
    let refusal = Reply::api_error(403, "InsufficientScopes", "You lack it");
    let refusal = refusal.once_requested(&Platform::path("public/slow"));
    platform.script("POST", &Platform::path("public/bad"), [refusal]);
    let never = Reply::ok("").once_requested("/nothing");
    platform.script("PUT", &Platform::stored_path("public/slow"), [never]);
    upload(&sandbox, &platform, "s3")
        .args(["public/bad=x", "public/slow=x"])
        .run()
        .expect_code(3)
        .expect_stderr(&["cannot create artifact `public/bad`", "You lack it"])
        .expect_within(PROMPTLY);
}

#[test]
fn only_so_many_are_on_their_way_at_once() {
    let names: Vec<String> = (0..12).map(|n| format!("public/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&names, None));
    sandbox.write("x", noise(50_000, 1));
    let run = upload(&sandbox, &platform, "s3").args(["--concurrency", "2"]);
    let run = run.args(names.iter().map(|name| format!("{name}=x")));
    let outcome = run.run().expect_code(0);
    assert!(platform.storage.most_at_once() <= 2, "{outcome:?}");
    assert!(names.iter().all(|name| platform.artifact(name).present));
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
    let drain = Acceptor::start(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut left, mut buffer) = (512_u64 << 20, vec![0; 1 << 20]);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        // Meanwhile the file can be read, and would pile up.
        tokio::time::sleep(Duration::from_secs(2)).await;
        while left > 0 {
            left -= stream.read(&mut buffer).await? as u64;
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await
    });
    let file = fs::File::create(sandbox.path("x")).expect("create a file");
    file.set_len(512 << 20).expect("make it large");
    let answer = json!({"storageType": "s3", "putUrl": format!("http://{}/x", drain.address())});
    platform.script(
        "POST",
        &Platform::path(NAME),
        [Reply::ok(answer.to_string())],
    );
    // Address space bounds the memory: half of the file.
    let command = "ulimit -v 262144; exec \"$0\" upload \"$1\"";
    let run = sandbox.program("sh").args(["-c", command]);
    let run = run.args([env!("CARGO_BIN_EXE_fetch-content"), &format!("{NAME}=x")]);
    in_task(run, &platform)
        .env("MALLOC_ARENA_MAX", "2")
        .run()
        .expect_code(0)
        .expect_stderr(&["done: 536.9 MB in "]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn mistakes_are_found_before_anything_is_asked() {
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
    sandbox.write("x", "x");
    let pair = format!("{NAME}=x");
    let run = |storage: &str| upload(&sandbox, &platform, storage);
    for (run, code, said) in [
        (run("s3").args(["public/x"]), 2, "`public/x` has no `=`"),
        (run("s3").args(["=x"]), 2, "artifact name `` is empty"),
        (run("s3").args(["public/é=x"]), 2, "printable ASCII"),
        (run("s3").args(["a/../b=x"]), 2, "`..` segment"),
        (run("s3").args([&pair, &pair]), 2, "is given twice"),
        (
            run("s3").args(["public/y=nothing"]),
            6,
            "cannot look at `nothing`",
        ),
        (
            run("s3").args(["public/y=."]),
            6,
            "it is not a regular file",
        ),
        (
            run("s3").args(["public/y=/dev/null"]),
            6,
            "it is not a regular file",
        ),
        (run("link").args(["public/y=/x"]), 2, "starts with a slash"),
        (
            run("link").args(["--content-type", "a/b", "public/y=x"]),
            2,
            "a link has that of its target",
        ),
        (
            run("reference").args(["public/y=s3cret"]),
            2,
            "is not an http or https URL",
        ),
        (
            run("reference").args(["public/y=file:///s3cret"]),
            2,
            "is not an http or https URL",
        ),
        (run("tape").args([&pair]), 2, "invalid value 'tape'"),
        (
            run("s3").args(["--content-type", "text", &pair]),
            2,
            "`text` is no media type",
        ),
        (
            run("s3").args(["--content-type", "a/b\nX: y", &pair]),
            2,
            "is no media type",
        ),
        (
            run("s3").args(["--expires", "soon", &pair]),
            2,
            "--expires: `soon` is not a time",
        ),
        (
            run("s3").args([&pair]).env("TASK_ID", ""),
            2,
            "TASK_ID is not set",
        ),
        (
            run("s3").args([&pair]).env("TASK_ID", "a/b"),
            2,
            "TASK_ID: task id `a/b`",
        ),
        (
            run("s3").args([&pair]).env_remove("RUN_ID"),
            2,
            "RUN_ID is not set",
        ),
        (
            run("s3").args([&pair]).env("RUN_ID", "-1"),
            2,
            "RUN_ID: run id `-1`",
        ),
        (
            run("s3").args([&pair]).env_remove("TASKCLUSTER_ROOT_URL"),
            2,
            "TASKCLUSTER_ROOT_URL is not set",
        ),
        (
            run("s3").args([&pair]).env_remove("TASKCLUSTER_PROXY_URL"),
            2,
            "neither TASKCLUSTER_PROXY_URL nor TASKCLUSTER_CLIENT_ID is set",
        ),
    ] {
        let outcome = run.run().expect_code(code).expect_stderr(&[said]);
        outcome.expect_not_in_stderr(&["s3cret"]);
    }
    assert!(platform.api.requests().is_empty());
}

#[test]
fn the_environment_says_where_uploads_go() {
    let (sandbox, platform) = (Sandbox::new(), Platform::start(&[NAME], None));
    sandbox.write("x", "x");
    let run = |value: &str| {
        let run = sandbox.binary().args(["upload", &format!("{NAME}=x")]);
        in_task(run, &platform).env("FETCH_CONTENT_UPLOAD_STORAGE", value)
    };
    run("tape")
        .run()
        .expect_code(2)
        .expect_stderr(&["FETCH_CONTENT_UPLOAD_STORAGE is `tape`, expected `s3` or `object`"]);
    run("object").run().expect_code(0);
    assert!(platform.artifact(NAME).hashes.is_some());
}

/// `static-url` for what `upstream` has at `/x-1.tar`, with an upload.
fn fetch_and_upload<'a>(
    sandbox: &'a Sandbox,
    platform: &Platform,
    upstream: &Server,
) -> Invocation<'a> {
    let run = sandbox.static_url("release", &upstream.url("/x-1.tar"), "out/x.tar");
    in_task(run, platform).args(["--upload", "public/x.tar"])
}

#[test]
fn what_was_fetched_is_uploaded() {
    let (sandbox, upstream) = (Sandbox::new(), Server::start());
    let platform = Platform::start(&["public/x.tar"], None);
    upstream.serve("/x-1.tar", Reply::ok("release"));
    let outcome = fetch_and_upload(&sandbox, &platform, &upstream)
        .run()
        .expect_code(0)
        .expect_stderr(&["fetched 1 of 1: 7 B", "created 1 artifact: 7 B"]);
    assert_eq!(sandbox.read("out/x.tar"), b"release");
    let artifact = platform.artifact("public/x.tar");
    assert_eq!(artifact.content, Some(b"release".to_vec()), "{outcome:?}");
    assert_eq!(artifact.description["contentType"], "application/x-tar");
    expect_no_secrets(outcome, &platform);
}

#[test]
fn what_was_not_fetched_is_not_uploaded() {
    let (sandbox, upstream) = (Sandbox::new(), Server::start());
    let platform = Platform::start(&["public/x.tar"], None);
    upstream.serve("/x-1.tar", Reply::ok("another"));
    let outcome = fetch_and_upload(&sandbox, &platform, &upstream).run();
    sandbox.assert_empty(&outcome.expect_code(4));
    assert!(platform.api.requests().is_empty());
}

#[test]
fn an_upload_that_cannot_be_is_refused_before_the_download() {
    let (sandbox, upstream) = (Sandbox::new(), Server::start());
    let platform = Platform::start(&["public/x.tar"], None);
    upstream.serve("/x-1.tar", Reply::ok("release"));
    let run = || fetch_and_upload(&sandbox, &platform, &upstream);
    for (run, said) in [
        (run().env_remove("TASK_ID"), "TASK_ID is not set"),
        (
            run().env_remove("TASKCLUSTER_PROXY_URL"),
            "neither TASKCLUSTER_PROXY_URL nor",
        ),
        (
            run().env("FETCH_CONTENT_UPLOAD_STORAGE", "link"),
            "expected `s3` or `object`",
        ),
        (
            sandbox
                .static_url("release", &upstream.url("/x-1.tar"), "x")
                .args(["--upload", "a//../b"]),
            "artifact name `a//../b`",
        ),
    ] {
        let outcome = run.run().expect_code(2).expect_stderr(&[said]);
        sandbox.assert_empty(&outcome);
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn what_was_fetched_stays_when_the_upload_fails() {
    let (sandbox, upstream) = (Sandbox::new(), Server::start());
    let platform = Platform::start(&["public/x.tar"], None);
    upstream.serve("/x-1.tar", Reply::ok("release"));
    let refusal = Reply::api_error(403, "InsufficientScopes", "You lack it");
    platform.script("POST", &Platform::path("public/x.tar"), [refusal]);
    fetch_and_upload(&sandbox, &platform, &upstream)
        .run()
        .expect_code(3)
        .expect_stderr(&[
            "fetched 1 of 1",
            "error: cannot create artifact `public/x.tar`",
        ]);
    assert_eq!(sandbox.read("out/x.tar"), b"release");
}

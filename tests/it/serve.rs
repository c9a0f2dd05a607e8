//! A store over HTTP: what clients made for Taskcluster find there, and what happens to those that behave badly.

use std::env;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::archives::{dir, file, noise, sha256_hex, symlink, tar_of, xz, zst};
use crate::support::plain_http::{self, Answer};
use crate::support::sandbox::{Sandbox, TASK_A, TASK_B, vouching_for, wait_until};
use crate::support::serving::Serving;
use crate::support::skip::{python_with, skip};

/// A path of the Queue.
fn queue(rest: &str) -> String {
    format!("/api/queue/v1/{rest}")
}

/// A path of the Index.
fn index(rest: &str) -> String {
    format!("/api/index/v1/{rest}")
}

#[test]
fn the_python_tool_and_ours_get_the_same_from_it() {
    let test = "the_python_tool_and_ours_get_the_same_from_it";
    let Some(interpreter) = python_with(test, "zstandard") else {
        return;
    };
    let Ok(script) = env::var("PYTHON_FETCH_CONTENT") else {
        return skip(test, "PYTHON_FETCH_CONTENT does not name the Python script");
    };
    let tar = tar_of(&[
        dir("tool/").mode(0o750),
        file("tool/bin/run", "#!/bin/sh\n").mode(0o755),
        file("tool/data", noise(400_000, 1)),
        symlink("tool/link", "bin/run"),
    ]);
    let (compressed, plain) = (zst(&tar), noise(100_000, 2));
    let store = Sandbox::new();
    let server = Serving::writing(store.path("store"));
    server
        .put(TASK_A, "public/tool.tar.zst", &compressed)
        .expect(200);
    server
        .put(TASK_A, "public/tool.tar.xz", &xz(&tar))
        .expect(200);
    server
        .put(TASK_A, "public/some%20text.bin", &plain)
        .expect(200);
    let chain = vouching_for(&[("public/tool.tar.zst", &*compressed)]);
    server
        .put(TASK_A, "public/chain-of-trust.json", chain.as_bytes())
        .expect(200);
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/tool.tar.zst", "extract": true, "verify-hash": true},
        {"task": TASK_A, "artifact": "public/tool.tar.xz", "extract": true, "dest": "xz"},
        {"task": TASK_A, "artifact": "public/some text.bin", "extract": false},
    ]);
    let (theirs, ours) = (Sandbox::new(), Sandbox::new());
    for (run, sandbox) in [
        (theirs.program(&interpreter).args([&script]), &theirs),
        (ours.binary(), &ours),
    ] {
        run.args(["task-artifacts"])
            .env("MOZ_FETCHES", fetches.to_string())
            .env("MOZ_FETCHES_DIR", sandbox.fetches())
            .env("TASKCLUSTER_ROOT_URL", server.root())
            .run()
            .expect_code(0);
    }
    let made = ["xz", "tool/bin", "xz/tool/bin", "some text.bin"].map(str::to_owned);
    let theirs = theirs.fetched().without_mtimes_of(&made);
    let ours = ours.fetched().without_mtimes_of(&made);
    theirs.assert_same(&ours, "Python (-), ours (+)");
}

/// What the official client does in the test below. Its own assertions are the test's.
const CLIENT: &str = r#"
import hashlib, sys
import requests, taskcluster
from taskcluster import download
from taskcluster.exceptions import TaskclusterRestFailure

root, task, other = sys.argv[1:]
queue = taskcluster.Queue({"rootUrl": root})
index = taskcluster.Index({"rootUrl": root})
assert queue.ping()["alive"] and index.ping()["alive"]
far = taskcluster.fromNow("1000 years")

# Artifacts are added,
definition = {"created": taskcluster.fromNow("0 seconds"), "deadline": taskcluster.fromNow("1 hour"),
              "expires": far, "provisionerId": "p", "workerType": "w", "payload": {"env": {"MOZ_FETCHES": "[]"}},
              "metadata": {"name": "n", "description": "d", "owner": "o@x", "source": "s"}}
assert queue.createTask(task, definition)["status"]["state"] == "running"
contents = {f"public/build/{n:02} of 25+%41.bin": bytes([n]) * 1000 * n for n in range(25)}
for name, content in contents.items():
    made = queue.createArtifact(task, "0", name, {"storageType": "s3", "expires": far, "contentType": "text/x-test"})
    requests.put(made["putUrl"], data=content, headers={"Content-Type": made["contentType"]}).raise_for_status()
assert queue.reportCompleted(task, "0")["status"]["state"] == "completed"

# listed in pages,
seen, pages, query = [], 0, {"limit": "10"}
while True:
    page = queue.listLatestArtifacts(task, query=query)
    pages += 1
    seen += page["artifacts"]
    if not page.get("continuationToken"):
        break
    query["continuationToken"] = page["continuationToken"]
assert pages == 3, pages
assert [a["name"] for a in seen] == sorted(contents)
assert all(a["storageType"] == "s3" and a["contentType"] == "text/x-test" for a in seen)
assert all(a["contentLength"] == len(contents[a["name"]]) for a in seen)
assert len(queue.listArtifacts(task, "0")["artifacts"]) == 25

# and downloaded, by each of the ways there are.
for name, content in contents.items():
    buffer, kind = download.downloadArtifactToBuf(taskId=task, name=name, queueService=queue)
    assert (bytes(buffer), kind) == (content, "text/x-test"), name
    buffer, _ = download.downloadArtifactToBuf(taskId=task, runId="0", name=name, queueService=queue)
    assert bytes(buffer) == content, name
    assert requests.get(queue.buildUrl("getLatestArtifact", task, name)).content == content
    assert requests.get(queue.buildUrl("getArtifact", task, "0", name)).content == content
    assert queue.latestArtifactInfo(task, name)["contentLength"] == len(content)
answer = queue.getLatestArtifact(task, name)
assert answer["storageType"] == "s3" and requests.get(answer["url"]).content == content, answer

assert queue.task(task)["payload"] == definition["payload"]
status = queue.status(task)["status"]
assert status["state"] == "completed" and status["runs"][0]["runId"] == 0, status
assert status["taskQueueId"] == "p/w" and status["workerType"] == "w", status
statuses = queue.statuses({"taskIds": [task, other]})["statuses"]
assert [s["taskId"] for s in statuses] == [task], statuses
assert queue.tasks({"taskIds": [task]})["tasks"][0]["task"]["metadata"] == definition["metadata"]

# The index leads to tasks.
for path, rank in [("a.b.latest", 1), ("a.b.latest", 7), ("a.b.latest", 3), ("a.b.old", 0), ("a.c", 2), ("z", 1)]:
    index.insertTask(path, {"taskId": task, "rank": rank, "data": {"rank": rank}, "expires": far})
found = index.findTask("a.b.latest")
assert (found["taskId"], found["rank"], found["data"]) == (task, 7, {"rank": 7}), found
names = [t["namespace"] for t in index.listTasks("a.b")["tasks"]]
assert names == ["a.b.latest", "a.b.old"], names
names = [t["namespace"] for t in index.listNamespaces("a")["namespaces"]]
assert names == ["a.b", "a.c"], names
names = [t["name"] for t in index.listNamespaces("")["namespaces"]]
assert names == ["a", "z"], names
page = index.listTasks("a.b", query={"limit": "1"})
page = index.listTasks("a.b", query={"limit": "1", "continuationToken": page["continuationToken"]})
assert [t["namespace"] for t in page["tasks"]] == ["a.b.old"] and "continuationToken" not in page, page
tasks = index.findTasksAtIndex({"indexes": ["z", "a.c", "no.such"]})["tasks"]
assert sorted(t["namespace"] for t in tasks) == ["a.c", "z"], tasks
assert requests.get(index.buildUrl("findArtifactFromTask", "a.c", name)).content == content

for call, code, name in [
    (lambda: queue.status(other), 404, "ResourceNotFound"),
    (lambda: queue.task(other), 404, "ResourceNotFound"),
    (lambda: queue.latestArtifact(task, "public/none"), 404, "ResourceNotFound"),
    (lambda: queue.artifact(task, "1", "public/none"), 404, "ResourceNotFound"),
    (lambda: queue.listLatestArtifacts(other), 404, "ResourceNotFound"),
    (lambda: queue.listLatestArtifacts(task, query={"limit": "0"}), 400, "InputError"),
    (lambda: queue.listLatestArtifacts(task, query={"continuationToken": "!"}), 400, "InputError"),
    (lambda: queue.createTask(task, {}), 409, "RequestConflict"),
    (lambda: index.findTask("no.such"), 404, "ResourceNotFound"),
    (lambda: queue.createArtifact(task, "0", "x", {"storageType": "object", "expires": far}), 400, "InputError"),
]:
    try:
        call()
    except TaskclusterRestFailure as err:
        assert (err.status_code, err.body["code"]) == (code, name), (err.status_code, err.body)
    else:
        assert False, name
print("all is well")
"#;

#[test]
fn the_official_client_adds_lists_finds_and_downloads() {
    let test = "the_official_client_adds_lists_finds_and_downloads";
    let Some(interpreter) = python_with(test, "taskcluster, requests") else {
        return;
    };
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    let script = sandbox.write("client.py", CLIENT);
    let run = sandbox.program(&interpreter).args([&script]);
    let outcome = run.args([server.root(), TASK_A, TASK_B]).run();
    assert_eq!(outcome.stdout, "all is well\n", "{outcome:?}");
}

#[test]
fn taskgraph_finds_tasks_by_their_index() {
    let test = "taskgraph_finds_tasks_by_their_index";
    let Some(interpreter) = python_with(test, "taskgraph.util.taskcluster") else {
        return;
    };
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    server
        .put(TASK_A, "public/x.json", b"{\"a\": 1}")
        .expect(200);
    server.index("cache.level-1.x", TASK_A, 0).expect(200);
    let program = "
import sys
from taskgraph.util import taskcluster as tc
task = sys.argv[1]
assert tc.find_task_id('cache.level-1.x') == task
assert tc.find_task_id_batched(['cache.level-1.x', 'cache.no']) == {'cache.level-1.x': task}
assert tc.status_task(task)['state'] == 'completed'
assert tc.status_task_batched([task])[task]['state'] == 'completed'
assert tc.list_tasks('cache.level-1') == [task]
assert [a['name'] for a in tc.list_artifacts(task)] == ['public/x.json']
assert tc.get_artifact(task, 'public/x.json') == {'a': 1}
print('all is well')
";
    let run = sandbox.program(&interpreter).args(["-c", program, TASK_A]);
    let outcome = run.env("TASKCLUSTER_ROOT_URL", server.root()).run();
    assert_eq!(outcome.stdout, "all is well\n", "{outcome:?}");
}

/// A server with one artifact, `public/x.bin` of 1000 bytes.
fn with_one_artifact(sandbox: &Sandbox) -> (Serving, Vec<u8>, String) {
    let server = Serving::writing(sandbox.path("store"));
    let content = noise(1000, 5);
    server.put(TASK_A, "public/x.bin", &content).expect(200);
    let path = format!("/content/{TASK_A}/public/x.bin");
    (server, content, path)
}

#[test]
fn artifacts_lead_to_their_content() {
    let sandbox = Sandbox::new();
    let (server, content, path) = with_one_artifact(&sandbox);
    let expected = format!("{}{path}", server.root());
    for place in ["artifacts", "runs/0/artifacts"] {
        for name in ["public/x.bin", "public%2Fx.bin", "public/x%2ebin"] {
            let answer = server.get(&queue(&format!("task/{TASK_A}/{place}/{name}")), &[]);
            let answer = answer.expect(303);
            assert_eq!(answer.header("location"), expected);
            assert_eq!(answer.header("x-taskcluster-artifact-storage-type"), "s3");
            assert_eq!(answer.json(), json!({"storageType": "s3", "url": expected}));
        }
    }
    let answer = server.get(
        &queue(&format!("task/{TASK_A}/artifact-content/public/x.bin")),
        &[],
    );
    assert_eq!(
        answer.expect(200).json(),
        json!({"storageType": "s3", "url": expected})
    );
    let answer = server.get(&path, &[]).expect(200);
    assert_eq!(answer.body, content);
    assert_eq!(
        answer.header("etag"),
        format!("\"{}\"", sha256_hex(&content))
    );
    assert_eq!(answer.header("accept-ranges"), "bytes");
    for (method, status) in [("HEAD", 200), ("DELETE", 405), ("POST", 405)] {
        let answer = plain_http::ask(server.address(), method, &path, &[], b"").expect(status);
        if method == "HEAD" {
            assert_eq!(answer.header("content-length"), "1000");
            assert!(answer.body.is_empty());
        }
    }
}

#[test]
fn parts_are_sent_where_they_are_the_same_content() {
    let sandbox = Sandbox::new();
    let (server, content, path) = with_one_artifact(&sandbox);
    let tag = format!("\"{}\"", sha256_hex(&content));
    let get = |headers: &[(&str, &str)]| server.get(&path, headers);
    let expect_part = |answer: Answer, range: std::ops::Range<usize>| {
        let answer = answer.expect(206);
        let shown = format!("bytes {}-{}/1000", range.start, range.end - 1);
        assert_eq!(answer.header("content-range"), shown);
        assert_eq!(answer.header("etag"), tag);
        assert_eq!(answer.body, content[range]);
    };
    expect_part(get(&[("Range", "bytes=0-0")]), 0..1);
    expect_part(get(&[("Range", "bytes=990-")]), 990..1000);
    expect_part(get(&[("Range", "bytes=-10")]), 990..1000);
    expect_part(
        get(&[("Range", "bytes=5-2000"), ("If-Range", &tag)]),
        5..1000,
    );
    let whole = [
        get(&[("Range", "bytes=5-"), ("If-Range", "\"other\"")]),
        get(&[("Range", "bytes=0-1,5-6")]),
        get(&[("Range", "lines=0-1")]),
    ];
    for answer in whole {
        assert_eq!(answer.expect(200).body, content);
    }
    let answer = get(&[("Range", "bytes=1000-")]).expect(416);
    assert_eq!(answer.header("content-range"), "bytes */1000");
    let answer = get(&[("If-None-Match", &tag)]).expect(304);
    assert!(answer.body.is_empty() && answer.header("etag") == tag);
    let head = [("Range", "bytes=10-19")];
    let answer = plain_http::ask(server.address(), "HEAD", &path, &head, b"").expect(206);
    assert_eq!(answer.header("content-length"), "10");
}

#[test]
fn errors_are_told_in_taskcluster_s_form() {
    let sandbox = Sandbox::new();
    let (server, ..) = with_one_artifact(&sandbox);
    let artifact = queue(&format!("task/{TASK_A}/artifacts/public/none"));
    let answer = server.get(&artifact, &[]).expect(404).json();
    assert_eq!(answer["code"], "ResourceNotFound");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.starts_with("Artifact not found\n\n---\n\n* method:     getLatestArtifact\n"));
    assert_eq!(answer["requestInfo"]["method"], "getLatestArtifact");
    assert_eq!(answer["requestInfo"]["params"]["task"], TASK_A);
    for (path, status, code) in [
        ("/", 404, "ResourceNotFound"),
        ("/api/auth/v1/ping", 404, "ResourceNotFound"),
        (&*queue("task/a%20b/status"), 400, "InputError"),
        (
            &*queue(&format!("task/{TASK_A}/runs/x/artifacts")),
            400,
            "InputError",
        ),
        (
            &*queue(&format!("task/{TASK_A}/runs/7/artifacts")),
            404,
            "ResourceNotFound",
        ),
        (&*index("task/a..b"), 400, "InputError"),
    ] {
        let answer = server.get(path, &[]).expect(status).json();
        assert_eq!(answer["code"], code, "{path}");
    }
    let entries = index("task/a.b");
    for (method, path, body, code) in [
        ("PUT", &*entries, "{", "InputValidationError"),
        ("PUT", &*entries, "{\"rank\": 1}", "InputValidationError"),
        (
            "PUT",
            &format!("/content/{TASK_A}/x?expires=soon"),
            "",
            "InvalidRequestArguments",
        ),
    ] {
        let json = [("Content-Type", "application/json")];
        let answer = plain_http::ask(server.address(), method, path, &json, body.as_bytes());
        assert_eq!(answer.expect(400).json()["code"], code, "{path}");
    }
    for health in ["queue/v1/ping", "index/v1/ping", "queue/v1/__heartbeat__"] {
        server.get(&format!("/api/{health}"), &[]).expect(200);
    }
}

#[test]
fn nothing_outside_of_the_store_can_be_named() {
    let sandbox = Sandbox::new();
    let (server, ..) = with_one_artifact(&sandbox);
    sandbox.write("secret", "s3cret");
    sandbox.write(&format!("store/task/{TASK_A}/secret"), "s3cret");
    let up = "../".repeat(5);
    let encoded = up.replace('/', "%2F").replace('.', "%2e");
    for name in [
        "../secret",
        "..%2Fsecret",
        "public/../../secret",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        &format!("{up}secret"),
        &format!("{encoded}secret"),
        "public%00",
        "a%0d%0aX-Injected:%20yes",
        "%ff",
    ] {
        for place in [
            queue(&format!("task/{TASK_A}/artifacts")),
            format!("/content/{TASK_A}"),
        ] {
            let answer = server.get(&format!("{place}/{name}"), &[]);
            assert!((400..500).contains(&answer.status), "{name}: {answer:?}");
            assert!(!answer.headers.contains_key("x-injected"), "{name}");
            if place.starts_with("/content") {
                let put = plain_http::ask(
                    server.address(),
                    "PUT",
                    &format!("{place}/{name}"),
                    &[],
                    b"x",
                );
                assert!((400..500).contains(&put.status), "{name}: {put:?}");
            }
        }
    }
    for task in ["..", "%2e%2e", "..%2F..", "."] {
        let answer = server.get(&format!("/content/{task}/secret"), &[]);
        assert!((400..500).contains(&answer.status), "{task}: {answer:?}");
    }
    let tree = sandbox.tree();
    let outside = tree
        .paths()
        .into_iter()
        .filter(|path| !path.starts_with("store"));
    assert_eq!(outside.collect::<Vec<_>>(), ["secret"]);
}

#[test]
fn it_only_reads_unless_told_otherwise() {
    let sandbox = Sandbox::new();
    drop(with_one_artifact(&sandbox));
    let before = sandbox.tree();
    let server = Serving::start(sandbox.path("store"), &[], &[]);
    let definition = json!({"expires": "3000-01-02T03:04:05.678Z"});
    let artifact = json!({"storageType": "s3", "expires": "3000-01-02T03:04:05.678Z"});
    for answer in [
        server.put(TASK_A, "public/new", b"new"),
        server.index("a.b", TASK_A, 1),
        server.send("PUT", &queue(&format!("task/{TASK_B}")), &definition),
        server.send(
            "POST",
            &queue(&format!("task/{TASK_A}/runs/0/completed")),
            &json!({}),
        ),
        server.send(
            "POST",
            &queue(&format!("task/{TASK_A}/runs/0/artifacts/x")),
            &artifact,
        ),
    ] {
        assert_eq!(answer.expect(403).json()["code"], "InsufficientScopes");
    }
    before.assert_same(&sandbox.tree(), "the store");
}

/// What still comes over a connection.
fn rest_of(mut stream: std::net::TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest
}

#[test]
fn clients_that_stall_are_left() {
    let sandbox = Sandbox::new();
    let store = sandbox.path("store");
    let options = ["--write", "--stall-timeout", "0.3"];
    let server = Serving::start(&store, &options, &[]);
    // More than the system's buffers hold.
    let large = noise(30_000_000, 1);
    server.put(TASK_A, "public/large", &large).expect(200);
    let begin = Instant::now();

    // One says nothing, one stops in its head, one in its content, and one does not read.
    let silent = plain_http::connect(server.address());
    let mut half = plain_http::connect(server.address());
    half.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n")
        .expect("send");
    let mut sender = plain_http::connect(server.address());
    let path = format!("/content/{TASK_A}/public/half");
    let head = plain_http::head(server.address(), "PUT", &path, &[], 1000);
    sender.write_all(&head).expect("send the head");
    sender.write_all(&[7; 500]).expect("send a half");
    let mut reader = plain_http::connect(server.address());
    let path = format!("/content/{TASK_A}/public/large");
    let head = plain_http::head(server.address(), "GET", &path, &[], 0);
    reader.write_all(&head).expect("send the head");

    assert!(rest_of(silent).is_empty());
    rest_of(half);
    let refused = plain_http::answer(sender, "PUT").expect(408).json();
    assert_eq!(refused["code"], "InputError");
    thread::sleep(Duration::from_secs(2).saturating_sub(begin.elapsed()));
    // What is still in buffers comes; the rest does not.
    assert!(rest_of(reader).len() < large.len());
    assert!(begin.elapsed() < Duration::from_secs(20));

    server
        .get(&format!("/content/{TASK_A}/public/half"), &[])
        .expect(404);
    let staging = || {
        let tree = sandbox.tree();
        tree.paths()
            .iter()
            .any(|path| path.contains(".fetch-content."))
    };
    wait_until("nothing is left of the half", || !staging());
    let answer = server.get(&path, &[]).expect(200);
    assert!(answer.body == large, "it still serves");
}

#[test]
fn clients_that_disappear_leave_nothing() {
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    let path = format!("/content/{TASK_A}/public/half");
    let head = plain_http::head(server.address(), "PUT", &path, &[], 1_000_000);
    for _ in 0..20 {
        let mut sender = plain_http::connect(server.address());
        sender.write_all(&head).expect("send the head");
        sender.write_all(&[7; 5000]).expect("send a part");
        sender.shutdown(Shutdown::Both).expect("go away");
    }
    wait_until("nothing is left", || {
        let tree = sandbox.tree();
        !tree
            .paths()
            .iter()
            .any(|path| path.contains(".fetch-content."))
    });
    server.get(&path, &[]).expect(404);
}

#[test]
fn a_signal_ends_it_when_what_has_begun_is_answered() {
    for signal in [Signal::TERM, Signal::INT] {
        let sandbox = Sandbox::new();
        let server = Serving::writing(sandbox.path("store"));
        let large = noise(20_000_000, 1);
        server.put(TASK_A, "public/large", &large).expect(200);
        let address = server.address();
        let idle = plain_http::connect(address);
        let mut reader = plain_http::connect(address);
        let path = format!("/content/{TASK_A}/public/large");
        let head = plain_http::head(address, "GET", &path, &[], 0);
        reader.write_all(&head).expect("send the head");
        let mut first = [0; 100];
        reader.read_exact(&mut first).expect("the answer begins");
        server.signal(signal);
        wait_until("nobody else is accepted", || {
            std::net::TcpStream::connect(address).is_err()
        });
        let rest = rest_of(reader);
        assert!(first.len() + rest.len() > large.len(), "it was cut off");
        drop(idle);
        let (status, said) = server.wait();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("ends because of signal"), "{said}");
    }
}

#[test]
fn an_address_that_cannot_be_had_is_named() {
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    let address = server.address().to_string();
    for (listen, text) in [
        (&*address, "cannot listen on 127.0.0.1:"),
        ("nowhere", "--listen"),
    ] {
        let run = sandbox
            .binary()
            .args(["serve", "--store", "store", "--listen", listen]);
        run.run().expect_code(2).expect_stderr(&[text]);
    }
    let run = sandbox
        .binary()
        .args(["serve", "--store", "none", "--listen", "127.0.0.1:0"]);
    run.run()
        .expect_code(6)
        .expect_stderr(&["cannot open the store none"]);
    assert!(!sandbox.path("none").exists());
}

#[test]
fn its_size_is_no_matter() {
    let sandbox = Sandbox::new();
    // Sparse: a gigabyte would take long to make, and as long to read.
    let path = sandbox.write(&format!("store/task/{TASK_A}/artifacts/public/x"), "");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("open it");
    file.set_len(300_000_000).expect("make it large");
    let server = Serving::start(sandbox.path("store"), &[], &[]);
    let fetches: Value = json!([{"task": TASK_A, "artifact": "public/x", "extract": false}]);
    let run = sandbox.binary().args(["task-artifacts"]);
    run.env("MOZ_FETCHES", fetches.to_string())
        .env("MOZ_FETCHES_DIR", sandbox.fetches())
        .env("TASKCLUSTER_ROOT_URL", server.root())
        .run()
        .expect_code(0);
    let peak = server.peak_memory();
    assert!(peak < 128 << 20, "{peak} bytes");
}

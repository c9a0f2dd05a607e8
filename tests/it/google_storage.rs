//! Stores in Google Cloud Storage: what is put there is listed, found, served and fetched as from a folder.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::archives::{noise, sha256_hex};
use crate::support::google::Google;
use crate::support::plain_http;
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, TASK_B};
use crate::support::server::{Reply, Server};
use crate::support::serving::Serving;

const OTHER: &str = "ccccccccQ0CabcdefghijA";

/// A prefix with what URLs and XML write in another way.
const STORE: &str = "gs://a-bucket/some%20&%20where";
const PREFIX: &str = "some & where";

fn with<'a>(google: &Google, run: Invocation<'a>) -> Invocation<'a> {
    let environment = google.environment();
    environment
        .iter()
        .fold(run, |run, (name, value)| run.env(name, value))
}

/// `store` on the bucket.
fn store<'a>(sandbox: &'a Sandbox, google: &Google, words: &[&str]) -> Invocation<'a> {
    let run = sandbox.binary().args(["store", "--store", STORE]);
    with(google, run.args(words))
}

/// A server that writes to the bucket.
fn serve(google: &Google) -> Serving {
    let environment = google.environment();
    let environment: Vec<_> = environment.iter().map(|(n, v)| (*n, &**v)).collect();
    Serving::start(STORE, &["--write"], &environment)
}

/// The lines on stdout of a success.
fn said(invocation: Invocation) -> Vec<String> {
    let outcome: Outcome = invocation.run();
    assert!(outcome.status.success(), "{outcome:?}");
    outcome.stdout.lines().map(str::to_owned).collect()
}

/// `task-artifacts` from the bucket.
fn fetch<'a>(sandbox: &'a Sandbox, google: &Google, artifacts: &[(&str, &str)]) -> Invocation<'a> {
    let fetches: Vec<Value> = artifacts
        .iter()
        .map(|(task, name)| json!({"task": task, "artifact": name, "extract": false}))
        .collect();
    let run = sandbox.binary().args(["task-artifacts", "--store", STORE]);
    let run = run.args(["--dest", "fetches"]);
    with(google, run.env("MOZ_FETCHES", json!(fetches).to_string()))
}

/// The end of the key of an artifact's record.
fn record_of(name: &str) -> String {
    format!("/info/{}.json", sha256_hex(name.as_bytes()))
}

/// The key of some content.
fn content_key(content: &[u8]) -> String {
    let digits = sha256_hex(content);
    format!("{PREFIX}/sha256/{}/{digits}", &digits[..2])
}

#[test]
fn a_bucket_of_google_is_a_store() {
    let Some(google) = Google::start("a_bucket_of_google_is_a_store") else {
        return;
    };
    let (sandbox, server) = (Sandbox::new(), serve(&google));
    // In three parts.
    let (large, small) = (noise(20_000_000, 1), noise(1_000, 2));
    server.stock(&large, &small);
    server.put(TASK_B, "public/empty", b"").expect(200);
    assert_eq!(google.unfinished(), 0);
    assert!(google.keys().contains(&content_key(&large)));

    let listed = said(store(&sandbox, &google, &["ls"]));
    assert_eq!(listed.len(), 4, "{listed:?}");
    let line = format!("{TASK_A}\tpublic/a b%41\t1000\t{}\t", sha256_hex(&small));
    assert!(listed[0].starts_with(&line), "{listed:?}");
    let index = said(store(&sandbox, &google, &["ls", "--index"]));
    for (line, wanted) in index.iter().zip(["a.b\t", "a.b.c!~*%41\t"]) {
        assert!(
            line.starts_with(&format!("{wanted}{TASK_A}\t")),
            "{index:?}"
        );
    }
    assert_eq!(said(store(&sandbox, &google, &["verify"])), [""; 0]);

    server.expect_stocked(&large);
    let empty = server.get(&format!("/content/{TASK_B}/public/empty"), &[]);
    assert_eq!(empty.expect(200).body, b"");
}

#[test]
fn artifacts_come_from_google_by_signed_urls() {
    let Some(google) = Google::start("artifacts_come_from_google_by_signed_urls") else {
        return;
    };
    let (sandbox, server) = (Sandbox::new(), serve(&google));
    let (large, small) = (noise(3_000_000, 1), noise(1_000, 2));
    server.put(TASK_A, "public/large.bin", &large).expect(200);
    server.put(TASK_A, "public/a%20b%2541", &small).expect(200);

    let wanted = [(TASK_A, "public/large.bin"), (TASK_A, "public/a b%41")];
    let outcome = fetch(&sandbox, &google, &wanted).run().expect_code(0);
    outcome.expect_not_in_stderr(&["X-Goog-Signature", "Bearer", "PRIVATE KEY"]);
    assert!(sandbox.read("fetches/large.bin") == large);
    assert_eq!(sandbox.read("fetches/a b%41"), small);
    let signed = google.server.paths().into_iter();
    let signed = signed.filter(|path| path.contains("X-Goog-Signature="));
    assert!(signed.count() >= 2, "content comes by signed URLs");

    let text = format!("cannot find artifact public/none of task {TASK_A} in {STORE}");
    let run = fetch(&sandbox, &google, &[(TASK_A, "public/none")]).run();
    run.expect_code(3).expect_stderr(&[&text]);

    // What is damaged is found and not used here, too.
    google.put(&content_key(&small), &noise(1_000, 3));
    let outcome = store(&sandbox, &google, &["verify"]).run();
    assert_eq!(outcome.status.code(), Some(4), "{outcome:?}");
    assert!(outcome.stdout.contains(&sha256_hex(&small)), "{outcome:?}");
    let run = fetch(&sandbox, &google, &wanted[1..]).run();
    run.expect_code(4).expect_stderr(&["sha256 mismatch on "]);
}

#[test]
fn what_nobody_needs_goes_from_google_when_it_is_old() {
    let Some(google) = Google::start("what_nobody_needs_goes_from_google_when_it_is_old") else {
        return;
    };
    let (sandbox, server) = (Sandbox::new(), serve(&google));
    let day = Duration::from_secs(24 * 3600);
    let needed = noise(2_000, 1);
    server.put(TASK_A, "public/needed", &needed).expect(200);
    google.age(&content_key(&needed), day * 3);
    let past = format!("/content/{TASK_A}/public/past?expires=2020-01-02T03:04:05.678Z");
    plain_http::ask(server.address(), "PUT", &past, &[], b"past").expect(200);
    for content in [&b"young"[..], b"old"] {
        google.put(&content_key(content), content);
    }
    google.age(&content_key(b"old"), day + Duration::from_secs(1));
    google.age(&content_key(b"past"), day * 2);
    store(&sandbox, &google, &["gc"])
        .run()
        .expect_code(0)
        .expect_stderr(&["1 artifacts of others, 2 contents (7 B)"]);
    let keys = google.keys();
    for (content, stays) in [
        (&needed[..], true),
        (b"young", true),
        (b"old", false),
        (b"past", false),
    ] {
        assert_eq!(keys.contains(&content_key(content)), stays, "{keys:?}");
    }
    // What is written again is young.
    google.age(&content_key(b"young"), day * 2);
    server.put(TASK_A, "public/young", b"young").expect(200);
    let again = store(&sandbox, &google, &["gc"]).run().expect_code(0);
    again.expect_stderr(&["0 artifacts of others, 0 contents"]);
}

#[test]
fn of_many_who_write_to_google_one_wins() {
    let Some(google) = Google::start("of_many_who_write_to_google_one_wins") else {
        return;
    };
    let servers = [(); 2].map(|()| serve(&google));
    let won = std::thread::scope(|scope| {
        let writers = servers.iter().zip([[1_u64, 9, 3, 5], [8, 2, 7, 4]]);
        let writers = writers.map(|(server, ranks)| {
            scope.spawn(move || {
                for rank in ranks {
                    server.index("contested", TASK_A, rank).expect(200);
                }
                let mine = noise(5_000, ranks[0]);
                let status = server.put(TASK_B, "public/contested", &mine).status;
                assert!(matches!(status, 200 | 409), "{status}");
                (status == 200).then_some(mine)
            })
        });
        let writers: Vec<_> = writers.collect();
        let ended = writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"));
        ended.flatten().collect::<Vec<_>>()
    });
    assert_eq!(won.len(), 1, "of two different contents one is there");
    let entry = servers[0].get("/api/index/v1/task/contested", &[]);
    assert_eq!(entry.expect(200).json()["rank"], 9.0);
    let contested = servers[0].get(&format!("/content/{TASK_B}/public/contested"), &[]);
    assert_eq!(contested.expect(200).body, won[0]);
}

#[test]
fn who_is_overtaken_at_google_looks_again() {
    let Some(google) = Google::start("who_is_overtaken_at_google_looks_again") else {
        return;
    };
    let server = serve(&google);
    server.index("high", TASK_B, 9).expect(200);
    let entry = google.content("/high/task.json");
    let leads_to = |namespace: &str| {
        let found = server.get(&format!("/api/index/v1/task/{namespace}"), &[]);
        found.expect(200).json()["taskId"].clone()
    };
    for (rank, who) in [(8, TASK_B), (10, TASK_A)] {
        // One that was not there, and one that was.
        for (namespace, before) in [("new", None), ("old", Some(1))] {
            let namespace = format!("{namespace}.r{rank}");
            if let Some(rank) = before {
                server.index(&namespace, TASK_A, rank).expect(200);
            }
            let end = format!("/r{rank}/task.json");
            google.overtake(&end, &entry);
            server.index(&namespace, TASK_A, rank).expect(200);
            assert_eq!(leads_to(&namespace), who, "{namespace}");
        }
    }
    server.put(TASK_B, "public/x", b"theirs").expect(200);
    let record = google.content(&record_of("public/x"));
    google.overtake(&record_of("public/x"), &record);
    server.put(TASK_A, "public/x", b"mine").expect(409);
    google.overtake(&record_of("public/x"), &record);
    server.put(OTHER, "public/x", b"theirs").expect(200);
}

/// A graph with a fetch task, and a task that wants it.
fn write_graph(sandbox: &Sandbox, upstream: &str, content: &[u8]) {
    let kind = format!(
        "loader: taskgraph.loader.transform:loader\ntransforms: [taskgraph.transforms.fetch, \
         taskgraph.transforms.run, taskgraph.transforms.task]\ntasks:\n  data:\n    description: data\n    fetch: \
         {{type: static-url, url: {upstream}/data.bin, sha256: {}, size: {}}}\n",
        sha256_hex(content),
        content.len()
    );
    let user = "loader: taskgraph.loader.transform:loader\nkind-dependencies: [fetch]\ntransforms: \
                [taskgraph.transforms.run, taskgraph.transforms.task]\ntasks:\n  app:\n    description: app\n    \
                worker-type: b-linux\n    fetches: {fetch: [data]}\n";
    sandbox.write(
        "taskcluster/config.yml",
        "trust-domain: acme\ntaskgraph: {}\n",
    );
    sandbox.write("taskcluster/kinds/fetch/kind.yml", kind);
    sandbox.write("taskcluster/kinds/build/kind.yml", user);
}

#[test]
fn fetch_tasks_and_inputs_work_with_a_bucket_of_google() {
    let Some(google) = Google::start("fetch_tasks_and_inputs_work_with_a_bucket_of_google") else {
        return;
    };
    let (sandbox, upstream) = (Sandbox::new(), Server::start());
    let content = noise(300_000, 4);
    write_graph(&sandbox, &upstream.root(), &content);
    upstream.serve("/data.bin", Reply::ok(&content));
    let run = |words: &[&str]| {
        let run = sandbox.binary().args(words).args(["--store", STORE]);
        let run = with(&google, run).env("HOME", sandbox.path("home"));
        run.env("TMPDIR", sandbox.path("tmp")).run().expect_code(0)
    };
    std::fs::create_dir(sandbox.path("tmp")).expect("make a directory");
    run(&["kind", "run", "--all"]).expect_stderr(&["fetched 1 of 1"]);
    run(&["kind", "run", "--all"]).expect_stderr(&["has it already"]);
    run(&["inputs", "app", "--kind", "build", "--dest", "fetches"]);
    assert!(sandbox.read("fetches/data.bin") == content);
    assert_eq!(upstream.paths(), ["/data.bin"]);
    let left = std::fs::read_dir(sandbox.path("tmp")).expect("list a directory");
    assert_eq!(left.count(), 0, "nothing is left where downloads wait");
}

#[test]
fn what_breaks_on_the_way_to_google_is_repeated() {
    let Some(google) = Google::start("what_breaks_on_the_way_to_google_is_repeated") else {
        return;
    };
    let (sandbox, server) = (Sandbox::new(), serve(&google));
    let content = noise(20_000_000, 1);
    for (method, end) in [
        ("HEAD", content_key(&content)),
        ("POST", content_key(&content)),
        ("PUT", content_key(&content)),
        ("PUT", record_of("public/a")),
    ] {
        google.answer_once(method, &end, Reply::reset_before_response());
        google.answer_once(method, &end, Reply::status(503));
    }
    google.lose_answer("PUT", &content_key(&content));
    google.lose_answer("PUT", &record_of("public/a"));
    server.put(TASK_A, "public/a", &content).expect(200);
    google.lose_answer("PUT", "/a/b/task.json");
    server.index("a.b", TASK_A, 1).expect(200);
    assert_eq!(google.unfinished(), 0);
    let cut = Reply::ok(&content).reset_after(9_000_000);
    google.answer_once("GET", &content_key(&content), cut);
    let run = fetch(&sandbox, &google, &[(TASK_A, "public/a")]);
    run.run().expect_code(0).expect_stderr(&["retry 1 of 3"]);
    assert!(sandbox.read("fetches/a") == content);

    let key = content_key(b"old");
    google.put(&key, b"old");
    google.age(&key, Duration::from_secs(48 * 3600));
    google.answer_once("DELETE", &key, Reply::reset_before_response());
    google.lose_answer("DELETE", &key);
    google.answer_once("GET", "", Reply::reset_before_response());
    let gc = store(&sandbox, &google, &["gc"]).run().expect_code(0);
    gc.expect_stderr(&["1 contents (3 B)"]);
    assert!(!google.keys().contains(&key));
}

#[test]
fn what_google_refuses_is_told() {
    let Some(google) = Google::start("what_google_refuses_is_told") else {
        return;
    };
    let sandbox = Sandbox::new();
    let server = serve(&google);
    server.put(TASK_A, "public/a", b"content").expect(200);
    let before = google.server.requests().len();
    for _ in 0..4 {
        google.answer_once("GET", "", Reply::status(503));
    }
    let run = store(&sandbox, &google, &["ls"]).run();
    run.expect_code(3)
        .expect_stderr(&["cannot list gs://a-bucket/", "after 3 retries", "503"]);
    assert_eq!(google.server.requests().len() - before, 4);

    let run = sandbox
        .binary()
        .args(["store", "ls", "--store", "gs://another/x"]);
    let run = with(&google, run).run();
    run.expect_code(3)
        .expect_stderr(&["gs://another/x", "NoSuchBucket"]);

    // Another key is not that of the service account.
    let Some(other) = Google::start("another service account") else {
        return;
    };
    let [_, (_, key), ..] = other.environment();
    let run = store(&sandbox, &google, &["verify"]).env("GOOGLE_SERVICE_ACCOUNT_KEY", key);
    run.run()
        .expect_code(3)
        .expect_stderr(&["403", "AccessDenied"]);
    let run = store(&sandbox, &google, &["ls"]).env("GOOGLE_SERVICE_ACCOUNT_KEY", "{");
    run.run().expect_code(2).expect_stderr(&[
        "cannot use the store gs://a-bucket/",
        "credentials come from the environment",
    ]);
}

//! The store: what is put into it stays whole, whoever else writes, dies or cleans up; in a folder and in a bucket.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::archives::{noise, sha256_hex};
use crate::support::moto::Moto;
use crate::support::plain_http;
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, TASK_B};
use crate::support::serving::Serving;

/// `store` on the folder `store` of the sandbox.
fn store<'a>(sandbox: &'a Sandbox, words: &[&str]) -> Invocation<'a> {
    let run = sandbox.binary().args(["store", "--store", "store"]);
    run.args(words)
}

fn expect_success(outcome: Outcome) -> Outcome {
    assert!(outcome.status.success(), "{outcome:?}");
    outcome
}

/// Panics unless `store verify` finds nothing.
fn expect_sound(sandbox: &Sandbox) {
    store(sandbox, &["verify"]).run().expect_code(0);
}

/// The columns of `store ls`.
fn listed(sandbox: &Sandbox, words: &[&str]) -> Vec<Vec<String>> {
    let outcome = expect_success(store(sandbox, words).run());
    let lines = outcome.stdout.lines();
    lines
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

/// `task-artifacts` of some artifacts from the store, unpacked nowhere.
fn fetch<'a>(sandbox: &'a Sandbox, store: &str, artifacts: &[(&str, &str)]) -> Invocation<'a> {
    let fetches: Vec<Value> = artifacts
        .iter()
        .map(|(task, name)| json!({"task": task, "artifact": name, "extract": false}))
        .collect();
    let run = sandbox.binary().args(["task-artifacts", "--store", store]);
    run.args(["--dest", "fetches"])
        .env("MOZ_FETCHES", json!(fetches).to_string())
}

/// Where a folder has some content.
fn content_path(sandbox: &Sandbox, content: &[u8]) -> PathBuf {
    let digits = sha256_hex(content);
    sandbox.path(format!("store/sha256/{}/{digits}", &digits[..2]))
}

/// What is in a folder beside artifacts, records and locks.
fn unexpected(sandbox: &Sandbox) -> Vec<String> {
    let tree = sandbox.tree();
    let paths = tree.paths().into_iter().filter(|path| {
        path.contains(".fetch-content.") || path.contains('#') || path.contains("/tmp")
    });
    paths.map(str::to_owned).collect()
}

#[test]
fn what_is_put_is_listed_sound_and_a_plain_file() {
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    let (one, other) = (noise(300_000, 1), noise(10, 2));
    server.put(TASK_A, "public/one.bin", &one).expect(200);
    server.put(TASK_A, "public/a%20b%2541", &other).expect(200);
    server.put(TASK_B, "public/same", &one).expect(200);
    server.put(TASK_B, "public/empty", b"").expect(200);
    // The same again is no error.
    server.put(TASK_B, "public/same", &one).expect(200);
    let conflict = server.put(TASK_B, "public/same", &other).expect(409).json();
    assert_eq!(conflict["code"], "RequestConflict", "{conflict}");

    let columns = listed(&sandbox, &["ls"]);
    let names: Vec<&str> = columns.iter().map(|columns| &*columns[1]).collect();
    assert_eq!(
        names,
        [
            "public/a b%41",
            "public/one.bin",
            "public/empty",
            "public/same"
        ]
    );
    assert_eq!(columns[1][0], TASK_A);
    assert_eq!(columns[1][2..], ["300000", &sha256_hex(&one), "never"]);
    expect_sound(&sandbox);

    // Content is there once, and cannot be changed by accident.
    let file = format!("store/task/{TASK_B}/artifacts/public/same");
    let links = fs::metadata(sandbox.path(&file)).expect("a file").nlink();
    assert_eq!(links, 3, "content and two artifacts");
    let mode = fs::metadata(sandbox.path(&file))
        .expect("a file")
        .permissions();
    assert_eq!(mode.mode() & 0o222, 0);
    assert_eq!(
        sandbox.read(&format!("store/task/{TASK_A}/artifacts/public/a b%41")),
        other
    );
    assert_eq!(unexpected(&sandbox), Vec::<String>::new());

    let wanted = [(TASK_A, "public/one.bin"), (TASK_A, "public/a b%41")];
    fetch(&sandbox, "store", &wanted).run().expect_code(0);
    assert_eq!(sandbox.read("fetches/one.bin"), one);
    assert_eq!(sandbox.read("fetches/a b%41"), other);
}

#[test]
fn names_that_a_folder_cannot_hold_are_refused_whole() {
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    server.put(TASK_A, "public/a", b"a").expect(200);
    server.put(TASK_A, "public/d/x", b"x").expect(200);
    server.put(TASK_A, "public//b", b"b").expect(400);
    // A file is no directory, and a directory no file.
    server.put(TASK_A, "public/a/b", b"b").expect(500);
    server.put(TASK_A, "public/d", b"d").expect(409);
    let names = listed(&sandbox, &["ls"]);
    assert_eq!(names.len(), 2, "{names:?}");
    expect_sound(&sandbox);
    assert_eq!(unexpected(&sandbox), Vec::<String>::new());
}

#[test]
fn several_processes_write_at_once() {
    let sandbox = Sandbox::new();
    let servers = [(); 3].map(|()| Serving::writing(sandbox.path("store")));
    let contents: Vec<Vec<u8>> = (0..12).map(|n| noise(50_000, n)).collect();
    let winners = thread::scope(|scope| {
        let writers = servers.iter().zip(1_u64..).map(|(server, number)| {
            let contents = &contents;
            scope.spawn(move || {
                for (n, content) in contents.iter().enumerate() {
                    server
                        .put(TASK_A, &format!("public/{n}"), content)
                        .expect(200);
                    server
                        .index("made.last", TASK_A, number * 100 + n as u64)
                        .expect(200);
                }
                let mine = noise(70_000, 100 + number);
                let won = server.put(TASK_B, "public/contested", &mine).status == 200;
                won.then_some(mine)
            })
        });
        let writers: Vec<_> = writers.collect();
        let ended = writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"));
        ended.flatten().collect::<Vec<_>>()
    });
    assert_eq!(winners.len(), 1, "of two different contents one is there");
    let contested = format!("store/task/{TASK_B}/artifacts/public/contested");
    assert_eq!(sandbox.read(&contested), winners[0]);
    assert_eq!(listed(&sandbox, &["ls"]).len(), 13);
    let index = listed(&sandbox, &["ls", "--index"]);
    assert_eq!(index.len(), 1);
    assert_eq!(
        index[0][..3],
        ["made.last", TASK_A, "311"],
        "the highest rank"
    );
    expect_sound(&sandbox);
    assert_eq!(unexpected(&sandbox), Vec::<String>::new());
}

#[test]
fn a_writer_that_is_killed_leaves_nothing_half() {
    let sandbox = Sandbox::new();
    let content = noise(3_000_000, 7);
    // Until here it was sent when the writer is killed; beyond all, it is killed so long after.
    let points = [0, 1, 1_000_000, 2_999_999];
    let delays = [0, 1, 2, 4, 7, 11, 16, 25, 40];
    for (turn, (sent, delay)) in points
        .iter()
        .map(|sent| (*sent, 0))
        .chain(delays.iter().map(|delay| (content.len(), *delay)))
        .enumerate()
    {
        let server = Serving::writing(sandbox.path("store"));
        let name = format!("public/{turn}");
        let mut unique = content.clone();
        unique.extend_from_slice(name.as_bytes());
        let path = format!("/content/{TASK_A}/{name}");
        let head = plain_http::head(server.address(), "PUT", &path, &[], unique.len());
        let mut stream = plain_http::connect(server.address());
        stream.write_all(&head).expect("send the head");
        let part = if sent == content.len() {
            &unique[..]
        } else {
            &unique[..sent]
        };
        stream.write_all(part).expect("send content");
        thread::sleep(Duration::from_millis(delay));
        server.kill();
        drop(stream);

        expect_sound(&sandbox);
        let file = sandbox.path(format!("store/task/{TASK_A}/artifacts/{name}"));
        if file.exists() {
            assert_eq!(fs::read(&file).expect("read it"), unique, "{turn}");
        }
        // Whoever writes next is not disturbed, and what was left goes.
        let server = Serving::writing(sandbox.path("store"));
        server.put(TASK_A, &name, &unique).expect(200);
        drop(server);
        store(&sandbox, &["gc"]).run().expect_code(0);
        assert_eq!(unexpected(&sandbox), Vec::<String>::new(), "{turn}");
        assert_eq!(fs::read(&file).expect("read it"), unique, "{turn}");
    }
    let listed = listed(&sandbox, &["ls"]);
    assert_eq!(listed.len(), points.len() + delays.len());
    let contents = fs::read_dir(sandbox.path("store/sha256")).expect("contents");
    let contents =
        contents.flat_map(|fan| fs::read_dir(fan.expect("a name").path()).expect("list"));
    assert_eq!(contents.count(), listed.len(), "nothing that nobody needs");
}

#[test]
fn damage_is_found_not_used_and_can_be_repaired() {
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    let (good, bad) = (noise(5_000, 1), noise(600_000, 2));
    server.put(TASK_A, "public/good", &good).expect(200);
    server.put(TASK_A, "public/bad", &bad).expect(200);
    server.put(TASK_A, "public/lost", b"lost").expect(200);
    let path = content_path(&sandbox, &bad);
    let mut damaged = bad.clone();
    damaged[300_000] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("make it writable");
    fs::write(&path, &damaged).expect("damage it");
    fs::remove_file(content_path(&sandbox, b"lost")).expect("lose it");

    let outcome = store(&sandbox, &["verify"]).run();
    assert_eq!(outcome.status.code(), Some(4), "{outcome:?}");
    let found: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(found.len(), 3, "{outcome:?}");
    assert!(found[0].contains(&sha256_hex(&bad)) && found[0].ends_with(&sha256_hex(&damaged)));
    assert!(
        found[1..].iter().all(|line| line.contains(TASK_A)),
        "{outcome:?}"
    );
    let text = "error: the store store has 3 damaged contents and artifacts";
    outcome.expect_stderr(&[text, "verify --discard"]);

    let run = fetch(
        &sandbox,
        "store",
        &[(TASK_A, "public/good"), (TASK_A, "public/bad")],
    )
    .run();
    run.expect_code(4).expect_stderr(&["sha256 mismatch on "]);
    assert!(!sandbox.fetches().exists());

    let discarded = store(&sandbox, &["verify", "--discard"]).run();
    expect_success(discarded).expect_stderr(&["removed 3 damaged"]);
    expect_sound(&sandbox);
    assert_eq!(listed(&sandbox, &["ls"]).len(), 1);
    server.put(TASK_A, "public/bad", &bad).expect(200);
    server.put(TASK_A, "public/lost", b"lost").expect(200);
    expect_sound(&sandbox);
    fetch(&sandbox, "store", &[(TASK_A, "public/bad")])
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("fetches/bad"), bad);
}

/// A task that has expired.
const OLD: &str = "ooooooooQ0CabcdefghijA";

/// A store with things that have expired, and things that refer to the same content and have not.
fn with_expired(sandbox: &Sandbox, shared: &[u8], own: &[u8]) -> Serving {
    let server = Serving::writing(sandbox.path("store"));
    let put = |task: &str, name: &str, content: &[u8], expires: &str| {
        let path = format!("/content/{task}/{name}?expires={expires}");
        plain_http::ask(server.address(), "PUT", &path, &[], content).expect(200);
    };
    let (past, future) = ("2020-01-02T03:04:05.678Z", "3000-01-02T03:04:05.678Z");
    put(TASK_A, "public/shared", shared, past);
    put(TASK_A, "public/own", own, past);
    put(TASK_A, "public/stays", b"stays", future);
    put(TASK_B, "public/shared", shared, future);
    let definition = json!({"created": past, "deadline": past, "expires": past, "payload": {}});
    server
        .send("PUT", &format!("/api/queue/v1/task/{OLD}"), &definition)
        .expect(200);
    put(OLD, "public/x", b"x", future);
    server.index("a.b", TASK_A, 1).expect(200);
    let entry = json!({"taskId": TASK_A, "rank": 1, "data": {}, "expires": past});
    server
        .send("PUT", "/api/index/v1/task/a.b.old", &entry)
        .expect(200);
    sandbox.write("store/sha256/aa/not-a-digest", "somebody else's");
    sandbox.write(
        &format!("store/task/{TASK_A}/task.json#3"),
        "left by a killed writer",
    );
    sandbox.write(
        &format!("store/task/{TASK_A}/info/{}.json#1", sha256_hex(b"")),
        "{}",
    );
    server
}

#[test]
fn gc_removes_what_has_expired_and_keeps_what_is_needed() {
    let sandbox = Sandbox::new();
    let (shared, own) = (noise(9_000, 1), noise(8_000, 2));
    let server = with_expired(&sandbox, &shared, &own);
    // What has expired is not served either, even before it is removed.
    let gone = server
        .get(&format!("/content/{TASK_A}/public/own"), &[])
        .expect(410);
    assert_eq!(gone.json()["code"], "ResourceExpired");
    server.get("/api/index/v1/task/a.b.old", &[]).expect(404);

    let outcome = store(&sandbox, &["gc"]).run();
    outcome.expect_code(0).expect_stderr(&[
        "removed 1 index entries, 1 tasks, 2 artifacts of others, 2 contents (8.0 kB)",
    ]);
    let names: Vec<_> = listed(&sandbox, &["ls"])
        .into_iter()
        .map(|columns| format!("{} {}", columns[0], columns[1]))
        .collect();
    assert_eq!(
        names,
        [
            format!("{TASK_A} public/stays"),
            format!("{TASK_B} public/shared")
        ]
    );
    assert!(!sandbox.path(format!("store/task/{OLD}")).exists());
    assert!(!content_path(&sandbox, &own).exists());
    assert_eq!(
        fs::read(content_path(&sandbox, &shared)).expect("kept"),
        shared
    );
    assert_eq!(unexpected(&sandbox), Vec::<String>::new());
    assert!(sandbox.path("store/sha256/aa/not-a-digest").exists());
    assert_eq!(listed(&sandbox, &["ls", "--index"]).len(), 1);
    expect_sound(&sandbox);
    let again = store(&sandbox, &["gc"]).run();
    again.expect_stderr(&["removed 0 index entries, 0 tasks, 0 artifacts of others, 0 contents"]);
}

#[test]
fn gc_beside_writers_takes_nothing_from_them() {
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    let writers = thread::scope(|scope| {
        let writer = |seed: u64| {
            let server = &server;
            scope.spawn(move || {
                for n in 0..40 {
                    // Half of the contents are written by both at about the same time.
                    let content = noise(4_000, if n % 2 == 0 { n } else { seed + n });
                    server
                        .put(TASK_A, &format!("public/{seed}/{n}"), &content)
                        .expect(200);
                }
            })
        };
        let writers = [writer(1000), writer(2000)];
        // Not where the store is: what a sandbox holds is listed after each run, and must not vanish meanwhile.
        let beside = Sandbox::new();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let run = beside.binary().args(["store", "gc", "--store"]);
            run.args([sandbox.path("store")]).run().expect_code(0);
        }
        writers.map(|writer| writer.join().is_ok())
    });
    assert_eq!(writers, [true, true]);
    assert_eq!(listed(&sandbox, &["ls"]).len(), 80);
    expect_sound(&sandbox);
}

#[test]
fn files_that_somebody_put_there_are_artifacts_too() {
    let sandbox = Sandbox::new();
    let content = noise(2_000, 3);
    sandbox.write(
        &format!("store/task/{TASK_A}/artifacts/public/x.bin"),
        &content,
    );
    let columns = listed(&sandbox, &["ls"]);
    assert_eq!(columns.len(), 1, "{columns:?}");
    assert_eq!(
        columns[0][..4],
        [TASK_A, "public/x.bin", "2000", &sha256_hex(&content)]
    );
    let server = Serving::start(sandbox.path("store"), &[], &[]);
    let path = format!("/content/{TASK_A}/public/x.bin");
    let first = server.get(&path, &[]).expect(200);
    assert_eq!(first.body, content);
    // The tag is that of what is there now.
    sandbox.write(
        &format!("store/task/{TASK_A}/artifacts/public/x.bin"),
        b"other",
    );
    let second = server
        .get(&path, &[("If-None-Match", first.header("etag"))])
        .expect(200);
    assert_eq!(second.body, b"other");
    expect_sound(&sandbox);
    store(&sandbox, &["gc"]).run().expect_code(0);
    assert_eq!(listed(&sandbox, &["ls"]).len(), 1, "gc leaves it alone");
}

#[test]
fn an_artifact_that_is_not_linked_yet_is_there_all_the_same() {
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    let content = noise(2_000, 3);
    server.put(TASK_A, "public/x", &content).expect(200);
    // As if its writer had been killed after it wrote the record.
    let link = sandbox.path(format!("store/task/{TASK_A}/artifacts/public/x"));
    fs::remove_file(&link).expect("remove the link");
    expect_sound(&sandbox);
    fetch(&sandbox, "store", &[(TASK_A, "public/x")])
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("fetches/x"), content);
    store(&sandbox, &["gc"]).run().expect_code(0);
    assert_eq!(fs::read(&link).expect("linked"), content);
}

#[test]
fn stores_that_make_no_sense_are_refused() {
    let sandbox = Sandbox::new();
    for (location, code, problem) in [
        (
            "http://h/x",
            2,
            "the store `http://h/x` is nothing that can be opened",
        ),
        ("s3://", 2, "the store `s3://` "),
        ("gs://b/x?y", 2, "must not have a query"),
        ("no/such/store", 6, "cannot open the store no/such/store"),
    ] {
        let run = sandbox.binary().args(["store", "ls", "--store", location]);
        run.run().expect_code(code).expect_stderr(&[problem]);
    }
    assert!(sandbox.tree().is_empty());
    let run = sandbox.binary().args(["store", "ls"]);
    let cache = sandbox.path("cache");
    let run = run.env("XDG_CACHE_HOME", &cache).run();
    run.expect_code(6)
        .expect_stderr(&["[TMP]/cache/fetch-content/store"]);
    let run = sandbox
        .binary()
        .args(["store", "ls"])
        .env("HOME", sandbox.path("home"));
    let run = run.env_remove("XDG_CACHE_HOME").run();
    run.expect_code(6)
        .expect_stderr(&["[TMP]/home/.cache/fetch-content/store"]);
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_stops_gc() {
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    server.put(TASK_A, "public/a", b"content").expect(200);
    let record = format!("store/task/{TASK_A}/info/{}.json", sha256_hex(b"public/a"));
    fs::write(sandbox.path(&record), "{").expect("damage the record");
    for words in [["ls"], ["gc"]] {
        let outcome = store(&sandbox, &words).run();
        outcome
            .expect_code(4)
            .expect_stderr(&[&record, "is not a record of a store"]);
    }
    let outcome = store(&sandbox, &["verify"]).run();
    assert_eq!(outcome.status.code(), Some(4), "{outcome:?}");
    assert!(outcome.stdout.contains(&record), "{outcome:?}");
    assert!(content_path(&sandbox, b"content").exists());
    server
        .get(&format!("/content/{TASK_A}/public/a"), &[])
        .expect(500);
    server.signal(rustix::process::Signal::TERM);
    let (_, said) = server.wait();
    assert!(said.contains("is not a record of a store"), "{said}");
    expect_success(store(&sandbox, &["verify", "--discard"]).run());
    expect_sound(&sandbox);
}

/// `store` on the bucket.
fn in_bucket<'a>(sandbox: &'a Sandbox, moto: &Moto, words: &[&str]) -> Invocation<'a> {
    let run = sandbox.binary().args(["store", "--store", IN_BUCKET]);
    let environment = moto.environment();
    environment
        .iter()
        .fold(run.args(words), |run, (name, value)| run.env(name, value))
}

/// Where the store is in the bucket.
const IN_BUCKET: &str = "s3://bucket/some/where";

/// `task-artifacts` from the bucket.
fn fetch_from_bucket<'a>(
    sandbox: &'a Sandbox,
    moto: &Moto,
    artifacts: &[(&str, &str)],
) -> Invocation<'a> {
    let run = fetch(sandbox, IN_BUCKET, artifacts);
    let environment = moto.environment();
    environment
        .iter()
        .fold(run, |run, (name, value)| run.env(name, value))
}

/// A server that writes to the bucket.
fn serve_bucket(moto: &Moto) -> Serving {
    let environment = moto.environment();
    let environment: Vec<_> = environment.iter().map(|(n, v)| (*n, &**v)).collect();
    Serving::start(IN_BUCKET, &["--write"], &environment)
}

#[test]
fn a_bucket_is_a_store() {
    let Some(moto) = Moto::start("a_bucket_is_a_store") else {
        return;
    };
    moto.make_bucket("bucket");
    let (sandbox, server) = (Sandbox::new(), serve_bucket(&moto));
    // Above the size of a part.
    let (large, small) = (noise(20_000_000, 1), noise(1_000, 2));
    server.stock(&large, &small);

    let listed = expect_success(in_bucket(&sandbox, &moto, &["ls"]).run()).stdout;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let index = expect_success(in_bucket(&sandbox, &moto, &["ls", "--index"]).run()).stdout;
    let index: Vec<_> = index
        .lines()
        .map(|line| line.rsplit_once('\t').expect("tabs").0)
        .collect();
    let expected = [
        format!("a.b\t{TASK_A}\t5"),
        format!("a.b.c!~*%41\t{TASK_A}\t1"),
    ];
    assert_eq!(index, expected);
    in_bucket(&sandbox, &moto, &["verify"]).run().expect_code(0);

    server.expect_stocked(&large);
}

#[test]
fn artifacts_come_from_a_bucket_like_any_download() {
    let Some(moto) = Moto::start("artifacts_come_from_a_bucket_like_any_download") else {
        return;
    };
    moto.make_bucket("bucket");
    let (sandbox, server) = (Sandbox::new(), serve_bucket(&moto));
    let (large, small) = (noise(3_000_000, 1), noise(1_000, 2));
    server.put(TASK_A, "public/large.bin", &large).expect(200);
    server.put(TASK_A, "public/a%20b%2541", &small).expect(200);

    let wanted = [(TASK_A, "public/large.bin"), (TASK_A, "public/a b%41")];
    let outcome = fetch_from_bucket(&sandbox, &moto, &wanted)
        .run()
        .expect_code(0);
    outcome.expect_not_in_stderr(&["X-Amz-Signature", "s3cret"]);
    assert!(sandbox.read("fetches/large.bin") == large);
    assert_eq!(sandbox.read("fetches/a b%41"), small);
    let text = format!("cannot find artifact public/none of task {TASK_A} in {IN_BUCKET}");
    let run = fetch_from_bucket(&sandbox, &moto, &[(TASK_A, "public/none")]).run();
    run.expect_code(3).expect_stderr(&[&text]);

    // Content that nobody refers to stays while it is young: somebody may be about to refer to it.
    let unneeded = sha256_hex(b"unneeded");
    let path = format!("/bucket/some/where/sha256/{}/{unneeded}", &unneeded[..2]);
    moto.put(&path, b"unneeded");
    let gc = in_bucket(&sandbox, &moto, &["gc"]).run().expect_code(0);
    gc.expect_stderr(&["0 contents"]);

    // What is damaged is found and not used here, too.
    let digits = sha256_hex(&small);
    let path = format!("/bucket/some/where/sha256/{}/{digits}", &digits[..2]);
    moto.put(&path, &noise(1_000, 3));
    let outcome = in_bucket(&sandbox, &moto, &["verify"]).run();
    assert_eq!(outcome.status.code(), Some(4), "{outcome:?}");
    assert!(outcome.stdout.contains(&digits), "{outcome:?}");
    let run = fetch_from_bucket(&sandbox, &moto, &wanted[1..]).run();
    run.expect_code(4).expect_stderr(&["sha256 mismatch on "]);
}

#[test]
fn of_many_who_write_to_a_bucket_the_highest_rank_stays() {
    let Some(moto) = Moto::start("of_many_who_write_to_a_bucket_the_highest_rank_stays") else {
        return;
    };
    moto.make_bucket("bucket");
    let servers = [(); 2].map(|()| serve_bucket(&moto));
    thread::scope(|scope| {
        for (server, ranks) in servers.iter().zip([[1, 9, 3, 5], [8, 2, 7, 4]]) {
            scope.spawn(move || {
                for rank in ranks {
                    server.index("contested", TASK_A, rank).expect(200);
                }
            });
        }
    });
    let entry = servers[0]
        .get("/api/index/v1/task/contested", &[])
        .expect(200)
        .json();
    assert_eq!(entry["rank"], 9.0, "{entry}");
}

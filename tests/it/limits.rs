//! Archives that would fill disk or memory end at a limit: a clean error that tells the variable which raises it, and
//! nothing is left. Each runs with less memory than it asks for.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::support::archives::{bz2, dir, file, gz, noise, symlink, tar_of, xz, zip_of, zst};
use crate::support::raw_tar::{header, raw};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A};

/// `task-artifacts` of one archive from a store, in an address space of 1 GiB.
fn extraction<'a>(sandbox: &'a Sandbox, name: &str, archive: &[u8]) -> Invocation<'a> {
    let artifact = format!("public/{name}");
    sandbox.write(
        &format!("store/task/{TASK_A}/artifacts/{artifact}"),
        archive,
    );
    let program = env!("CARGO_BIN_EXE_fetch-content");
    let list = json!([{"task": TASK_A, "artifact": artifact}]).to_string();
    sandbox
        .program("sh")
        .args(["-c", "ulimit -v 1048576; exec \"$@\"", "sh", program])
        .args(["task-artifacts", "--store", "store", "--dest", "fetches"])
        .env("MOZ_FETCHES", list)
}

/// Panics unless the run ended at the limit that the variable sets, and left nothing.
fn expect_limit(sandbox: &Sandbox, outcome: Outcome, variable: &str) {
    let outcome = outcome.expect_code(5).expect_stderr(&["hint: ", variable]);
    assert!(outcome.stderr.len() < 2000, "{outcome:?}");
    let left = sandbox.fetched();
    assert!(left.is_empty(), "left:\n{left}");
}

/// Compresses what `write` writes, which may be more than memory has room for.
fn zstd_of(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a zstd encoder");
    write(&mut encoder).expect("zstd into memory");
    encoder.finish().expect("zstd into memory")
}

/// As cargo's CVE-2022-36114.
#[test]
fn a_bomb_ends_at_the_limit_on_what_archives_unpack_to() {
    let zeros = tar_of(&[file("first", "1"), file("zeros", vec![0; 30_000_000])]);
    for (name, bomb) in [
        ("a.tar.gz", gz(&zeros)),
        ("a.tar.xz", xz(&zeros)),
        ("a.tar.zst", zst(&zeros)),
        ("a.tar.bz2", bz2(&zeros)),
    ] {
        let sandbox = Sandbox::new();
        let run = || extraction(&sandbox, name, &bomb);
        let run_with = |size| run().env("FETCH_CONTENT_MAX_EXPANDED_SIZE", size).run();
        let outcome = run_with("29000000");
        expect_limit(&sandbox, outcome, "FETCH_CONTENT_MAX_EXPANDED_SIZE");
        run_with("31000000").expect_code(0);
    }
}

#[test]
fn large_archives_may_unpack_to_a_multiple_of_their_size() {
    let content = [noise(1_000_000, 1), vec![0; 3_000_000]].concat();
    let archive = gz(&tar_of(&[file("f", content)]));
    for (times, code) in [("5", 0), ("2", 5)] {
        let sandbox = Sandbox::new();
        let run = extraction(&sandbox, "a.tar.gz", &archive);
        let run = run.env("FETCH_CONTENT_MAX_EXPANDED_SIZE", "1000000");
        run.env("FETCH_CONTENT_MAX_EXPANSION", times)
            .run()
            .expect_code(code);
    }
}

#[test]
fn a_bomb_in_a_bomb_is_a_file() {
    let inner = gz(&tar_of(&[file("zeros", vec![0; 30_000_000])]));
    let sandbox = Sandbox::new();
    let run = extraction(
        &sandbox,
        "a.tar.gz",
        &gz(&tar_of(&[file("inner.tar.gz", &inner)])),
    );
    run.env("FETCH_CONTENT_MAX_EXPANDED_SIZE", "1000000")
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("fetches/inner.tar.gz"), inner);
}

#[test]
fn repacking_a_bomb_ends_at_the_same_limit() {
    let zeros = tar_of(&[file("top/zeros", vec![0; 30_000_000])]);
    let records = [
        ("GNU.sparse.name", "top/f"),
        ("GNU.sparse.size", "1000000000000"),
        ("GNU.sparse.map", "0,0"),
    ];
    let hole = raw().pax(b'x', &records).file("top/f", "").end();
    for (name, archive, options) in [
        ("a.tar.gz", gz(&zeros), &[][..]),
        ("a.tar.gz", gz(&zeros), &["--strip-components", "1"]),
        ("hole.tar", hole, &["--strip-components", "1"]),
    ] {
        let sandbox = Sandbox::new();
        let server = crate::support::server::Server::start();
        let path = format!("/{name}");
        server.serve(&path, crate::support::server::Reply::ok(&archive));
        let run = sandbox.static_url(&archive, &server.url(&path), "fetches/a.tar.zst");
        let run = run
            .args(options)
            .env("FETCH_CONTENT_MAX_EXPANDED_SIZE", "1000000");
        expect_limit(&sandbox, run.run(), "FETCH_CONTENT_MAX_EXPANDED_SIZE");
    }
}

#[test]
fn holes_of_sparse_files_take_no_room() {
    let records = [
        ("GNU.sparse.name", "f"),
        ("GNU.sparse.size", "100000000"),
        ("GNU.sparse.map", "4096,4"),
    ];
    let archive = raw().pax(b'x', &records).file("f", "data").end();
    let sandbox = Sandbox::new();
    let run = extraction(&sandbox, "a.tar", &archive);
    run.env("FETCH_CONTENT_MAX_EXPANDED_SIZE", "1000000")
        .run()
        .expect_code(0);
    let file = std::fs::metadata(sandbox.path("fetches/f")).expect("the file");
    assert_eq!(file.len(), 100_000_000);
    assert!(file.blocks() < 100, "{} blocks", file.blocks());
}

#[test]
fn millions_of_headers_end_at_the_limit_on_members() {
    // These leave nothing on disk, so that the limit is reached soon.
    let block = raw().with(header("g", b'g'), b"").cut().repeat(2000);
    let bomb = zstd_of(|out| (0..5000).try_for_each(|_| out.write_all(&block)));
    let sandbox = Sandbox::new();
    let run = extraction(&sandbox, "a.tar.zst", &bomb);
    let outcome = run.env("FETCH_CONTENT_MAX_ENTRIES", "200000").run();
    expect_limit(&sandbox, outcome, "FETCH_CONTENT_MAX_ENTRIES");
}

#[test]
fn members_are_counted() {
    let files: Vec<_> = (0..30).map(|n| file(format!("f{n}"), "")).collect();
    for (limit, code) in [("30", 0), ("29", 5)] {
        let sandbox = Sandbox::new();
        let run = extraction(&sandbox, "a.tar", &tar_of(&files));
        let outcome = run.env("FETCH_CONTENT_MAX_ENTRIES", limit).run();
        if code == 0 {
            outcome.expect_code(0);
        } else {
            expect_limit(&sandbox, outcome, "FETCH_CONTENT_MAX_ENTRIES");
        }
    }
}

#[test]
fn names_that_have_to_be_remembered_are_counted() {
    for links in [false, true] {
        let archive = (0..400).fold(raw(), |tar, n| {
            let name = format!("{n}/{}", "n".repeat(250));
            let tar = tar.long(b'L', name);
            if links {
                tar.symlink("cut", "x")
            } else {
                tar.dir("cut")
            }
        });
        let sandbox = Sandbox::new();
        let run = extraction(&sandbox, "a.tar", &archive.end());
        let outcome = run.env("FETCH_CONTENT_MAX_ENTRIES", "1000").run();
        expect_limit(&sandbox, outcome, "FETCH_CONTENT_MAX_ENTRIES");
    }
}

#[test]
fn names_and_headers_have_limits_that_can_be_set() {
    let long = "n".repeat(200) + "/" + &"m".repeat(100);
    let records = "x".repeat(2000);
    for (archive, variable, low, high) in [
        (
            raw().long(b'L', &long).file("cut", "x"),
            "FETCH_CONTENT_MAX_PATH_LENGTH",
            "300",
            "301",
        ),
        (
            raw().long(b'K', &long).symlink("cut", "x"),
            "FETCH_CONTENT_MAX_PATH_LENGTH",
            "300",
            "301",
        ),
        (
            raw().file("a/b/c", "x"),
            "FETCH_CONTENT_MAX_PATH_DEPTH",
            "2",
            "3",
        ),
        (
            raw().pax(b'x', &[("comment", &records)]).file("f", "x"),
            "FETCH_CONTENT_MAX_HEADER_SIZE",
            "2000",
            "2014",
        ),
    ] {
        let archive = archive.end();
        let sandbox = Sandbox::new();
        let outcome = extraction(&sandbox, "a.tar", &archive)
            .env(variable, low)
            .run();
        expect_limit(&sandbox, outcome, variable);
        extraction(&sandbox, "a.tar", &archive)
            .env(variable, high)
            .run()
            .expect_code(0);
    }
}

#[test]
fn a_name_of_400_mebibytes_is_not_read_and_not_shown() {
    let name = vec![b'n'; 1 << 20];
    let announced = raw()
        .with(header("long", b'L').gnu().size(400 << 20), b"")
        .cut();
    let bomb = zstd_of(|out| {
        out.write_all(&announced)?;
        (0..400).try_for_each(|_| out.write_all(&name))
    });
    let sandbox = Sandbox::new();
    let outcome = extraction(&sandbox, "a.tar.zst", &bomb).run();
    expect_limit(&sandbox, outcome, "FETCH_CONTENT_MAX_HEADER_SIZE");
}

#[test]
fn windows_have_a_limit_that_can_be_raised() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a zstd encoder");
    encoder.window_log(28).expect("a window of 256 MiB");
    encoder
        .write_all(&tar_of(&[dir("d"), file("d/f", "x")]))
        .expect("zstd into memory");
    let archive = encoder.finish().expect("zstd into memory");
    let sandbox = Sandbox::new();
    let run = || extraction(&sandbox, "a.tar.zst", &archive);
    expect_limit(&sandbox, run().run(), "FETCH_CONTENT_MAX_WINDOW");
    run()
        .env("FETCH_CONTENT_MAX_WINDOW", "268435456")
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("fetches/d/f"), b"x");
}

#[test]
fn limits_are_positive_numbers() {
    for value in ["0", "-1", "8G"] {
        let sandbox = Sandbox::new();
        let run = extraction(&sandbox, "a.tar", &tar_of(&[file("f", "x")]));
        let outcome = run.env("FETCH_CONTENT_MAX_EXPANDED_SIZE", value).run();
        outcome
            .expect_code(2)
            .expect_stderr(&["FETCH_CONTENT_MAX_EXPANDED_SIZE", "positive number"]);
    }
}

#[test]
fn links_to_the_outside_can_be_denied_in_zips() {
    for (target, code) in [("inside", 0), ("../outside", 5), ("/outside", 5)] {
        let archive = zip_of(&[file("inside", "x"), symlink("link", target)]);
        let sandbox = Sandbox::new();
        let run = || extraction(&sandbox, "a.zip", &archive);
        run()
            .args(["--deny-external-symlinks"])
            .run()
            .expect_code(code);
        assert_eq!(sandbox.fetched().is_empty(), code == 5, "{target}");
        run().run().expect_code(0);
    }
}

#[test]
fn links_to_the_outside_can_be_denied() {
    for (members, denied) in [
        (
            raw()
                .dir("lib")
                .symlink("lib64", "lib")
                .symlink("lib/up", "../lib64")
                .symlink("a", "no/such"),
            false,
        ),
        (raw().symlink("absolute", "/usr/lib"), true),
        (raw().dir("lib").symlink("lib/up", "../.."), true),
        (raw().symlink("here", ".").symlink("out", "here/.."), true),
        (raw().symlink("f", "/etc/passwd").file("f", "x"), false),
    ] {
        let archive = members.end();
        let sandbox = Sandbox::new();
        let run = || extraction(&sandbox, "a.tar", &archive);
        let outcome = run().args(["--deny-external-symlinks"]).run();
        if denied {
            let outcome = outcome
                .expect_code(5)
                .expect_stderr(&["leads out of the archive"]);
            assert!(sandbox.fetched().is_empty(), "{outcome:?}");
        } else {
            outcome.expect_code(0);
        }
        run().run().expect_code(0);
    }
}

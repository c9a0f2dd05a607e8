//! `static-url`: what lands at DEST, under which name, repacked or not, and what was asked of the server.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::support::archives::{
    MTIME, bz2, dir, dos_zip_of, file, gz, hard_link, noise, sha256_hex, symlink, tar_of, unzst,
    xz, zip_of, zst,
};
use crate::support::sandbox::{Outcome, Sandbox};
use crate::support::server::{Reply, Server};
use crate::support::tree::{Kind, Tree};

/// A small project as upstreams pack them: one directory at the top, links, an executable.
fn project() -> Vec<u8> {
    tar_of(&[
        dir("tool-1.2/"),
        dir("tool-1.2/empty/"),
        file("tool-1.2/bin/run", "#!/bin/sh\n").mode(0o755),
        file("tool-1.2/README", "read me").mtime(MTIME + 1),
        symlink("tool-1.2/link", "bin/run"),
        hard_link("tool-1.2/same", "tool-1.2/README"),
    ])
}

/// A member of a tar archive, as far as repacking may change it.
#[derive(Debug, PartialEq, Eq)]
struct Packed {
    name: String,
    flag: u8,
    mode: u32,
    mtime: u64,
    link: String,
    content: Vec<u8>,
}

fn packed(name: &str, flag: u8, mode: u32, link: &str, content: &str) -> Packed {
    Packed {
        name: name.to_owned(),
        flag,
        mode,
        mtime: MTIME,
        link: link.to_owned(),
        content: content.into(),
    }
}

/// The members of a `.tar.zst`.
fn members(archive: &[u8]) -> Vec<Packed> {
    let bytes = unzst(archive);
    let mut reader = tar::Archive::new(&*bytes);
    let entries = reader.entries().expect("a tar archive");
    let members = entries.map(|entry| {
        let mut entry = entry.expect("a member");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a member's content");
        let header = entry.header();
        Packed {
            name: String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
            flag: header.entry_type().as_byte(),
            mode: header.mode().expect("a mode") & 0o7777,
            mtime: header.mtime().expect("an mtime"),
            link: String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default())
                .into_owned(),
            content,
        }
    });
    members.collect()
}

/// Downloads `content` from `/dl/{name}` to `out/{dest}` with further options.
fn fetch(sandbox: &Sandbox, content: &[u8], names: (&str, &str), options: &[&str]) -> Outcome {
    let server = Server::start();
    let (name, dest) = names;
    let path = format!("/dl/{name}");
    server.serve(&path, Reply::ok(content));
    sandbox
        .static_url(content, &server.url(&path), &format!("out/{dest}"))
        .args(options)
        .run()
}

/// As [`fetch`], which must succeed and leave nothing but DEST; returns DEST's content.
fn fetched(content: &[u8], names: (&str, &str), options: &[&str]) -> Vec<u8> {
    let sandbox = Sandbox::new();
    let outcome = fetch(&sandbox, content, names, options).expect_code(0);
    let tree = Tree::of(sandbox.path("out"));
    assert_eq!(tree.paths(), [names.1], "{outcome:?}");
    sandbox.read(&format!("out/{}", names.1))
}

/// As [`fetch`], which must fail with one of the codes and leave nothing at all.
fn refused(content: &[u8], names: (&str, &str), options: &[&str], codes: &[i32]) -> Outcome {
    let sandbox = Sandbox::new();
    let outcome = fetch(&sandbox, content, names, options).expect_one_of(codes);
    sandbox.assert_empty(&outcome);
    assert_eq!(outcome.lines("error:").len(), 1, "{outcome:?}");
    outcome
}

#[test]
fn downloads_to_dest_and_says_so() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/dl/tool.bin", Reply::ok("hello"));
    let outcome = sandbox
        .static_url("hello", &server.url("/dl/tool.bin"), "out/deep/tool.bin")
        .run()
        .expect_code(0)
        .expect_stderr(&[
            "[tool.bin] start http://127.0.0.1:[PORT]/dl/tool.bin",
            "[tool.bin] done: ",
            &format!("sha256 {}", sha256_hex(b"hello")),
        ])
        .expect_not_in_stderr(&["PERFHERDER_DATA", "\u{1b}", "\r", "warning:"]);
    assert_eq!(
        sandbox.tree().paths(),
        ["out", "out/deep", "out/deep/tool.bin"],
        "{outcome:?}"
    );
    assert_eq!(sandbox.read("out/deep/tool.bin"), b"hello");
    assert_eq!(
        sandbox.tree().at("out/deep/tool.bin").mode,
        Some(0o644),
        "private to nobody"
    );
}

#[test]
fn asks_once_and_introduces_itself() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/x", Reply::ok("hello"));
    let url = server.url("/x");
    sandbox.static_url("hello", &url, "x").run().expect_code(0);
    let [request] = &server.requests()[..] else {
        panic!("not one request: {:?}", server.paths());
    };
    assert_eq!(request.method, "GET");
    let agent = request.header("user-agent").expect("a User-Agent");
    assert!(agent.starts_with("fetch-content/"), "{agent}");
    assert_eq!(request.header("accept-encoding"), Some("gzip"));
    assert_eq!(request.header("host"), Some(&*server.address().to_string()));
    assert_eq!(request.header("range"), None);
}

#[test]
fn replaces_what_was_at_dest() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.write("out/x", "old");
    sandbox.write("out/neighbour", "untouched");
    server.serve("/x", Reply::ok("new"));
    let url = server.url("/x");
    sandbox
        .static_url("new", &url, "out/x")
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("out/x"), b"new");
    assert_eq!(sandbox.read("out/neighbour"), b"untouched");
    assert_eq!(Tree::of(sandbox.path("out")).paths(), ["neighbour", "x"]);
}

#[test]
fn a_failure_leaves_what_was_at_dest() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.write("out/x", "old");
    server.serve("/x", Reply::ok("bad"));
    let before = sandbox.tree();
    let url = server.url("/x");
    sandbox
        .static_url("new", &url, "out/x")
        .run()
        .expect_code(4);
    before
        .without_mtimes()
        .assert_same(&sandbox.tree().without_mtimes(), "after a failure");
}

#[test]
fn equal_suffixes_mean_rename() {
    let zip = zip_of(&[file("a", "content of a")]);
    for names in [
        ("a.zip", "a.zip"),
        ("a.zip", "b.zip"),
        ("a-1.0.zip", "a.zip"),
        ("python-3.8.10-amd64.exe", "python.exe"),
        ("tool-1.2.bin", "tool.v3.bin"),
        ("a.tar.gz", "b.tar.gz"),
        ("a%20b.zip", "b.zip"),
        ("plain", "other"),
    ] {
        assert_eq!(fetched(&zip, names, &[]), zip, "{names:?}");
    }
}

#[test]
fn the_query_is_no_part_of_the_name() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/dl/a.bin?file=x.tar.zst", Reply::ok("hello"));
    let url = server.url("/dl/a.bin?file=x.tar.zst");
    sandbox
        .static_url("hello", &url, "b.bin")
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("b.bin"), b"hello");
    assert_eq!(sandbox.tree().paths(), ["b.bin"]);
}

#[test]
fn recompression_keeps_every_byte_of_the_tar() {
    let tar = project();
    for (name, archive) in [
        ("a.tar", tar.clone()),
        ("a.tar.gz", gz(&tar)),
        ("a.tgz", gz(&tar)),
        ("a.tar.bz2", bz2(&tar)),
        ("a.tar.xz", xz(&tar)),
    ] {
        let repacked = fetched(&archive, (name, "b.tar.zst"), &[]);
        assert!(unzst(&repacked) == tar, "{name}: the tar has changed");
    }
}

#[test]
fn a_tar_zst_under_the_same_suffixes_is_kept() {
    let archive = zst(&project());
    let kept = fetched(&archive, ("a.tar.zst", "b.tar.zst"), &[]);
    assert!(kept == archive);
}

#[test]
fn what_is_no_archive_is_not_repacked() {
    for names in [
        ("t.txt", "t.bin"),
        ("tool", "tool.tar.zst"),
        ("a.tar.gz", "a.tar.zst"),
    ] {
        let outcome = refused(b"just text", names, &[], &[2, 5]); // 2 where the names alone tell
        outcome.expect_stderr(&[names.0]);
    }
}

#[test]
fn only_tar_zst_is_produced() {
    let zip = zip_of(&[file("a", "content of a")]);
    let archive = gz(&project());
    for (content, names) in [
        (&zip, ("a.zip", "a.tar.gz")),
        (&zip, ("a.zip", "b.v2.zip")),
        (&archive, ("foo.tar.gz", "foo-1.2.tar.gz")),
    ] {
        refused(content, names, &[], &[2, 5]).expect_stderr(&[".tar.zst"]);
    }
}

#[test]
fn strip_and_prefix_rewrite_names_and_drop_directories() {
    let tar = project();
    let file_at = |name: &str, mode, content: &str| packed(name, b'0', mode, "", content);
    for (name, archive) in [
        ("a.tar.gz", gz(&tar)),
        ("a.tar.bz2", bz2(&tar)),
        ("a.tar.xz", xz(&tar)),
        ("a.tar.zst", zst(&tar)),
    ] {
        let options = ["--strip-components", "1", "--add-prefix", "new/tool-"];
        let repacked = fetched(&archive, (name, "b.tar.zst"), &options);
        let readme = Packed {
            mtime: MTIME + 1,
            ..file_at("new/tool-README", 0o644, "read me")
        };
        assert_eq!(
            members(&repacked),
            [
                file_at("new/tool-bin/run", 0o755, "#!/bin/sh\n"),
                readme,
                packed("new/tool-link", b'2', 0o777, "bin/run", ""),
                packed("new/tool-same", b'1', 0o644, "new/tool-README", ""),
            ],
            "{name}"
        );
        assert_eq!(unzst(&repacked).len() % 10240, 0, "{name}: padding");
    }
}

#[test]
fn a_leading_dot_counts_as_a_component() {
    let tar = tar_of(&[dir("./"), file("./a/b", "b")]);
    let repacked = fetched(
        &gz(&tar),
        ("a.tar.gz", "b.tar.zst"),
        &["--strip-components", "1"],
    );
    assert_eq!(members(&repacked), [packed("a/b", b'0', 0o644, "", "b")]);
}

#[test]
fn stripping_a_file_away_is_an_error() {
    let tar = gz(&tar_of(&[file("top", "t"), file("a/b", "b")]));
    refused(
        &tar,
        ("a.tar.gz", "b.tar.zst"),
        &["--strip-components", "1"],
        &[5],
    )
    .expect_stderr(&["Stripping 1 components would remove files"]);
}

#[test]
fn a_zip_from_unix_keeps_modes_and_symlinks() {
    let zip = zip_of(&[
        dir("d"),
        file("d/run", "#!/bin/sh\n").mode(0o755),
        symlink("d/link", "run"),
        file("after", "the link"),
    ]);
    let repacked = fetched(&zip, ("a.zip", "a.tar.zst"), &[]);
    assert_eq!(
        members(&repacked),
        [
            packed("d/run", b'0', 0o755, "", "#!/bin/sh\n"),
            packed("d/link", b'2', 0o777, "run", ""),
            packed("after", b'0', 0o644, "", "the link"),
        ]
    );
}

#[test]
fn a_zip_from_dos_gets_plain_modes() {
    let zip = dos_zip_of(&[file("a.exe", "MZ"), file("b", "b")]);
    let options = ["--add-prefix", "win/"];
    let repacked = fetched(&zip, ("a.zip", "a.tar.zst"), &options);
    assert_eq!(
        members(&repacked),
        [
            packed("win/a.exe", b'0', 0o644, "", "MZ"),
            packed("win/b", b'0', 0o644, "", "b"),
        ]
    );
}

#[test]
fn force_archive_wraps_a_file() {
    for (magic, mode) in [
        (&b"\x7fELF"[..], 0o755),
        (b"\xfe\xed\xfa\xcf", 0o755),
        (b"\xcf\xfa\xed\xfe", 0o755),
        (b"\xca\xfe\xba\xbe", 0o755),
        (b"#!/b", 0o644),
        (b"MZ\x90\x00", 0o644),
    ] {
        let mut content = magic.to_vec();
        content.extend(noise(3000, 7));
        let repacked = fetched(&content, ("tool-x86", "tool.tar.zst"), &["--force-archive"]);
        let [member] = &members(&repacked)[..] else {
            panic!("not one member");
        };
        assert_eq!((&*member.name, member.mode), ("tool-x86", mode));
        assert_eq!(member.content, content);
    }
}

#[test]
fn force_archive_repacks_an_archive() {
    let tar = project();
    let repacked = fetched(&gz(&tar), ("a.tar.gz", "b.tar.zst"), &["--force-archive"]);
    assert!(unzst(&repacked) == tar);
    let options = ["--force-archive", "--add-prefix", "p/"];
    let repacked = fetched(b"text", ("t.txt", "t.tar.zst"), &options);
    assert_eq!(members(&repacked)[0].name, "p/t.txt");
}

#[test]
fn the_same_input_is_repacked_to_the_same_bytes() {
    let zip = zip_of(&[file("a", noise(100_000, 3)), symlink("b", "a")]);
    let archive = gz(&project());
    for (content, name, options) in [
        (&zip, "a.zip", &[][..]),
        (&archive, "a.tar.gz", &["--strip-components", "1"][..]),
        (&noise(5000, 1), "tool", &["--force-archive"][..]),
    ] {
        let first = fetched(content, (name, "x.tar.zst"), options);
        let second = fetched(content, (name, "x.tar.zst"), options);
        assert!(first == second, "{name}");
    }
}

#[test]
fn headers_go_to_the_first_origin_only() {
    let (sandbox, origin, storage) = (Sandbox::new(), Server::start(), Server::start());
    origin.serve("/start", Reply::redirect(302, "/second"));
    origin.serve("/second", Reply::redirect(303, storage.url("/blob")));
    storage.serve("/blob", Reply::ok("hello"));
    sandbox
        .static_url("hello", &origin.url("/start"), "x")
        .args([
            "-H",
            "Authorization: Bearer a:b",
            "--header",
            "X-Time: 12:30",
        ])
        .run()
        .expect_code(0);
    for request in origin.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer a:b"));
        assert_eq!(request.header("x-time"), Some("12:30"));
    }
    let there = &storage.requests()[0];
    assert_eq!(there.header("authorization"), None);
    assert_eq!(there.header("x-time"), None);
    assert_eq!(there.header("accept-encoding"), Some("gzip"));
}

#[test]
fn headers_are_not_sent_back_after_leaving_the_origin() {
    let (sandbox, origin, other) = (Sandbox::new(), Server::start(), Server::start());
    origin.serve("/start", Reply::redirect(302, other.url("/hop")));
    other.serve("/hop", Reply::redirect(302, origin.url("/end")));
    origin.serve("/end", Reply::ok("hello"));
    sandbox
        .static_url("hello", &origin.url("/start"), "x")
        .args(["-H", "X-Token: t0ken"])
        .run()
        .expect_code(0);
    assert_eq!(other.requests()[0].header("x-token"), None);
    let [_, back] = &origin.requests()[..] else {
        panic!("not two requests: {:?}", origin.requests());
    };
    assert_eq!(back.header("x-token"), None, "where a stranger sends us");
}

#[test]
fn redirects_of_every_kind_are_followed() {
    for status in [301, 302, 303, 307, 308] {
        let (sandbox, server, other) = (Sandbox::new(), Server::start(), Server::start());
        server.serve(
            "/dl/a.bin",
            Reply::redirect(status, other.url("/elsewhere/b")),
        );
        other.serve("/elsewhere/b", Reply::redirect(status, "../c?sig=1"));
        other.serve("/c?sig=1", Reply::ok("hello"));
        let url = server.url("/dl/a.bin");
        sandbox
            .static_url("hello", &url, "a.bin")
            .run()
            .expect_code(0);
        assert_eq!(sandbox.read("a.bin"), b"hello", "{status}");
        assert_eq!(other.paths(), ["/elsewhere/b", "/c?sig=1"], "{status}");
        assert!(other.requests().iter().all(|seen| seen.method == "GET"));
    }
}

#[test]
fn a_redirect_loop_ends() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::redirect(302, "/b"));
    server.serve("/b", Reply::redirect(302, "/a"));
    let url = server.url("/a");
    let outcome = sandbox
        .static_url("x", &url, "out/x")
        .run()
        .expect_code(3)
        .expect_stderr(&["redirect"]);
    assert!(server.paths().len() <= 11, "{:?}", server.paths());
    sandbox.assert_empty(&outcome);
}

#[test]
fn ten_redirects_are_not_too_many() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for hop in 0..10 {
        let next = format!("/{}", hop + 1);
        server.serve(&format!("/{hop}"), Reply::redirect(302, next));
    }
    server.serve("/10", Reply::ok("hello"));
    let url = server.url("/0");
    sandbox.static_url("hello", &url, "x").run().expect_code(0);
}

#[test]
fn a_redirect_to_another_scheme_is_refused() {
    for target in ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,hello"] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.serve("/a", Reply::redirect(302, target));
        let outcome = sandbox
            .static_url("x", &server.url("/a"), "out/x")
            .run()
            .expect_code(3);
        assert_eq!(server.paths(), ["/a"], "{outcome:?}");
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn secrets_in_urls_are_not_shown() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let secrets = ["hunter2", "t0psecret", "s1gnature", "B3arer"];
    server.serve(
        "/dl/a.bin?token=t0psecret",
        Reply::redirect(303, "/store?X-Amz-Signature=s1gnature"),
    );
    let store = "/store?X-Amz-Signature=s1gnature";
    let url = format!(
        "http://joe:hunter2@{}/dl/a.bin?token=t0psecret",
        server.address()
    );
    let run = || {
        sandbox
            .static_url("hello", &url, "a.bin")
            .args(["-H", "Authorization: B3arer"])
            .env("FETCH_CONTENT_ATTEMPTS", "2")
            .run()
            .expect_not_in_stderr(&secrets)
    };
    for reply in [
        Reply::status(404),
        Reply::status(503),
        Reply::ok("hello").cut_after(2),
        Reply::ok("wrong"),
        Reply::ok("wrong length"),
        Reply::redirect(302, "ftp://joe:hunter2@127.0.0.1/x?token=t0psecret"),
    ] {
        server.serve(store, reply);
        run().expect_one_of(&[3, 4]);
    }
    server.serve(store, Reply::ok("hello"));
    run().expect_code(0);
}

#[test]
fn content_encoding_gzip_is_undone() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let content = "log line\n".repeat(10_000);
    server.serve("/build.log", Reply::gzipped(&content));
    server.serve("/chunked.log", Reply::gzipped(&content).chunked());
    for name in ["build.log", "chunked.log"] {
        let url = server.url(&format!("/{name}"));
        sandbox
            .static_url(&content, &url, name)
            .run()
            .expect_code(0);
        assert!(sandbox.read(name) == content.as_bytes(), "{name}");
    }
}

#[test]
fn a_name_ending_in_gz_is_taken_as_sent() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let file = gz(b"a log that was compressed when it was written");
    server.serve("/a.gz", Reply::ok(&file).header("Content-Encoding", "gzip"));
    server.serve("/b.gz", Reply::ok(&file));
    for name in ["a.gz", "b.gz"] {
        let url = server.url(&format!("/{name}"));
        sandbox.static_url(&file, &url, name).run().expect_code(0);
        assert_eq!(sandbox.read(name), file);
    }
}

#[test]
fn other_encodings_are_taken_as_sent() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for encoding in ["br", "zstd", "x-gzip"] {
        let reply = Reply::ok("as it came").header("Content-Encoding", encoding);
        server.serve("/a", reply);
        let url = server.url("/a");
        sandbox
            .static_url("as it came", &url, "a")
            .run()
            .expect_code(0);
    }
}

#[test]
fn a_gzip_body_that_breaks_off_is_not_accepted() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let whole = gz(&noise(20_000, 5));
    let reply = Reply::ok(&whole[..whole.len() / 2]).header("Content-Encoding", "gzip");
    server.serve("/a", reply);
    let outcome = sandbox
        .static_url(noise(20_000, 5), &server.url("/a"), "out/a")
        .run()
        .expect_one_of(&[3, 4]);
    sandbox.assert_empty(&outcome);
}

#[test]
fn size_zero_is_not_checked() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok("hello"));
    let digest = sha256_hex(b"hello").to_uppercase();
    sandbox
        .binary()
        .args(["static-url", "--sha256", &digest, "--size=0"])
        .args([&server.url("/a"), "a"])
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("a"), b"hello", "a relative DEST");
}

#[test]
fn an_empty_file_can_be_fetched() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok(""));
    let url = server.url("/a");
    sandbox.static_url("", &url, "out/a").run().expect_code(0);
    assert_eq!(sandbox.read("out/a"), b"");
}

#[test]
fn a_wrong_content_length_names_the_cache() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let url = server.url("/a");
    server.serve(
        "/a",
        Reply::ok("hello world").header("X-Cache-Status", "HIT"),
    );
    let outcome = sandbox
        .static_url("hello", &url, "out/a")
        .run()
        .expect_code(4)
        .expect_stderr(&[&format!(
            "size mismatch on {url}: wanted 5; content-length is 11, x-cache-status is: HIT"
        )]);
    assert_eq!(server.count("/a"), 2, "once more, from zero: {outcome:?}");
    sandbox.assert_empty(&outcome);

    server.serve("/a", Reply::ok("hello world"));
    let run = sandbox.static_url("hello", &url, "out/a").run();
    run.expect_code(4)
        .expect_stderr(&["x-cache-status is: None"]);
}

#[test]
fn a_wrong_size_without_content_length_is_noticed() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let url = server.url("/a");
    for reply in [
        Reply::ok("hell").chunked(),
        Reply::ok("hell").without_length(),
    ] {
        server.serve("/a", reply);
        let outcome = sandbox
            .static_url("hello", &url, "out/a")
            .run()
            .expect_code(4)
            .expect_stderr(&[&format!("size mismatch on {url}: wanted 5; got 4")]);
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn a_body_that_never_ends_is_not_read_for_ever() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let body = noise(2_000_000, 1);
    server.serve("/a", Reply::ok(&body).chunked().stall_after(1_900_000));
    // Nothing after the fifth byte can make it right; waiting for the stall to end would take too long.
    sandbox
        .static_url("hello", &server.url("/a"), "out/a")
        .run()
        .expect_code(4)
        .expect_within(Duration::from_secs(10));
}

#[test]
fn a_wrong_checksum_is_tried_once_more() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let url = server.url("/a");
    server.serve("/a", Reply::ok("jello"));
    let (wanted, got) = (sha256_hex(b"hello"), sha256_hex(b"jello"));
    let outcome = sandbox
        .static_url("hello", &url, "out/a")
        .run()
        .expect_code(4)
        .expect_stderr(&[&format!(
            "sha256 mismatch on {url}: wanted {wanted}; got {got}"
        )]);
    assert_eq!(server.count("/a"), 2, "{outcome:?}");
    sandbox.assert_empty(&outcome);

    server.serve_in_turn("/a", [Reply::ok("stale"), Reply::ok("hello")]);
    sandbox
        .static_url("hello", &url, "out/a")
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("out/a"), b"hello");
}

#[test]
fn a_repacked_file_that_is_wrong_is_not_published() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let archive = gz(&project());
    server.serve("/a.tar.gz", Reply::ok(&archive));
    let mut other = archive.clone();
    let last = other.len() - 1;
    other[last] ^= 1; // of the same size
    let url = server.url("/a.tar.gz");
    let outcome = sandbox
        .static_url(&other, &url, "out/a.tar.zst")
        .run()
        .expect_code(4);
    sandbox.assert_empty(&outcome);
}

#[test]
fn the_file_of_a_rename_is_owned_like_any_new_file() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a.bin", Reply::ok("hello"));
    let url = server.url("/a.bin");
    sandbox
        .static_url("hello", &url, "b.bin")
        .run()
        .expect_code(0);
    let meta = fs::metadata(sandbox.path("b.bin")).expect("DEST");
    assert_eq!((meta.nlink(), meta.len()), (1, 5));
    assert!(matches!(sandbox.tree().at("b.bin").kind, Kind::File { .. }));
}

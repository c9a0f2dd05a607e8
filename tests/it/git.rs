//! `git-checkout-archive`: real repositories, over `git daemon` and as files.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::archives::{noise, sha256_hex};
use crate::support::git::{
    Daemon, FIRST, Manner, Repository, Upstream, git_in, have_git, members, serve_files, unpack,
};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, wait_until};
use crate::support::server::{Reply, Server};
use crate::support::skip::have_programs;

const PROMPTLY: Duration = Duration::from_secs(20);

/// `git-checkout-archive` to `out/a.tar.zst`, with the prefix `p`.
fn archive<'a>(sandbox: &'a Sandbox, repo: &str, commit: &str) -> Invocation<'a> {
    sandbox
        .binary()
        .args(["git-checkout-archive", "--path-prefix", "p", repo, commit])
        .args([sandbox.path("out/a.tar.zst")])
        .env("HOME", sandbox.path("home"))
}

/// Makes the archive and returns its bytes.
fn made(repo: &str, commit: &str, with: impl FnOnce(Invocation<'_>) -> Invocation<'_>) -> Vec<u8> {
    let sandbox = Sandbox::new();
    let outcome = with(archive(&sandbox, repo, commit)).run().expect_code(0);
    assert_eq!(
        sandbox.tree().paths(),
        ["out", "out/a.tar.zst"],
        "{outcome:?}"
    );
    sandbox.read("out/a.tar.zst")
}

fn same(invocation: Invocation<'_>) -> Invocation<'_> {
    invocation
}

fn with_dot_git(invocation: Invocation<'_>) -> Invocation<'_> {
    invocation.args(["--include-dot-git"])
}

/// How `members` shows a file of `p/` at the time of commit `number`.
fn shown(name: &str, mode: u32, number: u64, content: &[u8]) -> String {
    let (time, size) = (FIRST + 60 * number, content.len());
    format!(
        "p/{name} {mode:o} @{time} {size} {}",
        &sha256_hex(content)[..12]
    )
}

/// A history in which the one commit that is wanted is neither first nor last, and small.
fn history(upstream: &Upstream) -> (Repository, String) {
    let repository = upstream.repository("r");
    repository.write("large", noise(3_000_000, 1)).commit();
    fs::remove_file(repository.path().join("large")).expect("remove a file");
    let wanted = repository.write("file", "wanted").commit();
    repository
        .write("file", "newer")
        .write("large", noise(3_000_000, 2))
        .commit();
    (repository, wanted)
}

#[test]
fn a_commit_in_the_middle_comes_alone() {
    if !have_git("a_commit_in_the_middle_comes_alone") {
        return;
    }
    let upstream = Upstream::new();
    let (_, wanted) = history(&upstream);
    let daemon = Daemon::start(&upstream, &[Manner::Whole]);
    let archive = made(&daemon.url("r"), &wanted, same);
    let dir = format!("p/ 755 @{} dir", FIRST + 60);
    assert_eq!(members(&archive), [dir, shown("file", 0o644, 1, b"wanted")]);
    assert_eq!(daemon.connections(), 1);
    assert!(daemon.sent() < 100_000, "{} bytes", daemon.sent());
    // Hashes are hashes, whatever the case.
    assert_eq!(
        made(&daemon.url("r"), &wanted.to_uppercase(), same),
        archive
    );
}

#[test]
fn a_server_that_gives_out_tips_only_is_asked_for_all() {
    if !have_git("a_server_that_gives_out_tips_only_is_asked_for_all") {
        return;
    }
    let upstream = Upstream::new();
    let (repository, wanted) = history(&upstream);
    let daemon = Daemon::start(&upstream, &[Manner::Whole]);
    let old = |invocation: Invocation<'_>| -> Outcome {
        invocation
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "protocol.version")
            .env("GIT_CONFIG_VALUE_0", "0")
            .run()
    };
    let sandbox = Sandbox::new();
    old(archive(&sandbox, &daemon.url("r"), &wanted)).expect_code(0);
    assert!(daemon.sent() > 5_000_000, "{} bytes", daemon.sent());
    let alone = made(&repository.url(), &wanted, same);
    assert_eq!(sandbox.read("out/a.tar.zst"), alone);

    // Also the repository itself is the same then.
    let sandbox = Sandbox::new();
    let whole = archive(&sandbox, &daemon.url("r"), &wanted).args(["--include-dot-git"]);
    old(whole).expect_code(0);
    let alone = made(&daemon.url("r"), &wanted, with_dot_git);
    assert_eq!(sandbox.read("out/a.tar.zst"), alone);

    let sandbox = Sandbox::new();
    let outcome = old(archive(&sandbox, &daemon.url("r"), &"1".repeat(40))).expect_code(3);
    let outcome = outcome
        .expect_stderr(&["has no commit `1111"])
        .expect_not_in_stderr(&["retry"]);
    sandbox.assert_empty(&outcome);
}

#[test]
fn a_commit_that_nobody_has_is_an_error_at_once() {
    if !have_git("a_commit_that_nobody_has_is_an_error_at_once") {
        return;
    }
    let upstream = Upstream::new();
    let (repository, _) = history(&upstream);
    let daemon = Daemon::start(&upstream, &[Manner::Whole]);
    let nobody = "0123456789abcdef0123456789abcdef01234567";
    let sandbox = Sandbox::new();
    let outcome = archive(&sandbox, &daemon.url("r"), nobody)
        .run()
        .expect_code(3);
    assert_eq!(
        outcome.error(),
        format!(
            "error: cannot fetch [TMP]/out/a.tar.zst\n  caused by: git://127.0.0.1:[PORT]/r has no commit `{nobody}`\n\
             hint: check COMMIT; it may not have been pushed, or be gone since a branch was rewritten"
        )
    );
    assert_eq!(daemon.connections(), 1);
    sandbox.assert_empty(&outcome);

    let blob = repository.git(&["rev-parse", "HEAD:file"]);
    for (what, repo, said) in [
        (blob.trim(), daemon.url("r"), "has no commit"),
        (
            "no-such-branch",
            daemon.url("r"),
            "has no commit `no-such-branch`",
        ),
        (nobody, daemon.url("none"), "git cannot fetch from git://"),
        (
            nobody,
            "file:///no/where".into(),
            "does not appear to be a git repository",
        ),
    ] {
        let sandbox = Sandbox::new();
        let outcome = archive(&sandbox, &repo, what).run().expect_code(3);
        let outcome = outcome
            .expect_stderr(&[said])
            .expect_not_in_stderr(&["retry"]);
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn names_work_with_a_warning() {
    if !have_git("names_work_with_a_warning") {
        return;
    }
    let upstream = Upstream::new();
    let (repository, wanted) = history(&upstream);
    repository.git(&["tag", "-a", "-m", "tag", "v1", &wanted]);
    repository.git(&["branch", "a/b", &wanted]);
    let expected = made(&repository.url(), &wanted, same);
    let tag = repository.git(&["rev-parse", "v1"]);
    for name in [
        "v1",
        "a/b",
        "origin/a/b",
        "main~1",
        &wanted[..12],
        &format!("{wanted}^0"),
    ] {
        let sandbox = Sandbox::new();
        let outcome = archive(&sandbox, &repository.url(), name)
            .run()
            .expect_code(0);
        outcome.expect_stderr(&["is not the full hash of a commit"]);
        assert!(sandbox.read("out/a.tar.zst") == expected, "{name}");
    }
    assert!(made(&repository.url(), tag.trim(), same) == expected);
    let newest = made(&repository.url(), "main", same);
    assert!(made(&repository.url(), "HEAD", same) == newest && newest != expected);
}

/// A repository with all that a tree can hold, and its commit.
fn odd(upstream: &Upstream) -> (Repository, String) {
    let repository = upstream.repository("odd");
    repository
        .write("text", "one\ntwo\n")
        .write("dos", "one\r\ntwo\r\n")
        .write("crlf.txt", "one\ntwo\n")
        .write("deep/er/file", "d")
        .write("secret", "not exported")
        .write("subst", "$Format:%H$\n")
        .write("a file; $(x) \"q\"", "odd name")
        .write(OsStr::from_bytes(b"latin-\xe9"), "bytes")
        .write("large", noise(2_500_000, 9))
        .write("empty", "")
        .program("run", "#!/bin/sh\n")
        .link("link", "deep/er/file")
        .link("dangling", "/no/where")
        .write(
            ".gitattributes",
            "*.txt text eol=crlf\nsecret export-ignore\nsubst export-subst\n",
        );
    let commit = repository.commit();
    (repository, commit)
}

#[test]
fn the_tree_is_what_the_commit_says_whatever_is_configured() {
    if !have_git("the_tree_is_what_the_commit_says_whatever_is_configured") {
        return;
    }
    let upstream = Upstream::new();
    let (repository, commit) = odd(&upstream);
    let archive_of = made(&repository.url(), &commit, same);
    let members = members(&archive_of);
    assert!(members.len() == 17 && members.is_sorted(), "{members:#?}");
    for expected in [
        shown("text", 0o644, 0, b"one\ntwo\n"),
        shown("dos", 0o644, 0, b"one\r\ntwo\r\n"),
        shown("crlf.txt", 0o644, 0, b"one\r\ntwo\r\n"),
        shown("secret", 0o644, 0, b"not exported"),
        shown("subst", 0o644, 0, b"$Format:%H$\n"),
        shown("latin-\\xe9", 0o644, 0, b"bytes"),
        shown("large", 0o644, 0, &noise(2_500_000, 9)),
        shown("empty", 0o644, 0, b""),
        shown("run", 0o755, 0, b"#!/bin/sh\n"),
        format!("p/link 777 @{FIRST} -> deep/er/file"),
        format!("p/dangling 777 @{FIRST} -> /no/where"),
        format!("p/deep/er/ 755 @{FIRST} dir"),
    ] {
        assert!(members.contains(&expected), "no {expected}: {members:#?}");
    }

    // Neither the configuration, nor templates, nor the environment of somebody's hook changes that or runs anything.
    let sandbox = Sandbox::new();
    let hook = "#!/bin/sh\ntouch \"$HOME/ran\"\n";
    for hooks in ["hooks", "template/hooks"] {
        let path = sandbox.write(&format!("home/{hooks}/post-checkout"), hook);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).expect("make a hook executable");
    }
    let home = sandbox.path("home");
    sandbox.write("home/attributes", "* text eol=crlf\n");
    sandbox.write(
        "home/.gitconfig",
        format!(
            "[core]\nautocrlf = true\nsymlinks = false\nfileMode = false\nattributesFile = {home}/attributes\n\
             hooksPath = {home}/hooks\n[init]\ntemplateDir = {home}/template\ndefaultObjectFormat = sha256\n\
             [protocol]\nallow = always\n[feature]\nmanyFiles = true\n",
            home = home.display()
        ),
    );
    let outcome = archive(&sandbox, &repository.url(), &commit)
        .env("GIT_DIR", "/no/where")
        .env("GIT_INDEX_FILE", "/no/where")
        .env("GIT_TEMPLATE_DIR", sandbox.path("home/template"))
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "core.autocrlf")
        .env("GIT_CONFIG_VALUE_0", "true")
        .run()
        .expect_code(0);
    assert!(sandbox.read("out/a.tar.zst") == archive_of, "{outcome:?}");
    assert!(!home.join("ran").exists(), "{outcome:?}");
}

#[test]
fn what_a_user_configures_for_transport_counts() {
    if !have_git("what_a_user_configures_for_transport_counts") {
        return;
    }
    let upstream = Upstream::new();
    let (repository, commit) = odd(&upstream);
    let sandbox = Sandbox::new();
    let configuration = format!(
        "[url \"{}\"]\ninsteadOf = https://nowhere.invalid/x\n",
        repository.url()
    );
    sandbox.write("home/.gitconfig", configuration);
    let run = archive(&sandbox, "https://nowhere.invalid/x", &commit).run();
    run.expect_code(0);
    assert_eq!(
        sandbox.read("out/a.tar.zst"),
        made(&repository.url(), &commit, same)
    );
}

/// A repository with submodules that have submodules, all with relative URLs, and its commit.
fn nested(upstream: &Upstream) -> String {
    let inner = upstream.repository("libs/inner");
    let innermost = inner.write("i", "inner").commit();
    inner.write("i", "newer").commit();
    let middle = upstream.repository("libs/middle");
    let middle_commit = middle
        .write("m", "middle")
        .submodule("sub/inner", "../inner", &innermost)
        .commit();
    middle.write("m", "newer").commit();
    let outer = upstream.repository("outer");
    let commit = outer
        .write("o", "outer")
        .submodule("third/party", "../libs/middle", &middle_commit)
        .submodule("direct", "./../libs/inner/", &innermost)
        .commit();
    outer.write("o", "newer").commit();
    commit
}

#[test]
fn submodules_are_checked_out_and_theirs() {
    if !have_git("submodules_are_checked_out_and_theirs") {
        return;
    }
    let upstream = Upstream::new();
    let commit = nested(&upstream);
    let daemon = Daemon::start(&upstream, &[Manner::Whole]);
    let plain = made(&daemon.url("outer"), &commit, same);
    let listed = members(&plain);
    for (name, content) in [
        ("o", "outer"),
        ("third/party/m", "middle"),
        ("third/party/sub/inner/i", "inner"),
        ("direct/i", "inner"),
    ] {
        let expected = shown(name, 0o644, 0, content.as_bytes());
        assert!(listed.contains(&expected), "no {expected}: {listed:#?}");
    }
    assert!(
        !listed
            .iter()
            .any(|member| member.contains(".git ") || member.contains(".git/"))
    );

    // The same from a server that gives out tips only, submodules included.
    let old = made(&daemon.url("outer"), &commit, |invocation| {
        invocation
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "protocol.version")
            .env("GIT_CONFIG_VALUE_0", "0")
    });
    assert!(old == plain);

    let whole = made(&daemon.url("outer"), &commit, with_dot_git);
    let sandbox = Sandbox::new();
    unpack(&whole, &sandbox.path("x"));
    let tree = sandbox.path("x/p");
    assert_eq!(git_in(&tree, &["status", "--porcelain"]), "");
    let status = git_in(&tree, &["submodule", "status", "--recursive"]);
    assert_eq!(
        status.lines().filter(|line| line.starts_with(' ')).count(),
        3,
        "{status}"
    );
    assert!(whole == made(&daemon.url("outer"), &commit, with_dot_git));
}

#[test]
fn submodules_come_only_over_networks() {
    if !have_git("submodules_come_only_over_networks") {
        return;
    }
    let upstream = Upstream::new();
    let private = upstream.repository("private");
    let secret = private.write("s", "secret").commit();
    let daemon = Daemon::start(&upstream, &[Manner::Whole]);
    for (number, url) in [
        private.url(),
        format!("ext::cat {}", private.path().display()),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("r{number}");
        let repository = upstream.repository(&name);
        let commit = repository
            .write("f", "f")
            .submodule("sub", url, &secret)
            .commit();
        let sandbox = Sandbox::new();
        let outcome = archive(&sandbox, &daemon.url(&name), &commit)
            .run()
            .expect_code(2);
        let outcome = outcome
            .expect_stderr(&["not allowed"])
            .expect_not_in_stderr(&["retry"]);
        sandbox.assert_empty(&outcome);
    }
    // Whoever runs the program can allow it.
    let commit = git_in(&upstream.root().join("r0"), &["rev-parse", "HEAD"]);
    made(&daemon.url("r0"), commit.trim(), |invocation| {
        invocation.env("GIT_ALLOW_PROTOCOL", "git:file")
    });
}

#[test]
fn a_transfer_that_breaks_is_tried_again() {
    if !have_git("a_transfer_that_breaks_is_tried_again") {
        return;
    }
    let upstream = Upstream::new();
    let (repository, _) = history(&upstream);
    let tip = repository.git(&["rev-parse", "HEAD"]);
    let expected = made(&repository.url(), tip.trim(), same);
    let manners = [
        Manner::Cut(0),
        Manner::Cut(300),
        Manner::Cut(1_500_000),
        Manner::Whole,
    ];
    let daemon = Daemon::start(&upstream, &manners);
    let sandbox = Sandbox::new();
    let outcome = archive(&sandbox, &daemon.url("r"), tip.trim())
        .run()
        .expect_code(0);
    assert!(sandbox.read("out/a.tar.zst") == expected);
    assert_eq!(outcome.lines("[a.tar.zst] retry").len(), 3, "{outcome:?}");
    assert_eq!(daemon.connections(), 4);

    let daemon = Daemon::start(&upstream, &[Manner::Cut(1_500_000)]);
    let sandbox = Sandbox::new();
    let outcome = archive(&sandbox, &daemon.url("r"), tip.trim())
        .run()
        .expect_code(3);
    let outcome = outcome.expect_stderr(&["gave up after 5 attempts"]);
    sandbox.assert_empty(&outcome);
}

/// A submodule that breaks costs no more than itself.
#[test]
fn a_submodule_that_breaks_is_tried_again() {
    if !have_git("a_submodule_that_breaks_is_tried_again") {
        return;
    }
    let upstream = Upstream::new();
    let commit = nested(&upstream);
    let whole = Daemon::start(&upstream, &[Manner::Whole]);
    let expected = made(&whole.url("outer"), &commit, same);
    let daemon = Daemon::start(&upstream, &[Manner::Whole, Manner::Cut(200), Manner::Whole]);
    let sandbox = Sandbox::new();
    let outcome = archive(&sandbox, &daemon.url("outer"), &commit)
        .run()
        .expect_code(0);
    assert!(sandbox.read("out/a.tar.zst") == expected, "{outcome:?}");
}

#[test]
fn signals_and_time_limits_leave_nothing() {
    if !have_git("signals_and_time_limits_leave_nothing") {
        return;
    }
    let upstream = Upstream::new();
    let (repository, _) = history(&upstream);
    let tip = repository.git(&["rev-parse", "HEAD"]);
    for (signal, code) in [
        (Some(Signal::TERM), 143),
        (Some(Signal::INT), 130),
        (None, 3),
    ] {
        let daemon = Daemon::start(&upstream, &[Manner::Stall(1_000_000)]);
        let sandbox = Sandbox::new();
        let mut run = archive(&sandbox, &daemon.url("r"), tip.trim());
        if signal.is_none() {
            run = run.args(["--total-timeout", "2"]);
        }
        let running = run.spawn();
        if let Some(signal) = signal {
            wait_until("the transfer stalls", || daemon.stalled() == 1);
            running.signal(signal);
        }
        let outcome = running.finish().expect_code(code).expect_within(PROMPTLY);
        sandbox.assert_empty(&outcome);
        // Git is gone, too: nobody else had the connection.
        wait_until("the connection ends", || {
            daemon.ended() == daemon.connections()
        });
    }
}

/// Runs under a shell that sets what differs between machines.
fn elsewhere<'a>(
    sandbox: &'a Sandbox,
    before: &str,
    repo: &str,
    commit: &str,
    more: &str,
) -> Invocation<'a> {
    let program = env!("CARGO_BIN_EXE_fetch-content");
    let command = format!(
        "{before} {program} git-checkout-archive {more} --path-prefix p '{repo}' {commit} out/a.tar.zst"
    );
    sandbox
        .program("sh")
        .args(["-euc", &command])
        .env("HOME", sandbox.path("home"))
}

#[test]
fn the_same_commit_gives_the_same_bytes() {
    let test = "the_same_commit_gives_the_same_bytes";
    if !have_git(test) || !have_programs(test, &["taskset"]) {
        return;
    }
    let upstream = Upstream::new();
    let (repository, commit) = odd(&upstream);
    repository.write("later", "x").commit();
    let daemon = Daemon::start(&upstream, &[Manner::Whole]);
    for more in ["", "--include-dot-git"] {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for before in [
            "",
            "umask 077; TZ=Asia/Tokyo",
            "umask 002; TZ=America/New_York LANG=de_DE.UTF-8",
            "taskset -c 0",
        ] {
            let sandbox = Sandbox::new();
            let run = elsewhere(&sandbox, before, &daemon.url("odd"), &commit, more).run();
            run.expect_code(0);
            all.push(sandbox.read("out/a.tar.zst"));
            // What comes later upstream, or how it is stored there, does not matter.
            repository.git(&["repack", "-adfq", "--window=50"]);
            repository.git(&["tag", &format!("t{}{}", all.len(), more.len()), &commit]);
        }
        assert!(all.iter().all(|one| *one == all[0]), "{more}");
    }
}

#[test]
fn the_repository_that_is_packed_is_plain_and_whole() {
    if !have_git("the_repository_that_is_packed_is_plain_and_whole") {
        return;
    }
    let upstream = Upstream::new();
    let (repository, wanted) = history(&upstream);
    let daemon = Daemon::start(&upstream, &[Manner::Whole]);
    let first = repository.git(&["rev-list", "--max-parents=0", "HEAD"]);
    for commit in [wanted.as_str(), first.trim()] {
        let archive = made(&daemon.url("r"), commit, with_dot_git);
        let sandbox = Sandbox::new();
        unpack(&archive, &sandbox.path("x"));
        let tree = sandbox.path("x/p");
        let git = |args: &[&str]| git_in(&tree, args).trim().to_owned();
        git(&["fsck", "--strict", "--no-dangling"]);
        assert_eq!(git(&["status", "--porcelain"]), "");
        assert_eq!(git(&["rev-parse", "HEAD"]), commit);
        assert_eq!(git(&["rev-list", "--all", "HEAD", "--count"]), "1");
        assert_eq!(git(&["config", "remote.origin.url"]), daemon.url("r"));
        let mut names: Vec<_> = fs::read_dir(tree.join(".git"))
            .expect("list .git")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        let shallow = (commit == wanted).then_some("shallow");
        let expected: Vec<_> = ["HEAD", "config", "index", "objects", "refs"]
            .into_iter()
            .chain(shallow)
            .collect();
        assert_eq!(names, expected);
        // More history can be had.
        git(&["fetch", "--quiet", "origin", "main"]);
    }
}

#[test]
fn passwords_reach_the_server_and_nobody_else() {
    if !have_git("passwords_reach_the_server_and_nobody_else") {
        return;
    }
    let (upstream, server) = (Upstream::new(), Server::start());
    let (repository, wanted) = history(&upstream);
    // me:s3cret
    serve_files(&server, &repository, "/r.git", Some("Basic bWU6czNjcmV0"));
    let with = |login: &str| {
        server
            .url("/r.git")
            .replace("http://", &format!("http://{login}@"))
    };
    let sandbox = Sandbox::new();
    let outcome = archive(&sandbox, &with("me:s3cret"), &wanted)
        .args(["--include-dot-git"])
        .run()
        .expect_code(0)
        .expect_not_in_stderr(&["s3cret"]);
    unpack(&sandbox.read("out/a.tar.zst"), &sandbox.path("x"));
    let url = git_in(&sandbox.path("x/p"), &["config", "remote.origin.url"]);
    assert_eq!(url.trim(), server.url("/r.git"), "{outcome:?}");

    for login in ["me:wr0ng", "wr0ng"] {
        let sandbox = Sandbox::new();
        let outcome = archive(&sandbox, &with(login), &wanted)
            .run()
            .expect_code(3);
        let outcome = outcome
            .expect_stderr(&[
                "git cannot fetch from http://127.0.0.1:[PORT]/r.git",
                "hint: ",
            ])
            .expect_not_in_stderr(&["wr0ng", "retry"]);
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn http_failures_are_told_apart() {
    if !have_git("http_failures_are_told_apart") {
        return;
    }
    let (upstream, server) = (Upstream::new(), Server::start());
    let (repository, wanted) = history(&upstream);
    serve_files(&server, &repository, "/r.git", None);
    let refs = repository.git(&["show-ref", "-d"]).replace(' ', "\t");
    let asked = "/r.git/info/refs?service=git-upload-pack";
    let earlier = AtomicUsize::new(0);
    server.serve_by("/r.git/info/refs", move |_| {
        match earlier.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::status(503),
            1 => Reply::close_before_response(),
            _ => Reply::ok(&refs),
        }
    });
    let sandbox = Sandbox::new();
    let run = archive(&sandbox, &server.url("/r.git"), &wanted).run();
    let outcome = run.expect_code(0);
    assert_eq!(outcome.lines("[a.tar.zst] retry").len(), 2, "{outcome:?}");

    for status in [403, 404] {
        server.serve_by("/r.git/info/refs", move |_| Reply::status(status));
        let before = server.count(asked);
        let sandbox = Sandbox::new();
        let run = archive(&sandbox, &server.url("/r.git"), &wanted).run();
        let outcome = run.expect_code(3).expect_not_in_stderr(&["retry"]);
        sandbox.assert_empty(&outcome);
        assert_eq!(server.count(asked), before + 1);
    }
}

#[test]
fn mistakes_are_found_before_anything_is_asked_for() {
    let sandbox = Sandbox::new();
    let hash = "0123456789abcdef0123456789abcdef01234567";
    for (args, said) in [
        (
            &["--", "--upload-pack=touch x", hash, "a.tar.zst"][..],
            "is not a repository",
        ),
        (
            &["--", "file:///r", "--output=x", "a.tar.zst"],
            "is not a commit",
        ),
        (
            &["ext::sh -c 'touch x'", hash, "a.tar.zst"],
            "helpers such as `ext::sh -c 'touch x'`",
        ),
        (&["ftp://h/r", hash, "a.tar.zst"], "repositories by `ftp`"),
        (
            &["file:///r", hash, "a.tar.gz"],
            "only .tar.zst archives can be produced",
        ),
        (
            &["--path-prefix", "../x", "file:///r", hash, "a.tar.zst"],
            "has a `..` component",
        ),
        (
            &["--ssh-key-secret", "k", "file:///r", hash, "a.tar.zst"],
            "TASKCLUSTER_PROXY_URL",
        ),
    ] {
        let run = sandbox.binary().args(["git-checkout-archive"]).args(args);
        let outcome = run.run().expect_code(2).expect_stderr(&[said, "hint: "]);
        sandbox.assert_empty(&outcome);
    }
    let run = archive(&sandbox, "file:///r", hash)
        .env("PATH", "/no/where")
        .run();
    let outcome = run
        .expect_code(2)
        .expect_stderr(&["the program `git` cannot be found", "hint: install git"]);
    sandbox.assert_empty(&outcome);
}

#[test]
fn an_old_git_is_refused() {
    let sandbox = Sandbox::new();
    let git = sandbox.write("bin/git", "#!/bin/sh\necho git version 2.25.1\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(git, mode).expect("make it executable");
    let run = archive(&sandbox, "file:///r", &"1".repeat(40)).env("PATH", sandbox.path("bin"));
    run.run()
        .expect_code(2)
        .expect_stderr(&["git version 2.25.1 is too old: version 2.32"]);
}

#[test]
fn the_prefix_is_by_default_the_last_segment() {
    if !have_git("the_prefix_is_by_default_the_last_segment") {
        return;
    }
    let upstream = Upstream::new();
    let repository = upstream.repository("tool.git");
    let commit = repository.write("f", "f").commit();
    for (options, prefix) in [(&[][..], "tool.git/"), (&["--path-prefix", "a/b"], "a/b/")] {
        let sandbox = Sandbox::new();
        // A local path is a repository, too.
        let run = sandbox
            .binary()
            .args([
                "git-checkout-archive",
                "../up/tool.git/",
                &commit,
                "x.tar.zst",
            ])
            .args(options);
        std::os::unix::fs::symlink(upstream.root(), sandbox.path("up"))
            .expect("link to the upstream");
        fs::create_dir(sandbox.path("in")).expect("make a directory");
        run.current_dir(sandbox.path("in")).run().expect_code(0);
        let members = members(&sandbox.read("in/x.tar.zst"));
        assert!(
            members[0].starts_with(&format!("{prefix} 755")),
            "{members:?}"
        );
        assert_eq!(members.len(), 2);
    }
}

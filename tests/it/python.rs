//! The Python tool and ours leave the same files: runs where `PYTHON_FETCH_CONTENT` names the real script.
//!
//! `PYTHON` names the interpreter (default `python3`); it needs the module `zstandard`. What the script is
//! known to do wrong is not in these samples: symlinks in zips to repack, long hard link targets, repacking to a
//! DEST of the same suffixes.

use std::env;
use std::io::Read;

use serde_json::{Value, json};

use crate::github::{GitHub, sample as github_sample};
use crate::support::archives::{
    MTIME, bz2, dir, file, gz, hard_link, noise, sha256_hex, symlink, tar_of, unzst, xz, zip_of,
    zst,
};
use crate::support::git::{Daemon, Manner, Upstream, git_in, have_git, unpack};
use crate::support::gpg::{Gpg, have_gpg};
use crate::support::sandbox::{
    Invocation, Sandbox, TASK_A, artifact, chain_of_trust, vouching_for,
};
use crate::support::server::{Reply, Server};
use crate::support::skip::skip;
use crate::support::tree::Tree;

/// The interpreter and the script, if there are any.
fn python(test: &str) -> Option<(String, String)> {
    let Ok(script) = env::var("PYTHON_FETCH_CONTENT") else {
        skip(test, "PYTHON_FETCH_CONTENT does not name the Python script");
        return None;
    };
    let interpreter = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let sandbox = Sandbox::new();
    let probe = sandbox.program(&interpreter);
    let probe = probe.args(["-c", "import zstandard"]).run();
    if probe.status.success() {
        return Some((interpreter, script));
    }
    skip(test, &format!("{interpreter} has no module zstandard"));
    None
}

/// The Python tool's command.
fn script<'a>(sandbox: &'a Sandbox, (interpreter, script): &(String, String)) -> Invocation<'a> {
    sandbox.program(interpreter).args([script])
}

fn sample() -> Vec<u8> {
    tar_of(&[
        dir("tool-1.2/").mode(0o750),
        dir("tool-1.2/empty/").mtime(MTIME + 9),
        file("tool-1.2/bin/run", "#!/bin/sh\n").mode(0o755),
        file("tool-1.2/data", noise(200_000, 1))
            .mode(0o600)
            .mtime(MTIME + 3),
        symlink("tool-1.2/link", "bin/run"),
        symlink("tool-1.2/dangling", "/no/where"),
        hard_link("tool-1.2/same", "tool-1.2/data"),
    ])
}

fn sample_zip() -> Vec<u8> {
    zip_of(&[
        dir("pkg"),
        file("pkg/run", "#!/bin/sh\n").mode(0o755),
        file("pkg/data", noise(50_000, 2)).mode(0o640),
    ])
}

/// Artifacts by name, with the keys of their entries.
fn artifacts() -> [(&'static str, Vec<u8>, Value); 10] {
    let (tar, zip) = (sample(), sample_zip());
    let other = tar_of(&[dir("tool-1.2/").mode(0o755), file("tool-1.2/data", "newer")]);
    [
        ("public/a.tar", tar.clone(), json!({"dest": "tar"})),
        (
            "public/a.tar.gz",
            gz(&tar),
            json!({"dest": "gz", "verify-hash": true}),
        ),
        ("public/a.tar.bz2", bz2(&tar), json!({"dest": "bz2"})),
        (
            "public/a.tar.xz",
            xz(&tar),
            json!({"dest": "xz", "verify-hash": true}),
        ),
        ("public/a.tar.zst", zst(&tar), json!({"dest": "zst"})),
        ("public/a.zip", zip.clone(), json!({"dest": "zip"})),
        (
            "public/a.whl",
            zip,
            json!({"dest": "wheel", "extract": false}),
        ),
        (
            "public/some text.xz",
            xz(b"text"),
            json!({"dest": "./text/"}),
        ),
        ("public/more.tar.gz", gz(&other), json!({"dest": "gz"})),
        ("public/a.bin", noise(9000, 3), json!({"extract": false})),
    ]
}

#[test]
fn task_artifacts_leave_the_same_tree() {
    let Some(python) = python("task_artifacts_leave_the_same_tree") else {
        return;
    };
    let (artifacts, server) = (artifacts(), Server::start());
    let mut fetches = Vec::new();
    for (name, content, keys) in &artifacts {
        server.serve(
            &artifact(TASK_A, &name.replace(' ', "%20")),
            Reply::ok(content),
        );
        let mut entry = json!({"task": TASK_A, "artifact": name, "extract": true});
        for (key, value) in keys.as_object().expect("keys") {
            entry[key] = value.clone();
        }
        fetches.push(entry);
    }
    let contents: Vec<(&str, &[u8])> = artifacts
        .iter()
        .map(|(name, content, _)| (*name, &**content))
        .collect();
    server.serve(&chain_of_trust(TASK_A), Reply::ok(vouching_for(&contents)));
    let fetches = json!(fetches);

    let (theirs, ours) = (Sandbox::new(), Sandbox::new());
    script(&theirs, &python)
        .args(["task-artifacts"])
        .env("MOZ_FETCHES", fetches.to_string())
        .env("MOZ_FETCHES_DIR", theirs.fetches())
        .env("TASKCLUSTER_ROOT_URL", server.root())
        .run()
        .expect_code(0);
    ours.task_artifacts(&server, &fetches).run().expect_code(0);
    // What is in no archive, and directories that are merged, have the time of the run.
    let comparable = |tree: Tree| {
        let made = tree.paths().into_iter().filter(|path| {
            !path.contains('/')
                || ["text/some text.xz", "wheel/a.whl", "gz/tool-1.2"].contains(path)
                || path.ends_with("/bin")
        });
        let made: Vec<_> = made.map(str::to_owned).collect();
        tree.without_mtimes_of(&made)
    };
    comparable(theirs.fetched()).assert_same(&comparable(ours.fetched()), "Python (-), ours (+)");
}

/// Name, type, mode, mtime, link target and content of every member of a `.tar.zst`.
fn members(archive: &[u8]) -> Vec<String> {
    let bytes = unzst(archive);
    let mut reader = tar::Archive::new(&*bytes);
    let entries = reader.entries().expect("a tar archive");
    let members = entries.map(|entry| {
        let mut entry = entry.expect("a member");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a member's content");
        let header = entry.header();
        format!(
            "{} {:?} {:o} {} -> {:?} {} bytes {}",
            entry.path().expect("a name").display(),
            header.entry_type(),
            header.mode().expect("a mode"),
            header.mtime().expect("an mtime"),
            entry.link_name().expect("a link target"),
            content.len(),
            crate::support::archives::sha256_hex(&content),
        )
    });
    members.collect()
}

#[test]
fn static_url_repacks_to_the_same_members() {
    let Some(python) = python("static_url_repacks_to_the_same_members") else {
        return;
    };
    let (tar, zip, server) = (sample(), sample_zip(), Server::start());
    let strip = &["--strip-components", "1"][..];
    let both = &["--strip-components", "1", "--add-prefix", "new/"][..];
    let cases = [
        ("a.tar", tar.clone(), &[][..]),
        ("a.tar.gz", gz(&tar), &[]),
        ("a.tar.gz", gz(&tar), strip),
        ("a.tar.bz2", bz2(&tar), both),
        ("a.tar.xz", xz(&tar), both),
        ("a.tgz", gz(&tar), &["--add-prefix", "p/"]),
        ("a.zip", zip.clone(), &[]),
        ("a.zip", zip, both),
        (
            "tool",
            [b"\x7fELF", &noise(5000, 4)[..]].concat(),
            &["--force-archive"],
        ),
    ];
    for (name, content, options) in cases {
        let path = format!("/{name}");
        server.serve(&path, Reply::ok(&content));
        let url = server.url(&path);
        let (theirs, ours) = (Sandbox::new(), Sandbox::new());
        let (digest, size) = (
            crate::support::archives::sha256_hex(&content),
            content.len().to_string(),
        );
        script(&theirs, &python)
            .args(["static-url", "--sha256", &digest, "--size", &size])
            .args(options)
            .args([&*url, "x.tar.zst"])
            .run()
            .expect_code(0);
        ours.static_url(&content, &url, "x.tar.zst")
            .args(options)
            .run()
            .expect_code(0);
        let (mut theirs, mut ours) = (
            members(&theirs.read("x.tar.zst")),
            members(&ours.read("x.tar.zst")),
        );
        if options.contains(&"--force-archive") {
            // The Python tool writes the time of the download.
            theirs = theirs.iter().map(|member| without_mtime(member)).collect();
            ours = ours.iter().map(|member| without_mtime(member)).collect();
        }
        assert_eq!(theirs, ours, "{name} {options:?} (left: Python)");
    }
}

#[test]
fn static_url_agrees_about_signatures() {
    let test = "static_url_agrees_about_signatures";
    let Some(python) = python(test).filter(|_| have_gpg(test)) else {
        return;
    };
    let (gpg, server, content) = (Gpg::new(), Server::start(), noise(300_000, 7));
    let key = gpg.key(Some("20200101"), "Ed <ed@x>", "ed25519", "1y");
    let expired_since = gpg.sign(Some("20200601"), &key, &content, &["--armor"]);
    let of_other = gpg.sign(Some("20200601"), &key, b"other", &[]);
    let key = gpg.export(&key);
    let key = str::from_utf8(&key).expect("an armored key");
    server.serve("/a", Reply::ok(&content));
    for (signature, variable, good) in [
        (Some(&expired_since), "KEY", true),
        (Some(&of_other), "KEY", false),
        (Some(&expired_since), "MISSING", false),
        (None, "KEY", false),
    ] {
        let reply = signature.map_or(Reply::status(404), Reply::ok);
        server.serve("/a.asc", reply);
        let (theirs, ours) = (Sandbox::new(), Sandbox::new());
        let (sha256, size) = (sha256_hex(&content), content.len().to_string());
        let (url, by) = (server.url("/a"), server.url("/a.asc"));
        let run = |run: Invocation<'_>| {
            let options = ["--sha256", &sha256, "--size", &size, "--gpg-sig-url", &by];
            let run = run.args(["static-url"]).args(options);
            let run = run.args(["--gpg-key-env", variable, &url, "a"]);
            run.env("KEY", key).run()
        };
        let (theirs_ended, ours_ended) = (run(script(&theirs, &python)), run(ours.binary()));
        assert_eq!(theirs_ended.status.success(), good, "{theirs_ended:?}");
        assert_eq!(ours_ended.status.success(), good, "{ours_ended:?}");
        let (theirs, ours) = (theirs.tree(), ours.tree());
        assert_eq!(theirs.paths(), ours.paths(), "{variable}");
    }
}

fn without_mtime(member: &str) -> String {
    let words: Vec<_> = member.split(' ').collect();
    [&words[..3], &words[4..]].concat().join(" ")
}

/// Members without their times, and with directories in the order of their names: Python's tar lists them as they come.
fn sorted_without_times(archive: &[u8]) -> Vec<String> {
    let members = members(archive).into_iter();
    let mut members: Vec<_> = members.map(|member| without_mtime(&member)).collect();
    members.sort();
    members
}

/// Makes a repository with a submodule and with what a checkout may get wrong. Returns the commits of both.
fn repository(upstream: &Upstream) -> (String, String) {
    let sub = upstream.repository("sub");
    let sub_commit = sub.write("s", "sub").commit();
    sub.write("s", "newer").commit();
    let repository = upstream.repository("r.git");
    repository.write("older", "x").commit();
    repository
        .write("dos.txt", "one\ntwo\n")
        .write(
            ".gitattributes",
            "*.txt text eol=crlf\nsecret export-ignore\n",
        )
        .write("secret", "not exported")
        .write("deep/er/file", noise(200_000, 3))
        .program("run", "#!/bin/sh\n")
        .link("link", "deep/er/file")
        .submodule("libs/sub", "../sub", &sub_commit);
    let commit = repository.commit();
    repository.write("secret", "newer").commit();
    (commit, sub_commit)
}

#[test]
fn git_checkouts_have_the_same_members() {
    let test = "git_checkouts_have_the_same_members";
    let Some(python) = python(test).filter(|_| have_git(test)) else {
        return;
    };
    let upstream = Upstream::new();
    let (commit, sub_commit) = repository(&upstream);
    let daemon = Daemon::start(&upstream, &[Manner::Whole]);
    let url = daemon.url("r.git");
    let both = |options: &[&str]| {
        let (theirs, ours) = (Sandbox::new(), Sandbox::new());
        let args = ["git-checkout-archive", &url, &commit, "x.tar.zst"];
        let run = script(&theirs, &python).args(args).args(options).run();
        assert!(run.status.success(), "{run:?}");
        ours.binary().args(args).args(options).run().expect_code(0);
        [theirs.read("x.tar.zst"), ours.read("x.tar.zst")]
    };
    for options in [&[][..], &["--path-prefix", "a/b"]] {
        let [theirs, ours] = both(options).map(|archive| sorted_without_times(&archive));
        assert_eq!(theirs, ours, "{options:?} (left: Python)");
    }
    let archives = both(&["--include-dot-git"]);
    let [theirs, ours] = [&archives[0], &archives[1]].map(|archive| {
        let mut members = sorted_without_times(archive);
        members.retain(|member| !member.contains("/.git/"));
        members
    });
    assert_eq!(theirs, ours, "with .git (left: Python)");
    // What git makes of the two repositories is the same.
    for archive in archives {
        let sandbox = Sandbox::new();
        unpack(&archive, &sandbox.path("x"));
        let git = |args: &[&str]| git_in(&sandbox.path("x/r.git"), args);
        let state = "git rev-parse HEAD && git status --short";
        let answers = [
            git(&["rev-parse", "HEAD"]),
            git(&["status", "--short", "--branch"]),
            git(&["config", "remote.origin.url"]),
            git(&["rev-list", "--count", "HEAD"]),
            git(&["rev-parse", "--is-shallow-repository"]),
            git(&["submodule", "foreach", "--quiet", state]),
        ];
        let expected = [
            &*commit,
            "## HEAD (no branch)",
            &*url,
            "1",
            "true",
            &*sub_commit,
        ];
        assert_eq!(answers, expected.map(|answer| format!("{answer}\n")));
    }
}

#[test]
fn archives_of_github_are_repacked_to_the_same_members() {
    let Some(python) = python("archives_of_github_are_repacked_to_the_same_members") else {
        return;
    };
    let github = GitHub::start();
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let blob = format!("/acme/lib/blob/{hash}/.gitmodules");
    github.server.serve(&blob, Reply::status(404));
    let archive = format!("/acme/lib/archive/{hash}.tar.gz");
    github
        .server
        .serve(&archive, Reply::ok(github_sample(hash)));
    let (theirs, ours) = (Sandbox::new(), Sandbox::new());
    let args = [
        "git-checkout-archive",
        "https://github.com/acme/lib",
        hash,
        "x.tar.zst",
    ];
    let run = github
        .lead(&theirs, script(&theirs, &python).args(args))
        .run();
    run.expect_code(0);
    github
        .lead(&ours, ours.binary().args(args))
        .run()
        .expect_code(0);
    assert_eq!(
        members(&theirs.read("x.tar.zst")),
        members(&ours.read("x.tar.zst"))
    );
}

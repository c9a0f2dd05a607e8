//! `git-checkout-archive` for what is on GitHub: when its archives are used and when git is. GitHub is a scripted server
//! behind TLS, to which a proxy leads.

use crate::support::archives::{dir, file, gz, sha256_hex, symlink, tar_of};
use crate::support::git::{FIRST, Upstream, have_git, members, serve_files};
use crate::support::proxy::{Manner, Proxy};
use crate::support::sandbox::{Invocation, Outcome, Sandbox};
use crate::support::server::{Reply, Server};
use crate::support::tls::{Authority, Ending, TlsFront};

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";
const PROBE: &str = "/acme/lib/blob/0123456789abcdef0123456789abcdef01234567/.gitmodules";
const ARCHIVE: &str = "/acme/lib/archive/0123456789abcdef0123456789abcdef01234567.tar.gz";

/// GitHub as far as it matters.
pub(crate) struct GitHub {
    pub(crate) server: Server,
    proxy: Proxy,
    authority: Authority,
    _front: TlsFront,
}

impl GitHub {
    pub(crate) fn start() -> Self {
        let (server, authority) = (Server::start(), Authority::new());
        let front = TlsFront::start(&server, &authority.issue(&["github.com"]), Ending::Orderly);
        let proxy = Proxy::start(Manner::Leading(front.address()));
        Self {
            server,
            proxy,
            authority,
            _front: front,
        }
    }

    /// Makes a command go there.
    pub(crate) fn lead<'a>(&self, sandbox: &'a Sandbox, command: Invocation<'a>) -> Invocation<'a> {
        let authority = sandbox.write("authority.pem", self.authority.pem());
        // The Python tool takes certificates from this package, where it is installed.
        let certifi = "import os\ndef where(): return os.environ['SSL_CERT_FILE']\n";
        sandbox.write("python/certifi.py", certifi);
        command
            .env("PYTHONPATH", sandbox.path("python"))
            .env("https_proxy", self.proxy.url(""))
            .env("SSL_CERT_FILE", authority)
    }

    fn archive(&self, sandbox: &Sandbox, repo: &str, commit: &str, with: &[&str]) -> Outcome {
        let run = sandbox
            .binary()
            .args(["git-checkout-archive", repo, commit, "x.tar.zst"]);
        self.lead(sandbox, run.args(with)).run()
    }
}

/// An archive as GitHub makes it.
pub(crate) fn sample(hash: &str) -> Vec<u8> {
    let top = format!("lib-{hash}/");
    gz(&tar_of(&[
        dir(&top),
        file(format!("{top}f"), "content"),
        dir(format!("{top}bin/")),
        file(format!("{top}bin/run"), "#!/bin/sh\n").mode(0o755),
        symlink(format!("{top}link"), "f"),
    ]))
}

#[test]
fn archives_of_github_are_used_where_there_are_no_submodules() {
    let github = GitHub::start();
    github.server.serve(PROBE, Reply::status(404));
    let archive = sample(HASH);
    let cut = Reply::ok(&archive).cut_after(archive.len() / 2);
    github
        .server
        .serve_in_turn(ARCHIVE, [Reply::status(503), cut, Reply::ok(&archive)]);
    for (repo, prefix) in [
        ("https://github.com/acme/lib", "lib"),
        ("https://github.com/acme/lib/", "lib"),
    ] {
        let sandbox = Sandbox::new();
        // Without git.
        let run = sandbox
            .binary()
            .args(["git-checkout-archive", repo, HASH, "x.tar.zst"])
            .env("PATH", "/no/where");
        let outcome = github.lead(&sandbox, run).run().expect_code(0);
        let names: Vec<_> = members(&sandbox.read("x.tar.zst"))
            .iter()
            .map(|member| member.split(" @").next().unwrap_or_default().to_owned())
            .collect();
        let expected = ["f 644", "bin/run 755", "link 777"].map(|name| format!("{prefix}/{name}"));
        assert_eq!(names, expected, "{outcome:?}");
    }
    assert_eq!(github.server.paths()[..2], [PROBE, ARCHIVE]);
}

#[test]
fn names_of_branches_are_asked_for_with_a_warning() {
    let github = GitHub::start();
    github
        .server
        .serve("/acme/lib/blob/release/1.0/.gitmodules", Reply::status(404));
    github.server.serve(
        "/acme/lib/archive/release/1.0.tar.gz",
        Reply::ok(sample(HASH)),
    );
    let sandbox = Sandbox::new();
    let outcome = github.archive(&sandbox, "https://github.com/acme/lib", "release/1.0", &[]);
    outcome
        .expect_code(0)
        .expect_stderr(&["warning: `release/1.0` is not the full hash"]);
}

#[test]
fn git_is_used_where_the_archive_would_not_do() {
    if !have_git("git_is_used_where_the_archive_would_not_do") {
        return;
    }
    let upstream = Upstream::new();
    let sub = upstream.repository("sub");
    let sub_commit = sub.write("s", "sub").commit();
    let repository = upstream.repository("lib");
    let commit = repository
        .write("f", "git")
        .submodule("sub", "../sub.git", &sub_commit)
        .commit();
    let probe = format!("/acme/lib/blob/{commit}/.gitmodules");
    let archive = format!("/acme/lib/archive/{commit}.tar.gz");
    let inner = format!("lib/sub/s 644 @{FIRST} 3 {}", &sha256_hex(b"sub")[..12]);
    for (reply, options, asked, said) in [
        (Reply::ok("[submodule]"), &[][..], 1, None),
        (
            Reply::status(500),
            &[],
            3,
            Some("cannot tell whether there are submodules"),
        ),
        (
            Reply::status(403),
            &[],
            1,
            Some("cannot tell whether there are submodules"),
        ),
        (
            Reply::status(404),
            &[],
            1,
            Some("answered 404 Not Found; trying git"),
        ),
        (Reply::status(404), &["--include-dot-git"], 0, None),
    ] {
        let github = GitHub::start();
        serve_files(&github.server, &repository, "/acme/lib", None);
        serve_files(&github.server, &sub, "/acme/sub.git", None);
        github.server.serve(&probe, reply);
        github.server.serve(&archive, Reply::status(404));
        let sandbox = Sandbox::new();
        let outcome = github.archive(&sandbox, "https://github.com/acme/lib", &commit, options);
        let outcome = outcome.expect_code(0).expect_stderr(said.as_slice());
        assert_eq!(github.server.count(&probe), asked, "{outcome:?}");
        let members = members(&sandbox.read("x.tar.zst"));
        assert!(members.contains(&inner), "{members:#?}");
    }
}

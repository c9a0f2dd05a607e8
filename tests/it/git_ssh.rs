//! `git-checkout-archive` over ssh: the key from a secret, and who is talked to.

use serde_json::json;

use crate::support::git::{Repository, Upstream, have_git, members};
use crate::support::sandbox::{Invocation, Sandbox};
use crate::support::server::{Reply, Server};
use crate::support::ssh::Sshd;

const SECRET: &str = "project/acme/deploy key";
const PATH: &str = "/api/secrets/v1/secret/project/acme/deploy%20key";

/// `git-checkout-archive` to `x.tar.zst`, with a key from a secret.
fn archive<'a>(sandbox: &'a Sandbox, server: &Server, repo: &str, commit: &str) -> Invocation<'a> {
    sandbox
        .binary()
        .args([
            "git-checkout-archive",
            "--ssh-key-secret",
            SECRET,
            repo,
            commit,
            "x.tar.zst",
        ])
        .env("TASKCLUSTER_PROXY_URL", server.root())
}

fn serve_key(server: &Server, key: &str) {
    let secret = json!({"secret": {"ssh_privkey": key}, "expires": "3000-01-01"});
    server.serve(PATH, Reply::ok(secret.to_string()));
}

/// A repository with a submodule, both to be had with the same key, and its commit.
fn repository(upstream: &Upstream, sshd: &Sshd) -> (Repository, String) {
    let sub = upstream.repository("sub");
    let commit = sub.write("s", "sub").commit();
    let repository = upstream.repository("a b's");
    repository
        .write("f", "f")
        .submodule("sub", &sshd.url(sub.path()), &commit);
    let commit = repository.commit();
    (repository, commit)
}

#[test]
fn the_key_of_a_secret_opens_known_servers() {
    let test = "the_key_of_a_secret_opens_known_servers";
    if !have_git(test) {
        return;
    }
    let Some(sshd) = Sshd::start(test) else {
        return;
    };
    let (upstream, server) = (Upstream::new(), Server::start());
    let (repository, commit) = repository(&upstream, &sshd);
    let url = sshd.url(repository.path());
    // As somebody pastes it.
    serve_key(&server, sshd.key().trim_end());

    let sandbox = Sandbox::new();
    let outcome = archive(&sandbox, &server, &url, &commit)
        .args(["--ssh-known-hosts".as_ref(), sshd.known_hosts().as_os_str()])
        // What else there is does not count.
        .env("GIT_SSH_COMMAND", "false")
        .run()
        .expect_code(0)
        .expect_not_in_stderr(&["PRIVATE KEY"]);
    assert_eq!(members(&sandbox.read("x.tar.zst")).len(), 5, "{outcome:?}");
    assert_eq!(sandbox.tree().paths(), ["x.tar.zst"]);

    for known_hosts in [None, Some(sshd.wrong_known_hosts())] {
        let sandbox = Sandbox::new();
        let mut run = archive(&sandbox, &server, &url, &commit);
        if let Some(file) = known_hosts {
            run = run.args(["--ssh-known-hosts".as_ref(), file.as_os_str()]);
        }
        let outcome = run
            .run()
            .expect_code(3)
            .expect_stderr(&[
                "Host key verification failed",
                "hint: the server's ssh host key",
            ])
            .expect_not_in_stderr(&["retry"]);
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn without_the_right_key_nothing_is_opened() {
    let test = "without_the_right_key_nothing_is_opened";
    if !have_git(test) {
        return;
    }
    let (Some(sshd), Some(other)) = (Sshd::start(test), Sshd::start(test)) else {
        return;
    };
    let (upstream, server) = (Upstream::new(), Server::start());
    let (repository, commit) = repository(&upstream, &sshd);
    for (key, said) in [
        (other.key(), "Permission denied"),
        ("no key".into(), "hint: "),
    ] {
        serve_key(&server, &key);
        let sandbox = Sandbox::new();
        let outcome = archive(&sandbox, &server, &sshd.url(repository.path()), &commit)
            .args(["--ssh-known-hosts".as_ref(), sshd.known_hosts().as_os_str()])
            .run()
            .expect_code(3)
            .expect_stderr(&[said])
            .expect_not_in_stderr(&["retry"]);
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn secrets_that_are_no_use_are_named_and_not_shown() {
    let test = "secrets_that_are_no_use_are_named_and_not_shown";
    if !have_git(test) {
        return;
    }
    let server = Server::start();
    for (reply, code, said) in [
        (
            Reply::ok(r#"{"secret": {"password": "s3cret"}}"#),
            2,
            "has no ssh key",
        ),
        (
            Reply::ok(r#"{"secret": {"ssh_privkey": ["s3cret"]}}"#),
            2,
            "has no ssh key",
        ),
        (Reply::ok("s3cret"), 2, "has no ssh key"),
        (Reply::status(404), 3, "answered 404"),
        (Reply::status(403), 3, "secrets:get:"),
    ] {
        server.serve(PATH, reply);
        let sandbox = Sandbox::new();
        let run = archive(&sandbox, &server, "ssh://h.invalid/r", &"1".repeat(40)).run();
        let outcome = run
            .expect_code(code)
            .expect_stderr(&[said])
            .expect_not_in_stderr(&["s3cret"]);
        sandbox.assert_empty(&outcome);
    }
    // A server that is busy is asked again.
    server.serve_in_turn(PATH, [Reply::status(503), Reply::ok("{}")]);
    let sandbox = Sandbox::new();
    let before = server.count(PATH);
    archive(&sandbox, &server, "ssh://h.invalid/r", &"1".repeat(40))
        .run()
        .expect_code(2);
    assert_eq!(server.count(PATH), before + 2);
}

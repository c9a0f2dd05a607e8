//! `ftp://` upstreams of `static-url`.

use std::time::Duration;

use crate::support::archives::{file, gz, noise, sha256_hex, tar_of};
use crate::support::ftp::{RealFtp, Script, ScriptedFtp};
use crate::support::proxy::{Manner, Proxy};
use crate::support::sandbox::{Outcome, Sandbox};
use crate::support::server::{Reply, Server};

/// Longer than any of these runs should take.
const SOON: Duration = Duration::from_secs(5);

/// Fetches `/dir/a`, whose right content is `content`, with short time-outs.
fn get(sandbox: &Sandbox, server: &ScriptedFtp, content: &[u8]) -> Outcome {
    sandbox
        .static_url(content, &server.url("/dir/a"), "out/a")
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "400")
        .env("FETCH_CONTENT_CONNECT_TIMEOUT_MS", "400")
        .env("FETCH_CONTENT_ATTEMPTS", "3")
        .run()
        .expect_within(SOON)
}

/// Expects that this connection fails, is retried, and that the next one then brings the content.
fn expect_one_retry(first: Script, content: &[u8], words: &str) {
    let sandbox = Sandbox::new();
    let server = ScriptedFtp::start([first, Script::serving(content)]);
    let outcome = get(&sandbox, &server, content)
        .expect_code(0)
        .expect_stderr(&[words]);
    let retries = outcome.lines("[a] retry").len();
    assert_eq!(retries, 1, "{words}: {outcome:?}");
    assert!(sandbox.read("out/a") == content, "{words}: {outcome:?}");
}

/// Expects that this connection fails for good.
fn expect_failure_at_once(script: Script, words: &[&str]) -> Outcome {
    let (sandbox, server) = (Sandbox::new(), ScriptedFtp::start([script]));
    let outcome = get(&sandbox, &server, b"x")
        .expect_code(3)
        .expect_stderr(words)
        .expect_not_in_stderr(&["retry 1"]);
    assert_eq!(server.count("USER"), 1, "{outcome:?}");
    sandbox.assert_empty(&outcome);
    outcome
}

#[test]
fn files_come_from_a_real_server() {
    let test = "ftp::files_come_from_a_real_server";
    let sandbox = Sandbox::new();
    let content = noise(3_000_000, 7);
    let archive = gz(&tar_of(&[file("gmp-6/README", "hello")]));
    sandbox.write("srv/gnu/a b.bin", &content);
    sandbox.write("srv/gnu/gmp.tar.gz", &archive);
    for address in ["127.0.0.1", "::1"] {
        let Some(server) = RealFtp::start(test, &sandbox.path("srv"), address) else {
            return;
        };
        for user in ["", "user:p%40ss@"] {
            sandbox
                .static_url(&content, &server.url(user, "/gnu/a%20b.bin"), "out.bin")
                .run()
                .expect_code(0)
                .expect_stderr(&["/gnu/a%20b.bin\n"])
                .expect_not_in_stderr(&["p%40ss", "p@ss", "user"]);
            assert!(sandbox.read("out.bin") == content);
        }
        sandbox
            .static_url(&archive, &server.url("", "/gnu/gmp.tar.gz"), "gmp.tar.zst")
            .args(["--strip-components", "1"])
            .run()
            .expect_code(0);
        for (url, words) in [
            (server.url("", "/gnu/none"), "the server answered 550: "),
            (server.url("", "/gnu"), "the server answered 550: "),
            (
                server.url("user:wr0ng@", "/gnu/gmp.tar.gz"),
                "does not accept the user name or password of the URL (it answered 530)",
            ),
        ] {
            sandbox
                .static_url("x", &url, "x")
                .run()
                .expect_code(3)
                .expect_stderr(&[words])
                .expect_not_in_stderr(&["wr0ng", "retry 1"])
                .expect_within(SOON);
        }
    }
}

#[test]
fn the_conversation_is_as_it_should_be() {
    let (sandbox, server) = (Sandbox::new(), ScriptedFtp::start([Script::serving("x")]));
    get(&sandbox, &server, b"x").expect_code(0);
    assert_eq!(
        server.commands(),
        [
            "USER anonymous",
            "PASS anonymous@",
            "TYPE I",
            "SIZE dir/a",
            "EPSV",
            "RETR dir/a",
            "QUIT"
        ]
    );
}

#[test]
fn an_empty_file_is_whole() {
    let (sandbox, server) = (Sandbox::new(), ScriptedFtp::start([Script::serving("")]));
    get(&sandbox, &server, b"").expect_code(0);
    assert!(sandbox.read("out/a").is_empty());
}

#[test]
fn old_servers_know_neither_size_nor_extended_passive_mode() {
    let content = noise(50_000, 3);
    let script = Script::serving(&content)
        .answering("SIZE", "500 What?")
        .answering("EPSV", "500 What?");
    let (sandbox, server) = (Sandbox::new(), ScriptedFtp::start([script]));
    get(&sandbox, &server, &content).expect_code(0);
    assert_eq!(server.count("PASV"), 1, "{:?}", server.commands());
}

#[test]
fn data_comes_from_the_server_whatever_address_it_gives() {
    let content = noise(50_000, 3);
    let script = Script::serving(&content)
        .answering("EPSV", "502 No")
        // An address of documentation (RFC 5737): nobody answers there.
        .answering("PASV", "227 Entering Passive Mode (192,0,2,1,{port})");
    let (sandbox, server) = (Sandbox::new(), ScriptedFtp::start([script]));
    get(&sandbox, &server, &content)
        .expect_code(0)
        .expect_not_in_stderr(&["retry"]);
}

#[test]
fn transfers_that_break_off_are_retried() {
    let content = noise(50_000, 3);
    let whole = || Script::serving(&content);
    let truncated = "ended after 30000 bytes of 50000";
    for (first, words) in [
        (whole().cut_after(30_000, "226 Done"), truncated),
        (whole().cut_after(30_000, "426 Broken"), truncated),
        (whole().cut_after(30_000, ""), truncated),
        (whole().stall_after(30_000), "sent nothing for 400ms"),
        (
            whole().cut_after(50_000, "451 Disk"),
            "the server answered 451: Disk",
        ),
        (
            whole()
                .answering("SIZE", "500 No")
                .cut_after(30_000, "426 Cut"),
            "the server answered 426: Cut",
        ),
        (
            whole().answering("SIZE", "500 No").cut_after(30_000, ""),
            "connection closed",
        ),
    ] {
        expect_one_retry(first, &content, words);
    }
}

#[test]
fn without_a_size_the_last_reply_tells_the_end() {
    let content = noise(50_000, 3);
    let digest = sha256_hex(&content);
    let unknown = || Script::serving(&content).answering("SIZE", "500 No");
    for (script, code) in [(unknown(), 0), (unknown().without_last_reply(), 3)] {
        let (sandbox, server) = (Sandbox::new(), ScriptedFtp::start([script]));
        sandbox
            .binary()
            .args(["static-url", "--sha256", &digest, "--size", "0"])
            .args([&server.url("/a"), "a"])
            .env("FETCH_CONTENT_ATTEMPTS", "2")
            .run()
            .expect_code(code);
    }
}

#[test]
fn with_all_bytes_of_the_size_the_last_reply_may_be_missing() {
    let content = noise(50_000, 3);
    let script = Script::serving(&content).without_last_reply();
    let (sandbox, server) = (Sandbox::new(), ScriptedFtp::start([script]));
    get(&sandbox, &server, &content)
        .expect_code(0)
        .expect_not_in_stderr(&["retry"]);
}

#[test]
fn what_can_pass_is_retried() {
    let content = noise(5000, 3);
    let whole = || Script::serving(&content);
    for (command, reply, words) in [
        (
            "CONNECT",
            "421 Too many users",
            "answered 421: Too many users",
        ),
        ("CONNECT", "", "connection closed"),
        ("USER", "421 Too many users", "answered 421: Too many users"),
        ("PASS", "421 Later", "answered 421: Later"),
        ("SIZE", "421 Idle", "answered 421: Idle"),
        ("RETR", "450 Busy", "answered 450: Busy"),
        ("RETR", "425 No data connection", "answered 425: "),
        ("RETR", "", "connection closed"),
        (
            "CONNECT",
            "SSH-2.0-OpenSSH",
            "the server's answer is not FTP",
        ),
        ("PASV", "227 Nowhere", ""),
    ] {
        let script = whole().answering(command, reply);
        let script = if command == "PASV" {
            script.answering("EPSV", "500 No")
        } else {
            script
        };
        expect_one_retry(script, &content, words);
    }
}

#[test]
fn what_stays_is_an_error_at_once() {
    let whole = || Script::serving("x");
    for (command, reply) in [
        ("RETR", "550 No such file \x1b[31m\x07"),
        ("USER", "530 No anonymous users"),
        ("PASS", "530 Login incorrect"),
    ] {
        let script = whole().answering(command, reply);
        let answer = format!("the server answered {}: {}", &reply[..3], &reply[4..12]);
        expect_failure_at_once(script, &[&answer]).expect_not_in_stderr(&["\x1b", "\x07"]);
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let silent = crate::support::acceptor::Acceptor::silent();
    let sandbox = Sandbox::new();
    let outcome = sandbox
        .static_url("x", &format!("ftp://{}/a", silent.address()), "a")
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "300")
        .env("FETCH_CONTENT_ATTEMPTS", "2")
        .run()
        .expect_code(3)
        .expect_stderr(&["sent nothing for 300ms"])
        .expect_within(SOON);
    assert_eq!(silent.accepted(), 2);
    sandbox.assert_empty(&outcome);
}

#[test]
fn urls_that_name_no_file_are_errors_before_any_connection() {
    let (sandbox, server) = (Sandbox::new(), ScriptedFtp::start([Script::serving("x")]));
    for path in ["", "/", "/dir/", "/a%0D%0ADELE%20b"] {
        sandbox
            .static_url("x", &server.url(path), "a")
            .run()
            .expect_one_of(&[2, 3])
            .expect_stderr(&["must name a file"]);
    }
    sandbox
        .static_url("x", &server.url("/a"), "a")
        .args(["-H", "Authorization: s3cret"])
        .run()
        .expect_code(2)
        .expect_stderr(&["--header is for http and https URLs only"]);
    assert!(server.commands().is_empty(), "{:?}", server.commands());
}

#[test]
fn nobody_is_redirected_to_ftp() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let ftp = ScriptedFtp::start([Script::serving("x")]);
    server.serve("/a", Reply::redirect(302, ftp.url("/a")));
    sandbox
        .static_url("x", &server.url("/a"), "a")
        .run()
        .expect_code(3)
        .expect_stderr(&["to a `ftp:` URL, which is not http or https"]);
    assert!(ftp.commands().is_empty());
}

#[test]
fn proxies_are_not_for_ftp() {
    let (sandbox, server) = (Sandbox::new(), ScriptedFtp::start([Script::serving("x")]));
    let proxy = Proxy::start(Manner::Open);
    sandbox
        .static_url("x", &server.url("/a"), "a")
        .env("http_proxy", proxy.url(""))
        .env("all_proxy", proxy.url(""))
        .run()
        .expect_code(0);
    assert!(proxy.asked().is_empty());
}

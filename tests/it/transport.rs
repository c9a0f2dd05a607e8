//! What is below HTTP: TLS, proxies, address families.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::acceptor::Acceptor;
use crate::support::archives::noise;
use crate::support::nginx::{Nginx, Site};
use crate::support::proxy::{Manner, Proxy};
use crate::support::sandbox::{Invocation, Outcome, Sandbox};
use crate::support::server::{Reply, Server, refused_address};
use crate::support::tls::{Authority, Ending, Identity, TlsFront};

/// Longer than any of these runs should take.
const SOON: Duration = Duration::from_secs(5);

/// A server behind TLS at 127.0.0.1, and its authority.
struct Secure {
    server: Server,
    front: TlsFront,
    sandbox: Sandbox,
    authority: Authority,
}

impl Secure {
    fn start(ending: Ending) -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&["127.0.0.1"]);
        Self::with(authority, &identity, ending)
    }

    fn with(authority: Authority, identity: &Identity, ending: Ending) -> Self {
        let (server, sandbox) = (Server::start(), Sandbox::new());
        let front = TlsFront::start(&server, identity, ending);
        Self {
            server,
            front,
            sandbox,
            authority,
        }
    }

    /// A run of `static-url` for `/a` that trusts the authority.
    fn get(&self, content: &[u8]) -> Invocation<'_> {
        let ca = self.sandbox.write("ca.pem", self.authority.pem());
        self.get_untrusting(content).env("SSL_CERT_FILE", ca)
    }

    fn get_untrusting(&self, content: &[u8]) -> Invocation<'_> {
        self.sandbox
            .static_url(content, &self.front.url("/a"), "out/a")
    }

    /// Expects that a certificate is refused at once, for this reason.
    fn expect_refused(&self, run: Invocation, parts: &[&str]) -> Outcome {
        self.server.serve("/a", Reply::ok("x"));
        let outcome = run.run().expect_code(3).expect_within(SOON);
        let outcome = outcome
            .expect_stderr(parts)
            .expect_not_in_stderr(&["retry 1"]);
        assert_eq!(self.front.connections(), 1, "{outcome:?}");
        assert!(self.server.requests().is_empty(), "{outcome:?}");
        outcome
    }
}

#[test]
fn certificates_are_trusted_by_file_and_by_directory() {
    let secure = Secure::start(Ending::Orderly);
    secure.server.serve("/a", Reply::ok("x"));
    secure.get(b"x").run().expect_code(0);
    let other = Authority::new();
    let sandbox = &secure.sandbox;
    let directory = sandbox.path("certificates");
    sandbox.write("certificates/other.pem", other.pem());
    // Directories are read by the names OpenSSL gives: eight hex digits and a number.
    sandbox.write("certificates/0123abcd.0", secure.authority.pem());
    secure
        .get_untrusting(b"x")
        .env("SSL_CERT_DIR", &directory)
        .run()
        .expect_code(0);
    assert_eq!(secure.server.count("/a"), 2);
}

#[test]
fn a_certificate_of_nobody_known_is_refused_at_once() {
    let secure = Secure::start(Ending::Orderly);
    let hint = "hint: put the certificate of the authority that signed it";
    let outcome = secure.expect_refused(
        secure.get_untrusting(b"x"),
        &["signed by nobody trusted", hint, "SSL_CERT_FILE"],
    );
    assert_eq!(outcome.lines("error:").len(), 1, "{outcome:?}");
}

#[test]
fn a_certificate_for_another_name_is_refused_at_once() {
    let authority = Authority::new();
    let identity = authority.issue(&["other.example", "mirror.example"]);
    let secure = Secure::with(authority, &identity, Ending::Orderly);
    secure
        .expect_refused(
            secure.get(b"x"),
            &["is for other.example, mirror.example", "not for 127.0.0.1"],
        )
        .expect_not_in_stderr(&["SSL_CERT_FILE"]);
}

#[test]
fn a_certificate_out_of_its_time_is_refused_at_once() {
    for (from, to, words) in [
        ((2020, 1, 1), (2020, 2, 1), "expired on Sat, 01 Feb 2020"),
        (
            (2090, 1, 1),
            (2099, 1, 1),
            "is not valid before Sun, 01 Jan 2090",
        ),
    ] {
        let authority = Authority::new();
        let identity = authority.issue_between(&["127.0.0.1"], from, to);
        let secure = Secure::with(authority, &identity, Ending::Orderly);
        secure
            .expect_refused(secure.get(b"x"), &[words, "check the clock"])
            .expect_not_in_stderr(&["SSL_CERT_FILE"]);
    }
}

#[test]
fn certificates_that_cannot_be_read_are_told() {
    let secure = Secure::start(Ending::Orderly);
    let nowhere = secure.sandbox.path("nowhere.pem");
    let run = secure.get_untrusting(b"x").env("SSL_CERT_FILE", &nowhere);
    secure.expect_refused(run, &["signed by nobody trusted", "[TMP]/nowhere.pem"]);
}

#[test]
fn faults_are_retried_over_tls_too() {
    let content = noise(50_000, 9);
    for ending in [Ending::Orderly, Ending::Cut] {
        let whole = || Reply::ok(&content);
        for (what, first) in [
            ("closed", Reply::close_before_response()),
            ("reset", Reply::reset_before_response()),
            ("cut", whole().cut_after(30_000)),
            ("cut before the last byte", whole().cut_after(49_999)),
            ("reset in the body", whole().reset_after(30_000)),
            ("truncated chunks", whole().chunked().cut_after(30_000)),
            ("stalled", whole().stall_after(30_000)),
        ] {
            let secure = Secure::start(ending);
            secure
                .server
                .serve_in_turn("/a", [first, Reply::ok(&content)]);
            let outcome = secure
                .get(&content)
                .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "500")
                .run()
                .expect_code(0)
                .expect_within(SOON);
            let retries = outcome.lines("[a] retry").len();
            assert_eq!(retries, 1, "{what}, {ending:?}: {outcome:?}");
            assert!(secure.sandbox.read("out/a") == content, "{outcome:?}");
        }
    }
}

#[test]
fn the_end_of_a_body_of_unknown_length_must_be_authentic() {
    let content = noise(50_000, 9);
    let digest = crate::support::archives::sha256_hex(&content);
    for (ending, code) in [(Ending::Orderly, 0), (Ending::Cut, 3)] {
        let secure = Secure::start(ending);
        // Whole, as far as its digest says; but the end is not signed.
        secure
            .server
            .serve("/a", Reply::ok(&content).without_length());
        let ca = secure.sandbox.write("ca.pem", secure.authority.pem());
        let outcome = secure
            .sandbox
            .binary()
            .args(["static-url", "--sha256", &digest, "--size", "0"])
            .args([&secure.front.url("/a"), "out"])
            .env("SSL_CERT_FILE", &ca)
            .env("FETCH_CONTENT_ATTEMPTS", "2")
            .run()
            .expect_code(code);
        let retries = outcome.lines("[a] retry").len();
        assert_eq!(retries, usize::from(ending == Ending::Cut), "{outcome:?}");
    }
}

#[test]
fn a_handshake_that_hangs_runs_into_the_connect_timeout() {
    let (sandbox, silent) = (Sandbox::new(), Acceptor::silent());
    let outcome = sandbox
        .static_url("x", &format!("https://{}/a", silent.address()), "a")
        .env("FETCH_CONTENT_CONNECT_TIMEOUT_MS", "300")
        .env("FETCH_CONTENT_ATTEMPTS", "2")
        .run()
        .expect_code(3)
        .expect_within(SOON)
        .expect_stderr(&["no connection within the time", "CONNECT_TIMEOUT_MS"]);
    assert_eq!(silent.accepted(), 2, "{outcome:?}");
    sandbox.assert_empty(&outcome);
}

#[test]
fn a_server_without_tls_is_told() {
    let sandbox = Sandbox::new();
    let chatty = Acceptor::start(|mut stream| async move {
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await?;
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    });
    sandbox
        .static_url("x", &format!("https://{}/a", chatty.address()), "a")
        .env("FETCH_CONTENT_ATTEMPTS", "2")
        .run()
        .expect_code(3)
        .expect_stderr(&["the server does not speak TLS at this port"]);
}

#[test]
fn a_server_that_never_speaks_runs_into_the_stall_timeout() {
    let (sandbox, silent) = (Sandbox::new(), Acceptor::silent());
    let outcome = sandbox
        .static_url("x", &format!("http://{}/a", silent.address()), "a")
        .env("FETCH_CONTENT_STALL_TIMEOUT_MS", "300")
        .env("FETCH_CONTENT_ATTEMPTS", "2")
        .run()
        .expect_code(3)
        .expect_within(SOON)
        .expect_stderr(&["sent nothing for 300ms"]);
    assert_eq!(silent.accepted(), 2, "{outcome:?}");
    sandbox.assert_empty(&outcome);
}

#[test]
fn nginx_serves_with_and_without_tls() {
    let content = noise(300_000, 4);
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"]);
    let site = Site {
        files: &[("a", &content)],
        identity: Some(&identity),
        ..Site::default()
    };
    let Some(nginx) = Nginx::start("nginx_serves_with_and_without_tls", &site) else {
        return;
    };
    let sandbox = Sandbox::new();
    let ca = sandbox.write("ca.pem", authority.pem());
    for url in [nginx.url("/a"), nginx.tls_url("/a")] {
        sandbox
            .static_url(&content, &url, "out")
            .env("SSL_CERT_FILE", &ca)
            .run()
            .expect_code(0);
    }
    assert_eq!(nginx.bytes_sent(2), 600_000, "{:?}", nginx.served(2));
    assert!(nginx.served(2).iter().all(|served| served.status == 200));
}

/// A scripted server that can only be reached through a proxy: its name does not exist.
const NOWHERE: &str = "server.invalid";

#[test]
fn http_goes_through_the_proxy() {
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let proxy = Proxy::start(Manner::Open);
        server.serve("/a", Reply::ok("x"));
        let outcome = sandbox
            .static_url("x", &server.url("/a"), "a")
            .env(variable, proxy.url(""))
            .run()
            .expect_code(0);
        let [asked] = &proxy.asked()[..] else {
            panic!("{variable}: {:?} {outcome:?}", proxy.asked());
        };
        assert_eq!(
            (&*asked.method, &*asked.target),
            ("GET", &*server.url("/a"))
        );
        assert_eq!(server.count("/a"), 1);
    }
}

#[test]
fn https_goes_through_a_tunnel() {
    for variable in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        let secure = Secure::start(Ending::Orderly);
        let proxy = Proxy::start(Manner::Open);
        secure.server.serve("/a", Reply::ok("x"));
        secure
            .get(b"x")
            .env(variable, proxy.url(""))
            .run()
            .expect_code(0);
        let [asked] = &proxy.asked()[..] else {
            panic!("{variable}: {:?}", proxy.asked());
        };
        let address = secure.front.address().to_string();
        assert_eq!((&*asked.method, &*asked.target), ("CONNECT", &*address));
    }
}

#[test]
fn the_proxy_resolves_names() {
    let (sandbox, proxy) = (Sandbox::new(), Proxy::start(Manner::Refusing(404)));
    let url = format!("http://{NOWHERE}/a");
    sandbox
        .static_url("x", &url, "a")
        .env("http_proxy", proxy.url(""))
        .run()
        .expect_code(3)
        .expect_stderr(&["404"]);
    assert_eq!(proxy.asked()[0].target, url);
}

#[test]
fn no_proxy_names_what_is_reached_directly() {
    for (variable, value, direct) in [
        ("no_proxy", "127.0.0.1", true),
        ("NO_PROXY", "example.com,127.0.0.0/8", true),
        ("no_proxy", "*", true),
        ("no_proxy", "example.com", false),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let proxy = Proxy::start(Manner::Open);
        server.serve("/a", Reply::ok("x"));
        sandbox
            .static_url("x", &server.url("/a"), "a")
            .env("http_proxy", proxy.url(""))
            .env(variable, value)
            .run()
            .expect_code(0);
        let asked = proxy.asked().len();
        assert_eq!(asked, usize::from(!direct), "{variable}={value}");
        assert_eq!(server.count("/a"), 1);
    }
}

#[test]
fn credentials_of_a_proxy_are_for_the_proxy_only() {
    // In base64: user:s3cret
    let credentials = "Basic dXNlcjpzM2NyZXQ=";
    let secure = Secure::start(Ending::Orderly);
    let proxy = Proxy::start(Manner::Demanding(credentials.into()));
    secure.server.serve("/a", Reply::ok("x"));
    let plain = secure.server.url("/a");
    let proxy_url = proxy.url("user:s3cret@");
    let runs = [
        secure.get(b"x"),
        secure.sandbox.static_url("x", &plain, "b"),
    ];
    for run in runs {
        run.env("http_proxy", &proxy_url)
            .env("https_proxy", &proxy_url)
            .run()
            .expect_code(0)
            .expect_not_in_stderr(&["s3cret", "dXNlcjpzM2NyZXQ", "user:"]);
    }
    let asked = proxy.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for asked in &asked {
        assert_eq!(asked.header("proxy-authorization"), Some(credentials));
    }
    for seen in secure.server.requests() {
        assert_eq!(seen.header("proxy-authorization"), None);
        assert_eq!(seen.header("authorization"), None);
    }
}

#[test]
fn a_proxy_that_wants_other_credentials_is_an_error_at_once() {
    let secure = Secure::start(Ending::Orderly);
    let plain = secure.server.url("/a");
    let cases = [
        (secure.get(b"x"), "https_proxy"),
        (secure.sandbox.static_url("x", &plain, "b"), "http_proxy"),
    ];
    for (run, variable) in cases {
        let proxy = Proxy::start(Manner::Demanding("Basic else".into()));
        let words = format!("the proxy wants other credentials: set {variable} to ");
        let outcome = run
            .env(variable, proxy.url("user:s3cret@"))
            .run()
            .expect_code(3)
            .expect_within(SOON)
            .expect_stderr(&[&words])
            .expect_not_in_stderr(&["s3cret", "retry 1"]);
        assert_eq!(proxy.asked().len(), 1, "{outcome:?}");
    }
}

#[test]
fn a_proxy_that_cannot_connect_is_asked_again() {
    let secure = Secure::start(Ending::Orderly);
    let proxy = Proxy::start(Manner::Refusing(502));
    let outcome = secure
        .get(b"x")
        .env("https_proxy", proxy.url("user:s3cret@"))
        .env("FETCH_CONTENT_ATTEMPTS", "3")
        .run()
        .expect_code(3)
        .expect_stderr(&["the proxy of https_proxy did not connect to the server"])
        .expect_not_in_stderr(&["s3cret"]);
    assert_eq!(proxy.asked().len(), 3, "{outcome:?}");
    assert_eq!(secure.front.connections(), 0, "{outcome:?}");
}

#[test]
fn a_proxy_that_is_not_there_is_an_error_without_its_credentials() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let proxy = format!("http://user:s3cret@{}", refused_address());
    for url in [server.url("/a"), format!("https://{}/a", server.address())] {
        sandbox
            .static_url("x", &url, "a")
            .env("http_proxy", &proxy)
            .env("https_proxy", &proxy)
            .env("FETCH_CONTENT_ATTEMPTS", "2")
            .run()
            .expect_code(3)
            .expect_stderr(&["refused"])
            .expect_not_in_stderr(&["s3cret"]);
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_proxy_that_is_no_url_is_not_taken_for_none() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok("x"));
    for proxy in ["http://user:s3cret@[::1", "ftp://user:s3cret@127.0.0.1:1"] {
        sandbox
            .static_url("x", &server.url("/a"), "a")
            .env("http_proxy", proxy)
            .run()
            .expect_code(2)
            .expect_stderr(&["error: http_proxy is not the URL of a proxy", "hint: set"])
            .expect_not_in_stderr(&["s3cret"]);
    }
    assert!(server.requests().is_empty());
}

#[test]
fn lower_case_variables_of_proxies_win_unless_empty() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let (lower, upper) = (Proxy::start(Manner::Open), Proxy::start(Manner::Open));
    server.serve("/a", Reply::ok("x"));
    for (value, asked) in [(lower.url(""), [1, 0]), (String::new(), [1, 1])] {
        sandbox
            .static_url("x", &server.url("/a"), "a")
            .env("http_proxy", value)
            .env("HTTP_PROXY", upper.url(""))
            .run()
            .expect_code(0);
        assert_eq!([lower.asked().len(), upper.asked().len()], asked);
    }
}

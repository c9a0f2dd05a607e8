//! From names to connections: name servers that fail, hosts with addresses of both families, addresses that hang.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::ftp::{Script, ScriptedFtp};
use crate::support::name_server::{Answers, NameServer};
use crate::support::namespace;
use crate::support::sandbox::{Sandbox, wait_until};
use crate::support::server::{Reply, Server};
use crate::support::skip::skip;

/// How long name servers misbehave.
const OUTAGE: Duration = Duration::from_secs(3);

/// A time-out of the system's resolver that no test waits for.
const PATIENT: &str = "timeout:30 attempts:1";

/// The URL of `/a` on a server, by another name for its host.
fn url(host: &str, server: &Server) -> String {
    format!("http://{host}:{}/a", server.address().port())
}

/// Whether there is IPv6 here; if not, reports the test as skipped.
fn have_ipv6(test: &str) -> bool {
    let have = TcpListener::bind("[::1]:0").is_ok();
    if !have {
        skip(test, "there is no IPv6");
    }
    have
}

#[test]
fn addresses_of_ipv6_are_hosts() {
    if !have_ipv6("names::addresses_of_ipv6_are_hosts") {
        return;
    }
    let (sandbox, server) = (Sandbox::new(), Server::start_on("[::1]:0"));
    server.serve("/a", Reply::ok("x"));
    let url = url("[::1]", &server);
    sandbox
        .static_url("x", &url, "a")
        .run()
        .expect_code(0)
        .expect_stderr(&[&url]);
    assert_eq!(
        server.requests()[0].header("host"),
        Some(&*server.address().to_string())
    );
}

#[test]
fn a_host_of_both_families_is_reached_by_either() {
    let test = "names::a_host_of_both_families_is_reached_by_either";
    if !namespace::inside(test, "") || !have_ipv6(test) {
        return;
    }
    for address in ["127.0.0.1:0", "[::1]:0"] {
        for host in ["both.test", "localhost"] {
            let (sandbox, server) = (Sandbox::new(), Server::start_on(address));
            server.serve("/a", Reply::ok("x"));
            sandbox
                .static_url("x", &url(host, &server), "a")
                .run()
                .expect_code(0)
                .expect_not_in_stderr(&["retry"])
                .expect_within(Duration::from_secs(2));
        }
    }
}

/// Makes connections to a listener until it takes no more: the next one hangs.
fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        held.push(stream);
        assert!(held.len() < 10_000, "{address} takes everybody");
    }
    held
}

#[test]
fn an_address_that_hangs_does_not_hold_up_the_other_family() {
    let test = "names::an_address_that_hangs_does_not_hold_up_the_other_family";
    if !namespace::inside(test, "") || !have_ipv6(test) {
        return;
    }
    for (hanging, serving) in [("[::1]", "127.0.0.1"), ("127.0.0.1", "[::1]")] {
        let sandbox = Sandbox::new();
        let listener = TcpListener::bind(format!("{hanging}:0")).expect("bind to an address");
        let address = listener.local_addr().expect("address of the listener");
        let _held = fill(address);
        let server = Server::start_on(&format!("{serving}:{}", address.port()));
        server.serve("/a", Reply::ok("x"));
        sandbox
            .static_url("x", &url("both.test", &server), "a")
            .run()
            .expect_code(0)
            .expect_not_in_stderr(&["retry"])
            .expect_within(Duration::from_secs(2));
    }
}

#[test]
fn an_address_that_hangs_does_not_hold_up_ftp() {
    let test = "names::an_address_that_hangs_does_not_hold_up_ftp";
    if !namespace::inside(test, "") || !have_ipv6(test) {
        return;
    }
    let listener = TcpListener::bind("[::1]:0").expect("bind to an address");
    let address = listener.local_addr().expect("address of the listener");
    let _held = fill(address);
    let script = Script::serving("x");
    let _server = ScriptedFtp::start_on(&format!("127.0.0.1:{}", address.port()), [script]);
    Sandbox::new()
        .static_url("x", &format!("ftp://both.test:{}/a", address.port()), "a")
        .run()
        .expect_code(0)
        .expect_not_in_stderr(&["retry"])
        .expect_within(Duration::from_secs(2));
}

#[test]
fn a_name_that_does_not_exist_is_told() {
    let test = "names::a_name_that_does_not_exist_is_told";
    if !namespace::inside(test, PATIENT) {
        return;
    }
    let names = NameServer::start(Answers::NoSuchName, Duration::MAX);
    for scheme in ["http", "https", "ftp"] {
        let url = format!("{scheme}://does-not-exist.invalid/a");
        let sandbox = Sandbox::new();
        let outcome = sandbox
            .static_url("x", &url, "a")
            .env("FETCH_CONTENT_ATTEMPTS", "1")
            .run()
            .expect_code(3);
        let expected = format!(
            "error: cannot fetch {url}\n  caused by: cannot download {url}\n  \
             caused by: cannot resolve does-not-exist.invalid: Name or service not known"
        );
        assert_eq!(outcome.error(), expected, "{outcome:?}");
    }
    assert!(names.asked() > 0);
}

#[test]
fn a_name_server_that_fails_is_asked_again() {
    let test = "names::a_name_server_that_fails_is_asked_again";
    if !namespace::inside(test, PATIENT) {
        return;
    }
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok("x"));
    let _names = NameServer::start(Answers::Failure, OUTAGE);
    let outcome = sandbox
        .static_url("x", &url("server.example", &server), "a")
        .env_remove("FETCH_CONTENT_ATTEMPTS")
        .env_remove("FETCH_CONTENT_RETRY_BASE_MS")
        .run()
        .expect_code(0)
        .expect_stderr(&["cannot resolve server.example: Temporary failure in name resolution"])
        .expect_within(OUTAGE * 2 + Duration::from_millis(500));
    assert!(outcome.elapsed > OUTAGE / 2, "{outcome:?}");
}

#[test]
fn a_name_server_that_is_silent_for_a_while_costs_no_more_than_that() {
    let test = "names::a_name_server_that_is_silent_for_a_while_costs_no_more_than_that";
    if !namespace::inside(test, PATIENT) {
        return;
    }
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/a", Reply::ok("x"));
    let names = NameServer::start(Answers::Silence, OUTAGE);
    sandbox
        .static_url("x", &url("server.example", &server), "a")
        .run()
        .expect_code(0)
        .expect_not_in_stderr(&["retry"])
        .expect_within(OUTAGE + Duration::from_secs(2));
    assert!(names.asked() > 2, "{}", names.asked());
}

#[test]
fn a_name_server_that_hangs_runs_into_the_connect_timeout() {
    let test = "names::a_name_server_that_hangs_runs_into_the_connect_timeout";
    if !namespace::inside(test, PATIENT) {
        return;
    }
    let _names = NameServer::start(Answers::Silence, Duration::MAX);
    let sandbox = Sandbox::new();
    sandbox
        .static_url("x", "http://server.example/a", "a")
        .env("FETCH_CONTENT_CONNECT_TIMEOUT_MS", "300")
        .env("FETCH_CONTENT_ATTEMPTS", "2")
        .run()
        .expect_code(3)
        .expect_stderr(&["no connection within the time"])
        .expect_within(Duration::from_secs(3));
}

#[test]
fn a_signal_ends_a_run_whose_name_server_hangs() {
    let test = "names::a_signal_ends_a_run_whose_name_server_hangs";
    if !namespace::inside(test, PATIENT) {
        return;
    }
    let names = NameServer::start(Answers::Silence, Duration::MAX);
    let sandbox = Sandbox::new();
    let running = sandbox
        .static_url("x", "http://server.example/a", "a")
        .spawn();
    wait_until("a question", || names.asked() > 0);
    let signalled = std::time::Instant::now();
    running.signal(Signal::INT);
    let outcome = running.finish().expect_code(130);
    let took = signalled.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?} {outcome:?}");
    sandbox.assert_empty(&outcome);
}

//! HTTP/2, as nginx speaks it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::archives::noise;
use crate::support::nginx::{Nginx, Served, Site};
use crate::support::sandbox::{Outcome, Sandbox, TASK_A};
use crate::support::tls::Authority;

/// Fetches these files as public artifacts of `TASK_A` over TLS; returns what nginx has served. `None` without nginx.
fn fetch_all(
    test: &str,
    files: &[(&str, &[u8])],
    directives: &str,
) -> Option<(Outcome, Vec<Served>)> {
    let (sandbox, authority) = (Sandbox::new(), Authority::new());
    let identity = authority.issue(&["127.0.0.1"]);
    let rewrite = "rewrite ^/api/queue/v1/task/[^/]+/artifacts/public/(.*)$ /$1;";
    let site = Site {
        files,
        identity: Some(&identity),
        directives: &format!("{rewrite} {directives}"),
        ..Site::default()
    };
    let nginx = Nginx::start(test, &site)?;
    let entry = |name: &str| json!({"task": TASK_A, "artifact": format!("public/{name}"), "extract": false});
    let fetches: Value = files.iter().map(|(name, _)| entry(name)).collect();
    let outcome = sandbox
        .binary()
        .args(["task-artifacts"])
        .env("MOZ_FETCHES", fetches.to_string())
        .env("MOZ_FETCHES_DIR", sandbox.fetches())
        .env("TASKCLUSTER_ROOT_URL", nginx.tls_url(""))
        .env("SSL_CERT_FILE", sandbox.write("ca.pem", authority.pem()))
        .run()
        .expect_code(0)
        .expect_not_in_stderr(&["retry"]);
    for (name, content) in files {
        assert!(
            sandbox.read(&format!("fetches/{name}")) == *content,
            "{outcome:?}"
        );
    }
    Some((outcome, nginx.served(files.len())))
}

#[test]
fn many_artifacts_share_a_connection() {
    let names: Vec<String> = (0..40).map(|number| format!("a{number}")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), name.as_bytes()))
        .collect();
    let Some((outcome, served)) = fetch_all("many_artifacts_share_a_connection", &files, "") else {
        return;
    };
    assert!(
        served.iter().all(|served| served.protocol == "HTTP/2.0"),
        "{outcome:?}"
    );
    let mut connections: Vec<u64> = served.iter().map(|served| served.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    // Requests that begin before the first connection is there each try one of their own.
    assert!(connections.len() <= 16, "{connections:?}");
}

#[test]
fn answers_that_wait_for_their_turn_do_not_hold_up_the_others() {
    // More than one connection may bring before it is read. Without ranges there is no other way around.
    let content = noise(6_000_000, 1);
    let names: Vec<String> = (0..16).map(|number| format!("a{number}")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), &content[..]))
        .collect();
    let test = "answers_that_wait_for_their_turn_do_not_hold_up_the_others";
    let Some((outcome, _)) = fetch_all(test, &files, "max_ranges 0;") else {
        return;
    };
    outcome.expect_within(Duration::from_secs(30));
}

#[test]
fn parts_do_not_share_a_connection() {
    // A limit per connection would be one for all of them.
    let content = noise(12_000_000, 2);
    let files: [(&str, &[u8]); 1] = [("a", &content)];
    let test = "parts_do_not_share_a_connection";
    let Some((outcome, served)) = fetch_all(test, &files, "limit_rate 3m;") else {
        return;
    };
    let parts: Vec<&Served> = served
        .iter()
        .filter(|served| served.range.is_some())
        .collect();
    assert!(!parts.is_empty(), "{served:?} {outcome:?}");
    assert!(
        parts.iter().all(|part| part.protocol == "HTTP/1.1"),
        "{served:?}"
    );
}

//! The library's calls to a deployment that no subcommand is needed for: the index, task definitions and their creation.

use std::sync::Arc;
use std::time::Duration;

use fetch_content::Error;
use fetch_content::http::{Client, RetryPolicy, Settings};
use fetch_content::task::{Deployment, Queue, TaskId};
use serde_json::{Value, json};

use crate::support::sandbox::{TASK_A, TASK_B};
use crate::support::server::{Reply, Seen, Server};

const INDEXES: &str = "/api/index/v1/tasks/indexes";

/// The deployment at `server`, with another server as its proxy if there is one.
fn deployment(server: &Server, proxy: Option<&Server>) -> Deployment {
    let proxy = proxy.map(Server::root);
    let queue = Queue::new(&server.root(), proxy.as_deref(), None).expect("a queue");
    let retry = RetryPolicy {
        attempts: 3,
        base: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    let client = Client::new(Settings::default()).expect("a client");
    Deployment::new(queue, client, retry, Arc::new(()))
}

fn indexed(namespace: &str, task: &str, expires: &str) -> Value {
    json!({"namespace": namespace, "taskId": task, "rank": 0, "data": {}, "expires": expires})
}

fn status(task: &str) -> Reply {
    let expires = "2040-01-01T00:00:00.000Z";
    Reply::ok(
        json!({"status": {"taskId": task, "state": "pending", "expires": expires}}).to_string(),
    )
}

fn told(err: &Error) -> String {
    let mut text = err.to_string();
    let mut cause: &dyn std::error::Error = err;
    while let Some(source) = cause.source() {
        text = format!("{text}: {source}");
        cause = source;
    }
    text
}

#[tokio::test]
async fn a_namespace_leads_to_a_task_or_nowhere() {
    let server = Server::start();
    let found = indexed("a.b%c.d", TASK_A, "2040-01-01T00:00:00.000Z").to_string();
    let replies = [Reply::status(503), Reply::ok(found)];
    server.serve_in_turn("/api/index/v1/task/a.b%25c.d", replies);
    let deployment = deployment(&server, None);
    let found = deployment.find_task("a.b%c.d").await.expect("an answer");
    let found = found.expect("a task");
    assert_eq!(found.task_id.to_string(), TASK_A);
    assert_eq!(found.expires.timestamp(), 2_208_988_800);
    assert_eq!(
        deployment.find_task("a.nothing").await.expect("an answer"),
        None
    );

    let refusal = Reply::api_error(400, "InputError", "too long");
    server.serve("/api/index/v1/task/a.bad", refusal);
    let err = deployment.find_task("a.bad").await.expect_err("a refusal");
    let text = told(&err);
    assert!(
        text.starts_with("cannot look up a.bad in the index: http://"),
        "{text}"
    );
    assert!(
        text.ends_with("answered 400 Bad Request: too long"),
        "{text}"
    );
}

/// Answers for the namespaces `n.<number>` below 1500, of which every third has expired, in pages.
fn many(seen: &Seen) -> Reply {
    let asked: Value = serde_json::from_slice(&seen.body).expect("JSON");
    let asked = asked["indexes"].as_array().expect("a list");
    assert!(seen.method == "POST" && asked.len() <= 1000, "{seen:?}");
    let known = asked.iter().filter_map(|namespace| {
        let namespace = namespace.as_str()?;
        let number: usize = namespace.strip_prefix("n.")?.parse().ok()?;
        let year = if number.is_multiple_of(3) { 2020 } else { 2040 };
        let expires = format!("{year}-01-01T00:00:00.000Z");
        (number < 1500).then(|| indexed(namespace, TASK_A, &expires))
    });
    let known: Vec<Value> = known.collect();
    let page = seen.path.split_once("?continuationToken=");
    let page: usize = page.map_or(0, |(_, token)| {
        token.trim_start_matches("t%2F").parse().expect("a token")
    });
    let mut answer = json!({"tasks": known.iter().skip(page * 400).take(400).collect::<Vec<_>>()});
    if known.len() > (page + 1) * 400 {
        answer["continuationToken"] = format!("t/{}", page + 1).into();
    }
    Reply::ok(answer.to_string())
}

#[tokio::test]
async fn many_namespaces_take_few_requests() {
    let server = Server::start();
    server.serve_by(INDEXES, many);
    let namespaces: Vec<String> = (0..1600).map(|n| format!("n.{n}")).collect();
    let found = deployment(&server, None).find_tasks(&namespaces).await;
    let found = found.expect("an answer");
    assert_eq!(found.len(), 1000);
    assert!(found.contains_key("n.1") && !found.contains_key("n.3"));
    // Three pages of the first 1000, two of the others.
    assert_eq!(server.requests().len(), 5, "{:?}", server.paths());
    assert!(
        deployment(&server, None)
            .find_tasks(&[])
            .await
            .expect("an answer")
            .is_empty()
    );
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn where_one_cannot_ask_for_many_each_is_asked_for() {
    let nothing = Reply::ok(json!({"tasks": []}).to_string());
    for bulk in [
        Reply::status(404),
        Reply::status(405),
        Reply::api_error(403, "InsufficientScopes", "index:list-tasks:indexes"),
        nothing,
    ] {
        let server = Server::start();
        server.serve(INDEXES, bulk);
        for name in ["a.one", "a.two"] {
            let found = indexed(name, TASK_B, "2040-01-01T00:00:00.000Z");
            server.serve(
                &format!("/api/index/v1/task/{name}"),
                Reply::ok(found.to_string()),
            );
        }
        let namespaces = ["a.one", "a.two", "a.three"].map(str::to_owned);
        let found = deployment(&server, None).find_tasks(&namespaces).await;
        let mut found: Vec<String> = found.expect("an answer").into_keys().collect();
        found.sort();
        assert_eq!(found, ["a.one", "a.two"]);
    }
}

#[tokio::test]
async fn an_index_that_fails_is_no_empty_index() {
    let server = Server::start();
    server.serve(INDEXES, Reply::status(500));
    let namespaces = ["a.one".to_owned()];
    let err = deployment(&server, None).find_tasks(&namespaces).await;
    let text = told(&err.expect_err("a failure"));
    assert!(
        text.starts_with("cannot look up tasks in the index: gave up after 3"),
        "{text}"
    );
    // Nor one whose answer never ends.
    let endless = indexed("a.one", TASK_A, "2040-01-01T00:00:00.000Z");
    let endless = json!({"tasks": [endless], "continuationToken": "again"}).to_string();
    server.serve_by(INDEXES, move |_| Reply::ok(endless.clone()));
    let found = deployment(&server, None).find_tasks(&namespaces).await;
    assert_eq!(found.expect("an answer").len(), 1);
}

#[tokio::test]
async fn tasks_are_read_without_credentials_first() {
    let (server, proxy) = (Server::start(), Server::start());
    let (task, path) = (
        TASK_A.parse::<TaskId>().expect("an id"),
        format!("/api/queue/v1/task/{TASK_A}"),
    );
    let definition = json!({"payload": {"env": {"MOZ_FETCHES": "[]"}}});
    server.serve(&path, Reply::ok(definition.to_string()));
    server.serve(
        &format!("{path}/status"),
        Reply::api_error(403, "InsufficientScopes", "no"),
    );
    proxy.serve(&format!("{path}/status"), status(TASK_A));
    let deployment = deployment(&server, Some(&proxy));
    assert_eq!(deployment.task(&task).await.expect("a task"), definition);
    assert!(proxy.requests().is_empty());
    let status = deployment.task_status(&task).await.expect("a status");
    assert_eq!(
        (status.state.as_str(), proxy.requests().len()),
        ("pending", 1)
    );

    let unknown = TASK_B.parse().expect("an id");
    let text = told(&deployment.task(&unknown).await.expect_err("no task"));
    let expected = format!("cannot read the definition of task {TASK_B}: ");
    assert!(text.starts_with(&expected), "{text}");
}

#[tokio::test]
async fn a_task_is_created_through_the_proxy_and_once() {
    let (server, proxy) = (Server::start(), Server::start());
    let task = TaskId::random().expect("an id");
    let path = format!("/api/queue/v1/task/{task}");
    let replies = [
        Reply::close_before_response(),
        Reply::status(500),
        status(&task.to_string()),
    ];
    proxy.serve_in_turn(&path, replies);
    let definition = json!({"provisionerId": "p", "payload": {}});
    let deployment = deployment(&server, Some(&proxy));
    let created = deployment.create_task(&task, &definition).await;
    assert_eq!(created.expect("a task").task_id, task);
    assert!(server.requests().is_empty());
    let seen = proxy.requests();
    assert_eq!(seen.len(), 3);
    for seen in seen {
        assert_eq!(
            (seen.method.as_str(), seen.header("authorization")),
            ("PUT", None)
        );
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(body, definition);
    }

    let conflict = Reply::api_error(409, "RequestConflict", "task exists with other properties");
    proxy.serve(&path, conflict);
    let err = deployment.create_task(&task, &definition).await;
    let text = told(&err.expect_err("a conflict"));
    let expected = format!("cannot create task {task}: ");
    assert!(
        text.starts_with(&expected) && text.contains("409"),
        "{text}"
    );
}

#[tokio::test]
async fn without_credentials_no_task_is_created() {
    let server = Server::start();
    let task = TaskId::random().expect("an id");
    let err = deployment(&server, None)
        .create_task(&task, &json!({}))
        .await;
    let err = err.expect_err("no way");
    assert!(matches!(err, Error::Usage { .. }), "{err}");
    assert!(server.requests().is_empty());
}

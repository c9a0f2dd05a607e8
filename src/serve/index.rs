//! The Index: namespaces that lead to tasks.

use crate::{
    serve::{
        Call, Parameters, Refusal, Shared, namespace_of,
        page::Page,
        queue::{alive, redirect, with_token},
    },
    store::{IndexEntry, Indexed, Namespace},
};
use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Namespaces of one request, at most.
const MOST: usize = 1000;

type Answer = Result<Response, Refusal>;

pub(super) fn routes() -> Router<Shared> {
    let list_tasks = || get(list_tasks).post(list_tasks);
    let list_namespaces = || get(list_namespaces).post(list_namespaces);
    Router::new()
        .route("/ping", get(alive))
        .route("/__heartbeat__", get(alive))
        .route("/__lbheartbeat__", get(alive))
        .route("/task/{namespace}", get(find_task).put(insert_task))
        .route("/task/{namespace}/artifacts/{*name}", get(find_artifact))
        .route("/tasks/indexes", post(find_tasks))
        .route("/tasks", list_tasks())
        .route("/tasks/", list_tasks())
        .route("/tasks/{namespace}", list_tasks())
        .route("/namespaces", list_namespaces())
        .route("/namespaces/", list_namespaces())
        .route("/namespaces/{namespace}", list_namespaces())
}

/// Returns the entry that a path names.
async fn found(shared: &Shared, call: &Call, parameters: &Parameters) -> Result<Indexed, Refusal> {
    let namespace = namespace_of(call, parameters)?;
    let entry = shared.store.find(&namespace).await;
    let entry = entry.map_err(|err| call.failed(shared, &err))?;
    let entry = entry.ok_or_else(|| call.not_found("Indexed task not found"))?;
    Ok(Indexed { namespace, entry })
}

async fn find_task(State(shared): State<Shared>, Path(parameters): Path<Parameters>) -> Answer {
    let call = Call::new("findTask", &parameters);
    Ok(Json(found(&shared, &call, &parameters).await?).into_response())
}

async fn find_artifact(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    headers: HeaderMap,
) -> Answer {
    let call = Call::new("findArtifactFromTask", &parameters);
    let task = found(&shared, &call, &parameters).await?.entry.task_id;
    redirect(&shared, &call, &task, &parameters, &headers).await
}

async fn insert_task(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    sent: Result<Json<IndexEntry>, JsonRejection>,
) -> Answer {
    let call = Call::new("insertTask", &parameters);
    shared.check_write(&call)?;
    let (namespace, entry) = (namespace_of(&call, &parameters)?, call.json(sent)?);
    let inserted = shared.store.insert(&namespace, &entry).await;
    inserted.map_err(|err| call.failed(&shared, &err))?;
    Ok(Json(Indexed { namespace, entry }).into_response())
}

#[derive(Deserialize)]
struct Indexes {
    indexes: Vec<String>,
}

async fn find_tasks(
    State(shared): State<Shared>,
    page: Result<Query<Page>, QueryRejection>,
    sent: Result<Json<Indexes>, JsonRejection>,
) -> Answer {
    let call = Call::new("findTasksAtIndex", &Parameters::new());
    let (page, Indexes { indexes }) = (call.query(page)?, call.json(sent)?);
    if indexes.len() > MOST {
        return Err(call.bad_input("more than 1000 indexes at once"));
    }
    let namespaces = indexes.iter().map(|text| text.parse());
    let mut namespaces = namespaces
        .collect::<Result<Vec<Namespace>, _>>()
        .map_err(|err| call.bad_input(&err.to_string()))?;
    namespaces.sort();
    namespaces.dedup();
    let (namespaces, token) = page.of(&call, namespaces, ToString::to_string)?;
    let tasks = shared.store.found(namespaces).await;
    let tasks = tasks.map_err(|err| call.failed(&shared, &err))?;
    Ok(with_token(json!({"tasks": tasks}), token))
}

/// Returns the namespace that a path names; none for the top.
fn below(call: &Call, parameters: &Parameters) -> Result<Option<Namespace>, Refusal> {
    if parameters.contains_key("namespace") {
        namespace_of(call, parameters).map(Some)
    } else {
        Ok(None)
    }
}

async fn list_tasks(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    let call = Call::new("listTasks", &parameters);
    let (page, below) = (call.query(page)?, below(&call, &parameters)?);
    let tasks = shared.store.entries(below.as_ref()).await;
    let tasks = tasks.map_err(|err| call.failed(&shared, &err))?;
    let (tasks, token) = page.of(&call, tasks, |task| task.namespace.to_string())?;
    Ok(with_token(json!({"tasks": tasks}), token))
}

async fn list_namespaces(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    let call = Call::new("listNamespaces", &parameters);
    let (page, below) = (call.query(page)?, below(&call, &parameters)?);
    let namespaces = shared.store.namespaces(below.as_ref()).await;
    let namespaces = namespaces.map_err(|err| call.failed(&shared, &err))?;
    let (namespaces, token) = page.of(&call, namespaces, ToString::to_string)?;
    let namespaces: Vec<Value> = namespaces
        .iter()
        .map(|namespace| json!({"namespace": namespace, "name": namespace.name()}))
        .collect();
    Ok(with_token(json!({"namespaces": namespaces}), token))
}

//! The Queue: tasks and their artifacts.

use crate::{
    error::Result as Done,
    serve::{Call, Parameters, Refusal, Shared, check_run, name_of, page::Page, task_of},
    store::{Artifact, State as TaskState, TaskRecord, now, timestamp},
    task::TaskId,
};
use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

/// Says where an artifact is stored: here, but it is to be got like one in S3.
const STORAGE_TYPE: &str = "x-taskcluster-artifact-storage-type";

/// Tasks of one request, at most.
const MOST: usize = 1000;

type Answer = Result<Response, Refusal>;

pub(super) fn routes() -> Router<Shared> {
    let mut routes = Router::new()
        .route("/ping", get(alive))
        .route("/__heartbeat__", get(alive))
        .route("/__lbheartbeat__", get(alive))
        .route("/tasks", post(tasks))
        .route("/tasks/status", post(statuses))
        .route("/task/{task}", get(task).put(create_task))
        .route("/task/{task}/status", get(status))
        .route("/task/{task}/runs/{run}/completed", post(report_completed));
    for run in ["", "/runs/{run}"] {
        let of_task = |rest: &str| format!("/task/{{task}}{run}/{rest}");
        let artifact = match run {
            "" => get(get_artifact),
            _ => get(get_artifact).post(create_artifact).put(finish_artifact),
        };
        routes = routes
            .route(&of_task("artifacts"), get(list_artifacts))
            .route(&of_task("artifacts/{*name}"), artifact)
            .route(&of_task("artifact-content/{*name}"), get(artifact_content))
            .route(&of_task("artifact-info/{*name}"), get(artifact_info));
    }
    routes
}

/// Says that the server runs.
pub(super) async fn alive() -> Response {
    Json(json!({"alive": true})).into_response()
}

async fn get_artifact(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    headers: HeaderMap,
) -> Answer {
    let call = Call::new(
        by_run(&parameters, "getArtifact", "getLatestArtifact"),
        &parameters,
    );
    redirect(
        &shared,
        &call,
        &task_of(&call, &parameters)?,
        &parameters,
        &headers,
    )
    .await
}

/// Sends a client to the content of an artifact.
pub(super) async fn redirect(
    shared: &Shared,
    call: &Call,
    task: &TaskId,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Answer {
    check_run(call, parameters)?;
    let artifact = shared
        .artifact(call, task, &name_of(call, parameters)?)
        .await?;
    let url = shared.content_url(headers, task, &artifact.name);
    let body = Json(json!({"storageType": "s3", "url": url}));
    let headers = [(LOCATION.as_str(), &*url), (STORAGE_TYPE, "s3")];
    Ok((StatusCode::SEE_OTHER, headers, body).into_response())
}

async fn artifact_content(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    headers: HeaderMap,
) -> Answer {
    let call = Call::new(
        by_run(&parameters, "artifact", "latestArtifact"),
        &parameters,
    );
    check_run(&call, &parameters)?;
    let (task, name) = (task_of(&call, &parameters)?, name_of(&call, &parameters)?);
    let artifact = shared.artifact(&call, &task, &name).await?;
    let url = shared.content_url(&headers, &task, &artifact.name);
    Ok(Json(json!({"storageType": "s3", "url": url})).into_response())
}

async fn artifact_info(State(shared): State<Shared>, Path(parameters): Path<Parameters>) -> Answer {
    let call = Call::new(
        by_run(&parameters, "artifactInfo", "latestArtifactInfo"),
        &parameters,
    );
    check_run(&call, &parameters)?;
    let (task, name) = (task_of(&call, &parameters)?, name_of(&call, &parameters)?);
    let artifact = shared.artifact(&call, &task, &name).await?;
    Ok(Json(info(&artifact)).into_response())
}

async fn list_artifacts(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    let call = Call::new(
        by_run(&parameters, "listArtifacts", "listLatestArtifacts"),
        &parameters,
    );
    let page = call.query(page)?;
    check_run(&call, &parameters)?;
    let task = task_of(&call, &parameters)?;
    let artifacts = shared.store.artifacts(&task).await;
    let artifacts = artifacts.map_err(|err| call.failed(&shared, &err))?;
    if artifacts.is_empty() {
        known(&shared, &call, &task).await?;
    }
    let (artifacts, token) = page.of(&call, artifacts, |artifact| artifact.name.to_string())?;
    let artifacts: Vec<Value> = artifacts.iter().map(info).collect();
    Ok(with_token(json!({"artifacts": artifacts}), token))
}

fn info(artifact: &Artifact) -> Value {
    json!({
        "storageType": "s3",
        "name": artifact.name,
        "expires": timestamp(artifact.expires.unwrap_or_else(never)),
        "contentType": artifact.content_type,
        "contentLength": artifact.size,
    })
}

/// Adds how to get the next page.
pub(super) fn with_token(mut answer: Value, token: Option<String>) -> Response {
    if let Some(token) = token {
        answer["continuationToken"] = token.into();
    }
    Json(answer).into_response()
}

async fn task(State(shared): State<Shared>, Path(parameters): Path<Parameters>) -> Answer {
    let call = Call::new("task", &parameters);
    let record = known(&shared, &call, &task_of(&call, &parameters)?).await?;
    let definition = record.task;
    let definition = definition.ok_or_else(|| call.not_found("the task has no definition"))?;
    Ok(Json(definition).into_response())
}

async fn status(State(shared): State<Shared>, Path(parameters): Path<Parameters>) -> Answer {
    let call = Call::new("status", &parameters);
    let task = task_of(&call, &parameters)?;
    let record = known(&shared, &call, &task).await?;
    Ok(Json(json!({"status": status_of(&task, &record)})).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskIds {
    task_ids: Vec<String>,
}

impl TaskIds {
    /// Returns the tasks among them that the store knows.
    async fn known(
        &self,
        shared: &Shared,
        call: &Call,
    ) -> Result<Vec<(TaskId, TaskRecord)>, Refusal> {
        if self.task_ids.len() > MOST {
            return Err(call.bad_input("more than 1000 tasks at once"));
        }
        let mut tasks = Vec::new();
        for id in &self.task_ids {
            let task: TaskId = id
                .parse()
                .map_err(|err| call.bad_input(&format!("{err}")))?;
            let record = record(shared, &task).await;
            let record = record.map_err(|err| call.failed(shared, &err))?;
            tasks.extend(record.map(|record| (task, record)));
        }
        Ok(tasks)
    }
}

async fn tasks(State(shared): State<Shared>, sent: Result<Json<TaskIds>, JsonRejection>) -> Answer {
    let call = Call::new("tasks", &Parameters::new());
    let known = call.json(sent)?.known(&shared, &call).await?;
    let tasks = known.iter().filter_map(|(task, record)| {
        let definition = record.task.as_ref()?;
        Some(json!({"taskId": task, "task": definition}))
    });
    Ok(Json(json!({"tasks": tasks.collect::<Vec<_>>()})).into_response())
}

async fn statuses(
    State(shared): State<Shared>,
    sent: Result<Json<TaskIds>, JsonRejection>,
) -> Answer {
    let call = Call::new("statuses", &Parameters::new());
    let known = call.json(sent)?.known(&shared, &call).await?;
    let statuses = known
        .iter()
        .map(|(task, record)| json!({"taskId": task, "status": status_of(task, record)}));
    Ok(Json(json!({"statuses": statuses.collect::<Vec<_>>()})).into_response())
}

/// Returns the record of a task, or one made up for a task that is only known by its artifacts.
async fn record(shared: &Shared, task: &TaskId) -> Done<Option<TaskRecord>> {
    if let Some(record) = shared.store.task(task).await? {
        return Ok(Some(record));
    }
    let artifacts = shared.store.artifacts(task).await?;
    let oldest = artifacts.iter().map(|artifact| artifact.created).min();
    Ok(oldest.map(|created| TaskRecord {
        created,
        expires: artifacts
            .iter()
            .map(|artifact| artifact.expires)
            .max()
            .flatten(),
        state: TaskState::Completed,
        task: None,
    }))
}

async fn known(shared: &Shared, call: &Call, task: &TaskId) -> Result<TaskRecord, Refusal> {
    let record = record(shared, task).await;
    let record = record.map_err(|err| call.failed(shared, &err))?;
    record.ok_or_else(|| call.not_found("Task not found"))
}

/// Returns the status of a task. What its definition does not say is made up.
fn status_of(task: &TaskId, record: &TaskRecord) -> Value {
    let said = |key: &str, otherwise: &str| {
        let definition = record.task.as_ref();
        let text = definition.and_then(|definition| definition.get(key)?.as_str());
        text.unwrap_or(otherwise).to_owned()
    };
    let (provisioner, worker_type) = (
        said("provisionerId", "fetch-content"),
        said("workerType", "store"),
    );
    let queue = said("taskQueueId", &format!("{provisioner}/{worker_type}"));
    let (created, expires) = (timestamp(record.created), record.expires);
    let mut run = json!({
        "runId": 0,
        "state": record.state,
        "reasonCreated": "scheduled",
        "workerGroup": "fetch-content",
        "workerId": "store",
        "scheduled": created,
        "started": created,
    });
    if record.state == TaskState::Completed {
        run["reasonResolved"] = "completed".into();
        run["resolved"] = json!(created);
    }
    json!({
        "taskId": task,
        "provisionerId": provisioner,
        "workerType": worker_type,
        "taskQueueId": queue,
        "schedulerId": said("schedulerId", "-"),
        "projectId": said("projectId", "none"),
        "taskGroupId": said("taskGroupId", task.as_str()),
        "deadline": said("deadline", &created),
        "expires": timestamp(expires.unwrap_or_else(never)),
        "retriesLeft": 0,
        "state": record.state,
        "runs": [run],
    })
}

/// The time of what does not expire. Clients want one.
fn never() -> DateTime<Utc> {
    DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

async fn create_task(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    sent: Result<Json<Value>, JsonRejection>,
) -> Answer {
    let call = Call::new("createTask", &parameters);
    shared.check_write(&call)?;
    let (task, definition) = (task_of(&call, &parameters)?, call.json(sent)?);
    if !definition.is_object() {
        return Err(call.bad_input("the definition of a task is an object"));
    }
    let expires: Option<DateTime<Utc>> =
        match definition.get("expires") {
            None => None,
            Some(time) => Some(Deserialize::deserialize(time).map_err(
                |err: serde_json::Error| call.bad_input(&format!("`expires` is not a time: {err}")),
            )?),
        };
    let there = shared.store.task(&task).await;
    let record = match there.map_err(|err| call.failed(&shared, &err))? {
        Some(there) if there.task.as_ref() == Some(&definition) => there,
        Some(_) => {
            let text = format!("task {task} exists already, with another definition");
            return Err(call.refuse(StatusCode::CONFLICT, "RequestConflict", text));
        }
        None => {
            let record = TaskRecord {
                created: now(),
                expires,
                state: TaskState::Running,
                task: Some(definition),
            };
            let put = shared.store.put_task(&task, &record).await;
            put.map_err(|err| call.failed(&shared, &err))?;
            record
        }
    };
    Ok(Json(json!({"status": status_of(&task, &record)})).into_response())
}

async fn report_completed(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
) -> Answer {
    let call = Call::new("reportCompleted", &parameters);
    shared.check_write(&call)?;
    check_run(&call, &parameters)?;
    let task = task_of(&call, &parameters)?;
    let mut record = known(&shared, &call, &task).await?;
    record.state = TaskState::Completed;
    let put = shared.store.put_task(&task, &record).await;
    put.map_err(|err| call.failed(&shared, &err))?;
    Ok(Json(json!({"status": status_of(&task, &record)})).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewArtifact {
    storage_type: String,
    expires: DateTime<Utc>,
    content_type: Option<String>,
}

/// Says where to put the content of an artifact. The artifact is made when that comes.
async fn create_artifact(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    headers: HeaderMap,
    sent: Result<Json<NewArtifact>, JsonRejection>,
) -> Answer {
    let call = Call::new("createArtifact", &parameters);
    shared.check_write(&call)?;
    check_run(&call, &parameters)?;
    let (task, name) = (task_of(&call, &parameters)?, name_of(&call, &parameters)?);
    let new: NewArtifact = call.json(sent)?;
    if new.storage_type != "s3" {
        return Err(call.bad_input("this server only takes artifacts of storageType s3"));
    }
    let expires = timestamp(new.expires);
    let url = shared.content_url(&headers, &task, &name);
    Ok(Json(json!({
        "storageType": "s3",
        "putUrl": format!("{url}?expires={expires}"),
        "expires": expires,
        "contentType": new.content_type.unwrap_or_else(|| "application/binary".into()),
    }))
    .into_response())
}

async fn finish_artifact(Path(parameters): Path<Parameters>) -> Refusal {
    let call = Call::new("finishArtifact", &parameters);
    call.bad_input("only artifacts of storageType object are finished")
}

/// Returns the name of a method, which differs between a run's artifacts and a task's.
fn by_run(parameters: &Parameters, run: &'static str, latest: &'static str) -> &'static str {
    match parameters.get("run") {
        Some(_) => run,
        None => latest,
    }
}

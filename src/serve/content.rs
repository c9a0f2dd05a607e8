//! Content itself, to read and, if that is allowed, to write.

use crate::{
    error::{Error, Result as Done},
    fs::{self, Context},
    serve::{Call, Parameters, Refusal, Shared, condition::Wanted, name_of, task_of},
    store::{Handover, Metadata},
    stream::bridge::run_blocking,
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{
        HeaderMap, Method, StatusCode,
        header::{
            ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
        },
    },
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;
use tokio::io::AsyncWriteExt;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/content/{task}/{*name}", get(read).put(write))
}

/// Sends content, or a part of it. Its tag is its digest, so that nothing else is ever taken for it.
async fn read(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let call = Call::new("content", &parameters);
    let (task, name) = (task_of(&call, &parameters)?, name_of(&call, &parameters)?);
    let artifact = shared.artifact(&call, &task, &name).await?;
    let (size, tag) = (artifact.size, format!("\"{}\"", artifact.sha256));
    let (status, part) = match Wanted::of(&headers, size, &tag) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Nothing => return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()),
        Wanted::Unsatisfiable => {
            let mut refusal = call
                .refuse(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "InputError",
                    "there are no such bytes",
                )
                .into_response();
            let range = format!("bytes */{size}").try_into();
            refusal
                .headers_mut()
                .extend(range.ok().map(|range| (CONTENT_RANGE, range)));
            return Ok(refusal);
        }
    };
    let mut answer = Response::builder()
        .status(status)
        .header(ETAG, tag)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_TYPE, &artifact.content_type)
        .header(CONTENT_LENGTH, part.end - part.start);
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        answer = answer.header(CONTENT_RANGE, range);
    }
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let chunks = shared.store.open_content(&task, &artifact, part).await;
        let chunks = chunks.map_err(|err| call.failed(&shared, &err))?;
        Body::from_stream(chunks)
    };
    answer
        .body(body)
        .map_err(|err| call.failed(&shared, &Error::usage(err.to_string())))
}

/// What the URL says of an artifact to come.
#[derive(Deserialize)]
struct New {
    expires: Option<DateTime<Utc>>,
}

/// Takes content, which becomes an artifact when it is whole.
async fn write(
    State(shared): State<Shared>,
    Path(parameters): Path<Parameters>,
    new: Result<Query<New>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let call = Call::new("putContent", &parameters);
    shared.check_write(&call)?;
    let (task, name) = (task_of(&call, &parameters)?, name_of(&call, &parameters)?);
    let New { expires } = call.query(new)?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(&CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(call.bad_input("content must not be encoded"));
    }
    let content_type = text(&CONTENT_TYPE).unwrap_or("application/octet-stream");
    let (staging, file) = receive(&shared, &call, body).await?;
    let metadata = Metadata {
        content_type: content_type.to_owned(),
        expires,
    };
    let file = Handover::Move(file);
    let artifact = shared.store.publish(&task, &name, file, metadata).await;
    let artifact = artifact.map_err(|err| call.failed(&shared, &err))?;
    drop(staging);
    let tag = format!("\"{}\"", artifact.sha256);
    let body = Json(json!({"sha256": artifact.sha256, "size": artifact.size}));
    Ok((StatusCode::OK, [(ETAG, tag)], body).into_response())
}

/// Stores what a client sends in a private file. Nothing of it stays when the client goes away.
async fn receive(
    shared: &Shared,
    call: &Call,
    body: Body,
) -> Result<(fs::Staging, PathBuf), Refusal> {
    let store = std::sync::Arc::clone(&shared.store);
    let created = run_blocking(move || {
        let staging = store.staging()?;
        let path = staging.fresh()?.join("content");
        let file = fs::create_new(&path)?;
        Ok((staging, path, file))
    });
    let (staging, path, file) = created.await.map_err(|err| call.failed(shared, &err))?;
    let mut file = tokio::fs::File::from_std(file);
    let mut chunks = body.into_data_stream();
    loop {
        let next = tokio::time::timeout(shared.stall_timeout, chunks.next());
        let chunk = match next.await {
            Ok(None) => break,
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(err))) => {
                return Err(call.bad_input(&format!("the content broke off: {err}")));
            }
            Err(_elapsed) => {
                let text = "nothing has come for too long";
                return Err(call.refuse(StatusCode::REQUEST_TIMEOUT, "InputError", text));
            }
        };
        let written: Done<()> = file.write_all(&chunk).await.context("write", &path);
        written.map_err(|err| call.failed(shared, &err))?;
    }
    let flushed: Done<()> = file.flush().await.context("write", &path);
    flushed.map_err(|err| call.failed(shared, &err))?;
    Ok((staging, path))
}

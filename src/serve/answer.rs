//! Answers that are no success, in Taskcluster's form.

use crate::{
    error,
    error::Error,
    serve::{Parameters, Shared},
    store::{now, timestamp},
};
use axum::{
    Json,
    extract::{
        Query,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// What was asked, for what is said about it.
pub(super) struct Call {
    method: &'static str,
    parameters: Parameters,
}

/// An answer that is no success.
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    text: String,
    method: String,
    parameters: Parameters,
}

impl Call {
    /// Begins to answer a method of the API.
    pub(super) fn new(method: &'static str, parameters: &Parameters) -> Self {
        Self {
            method,
            parameters: parameters.clone(),
        }
    }

    pub(super) fn refuse(
        &self,
        status: StatusCode,
        code: &'static str,
        text: impl Into<String>,
    ) -> Refusal {
        Refusal {
            status,
            code,
            text: text.into(),
            method: self.method.to_owned(),
            parameters: self.parameters.clone(),
        }
    }

    pub(super) fn not_found(&self, text: &str) -> Refusal {
        self.refuse(StatusCode::NOT_FOUND, "ResourceNotFound", text)
    }

    pub(super) fn bad_input(&self, text: &str) -> Refusal {
        self.refuse(StatusCode::BAD_REQUEST, "InputError", text)
    }

    /// Returns the JSON that was sent.
    pub(super) fn json<T>(&self, sent: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
        match sent {
            Ok(Json(value)) => Ok(value),
            Err(err) if err.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(self.refuse(err.status(), "InputTooLarge", err.body_text()))
            }
            Err(err) => Err(self.refuse(
                StatusCode::BAD_REQUEST,
                "InputValidationError",
                err.body_text(),
            )),
        }
    }

    /// Returns what the query says.
    pub(super) fn query<T>(&self, sent: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
        let refused = |err: QueryRejection| {
            let status = StatusCode::BAD_REQUEST;
            self.refuse(status, "InvalidRequestArguments", err.body_text())
        };
        sent.map(|Query(value)| value).map_err(refused)
    }

    /// Answers for a store that refused. Details are for the owner of the server only.
    pub(super) fn failed(&self, shared: &Shared, err: &Error) -> Refusal {
        if let Error::Conflict { .. } = err {
            return self.refuse(StatusCode::CONFLICT, "RequestConflict", err.to_string());
        }
        if let Error::Usage { .. } = err {
            return self.bad_input(&err.to_string());
        }
        (shared.report)(&format!("{}: {}", self.method, error::chain(err)));
        self.refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            "the store cannot be used; the log of the server says why",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self {
            status,
            code,
            text,
            method,
            parameters,
        } = self;
        let time = timestamp(now());
        let number = status.as_u16();
        let message = format!(
            "{text}\n\n---\n\n* method:     {method}\n* errorCode:  {code}\n* statusCode: {number}\n* time:       {time}"
        );
        let body = json!({
            "code": code,
            "message": message,
            "requestInfo": {"method": method, "params": parameters, "payload": {}, "time": time},
        });
        (status, Json(body)).into_response()
    }
}

/// Answers for what there is no route to.
pub(super) async fn unknown(method: Method, uri: Uri) -> Refusal {
    let text = format!("there is nothing at {}", uri.path().escape_debug());
    no_call(StatusCode::NOT_FOUND, "ResourceNotFound", text, &method)
}

/// Answers for a route that cannot be asked in this way.
pub(super) async fn not_allowed(method: Method) -> Refusal {
    let text = format!(
        "this cannot be asked with {}",
        method.as_str().escape_debug()
    );
    no_call(StatusCode::METHOD_NOT_ALLOWED, "InputError", text, &method)
}

fn no_call(status: StatusCode, code: &'static str, text: String, method: &Method) -> Refusal {
    Refusal {
        status,
        code,
        text,
        method: method.to_string(),
        parameters: Parameters::new(),
    }
}

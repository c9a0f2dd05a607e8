//! A deployment that artifacts are created in: its queue, its object service and its storage, which answer as the
//! platform does, from a state of their own. A script of replies can go before them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::hawk::Account;
use super::sandbox::TASK_A;
use super::server::{Reply, Seen, Server};

/// What a signature in a URL looks like here; it must never be seen.
pub(crate) const SIGNED: &str = "X-Amz-Signature=s1gnature";

/// When `TASK_A` expires.
pub(crate) const EXPIRES: &str = "2040-02-03T04:05:06.789Z";

/// The one who the queue says may upload an object.
fn for_the_object() -> Account {
    Account {
        id: "artifact-upload/object",
        token: "0bject-t0ken",
        certificate: Some(json!({"version": 1, "seed": "s3ed-of-the-object"})),
    }
}

/// One artifact's state in queue and object service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// What it was created with.
    pub(crate) description: Value,
    /// Whether others can get it.
    pub(crate) present: bool,
    /// What is in the storage, or the object service.
    pub(crate) content: Option<Vec<u8>>,
    /// The hashes of a finished object.
    pub(crate) hashes: Option<Value>,
    /// How many URLs to upload to were given.
    urls: usize,
}

#[derive(Default)]
struct State {
    artifacts: BTreeMap<String, Known>,
    /// Replies that go before, by method and path.
    scripts: BTreeMap<String, VecDeque<Reply>>,
}

/// A running deployment. See the module's documentation.
pub(crate) struct Platform {
    /// Queue and object service, also as a proxy.
    pub(crate) api: Server,
    /// Where content goes.
    pub(crate) storage: Server,
    state: Arc<Mutex<State>>,
}

/// The parts of a deployment that have to do with one artifact.
struct Desk {
    name: String,
    storage: String,
    state: Arc<Mutex<State>>,
}

impl Platform {
    /// Starts with `TASK_A`, whose run 0 may create artifacts of these names. With an account, only who signs as it may.
    pub(crate) fn start(names: &[&str], account: Option<&Account>) -> Self {
        let (api, storage) = (Server::start(), Server::start());
        let state = Arc::new(Mutex::new(State::default()));
        let status = json!({"status": {"taskId": TASK_A, "state": "running", "expires": EXPIRES, "runs": []}});
        api.serve(&Self::status_path(), Reply::ok(status.to_string()));
        for name in names {
            let desk = || Desk {
                name: (*name).to_owned(),
                storage: storage.root(),
                state: Arc::clone(&state),
            };
            let (at, account) = (desk(), account.cloned());
            api.serve_by(&Self::path(name), move |seen| {
                let reply = at.scripted(seen).unwrap_or_else(|| at.queue(seen));
                match &account {
                    Some(account) => account.guard(seen, reply),
                    None => reply,
                }
            });
            for path in [Self::upload_path(name), Self::finish_path(name)] {
                let at = desk();
                api.serve_by(&path, move |seen| {
                    let reply = at.scripted(seen).unwrap_or_else(|| at.objects(seen));
                    for_the_object().guard(seen, reply)
                });
            }
            let at = desk();
            storage.serve_by(&Self::stored_path(name), move |seen| {
                at.scripted(seen).unwrap_or_else(|| at.storage(seen))
            });
        }
        Self {
            api,
            storage,
            state,
        }
    }

    /// Where the status of the task is.
    pub(crate) fn status_path() -> String {
        format!("/api/queue/v1/task/{TASK_A}/status")
    }

    /// Where an artifact is created and finished.
    pub(crate) fn path(name: &str) -> String {
        let name = name.replace(' ', "%20");
        format!("/api/queue/v1/task/{TASK_A}/runs/0/artifacts/{name}")
    }

    /// Where the upload of an object begins.
    pub(crate) fn upload_path(name: &str) -> String {
        format!("/api/object/v1/upload/{}", object_segment(name))
    }

    /// Where the upload of an object is said to be complete.
    pub(crate) fn finish_path(name: &str) -> String {
        format!("/api/object/v1/finish-upload/{}", object_segment(name))
    }

    /// Where content is put.
    pub(crate) fn stored_path(name: &str) -> String {
        format!("/bucket/{}", name.replace(' ', "%20"))
    }

    /// Answers the next requests of a method to a path so.
    pub(crate) fn script(
        &self,
        method: &str,
        path: &str,
        replies: impl IntoIterator<Item = Reply>,
    ) {
        let key = format!("{method} {path}");
        let replies = replies.into_iter().collect();
        lock(&self.state).scripts.insert(key, replies);
    }

    /// What became of an artifact.
    pub(crate) fn artifact(&self, name: &str) -> Known {
        let state = lock(&self.state);
        let known = state.artifacts.get(name);
        known
            .unwrap_or_else(|| panic!("nobody has created {name}"))
            .clone()
    }

    /// How often a method was asked of a path, by API and storage together.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        let seen = [self.api.requests(), self.storage.requests()].concat();
        seen.iter()
            .filter(|seen| seen.method == method && seen.path.split('?').next() == Some(path))
            .count()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn object_segment(name: &str) -> String {
    format!("t/{TASK_A}/0/{name}")
        .replace('/', "%2F")
        .replace(' ', "%20")
}

fn refused(status: u16, code: &str, message: &str) -> Reply {
    Reply::api_error(status, code, message)
}

impl Desk {
    fn scripted(&self, seen: &Seen) -> Option<Reply> {
        let path = seen.path.split('?').next().unwrap_or_default();
        let key = format!("{} {path}", seen.method);
        lock(&self.state).scripts.get_mut(&key)?.pop_front()
    }

    fn queue(&self, seen: &Seen) -> Reply {
        let mut state = lock(&self.state);
        let Ok(asked) = serde_json::from_slice::<Value>(&seen.body) else {
            return refused(400, "InputError", "not JSON");
        };
        if seen.header("content-type") != Some("application/json") {
            return refused(400, "InputError", "not JSON by its type");
        }
        match seen.method.as_str() {
            "POST" => {
                let known = state.artifacts.entry(self.name.clone());
                let known = known.or_insert_with(|| Known {
                    description: asked.clone(),
                    ..Known::default()
                });
                if known.description != asked {
                    return refused(
                        409,
                        "RequestConflict",
                        "Artifact already exists with different properties",
                    );
                }
                if asked["expires"].as_str() > Some(EXPIRES) {
                    return refused(400, "InputError", "Artifact expires after the task");
                }
                self.created(known)
            }
            "PUT" => {
                let known = state.artifacts.get_mut(&self.name);
                match known {
                    Some(known) if known.hashes.is_some() && asked == upload_id(&self.name) => {
                        known.present = true;
                        Reply::status(204)
                    }
                    _ => refused(400, "InputError", "Object does not exist"),
                }
            }
            _ => refused(404, "ResourceNotFound", "Artifact not found"),
        }
    }

    fn created(&self, known: &mut Known) -> Reply {
        let storage_type = known.description["storageType"].clone();
        let answer = match storage_type.as_str() {
            Some("s3") => {
                known.present = true;
                let content_type = known.description["contentType"].clone();
                json!({"storageType": "s3", "contentType": content_type, "expires": EXPIRES, "putUrl": self.url(known)})
            }
            Some("object") => {
                let Account {
                    id,
                    token,
                    certificate,
                } = for_the_object();
                let certificate = certificate.expect("a certificate").to_string();
                let mut answer = json!({
                    "storageType": "object",
                    "name": format!("t/{TASK_A}/0/{}", self.name),
                    "projectId": "ci",
                    "expires": EXPIRES,
                    "credentials": {"clientId": id, "accessToken": token, "certificate": certificate},
                });
                answer["uploadId"] = upload_id(&self.name)["uploadId"].clone();
                answer
            }
            _ => {
                known.present = true;
                json!({"storageType": storage_type})
            }
        };
        Reply::ok(answer.to_string())
    }

    fn url(&self, known: &mut Known) -> String {
        known.urls += 1;
        let (path, number) = (Platform::stored_path(&self.name), known.urls);
        format!("{}{path}?{SIGNED}&n={number}", self.storage)
    }

    fn objects(&self, seen: &Seen) -> Reply {
        let mut state = lock(&self.state);
        let asked: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let Some(known) = state.artifacts.get_mut(&self.name) else {
            return refused(404, "ResourceNotFound", "Object not found");
        };
        let own = asked["uploadId"] == upload_id(&self.name)["uploadId"];
        if asked["projectId"] != "ci" {
            return refused(400, "NoMatchingBackend", "No backend matched");
        }
        if seen.method == "POST" {
            let same = known
                .hashes
                .as_ref()
                .is_none_or(|hashes| *hashes == asked["hashes"]);
            if !same || !own || known.content.is_none() {
                return refused(409, "RequestConflict", "Object is not as it was finished");
            }
            known.hashes = Some(asked["hashes"].clone());
            return Reply::ok("{}");
        }
        if known.hashes.is_some() || !own {
            return refused(409, "RequestConflict", "Object already exists");
        }
        let methods = &asked["proposedUploadMethods"];
        let put = &methods["putUrl"];
        let method = match methods["dataInline"]["objectData"].as_str() {
            Some(data) => {
                known.content = BASE64_STANDARD.decode(data).ok();
                json!({"dataInline": true})
            }
            None => json!({"putUrl": {
                "url": self.url(known),
                "expires": EXPIRES,
                "headers": {
                    "Content-Type": put["contentType"],
                    "Content-Length": put["contentLength"].to_string(),
                    "Content-Encoding": "identity",
                },
            }}),
        };
        let answer = json!({"projectId": "ci", "uploadId": asked["uploadId"], "expires": EXPIRES, "uploadMethod": method});
        Reply::ok(answer.to_string())
    }

    fn storage(&self, seen: &Seen) -> Reply {
        let mut state = lock(&self.state);
        let known = state
            .artifacts
            .get_mut(&self.name)
            .expect("a known artifact");
        // The latest URL only, and signed for this type.
        let current = seen.path.ends_with(&format!("?{SIGNED}&n={}", known.urls));
        let typed = seen.header("content-type") == known.description["contentType"].as_str();
        let length = known.description["contentLength"].to_string();
        let whole = seen.header("content-length") == Some(length.as_str());
        let bare =
            seen.header("authorization").is_none() && seen.header("accept-encoding").is_none();
        if seen.method != "PUT" || !(current && typed && whole && bare) {
            let said = "<Error><Code>SignatureDoesNotMatch</Code><StringToSign>s1gnature</StringToSign></Error>";
            return Reply::with_status(403, said);
        }
        known.content = Some(seen.body.clone());
        Reply::status(200)
    }
}

fn upload_id(name: &str) -> Value {
    json!({"uploadId": format!("upload-of-{name}")})
}

//! Creating artifacts of a task that runs: the queue is told of one, and says where its content goes.
//!
//! - `s3`: the queue names a URL, and what is put there is the artifact.
//! - `object`: the queue names an object and credentials to it. The object service names a URL (or takes a small content
//!   itself), and then both are told that all of it is there. Until then the artifact does not exist for others.
//! - links and references have no content.
//!
//! An attempt that fails is followed by one with a fresh URL. The queue and the object service accept that something is
//! created or finished twice, so that a run that was killed can be repeated as well.

use crate::{
    error::{Error, Result},
    fs::Outgoing,
    http::{Address, Attempts, Hashes, Header, Sent},
    observe::{Event, Fetched, Observer},
    safe_url::SafeUrl,
    stream::bridge::ended_well,
    task::{
        answer::{self, Given, broken},
        deployment::{Call, Deployment, while_doing},
        id::{ArtifactName, RunId, TaskId},
        queue::{Way, segment},
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet};
use url::Url;

/// The most bytes that the object service takes itself.
const INLINE: u64 = 8192;

/// Where a deployment keeps content. It is the deployment's decision, and cannot be found out beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A bucket of the queue.
    S3,
    /// The object service.
    Object,
}

/// What an artifact is.
#[derive(Clone, Debug)]
pub enum Content {
    /// A copy of a file.
    File(NewFile),
    /// Another name of an artifact of the same task.
    Link {
        /// The artifact.
        target: ArtifactName,
    },
    /// Whatever is at a URL.
    Reference {
        /// The URL, as it is to be stored.
        url: String,
        /// The media type of what is there.
        content_type: String,
    },
}

/// A file that becomes the content of an artifact.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// The file.
    pub file: Outgoing,
    /// Where it goes.
    pub storage: Storage,
    /// Its media type.
    pub content_type: String,
}

/// An artifact to be created.
#[derive(Clone, Debug)]
pub struct NewArtifact {
    /// Its name.
    pub name: ArtifactName,
    /// What it is.
    pub content: Content,
}

/// Where artifacts are created: in one run of a task.
#[derive(Clone)]
pub struct Artifacts {
    /// The deployment.
    pub deployment: Deployment,
    /// The task.
    pub task: TaskId,
    /// Its run, which must be running.
    pub run: RunId,
    /// When they expire: not after the task.
    pub expires: DateTime<Utc>,
}

/// What the queue answers when an artifact is created.
#[derive(Deserialize)]
#[serde(tag = "storageType", rename_all = "lowercase")]
enum Created {
    S3 {
        #[serde(rename = "putUrl")]
        put_url: String,
    },
    Object(Object),
    #[serde(other)]
    Elsewhere,
}

/// An object that waits for its content.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    name: String,
    project_id: String,
    upload_id: String,
    expires: String,
    credentials: Given,
}

/// What the object service answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upload {
    upload_method: Method,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Method {
    #[serde(default)]
    data_inline: bool,
    put_url: Option<PutUrl>,
}

#[derive(Deserialize)]
struct PutUrl {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl Artifacts {
    /// Creates artifacts, several at a time. Returns in their order what was sent of each; `None` for links and
    /// references.
    ///
    /// # Errors
    /// [`Error::Deployment`] for the first that fails for good; those that are on their way are given up then.
    pub async fn create_all(
        &self,
        list: Vec<(NewArtifact, Arc<dyn Observer>)>,
        at_once: usize,
    ) -> Result<Vec<Option<Sent>>> {
        let turns = Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)));
        let mut created = vec![None; list.len()];
        let mut running = JoinSet::new();
        for (number, (artifact, observer)) in list.into_iter().enumerate() {
            let (here, turns) = (self.clone(), Arc::clone(&turns));
            running.spawn(async move {
                let turn = turns.acquire_owned().await;
                let _turn = turn.map_err(|_closed| Error::Cancelled)?;
                Ok::<_, Error>((number, here.create(&artifact, &*observer).await?))
            });
        }
        while let Some(ended) = running.join_next().await {
            let (number, sent) = ended_well(ended)??;
            created[number] = sent;
        }
        Ok(created)
    }

    /// Creates one artifact. Returns what was sent, if there is content to send.
    ///
    /// # Errors
    /// [`Error::Deployment`]; [`Error::Usage`] without credentials.
    ///
    /// # Cancel safety
    /// When dropped, the artifact may be created; its content is all there or not at all.
    pub async fn create(
        &self,
        artifact: &NewArtifact,
        observer: &dyn Observer,
    ) -> Result<Option<Sent>> {
        let start = Instant::now();
        let NewArtifact { name, content } = artifact;
        let creation = Creation {
            here: self,
            way: self.deployment.queue.own_way()?,
            artifact,
            attempts: self.deployment.attempts(observer),
            observer,
        };
        let created = match content {
            Content::File(file) => match file.storage {
                Storage::S3 => creation.to_bucket(file).await.map(Some),
                Storage::Object => creation.to_object_service(file).await.map(Some),
            },
            Content::Link { .. } | Content::Reference { .. } => creation.without_content().await,
        };
        let task = &self.task;
        let created = created
            .map_err(|err| while_doing(format!("create artifact `{name}` of task {task}"), err))?;
        if let Some(Sent { bytes, sha256, .. }) = created {
            observer.on_event(&Event::Finished(&Fetched {
                bytes,
                sha256,
                wait: Duration::ZERO,
                transfer: start.elapsed(),
                unpack: Duration::ZERO,
            }));
        }
        Ok(created)
    }

    fn path(&self, name: &ArtifactName) -> String {
        let Self { task, run, .. } = self;
        let name = name.percent_encoded();
        format!("queue/v1/task/{task}/runs/{run}/artifacts/{name}")
    }
}

/// An artifact that is being created.
struct Creation<'a> {
    here: &'a Artifacts,
    /// To the queue.
    way: Way,
    artifact: &'a NewArtifact,
    attempts: Attempts<'a>,
    observer: &'a dyn Observer,
}

impl Creation<'_> {
    async fn without_content(&self) -> Result<Option<Sent>> {
        self.attempts.run(|| self.create()).await?;
        Ok(None)
    }

    async fn to_bucket(&self, file: &NewFile) -> Result<Sent> {
        self.attempts
            .run(|| async {
                let (url, created) = self.create().await?;
                let Created::S3 { put_url } = created else {
                    return Err(unusable(&url, "it is about another storage"));
                };
                let content_type = ("Content-Type".to_owned(), file.content_type.clone());
                let address = handed_out(&put_url, [content_type], &url)?;
                let hashes = Hashes::one();
                let client = &self.here.deployment.client;
                let observer = self.observer;
                client
                    .put_file(&address, &file.file, hashes, observer)
                    .await
            })
            .await
    }

    async fn to_object_service(&self, file: &NewFile) -> Result<Sent> {
        // Only this much is done anew: not every queue gives a second time what it gave.
        let (url, created) = self.attempts.run(|| self.create()).await?;
        let Created::Object(object) = created else {
            return Err(unusable(&url, "it is about another storage"));
        };
        let credentials = object.credentials.credentials(&url)?;
        let object = Objects {
            way: &self.here.deployment.queue.way_with(credentials),
            creation: self,
            file,
            name: segment(&object.name),
            project_id: object.project_id,
            upload_id: object.upload_id,
            expires: object.expires,
        };
        let sent = match self.attempts.run(|| object.upload()).await {
            // It was finished before, by a run that was killed then; only the same content can be finished twice.
            Err(err) if err.refused_by_api() == Some(409) => {
                let sent = hashes_of(&file.file).await?;
                match self.attempts.run(|| object.finish(&sent)).await {
                    Err(other) if other.refused_by_api().is_some() => return Err(err),
                    again => again?,
                }
                sent
            }
            sent => {
                let sent = sent?;
                self.attempts.run(|| object.finish(&sent)).await?;
                sent
            }
        };
        let finish = Call::Put {
            path: self.here.path(&self.artifact.name),
            json: json!({"uploadId": object.upload_id}),
        };
        let deployment = &self.here.deployment;
        self.attempts
            .run(|| deployment.once(&self.way, &finish))
            .await?;
        Ok(sent)
    }

    /// Tells the queue of it. Returns the method's URL with the answer.
    async fn create(&self) -> Result<(SafeUrl, Created)> {
        let call = Call::Post {
            path: self.here.path(&self.artifact.name),
            json: self.description(),
        };
        let body = self.here.deployment.once(&self.way, &call).await?;
        let url = body.head().url.clone();
        Ok((url, answer::json(body).await?))
    }

    fn description(&self) -> Value {
        let mut description = match &self.artifact.content {
            Content::File(new) => {
                let storage = match new.storage {
                    Storage::S3 => "s3",
                    Storage::Object => "object",
                };
                let (length, content_type) = (new.file.size(), &new.content_type);
                json!({"storageType": storage, "contentType": content_type, "contentLength": length})
            }
            Content::Link { target } => json!({"storageType": "link", "artifact": target.as_str()}),
            Content::Reference { url, content_type } => {
                json!({"storageType": "reference", "url": url, "contentType": content_type})
            }
        };
        let expires = self.here.expires;
        description["expires"] = expires.to_rfc3339_opts(SecondsFormat::Millis, true).into();
        description
    }
}

/// What is said to the object service of one object.
struct Objects<'a> {
    way: &'a Way,
    creation: &'a Creation<'a>,
    file: &'a NewFile,
    /// As a segment of a path.
    name: String,
    project_id: String,
    upload_id: String,
    expires: String,
}

impl Objects<'_> {
    /// Asks how the content is to be uploaded, and does it.
    async fn upload(&self) -> Result<Sent> {
        let NewFile {
            file, content_type, ..
        } = self.file;
        let length = file.size();
        let put = json!({"contentType": content_type, "contentLength": length});
        let mut methods = json!({"putUrl": put});
        let mut inline = None;
        if length <= INLINE {
            let (content, sent) = read_small(file).await?;
            let data = BASE64_STANDARD.encode(content);
            methods["dataInline"] = json!({"contentType": content_type, "objectData": data});
            inline = Some(sent);
        }
        let call = Call::Put {
            path: format!("object/v1/upload/{}", self.name),
            json: json!({
                "projectId": self.project_id,
                "uploadId": self.upload_id,
                "expires": self.expires,
                "proposedUploadMethods": methods,
            }),
        };
        let deployment = &self.creation.here.deployment;
        let body = deployment.once(self.way, &call).await?;
        let url = body.head().url.clone();
        let Upload { upload_method } = answer::json(body).await?;
        match (upload_method, inline) {
            (Method { data_inline, .. }, Some(sent)) if data_inline => Ok(sent),
            (
                Method {
                    put_url: Some(put), ..
                },
                _,
            ) => {
                let address = handed_out(&put.url, put.headers, &url)?;
                let (client, hashes) = (&deployment.client, Hashes::both());
                let observer = self.creation.observer;
                client.put_file(&address, file, hashes, observer).await
            }
            _ => Err(unusable(
                &url,
                "it names no way to upload that is known here",
            )),
        }
    }

    /// Says that all of it is there.
    async fn finish(&self, sent: &Sent) -> Result<()> {
        let sha512 = sent.sha512.map(|sha512| sha512.to_string());
        let call = Call::Post {
            path: format!("object/v1/finish-upload/{}", self.name),
            json: json!({
                "projectId": self.project_id,
                "uploadId": self.upload_id,
                "hashes": {"sha256": sent.sha256.to_string(), "sha512": sha512},
            }),
        };
        let deployment = &self.creation.here.deployment;
        deployment.once(self.way, &call).await.map(drop)
    }
}

/// Returns where `by` says that content goes. How long it is, is for the client to say.
fn handed_out(
    url: &str,
    headers: impl IntoIterator<Item = (String, String)>,
    by: &SafeUrl,
) -> Result<Address> {
    let parsed = Url::parse(url);
    let url = parsed.map_err(|err| unusable(by, &format!("its URL is none: {err}")))?;
    let headers = headers
        .into_iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))
        .map(|(name, value)| format!("{name}: {value}").parse());
    let headers: Result<Vec<Header>> = headers.collect();
    Ok(Address {
        headers: headers.map_err(|_malformed| unusable(by, "it has malformed headers"))?,
        handed_out: true,
        ..Address::from(url)
    })
}

fn unusable(by: &SafeUrl, problem: &str) -> Error {
    broken(by, false, problem).while_sending()
}

/// Reads a file of up to [`INLINE`] bytes.
async fn read_small(file: &Outgoing) -> Result<(Vec<u8>, Sent)> {
    let mut content = vec![0; usize::try_from(file.size()).unwrap_or(usize::MAX)];
    file.open().await?.fill(&mut content).await?;
    let mut hashes = Hashes::both();
    hashes.update(&content);
    Ok((content, hashes.finish()))
}

/// Hashes a file that is not sent.
async fn hashes_of(file: &Outgoing) -> Result<Sent> {
    let (mut hashes, mut reading) = (Hashes::both(), file.open().await?);
    let mut buffer = vec![0; 1 << 16];
    while !reading.is_over() {
        let length = reading.fill(&mut buffer).await?;
        hashes.update(&buffer[..length]);
    }
    Ok(hashes.finish())
}

//! `fetch-content upload`: files, links and references become artifacts of the task that this runs in. [`FileUpload`] is
//! how other subcommands upload what they made.

use crate::{
    cli::{args, settings, settings::Tunables, ui::Ui},
    error::{self, Error, Result},
    fs::Outgoing,
    http::{Client, Header, RetryPolicy, Sent},
    size::ByteSize,
    task::{
        ArtifactName, Artifacts, Content, Deployment, NewArtifact, NewFile, RunId, Storage, TaskId,
        media_type,
    },
};
use chrono::{DateTime, Utc};
use std::{
    collections::HashSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use url::Url;

/// Says where uploads go, where the option does not.
const STORAGE: &str = "FETCH_CONTENT_UPLOAD_STORAGE";

/// Runs the subcommand. Everything that can be wrong with its input is found before the first request.
pub(super) async fn run(args: args::Upload, ui: &Arc<Ui>) -> Result<()> {
    let list = artifacts(&args)?;
    let expires = args.expires.as_deref().map(expiry).transpose()?;
    let tunables = Tunables::new(&args.tuning)?;
    let client = Client::new(tunables.http)?;
    let task = OwnTask::from_environment(&client, &tunables.retry, ui)?;
    task.create(list, expires, tunables.transfers, ui).await
}

/// A file that does not exist yet, and is to become an artifact.
pub(super) struct FileUpload {
    task: OwnTask,
    name: ArtifactName,
    storage: Storage,
}

impl FileUpload {
    /// Finds out everything that can be wrong, without asking anybody. Without a name there is nothing to upload.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub(super) fn prepare(
        typed_name: Option<&str>,
        client: &Client,
        retry: &RetryPolicy,
        ui: &Arc<Ui>,
    ) -> Result<Option<Self>> {
        let Some(typed_name) = typed_name else {
            return Ok(None);
        };
        Ok(Some(Self {
            name: artifact_name(typed_name)?,
            storage: storage()?,
            task: OwnTask::from_environment(client, retry, ui)?,
        }))
    }

    /// Uploads the file, which is there now.
    ///
    /// # Errors
    /// [`Error::Deployment`], and [`Error::Fs`] when the file is gone.
    pub(super) async fn run(self, path: &Path, ui: &Arc<Ui>) -> Result<()> {
        let artifact = new_file(self.name, path, self.storage)?;
        self.task.create(vec![artifact], None, 1, ui).await
    }
}

/// The task that this runs in, or one that credentials are given for.
struct OwnTask {
    deployment: Deployment,
    task: TaskId,
    run: RunId,
}

impl OwnTask {
    /// Reads which task it is, and how its deployment is reached.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the variable that is missing or malformed.
    fn from_environment(client: &Client, retry: &RetryPolicy, ui: &Arc<Ui>) -> Result<Self> {
        let missing = |variable: &str, what: &str| Error::Usage {
            what: format!("{variable} is not set"),
            hint: Some(format!(
                "artifacts are created in a task that runs, where workers set it: {what}"
            )),
        };
        let malformed = |variable: &'static str| {
            move |err: crate::task::ParseIdError| Error::usage(format!("{variable}: {err}"))
        };
        let queue = settings::queue()?
            .ok_or_else(|| missing("TASKCLUSTER_ROOT_URL", "the URL of the deployment"))?;
        let task = settings::text("TASK_ID")?
            .ok_or_else(|| missing("TASK_ID", "the id of the task"))?
            .parse()
            .map_err(malformed("TASK_ID"))?;
        let run = settings::text("RUN_ID")?
            .ok_or_else(|| missing("RUN_ID", "the number of its run, from 0"))?
            .parse()
            .map_err(malformed("RUN_ID"))?;
        let observer = ui.listen("queue");
        let deployment = Deployment::new(queue, client.clone(), retry.clone(), observer);
        deployment.check_credentials()?;
        Ok(Self {
            deployment,
            task,
            run,
        })
    }

    /// Creates artifacts, and says what became of them. Without a time they expire with the task.
    ///
    /// # Errors
    /// [`Error::Deployment`] for the first that fails.
    async fn create(
        &self,
        list: Vec<NewArtifact>,
        expires: Option<DateTime<Utc>>,
        at_once: usize,
        ui: &Arc<Ui>,
    ) -> Result<()> {
        let start = Instant::now();
        let expires = match expires {
            Some(expires) => expires,
            None => self.deployment.task_status(&self.task).await?.expires,
        };
        let artifacts = Artifacts {
            deployment: self.deployment.clone(),
            task: self.task.clone(),
            run: self.run,
            expires,
        };
        let names = list.iter().map(|artifact| artifact.name.to_string());
        let names: Vec<String> = names.collect();
        let list = list.into_iter().map(|artifact| {
            let observer = ui.listen(artifact.name.as_str());
            (artifact, observer)
        });
        let created = artifacts.create_all(list.collect(), at_once).await?;
        summary(&names, &created, start.elapsed(), ui);
        Ok(())
    }
}

/// Writes what was created.
fn summary(names: &[String], created: &[Option<Sent>], elapsed: Duration, ui: &Ui) {
    let bytes = ByteSize(created.iter().flatten().map(|sent| sent.bytes).sum());
    ui.line(&format!(
        "created {} artifact{}: {bytes} in {:.2} s ({})",
        names.len(),
        if names.len() == 1 { "" } else { "s" },
        elapsed.as_secs_f64(),
        bytes.rate(elapsed)
    ));
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0).clamp(8, 60);
    ui.line(&format!("  {:width$} {:>10} sha256", "artifact", "size"));
    for (name, sent) in names.iter().zip(created) {
        let (size, sha256) = match sent {
            Some(sent) => (ByteSize(sent.bytes).to_string(), sent.sha256.to_string()),
            None => ("-".into(), "-".into()),
        };
        ui.line(&format!("  {name:width$} {size:>10} {sha256}"));
    }
}

/// Returns a name that an artifact can be created with.
fn artifact_name(typed: &str) -> Result<ArtifactName> {
    typed
        .parse()
        .and_then(ArtifactName::creatable)
        .map_err(|err| Error::usage(err.to_string()))
}

/// Returns a file as an artifact of this name, whose type it has.
fn new_file(name: ArtifactName, path: &Path, storage: Storage) -> Result<NewArtifact> {
    let content_type = media_type(name.as_str()).to_owned();
    let content = Content::File(NewFile {
        file: Outgoing::at(path)?,
        storage,
        content_type,
    });
    Ok(NewArtifact { name, content })
}

/// Returns where uploads go if nothing else is said.
fn storage() -> Result<Storage> {
    match settings::text(STORAGE)?.as_deref() {
        None | Some("s3") => Ok(Storage::S3),
        Some("object") => Ok(Storage::Object),
        Some(other) => Err(Error::usage(format!(
            "{STORAGE} is `{}`, expected `s3` or `object`",
            other.escape_debug()
        ))),
    }
}

/// Checks what was typed.
fn artifacts(args: &args::Upload) -> Result<Vec<NewArtifact>> {
    let mut names = HashSet::new();
    let mut list = Vec::new();
    for typed in &args.artifacts {
        let (name, what) = typed.split_once('=').ok_or_else(|| Error::Usage {
            what: format!("`{}` has no `=`", typed.escape_debug()),
            hint: Some("give artifacts as NAME=FILE, such as public/x.log=x.log".into()),
        })?;
        let name = artifact_name(name)?;
        if !names.insert(name.clone()) {
            return Err(Error::usage(format!("artifact `{name}` is given twice")));
        }
        list.push(artifact(name, what, args)?);
    }
    Ok(list)
}

fn artifact(name: ArtifactName, what: &str, args: &args::Upload) -> Result<NewArtifact> {
    let typed_type = args.content_type.as_deref().map(content_type).transpose()?;
    let storage = match args.storage {
        Some(args::Storage::Link) => {
            if typed_type.is_some() {
                return Err(Error::usage(
                    "--content-type: a link has that of its target",
                ));
            }
            let target = artifact_name(what)?;
            let content = Content::Link { target };
            return Ok(NewArtifact { name, content });
        }
        Some(args::Storage::Reference) => {
            let content = Content::Reference {
                url: reference(what, &name)?,
                content_type: typed_type.unwrap_or_else(|| media_type(name.as_str()).to_owned()),
            };
            return Ok(NewArtifact { name, content });
        }
        Some(args::Storage::S3) => Storage::S3,
        Some(args::Storage::Object) => Storage::Object,
        None => storage()?,
    };
    let mut artifact = new_file(name, Path::new(what), storage)?;
    if let (Content::File(file), Some(typed_type)) = (&mut artifact.content, typed_type) {
        file.content_type = typed_type;
    }
    Ok(artifact)
}

fn content_type(typed: &str) -> Result<String> {
    let sendable = format!("Content-Type: {typed}").parse::<Header>();
    if sendable.is_err() || !typed.contains('/') || typed != typed.trim() {
        return Err(Error::usage(format!(
            "--content-type: `{}` is no media type such as text/plain",
            typed.escape_debug()
        )));
    }
    Ok(typed.to_owned())
}

/// Returns the URL of a reference, if it is one. It is not shown: it may hold a password.
fn reference(typed: &str, name: &ArtifactName) -> Result<String> {
    match Url::parse(typed) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(typed.to_owned())
        }
        _ => Err(Error::usage(format!(
            "what artifact `{name}` refers to is not an http or https URL"
        ))),
    }
}

fn expiry(typed: &str) -> Result<DateTime<Utc>> {
    let parsed = DateTime::parse_from_rfc3339(typed);
    let parsed = parsed.map_err(|err| Error::Usage {
        what: format!(
            "--expires: `{}` is not a time: {}",
            typed.escape_debug(),
            error::chain(&err)
        ),
        hint: Some("give it as 2027-01-31T00:00:00Z".into()),
    })?;
    Ok(parsed.to_utc())
}

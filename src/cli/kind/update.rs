//! `kind update`: new pins for a URL, from what it has now.

use crate::{
    cli::{args, settings::Tunables, ui::Ui},
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::{Request, fetch},
    fs::Staging,
    http::{Address, Source},
    kind::{FetchTask, Graph, StaticUrl, Upstream},
    observe::{Event, Observer},
    safe_url::SafeUrl,
    stream::bridge::run_blocking,
    upstream::parse_url,
    verify::Expected,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// Runs the verb.
pub(super) async fn run(
    graph: &Graph,
    name: &str,
    tuning: &args::Tuning,
    ui: &Arc<Ui>,
) -> Result<()> {
    let task = graph.fetch(name)?;
    let Upstream::StaticUrl(file) = &task.upstream else {
        return Err(Error::Usage {
            what: format!(
                "{}: {} is a git fetch, which a commit pins",
                task.place, task.label
            ),
            hint: Some("write the new commit into its `revision`".into()),
        });
    };
    // Before anything is downloaded: what cannot be edited now cannot be edited then.
    task.repin(&Sha256Digest::from_bytes([0; 32]), 0)?;
    let (sha256, size) = download(file, tuning, ui).await?;
    let (task, ui) = (task.clone(), Arc::clone(ui));
    run_blocking(move || write(&task, &sha256, size, &ui)).await
}

fn write(task: &FetchTask, sha256: &Sha256Digest, size: u64, ui: &Ui) -> Result<()> {
    let edit = task.repin(sha256, size)?;
    let (label, file) = (&task.label, edit.file().display());
    if !edit.is_change() {
        ui.line(&format!(
            "{label} in {file} is up to date: sha256 {sha256}, size {size}"
        ));
        return Ok(());
    }
    edit.write()?;
    ui.line(&format!(
        "updated {label} in {file}: sha256 {sha256}, size {size}"
    ));
    Ok(())
}

/// Downloads a file for nothing but its digest and size in bytes. Nothing of it goes to disk.
async fn download(
    file: &StaticUrl,
    tuning: &args::Tuning,
    ui: &Arc<Ui>,
) -> Result<(Sha256Digest, u64)> {
    let start = Instant::now();
    let url = parse_url(&file.url)?;
    if url.scheme() != "https" {
        ui.warning(&format!(
            "{} is not https: anybody on the way can decide what is pinned now",
            SafeUrl::from(&url)
        ));
    }
    let tunables = Tunables::new(tuning)?;
    let request = Request {
        name: SafeUrl::from(&url).to_string(),
        sources: vec![Source::Url(Box::new(Address {
            headers: file.request_headers()?,
            ..Address::from(url.clone())
        }))],
        expected: Expected::default().known(),
        signed: file.signed()?,
        placings: Vec::new(),
        file_name: "download".into(),
    };
    let client = tunables.client()?;
    let staging = Staging::inside(&std::env::temp_dir())?;
    let context = tunables.context(client, staging, start);
    let label = url
        .path()
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty());
    let watch = Pins {
        inner: ui.watch(label.or(url.host_str()).unwrap_or_default()),
        found: Mutex::default(),
    };
    fetch(&request, &context, &watch)
        .await
        .map_err(|source| Error::Fetch {
            name: request.name.clone(),
            source: Box::new(source),
        })?;
    let found = watch
        .found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    found.ok_or(Error::Cancelled)
}

/// Keeps digest and size of what has arrived.
struct Pins {
    inner: Arc<dyn Observer>,
    found: Mutex<Option<(Sha256Digest, u64)>>,
}

impl Observer for Pins {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::Finished(fetched) = event {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            *found = Some((fetched.sha256, fetched.bytes));
        }
        self.inner.on_event(event);
    }
}

//! `fetch-content git-checkout-archive`: a commit of a git repository becomes a `.tar.zst` of its files.

use crate::{
    cli::{args, settings, settings::Tunables, static_url::file_name, ui::Ui, upload::FileUpload},
    error::{Error, Result},
    fs::Staging,
    observe::Event,
    stream::bridge::run_blocking,
    vcs,
};
use std::{path::Path, sync::Arc, time::Instant};

/// Runs the subcommand.
pub(super) async fn run(args: args::GitCheckoutArchive, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let file_name = file_name(&args.dest)?.to_owned();
    let tunables = Tunables::new(&args.tuning)?;
    let ssh_key = match &args.ssh_key_secret {
        Some(name) => Some(settings::secrets()?.secret(name)),
        None => None,
    };
    let request = vcs::Request {
        ssh_key,
        known_hosts: args.ssh_known_hosts,
        repo: args.repo,
        revision: args.commit,
        path_prefix: args.path_prefix,
        include_dot_git: args.include_dot_git,
        file_name,
    };
    let client = tunables.client()?;
    let upload = FileUpload::prepare(args.upload.as_deref(), &client, &tunables.retry, ui)?;
    let staging = Staging::inside(args.dest.parent().unwrap_or(Path::new("")))?;
    let context = tunables.context(client, staging, start);
    let observer = ui.watch(&request.file_name.to_string_lossy());
    let staged =
        vcs::fetch(&request, &context, &*observer)
            .await
            .map_err(|source| match source {
                usage @ Error::Usage { .. } => usage,
                source => Error::Fetch {
                    name: args.dest.display().to_string(),
                    source: Box::new(source),
                },
            })?;
    for warning in staged.warnings {
        observer.on_event(&Event::Warning(warning));
    }
    let staging = Arc::clone(&context.staging);
    run_blocking(move || staging.publish_file(&staged.directory, &request.file_name)).await?;
    ui.summary(start.elapsed());
    match upload {
        Some(upload) => upload.run(&args.dest, ui).await,
        None => Ok(()),
    }
}

//! `fetch-content image pull`: an image of a registry in a layout.

use super::registry::{connection, reference, short};
use crate::{
    cli::{args, settings::Tunables, ui::Ui},
    error::{Error, Result},
    oci::{
        Layout,
        registry::{Pull, Repository, pull},
    },
    stream::bridge::run_blocking,
};
use std::{sync::Arc, time::Instant};

/// Runs the verb. Everything that can be wrong with its input is found before the first request.
pub(super) async fn run(args: args::ImagePull, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let reference = reference(&args.reference)?;
    let platforms = args.platform.as_deref().map(str::parse).transpose();
    let platforms = platforms.map_err(|err| Error::usage(format!("--platform: {err}")))?;
    let tunables = Tunables::new(&args.tuning)?;
    let client = tunables.client()?;
    let connection = connection(&args.way, &client, &tunables);
    let repository = Repository::reading(&reference, &connection)?;
    let output = args.output;
    let layout = run_blocking(move || Layout::create(&output)).await?;
    let staging = Arc::clone(layout.staging()?);
    let transfers = tunables.transfers;
    let job = Pull {
        repository,
        layout: Arc::new(layout),
        tag: args.tag.unwrap_or_else(|| reference.tag_or_latest().into()),
        platforms: platforms.unwrap_or_default(),
        transfers,
        context: Arc::new(tunables.context_in(client, staging, start)),
    };
    let pulled = pull(&job, |digest| ui.watch(&short(digest))).await?;
    if let Some(other) = &pulled.other_platform {
        ui.warning(&format!(
            "{reference} is for {other}, not for {}, and there is no other",
            job.platforms
        ));
    }
    ui.summary(start.elapsed());
    ui.line(&format!(
        "pulled {reference} as `{}`: {} blobs fetched, {} were there",
        job.tag.escape_debug(),
        pulled.fetched,
        pulled.present
    ));
    Ui::data(&pulled.descriptor.digest.to_string())
}

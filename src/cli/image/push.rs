//! `fetch-content image push`: an image of a layout at a registry.

use super::registry::{connection, reference, short};
use crate::{
    cli::{args, settings::Tunables, ui::Ui},
    error::{Error, Result},
    oci::{
        Layout,
        registry::{self, Push, Reference, Repository},
    },
    size::ByteSize,
    stream::bridge::run_blocking,
};
use std::{sync::Arc, time::Instant};

/// Runs the verb. Everything that can be wrong with its input is found before the first request.
pub(super) async fn run(args: args::ImagePush, ui: &Arc<Ui>) -> Result<()> {
    let reference = reference(&args.reference)?;
    for from in &args.mount_from {
        let beside = format!("{}/{from}", reference.host).parse::<Reference>();
        if !beside.is_ok_and(|beside| beside.repository == *from) {
            return Err(Error::usage(format!(
                "--mount-from: `{}` is no repository of {}",
                from.escape_debug(),
                reference.host
            )));
        }
    }
    let tunables = Tunables::new(&args.tuning)?;
    let connection = connection(&args.way, &tunables.client()?, &tunables);
    let repository = Repository::writing(&reference, &connection)?;
    let place = args.place;
    let opening = run_blocking(move || {
        let layout = Layout::open(&place.layout)?;
        let image = layout.find(place.tag.as_deref())?;
        Ok((layout, image))
    });
    let (layout, image) = opening.await?;
    if let Some(wanted) = reference.digest.filter(|wanted| *wanted != image.digest) {
        return Err(Error::usage(format!(
            "the image has the digest {}, and is to be pushed as {wanted}",
            image.digest
        )));
    }
    let digest = image.digest;
    let job = Push {
        repository,
        layout: Arc::new(layout),
        image,
        mount_from: args.mount_from,
        transfers: tunables.transfers,
    };
    push(&job, ui).await?;
    Ui::data(&digest.to_string())
}

/// Pushes, and says what was done.
pub(super) async fn push(job: &Push, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let pushed = registry::push(job, |digest| ui.listen(&short(digest))).await?;
    let (elapsed, bytes) = (start.elapsed(), ByteSize(pushed.bytes));
    ui.line(&format!(
        "pushed {} in {:.2} s: {} blobs sent ({bytes}), {} mounted, {} were there",
        job.repository.reference(),
        elapsed.as_secs_f64(),
        pushed.sent,
        pushed.mounted,
        pushed.present
    ));
    Ok(())
}

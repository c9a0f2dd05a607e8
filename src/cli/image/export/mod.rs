//! `fetch-content image export`: an image with one layer for each fetch.

mod entries;
mod output;
mod packer;

use crate::{
    cli::{args, image::registry::connection, settings::Tunables, ui::Ui},
    error::{Error, Result},
    oci::{
        Digest, Layout,
        cache::{self, Described},
        image::{self, Base},
        media_type::LayerFormat,
    },
    rel_path::RelPath,
    stream::bridge::run_blocking,
};
use entries::Entries;
pub(super) use output::REGISTRY;
use output::{CacheOutput, Output, WrittenCache};
use packer::{Packed, Packer};
use std::{sync::Arc, time::Instant};

/// Runs the verb. Nothing is published before everything is there.
pub(super) async fn run(mut args: args::ImageExport, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let directory = RelPath::parse(args.directory.trim_start_matches('/').as_bytes())
        .map_err(|err| Error::usage(format!("--directory {err}")))?;
    let mut tunables = Tunables::new(&args.tuning)?;
    let (client, transfers) = (tunables.client()?, tunables.transfers);
    let connection = connection(&args.way, &client, &tunables);
    let cache_to = args.cache_to.as_deref();
    let cache_to = cache_to.map(|typed| CacheOutput::of(typed, &connection));
    let cache_to = cache_to.transpose()?;
    let base = base(&args).await?;
    let Entries { items, wanted } = if args.of.task.is_some() {
        Entries::of_task(&mut args, &directory, tunables.clone(), ui).await?
    } else {
        Entries::of_list(&args, &directory, (&client, &tunables), ui).await?
    };

    let path = args.output.clone();
    let output = run_blocking(move || Output::open(&path)).await?;
    let staging = Arc::clone(output.layout.staging()?);
    // The time of the export must not be in the image.
    tunables.limits.untimed_is_epoch = true;
    let context = tunables.context_in(client, staging, start);
    let layout = Arc::clone(&output.layout);
    let packed = Packer::new(context, layout, format(args.compression))
        .pack(items, wanted, transfers)
        .await?;
    let instructions: Vec<String> = packed.iter().map(Packed::instruction).collect();
    let shown = args.dockerfile;
    let publishing = run_blocking(move || {
        let (digest, written) = publish(&args, &output, base.as_ref(), &packed, cache_to.as_ref())?;
        // A cache for a registry lives as long as the output.
        Ok((output, digest, cache_to.zip(written)))
    });
    let (_output, digest, cache) = publishing.await?;
    if let Some((cache_to, written)) = cache {
        cache_to.push(written, transfers, ui).await?;
    }
    if shown {
        Ui::data(&format!("# image {digest}"))?;
        for instruction in instructions {
            Ui::data(&instruction)?;
        }
    } else {
        Ui::data(&digest.to_string())?;
    }
    ui.summary(start.elapsed());
    Ok(())
}

fn format(compression: args::Compression) -> LayerFormat {
    match compression {
        args::Compression::Zstd => LayerFormat::Zstd,
        args::Compression::Gzip => LayerFormat::Gzip,
        args::Compression::None => LayerFormat::Tar,
    }
}

async fn base(args: &args::ImageExport) -> Result<Option<(Layout, Base)>> {
    let Some(path) = args.base.clone() else {
        return Ok(None);
    };
    let (tag, platform) = (args.base_tag.clone(), args.platform.clone());
    let read = move || {
        let layout = Layout::open(&path)?;
        let base = Base::read(&layout, tag.as_deref(), &platform)?;
        Ok(Some((layout, base)))
    };
    run_blocking(read).await
}

/// Puts everything into the layout, the tag last. Returns the image's digest, and the cache that was written alone.
fn publish(
    args: &args::ImageExport,
    output: &Output,
    base: Option<&(Layout, Base)>,
    packed: &[Packed],
    cache_to: Option<&CacheOutput>,
) -> Result<(Digest, Option<WrittenCache>)> {
    let layout = &output.layout;
    let scratch = Base::scratch(&args.platform);
    let below = base.map_or(&scratch, |(_, base)| base);
    let described = Described {
        base: base.map(|(_, base)| base.described()),
        fetches: packed
            .iter()
            .enumerate()
            .map(|(number, packed)| packed.fetched(below.layers.len() + number))
            .collect(),
        created: Some(args.created.clone()),
        instructions: match args.instructions {
            args::Instructions::Both => cache::Instructions::Both,
            args::Instructions::Link => cache::Instructions::Link,
            args::Instructions::Plain => cache::Instructions::Plain,
        },
    };
    let records = cache::records(&described);
    if let Some((from, base)) = base {
        for blob in &base.layers {
            layout.copy_blob(from, blob)?;
        }
    }
    let added: Vec<image::Added> = packed.iter().map(Packed::added).collect();
    let inline = (!args.no_cache).then(|| cache::encode(&records));
    let manifest = image::write(layout, below, &added, inline, &args.created)?;
    let written = match cache_to {
        Some(cache_to) => {
            let cache = cache::export(&records, &layers(below, &added, &args.created))?;
            Some(cache_to.write(&args.tag, layout, &cache)?)
        }
        None => None,
    };
    let digest = manifest.digest;
    layout.tag(&args.tag, manifest)?;
    output.publish()?;
    Ok((digest, written))
}

/// Returns all layers of an image as a cache lists them.
fn layers(base: &Base, added: &[image::Added], created: &str) -> Vec<cache::Blob> {
    let below = base
        .layers
        .iter()
        .cloned()
        .zip(base.diff_ids.iter().copied());
    let on_top = added
        .iter()
        .map(|added| (added.layer.descriptor(), added.layer.diff_id));
    let layers = below
        .chain(on_top)
        .map(|(descriptor, diff_id)| cache::Blob {
            descriptor,
            diff_id,
            created: created.to_owned(),
        });
    layers.collect()
}

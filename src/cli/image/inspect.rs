//! `fetch-content image inspect`: what is in an image, and what its cache can be used for.

use crate::{
    cli::{args, ui::Ui},
    error::{Error, Result},
    oci::{
        Layout, Tagged,
        inspect::{Described, Image, Inspected, Record, inspect},
    },
    stream::bridge::run_blocking,
};
use std::sync::Arc;

/// Runs the verb.
pub(super) async fn run(args: args::ImageInspect) -> Result<()> {
    let path = args.place.layout;
    let layout = run_blocking(move || Layout::open(&path)).await?;
    let image = Tagged {
        layout: Arc::new(layout),
        tag: args.place.tag,
    };
    let found = inspect(&image).await?;
    if args.json {
        let json = serde_json::to_string_pretty(&found);
        return Ui::data(&json.map_err(|err| Error::usage(err.to_string()))?);
    }
    Ui::data(&text(&found))
}

/// Returns a line for everything, with tabs in between.
fn text(found: &Inspected) -> String {
    let top = format!("{}\t{}", found.media_type.escape_debug(), found.digest);
    let images = found.images.iter().flat_map(image);
    let caches = found.caches.iter().flat_map(described);
    let lines: Vec<String> = std::iter::once(top).chain(images).chain(caches).collect();
    lines.join("\n")
}

fn image(image: &Image) -> Vec<String> {
    let platform = image.platform.as_ref().map(|platform| {
        let (os, architecture) = (&platform.os, &platform.architecture);
        format!("\t{}/{}", os.escape_debug(), architecture.escape_debug())
    });
    let platform = platform.unwrap_or_default();
    let mut lines = vec![format!("image\t{}{platform}", image.digest)];
    lines.extend(problem(image.problem.as_deref()));
    for (number, layer) in image.layers.iter().enumerate() {
        let descriptor = &layer.descriptor;
        lines.push(format!(
            "layer {number}\t{}\t{}\t{}",
            descriptor.digest,
            descriptor.size,
            layer
                .created_by
                .as_deref()
                .unwrap_or_default()
                .escape_debug()
        ));
    }
    lines
}

fn described(cache: &Described) -> Vec<String> {
    let mut lines = vec![format!("cache\t{} records", cache.records.len())];
    lines.extend(problem(cache.problem.as_deref()));
    for (number, record) in cache.records.iter().enumerate() {
        lines.push(format!(
            "record {number}\t{}\t{}",
            record.digest.escape_debug(),
            results(record)
        ));
    }
    lines
}

fn results(record: &Record) -> String {
    let results = record.results.iter().map(|result| match &result.problem {
        None => {
            let layers: Vec<String> = result.layers.iter().map(usize::to_string).collect();
            format!("layers {}", layers.join(" "))
        }
        Some(problem) => format!("cannot be used: {}", problem.escape_debug()),
    });
    let results: Vec<String> = results.collect();
    match &results[..] {
        [] => "no result".to_owned(),
        results => results.join("; "),
    }
}

fn problem(problem: Option<&str>) -> Option<String> {
    problem.map(|problem| format!("problem\t{}", problem.escape_debug()))
}

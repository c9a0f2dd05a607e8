//! `fetch-content image inspect`: what is in an image.

use crate::{
    cli::{args, ui::Ui},
    error::Result,
    oci::{Layout, media_type},
    stream::bridge::run_blocking,
};
use serde_json::{Value, json};

/// Runs the verb.
pub(super) async fn run(args: args::ImageInspect) -> Result<()> {
    let place = args.place;
    let found = run_blocking(move || {
        let layout = Layout::open(&place.layout)?;
        look(&layout, place.tag.as_deref())
    });
    let found = found.await?;
    if args.json {
        return Ui::data(&found.to_string());
    }
    Ui::data(&format!("manifest {}", text(&found["digest"])))?;
    for layer in found["layers"].as_array().into_iter().flatten() {
        Ui::data(&format!(
            "layer\t{}\t{}\t{}",
            text(&layer["digest"]),
            layer["size"],
            text(&layer["mediaType"])
        ))?;
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn look(layout: &Layout, tag: Option<&str>) -> Result<Value> {
    let found = layout.find(tag)?;
    if media_type::is_index(&found.media_type) {
        let index = layout.inner_index(&found)?;
        return Ok(json!({"digest": found.digest, "manifests": index.manifests}));
    }
    let manifest = layout.manifest(&found)?;
    Ok(json!({"digest": found.digest, "layers": manifest.layers}))
}

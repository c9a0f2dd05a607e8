//! What can be typed for `image`.

use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

/// Make images whose layers are fetches, and look at them.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Image {
    #[command(subcommand)]
    pub(in crate::cli) verb: ImageVerb,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImageVerb {
    Inspect(ImageInspect),
}

/// Which image of a layout.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct ImagePlace {
    /// An OCI image layout: a directory, or a tar of one
    pub(in crate::cli) layout: PathBuf,
    /// Which image, if there are several [default: latest]
    #[arg(long, value_name = "TAG")]
    pub(in crate::cli) tag: Option<String>,
}

/// Tell what is in an image: its layers, which fetch each holds, and what a cache in it can be used for.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct ImageInspect {
    #[command(flatten)]
    pub(in crate::cli) place: ImagePlace,
    /// Print an object
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

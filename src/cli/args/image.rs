//! What can be typed for `image`.

use super::{Nearby, OfTask, Push, Tuning};
use crate::oci::{Digest, Platform};
use chrono::{SecondsFormat, Timelike};
use clap::{ArgGroup, Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Make images whose layers are fetches, and look at them.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Image {
    #[command(subcommand)]
    pub(in crate::cli) verb: ImageVerb,
}

impl Image {
    /// Returns whether files are unpacked that an image is made of.
    pub(in crate::cli) fn makes_an_image(&self) -> bool {
        matches!(self.verb, ImageVerb::Export(_))
    }
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImageVerb {
    Export(Box<ImageExport>),
    Import(Box<ImageImport>),
    Inspect(ImageInspect),
    Pull(Box<ImagePull>),
    Push(Box<ImagePush>),
}

/// Make an image with one layer for each fetch, and a cache in it that builds use.
///
/// Fetches are listed as for `task-artifacts`, or are those of a TASK of a graph, which come from where `inputs` has them
/// from. The same fetches give the same bytes on every machine. A build with
/// `--cache-from` the image takes what its Dockerfile says by `ADD --checksum` from the layers, whether or not upstream has
/// it any more. The digest of the image is printed.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXPORT_EXAMPLE)]
pub(in crate::cli) struct ImageExport {
    /// Where to put it: a directory that is an OCI image layout or becomes one, or a file `….tar`
    #[arg(short, long, value_name = "DIR|FILE.tar")]
    pub(in crate::cli) output: PathBuf,
    /// The name of the image in the layout
    #[arg(long, value_name = "TAG", default_value = "latest", value_parser = tag)]
    pub(in crate::cli) tag: String,
    /// Read the list from a file (`-`: standard input) and not from MOZ_FETCHES
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    pub(in crate::cli) fetches: Option<PathBuf>,
    /// Worker key that must have signed the chains of trust: ed25519, in base64 or hex, or @FILE (repeatable)
    #[arg(long, value_name = "KEY", conflicts_with = "task")]
    pub(in crate::cli) chain_of_trust_key: Vec<String>,
    /// Read artifacts from a store, or from DIR/task/TASK/artifacts/NAME, and not from a queue; with TASK, the store of
    /// `inputs`
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) store: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) of: OfTask,
    #[command(flatten)]
    pub(in crate::cli) nearby: Nearby,
    #[command(flatten)]
    pub(in crate::cli) push: Push,
    /// The directory in the image that fetches go into
    #[arg(long, value_name = "DIR", default_value = "/fetches")]
    pub(in crate::cli) directory: String,
    /// Image whose layers come first: an image layout. Builds that find the cache begin with `FROM` it
    #[arg(long, value_name = "LAYOUT")]
    pub(in crate::cli) base: Option<PathBuf>,
    /// Which image of it, if there are several [default: latest]
    #[arg(long, value_name = "TAG", requires = "base")]
    pub(in crate::cli) base_tag: Option<String>,
    /// What the image is for
    #[arg(long, value_name = "OS/ARCHITECTURE[/VARIANT]", default_value = "linux/amd64", value_parser = platform)]
    pub(in crate::cli) platform: Platform,
    /// How layers are compressed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Compression::Zstd)]
    pub(in crate::cli) compression: Compression,
    /// When the image says it was made
    #[arg(long, value_name = "TIME", default_value = "1970-01-01T00:00:00Z", value_parser = time)]
    pub(in crate::cli) created: String,
    /// Leave the cache out of the image
    #[arg(long)]
    pub(in crate::cli) no_cache: bool,
    /// Also write the cache alone, with its layers, into this image layout, or to a registry
    #[arg(long, value_name = "DIR|docker://IMAGE")]
    pub(in crate::cli) cache_to: Option<String>,
    /// Instructions that the cache is for: `ADD --link`, `ADD` without, or both, which takes more room
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Instructions::Both)]
    pub(in crate::cli) instructions: Instructions,
    /// Print the instructions that find the layers, behind a comment with the digest
    #[arg(long)]
    pub(in crate::cli) dockerfile: bool,
    #[command(flatten)]
    pub(in crate::cli) way: RegistryWay,
    #[command(flatten)]
    pub(in crate::cli) tuning: Tuning,
}

/// Images that fetches may be taken from.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Images")]
pub(in crate::cli) struct Import {
    /// Take fetches from the layers of an image before asking anybody: an image layout, a tar of one, either with `:TAG`,
    /// or `docker://IMAGE` at a registry (repeatable). Only entries whose SHA-256 is known beforehand are looked for
    #[arg(long, value_name = "LAYOUT")]
    pub(in crate::cli) cache_from: Vec<String>,
    /// Believe the image with this digest what it has unpacked of archives: nobody can verify that by the archives' own
    /// digests (repeatable)
    #[arg(long, value_name = "sha256:HEX", requires = "cache_from")]
    pub(in crate::cli) trust_cache: Vec<Digest>,
    /// The directory in images that fetches are in
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/fetches",
        requires = "cache_from"
    )]
    pub(in crate::cli) cache_directory: String,
    #[command(flatten)]
    pub(in crate::cli) way: RegistryWay,
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum Compression {
    Zstd,
    Gzip,
    None,
}

/// Instructions that a cache is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum Instructions {
    Both,
    Link,
    Plain,
}

/// Parses a tag as registries take it.
pub(in crate::cli) fn tag(text: &str) -> Result<String, String> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins_well = !text.starts_with(['.', '-']) && !text.is_empty();
    if begins_well && text.len() <= 128 && text.bytes().all(inside) {
        return Ok(text.to_owned());
    }
    Err("expected up to 128 letters, digits, `_`, `.` and `-`, the last two not first".into())
}

fn platform(text: &str) -> Result<Platform, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let is_name =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match &parts[..] {
        [os, architecture, variant @ ..] if variant.len() < 2 && parts.iter().all(is_name) => {
            Ok(Platform {
                architecture: (*architecture).to_owned(),
                os: (*os).to_owned(),
                variant: variant.first().map(|variant| (*variant).to_owned()),
                os_version: None,
                ..Platform::default()
            })
        }
        _ => Err("expected a system and a processor, such as `linux/arm64`".into()),
    }
}

fn time(text: &str) -> Result<String, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text)
        .map_err(|_malformed| "expected a time such as 2027-01-31T00:00:00Z")?;
    // Go, in which BuildKit is written, has none.
    if time.nanosecond() >= 1_000_000_000 {
        return Err("leap seconds cannot be told to others".into());
    }
    Ok(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

const EXPORT_EXAMPLE: &str = "\
Example:
  fetch-content image export --fetches fetches.json --store store --output image --dockerfile
";

/// Take fetches out of images, and from nowhere else.
///
/// For workers that start from an image, or whose network ends there. What is in none of the images is an error, and then
/// nothing is put anywhere. Fetches are listed as for `task-artifacts`, with the SHA-256 of each; by a lock of `inputs`; or
/// by the graph of a TASK.
#[derive(Debug, ClapArgs)]
#[command(after_help = IMPORT_EXAMPLE, group(ArgGroup::new("images").args(["cache_from"]).required(true)))]
pub(in crate::cli) struct ImageImport {
    /// Destination directory [default: $MOZ_FETCHES_DIR]
    #[arg(short, long, value_name = "DIR")]
    pub(in crate::cli) dest: Option<PathBuf>,
    /// Read the list from a file (`-`: standard input) and not from MOZ_FETCHES
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "locked"])]
    pub(in crate::cli) fetches: Option<PathBuf>,
    /// Take what a lock of `inputs` has; with TASK, only its digests
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) locked: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) of: OfTask,
    #[command(flatten)]
    pub(in crate::cli) import: Import,
    #[command(flatten)]
    pub(in crate::cli) tuning: Tuning,
}

const IMPORT_EXAMPLE: &str = "\
Example:
  fetch-content image import --locked inputs.json --cache-from docker://registry.example/ci/inputs:1 --dest fetches
";

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

/// Copy an image from a registry into a layout.
///
/// IMAGE is REGISTRY/REPOSITORY:TAG@DIGEST, as for Docker; all but the repository may be missing. Blobs that the layout has are not downloaded again. The
/// digest of what was pulled is printed.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct ImagePull {
    /// The image at a registry
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) reference: String,
    /// An OCI image layout: a directory, which is made where it is missing
    #[arg(short, long, value_name = "DIR")]
    pub(in crate::cli) output: PathBuf,
    /// What the image is called in the layout [default: its tag at the registry]
    #[arg(long, value_name = "TAG", value_parser = tag)]
    pub(in crate::cli) tag: Option<String>,
    /// Which image, if there are several: OS/ARCHITECTURE[/VARIANT], or `all` [default: for this machine]
    #[arg(long, value_name = "PLATFORM")]
    pub(in crate::cli) platform: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) way: RegistryWay,
    #[command(flatten)]
    pub(in crate::cli) tuning: Tuning,
}

/// Copy an image from a layout to a registry.
///
/// IMAGE is REGISTRY/REPOSITORY:TAG, as for Docker; all but the repository may be missing. What the registry has is not sent again. The digest of what was
/// pushed is printed.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct ImagePush {
    #[command(flatten)]
    pub(in crate::cli) place: ImagePlace,
    /// What to call it at a registry
    #[arg(value_name = "IMAGE")]
    pub(in crate::cli) reference: String,
    /// A repository of the same registry that may have some of the blobs already (repeatable)
    #[arg(long, value_name = "REPOSITORY")]
    pub(in crate::cli) mount_from: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) way: RegistryWay,
    #[command(flatten)]
    pub(in crate::cli) tuning: Tuning,
}

/// How to talk to a registry.
#[derive(Debug, Default, ClapArgs)]
pub(in crate::cli) struct RegistryWay {
    /// Do without TLS; registries on this machine are asked so anyway
    #[arg(long)]
    pub(in crate::cli) plain_http: bool,
}

#[cfg(test)]
mod tests {
    use super::time;
    use crate::cli::args::{Args, Command};
    use clap::Parser;

    #[test]
    fn only_what_makes_an_image_needs_a_umask() {
        for (words, makes) in [
            (&["export", "--output", "x"][..], true),
            (&["pull", "x", "--output", "x"], false),
            (&["push", "x", "x"], false),
            (&["inspect", "x"], false),
        ] {
            let words = ["fetch-content", "image"].iter().chain(words);
            let Command::Image(image) = Args::try_parse_from(words).unwrap().command else {
                panic!("{makes}");
            };
            assert_eq!(image.makes_an_image(), makes);
        }
    }

    #[test]
    fn a_time_has_one_spelling() {
        for (typed, written) in [
            ("2027-01-31T00:00:00Z", "2027-01-31T00:00:00Z"),
            ("2027-01-31 00:00:00z", "2027-01-31T00:00:00Z"),
            (
                "2027-01-31T01:30:00.500+01:30",
                "2027-01-31T01:30:00.500+01:30",
            ),
            ("2027-01-31T00:00:00.000-00:00", "2027-01-31T00:00:00Z"),
        ] {
            assert_eq!(time(typed).as_deref(), Ok(written), "{typed}");
        }
        for (typed, problem) in [
            ("2016-12-31T23:59:60Z", "leap seconds"),
            ("2016-12-31T23:59:60.5Z", "leap seconds"),
            ("yesterday", "expected a time such as"),
        ] {
            let err = time(typed).unwrap_err();
            assert!(err.contains(problem), "{typed}: {err}");
        }
    }
}

//! `fetch-content static-url`: one upstream URL becomes one verified file, repacked where its name asks for it.

use crate::{
    archive::{Placing, Repack, is_tar_zst},
    cli::{args, settings::Tunables, ui::Ui},
    error::{Error, Result},
    fetch::{Context, Request, fetch, placing_slots},
    fs::{self, Staging},
    http::{Client, Source},
    observe::Event,
    safe_url::SafeUrl,
    stream::bridge::run_blocking,
    verify::Expected,
};
use std::{ffi::OsStr, path::Path, sync::Arc, time::Instant};
use url::Url;

/// Runs the subcommand. Everything that can be wrong with its input is found before the first request.
pub(super) async fn run(args: args::StaticUrl, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let url = url(&args.url)?;
    let observer_name = label(&url).to_owned();
    let request = request(&args, url, ui)?;
    let tunables = Tunables::from_env()?;
    let context = Context {
        client: Client::new(tunables.http)?,
        retry: tunables.retry,
        placing_slots: placing_slots(),
        limits: tunables.limits,
        staging: Arc::new(Staging::inside(
            args.dest.parent().unwrap_or(Path::new("")),
        )?),
        start,
    };
    let observer = ui.watch(&observer_name);
    match fetch(&request, &context, &*observer).await {
        Ok(staged) => {
            for warning in staged.warnings {
                observer.on_event(&Event::Warning(warning));
            }
            run_blocking(move || {
                context
                    .staging
                    .publish_file(&staged.directory, &request.file_name)
            })
            .await?;
        }
        Err(source) => {
            return Err(Error::Fetch {
                name: request.name,
                source: Box::new(source),
            });
        }
    }
    ui.summary(start.elapsed());
    Ok(())
}

/// Checks what was typed. The warning comes last, when nothing is wrong.
fn request(args: &args::StaticUrl, url: Url, ui: &Ui) -> Result<Request> {
    if args.gpg_sig_url.is_some() {
        return Err(Error::usage("OpenPGP signatures are not supported yet"));
    }
    let sha256 = args
        .sha256
        .parse()
        .map_err(|err| Error::usage(format!("--sha256: {err}")))?;
    let headers = args.headers.iter().map(|header| header.parse());
    let headers = headers.collect::<Result<_>>()?;
    let file_name = file_name(&args.dest)?;
    let placing = placing(args, &url, file_name)?;
    if args.size == 0 {
        ui.warning("with --size 0 the size of the download is not checked");
    }
    let expected = Expected {
        sha256: Some(sha256),
        size: Some(args.size).filter(|&size| size > 0),
    };
    Ok(Request {
        name: SafeUrl::from(&url).to_string(),
        source: Source::Url { url, headers },
        expected: expected.known(),
        placing,
        file_name: file_name.to_owned(),
    })
}

fn url(typed: &str) -> Result<Url> {
    // Not shown as typed: it may hold a password.
    let url = Url::parse(typed).map_err(|err| Error::usage(format!("malformed URL: {err}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => Err(Error::Usage {
            what: format!(
                "`{scheme}` URLs are not supported yet: {}",
                SafeUrl::from(&url)
            ),
            hint: Some("give an http or https URL".into()),
        }),
    }
}

/// Returns the last segment of a URL's path as it is, without undoing percent-encoding.
fn last_segment(url: &Url) -> &str {
    url.path().rsplit('/').next().unwrap_or_default()
}

/// Returns what the observer calls the fetch.
fn label(url: &Url) -> &str {
    match last_segment(url) {
        "" => url.host_str().unwrap_or_default(),
        segment => segment,
    }
}

fn file_name(dest: &Path) -> Result<&OsStr> {
    match dest.file_name() {
        Some(_) if fs::is_directory(dest) => Err(Error::usage(format!(
            "`{}` is a directory: DEST is the name of the file to write",
            dest.display()
        ))),
        Some(name) => Ok(name),
        None => Err(Error::usage(format!(
            "`{}` does not end in a file name",
            dest.display()
        ))),
    }
}

/// Decides by names and options whether to repack.
fn placing(args: &args::StaticUrl, url: &Url, dest: &OsStr) -> Result<Placing> {
    let download = last_segment(url);
    let repack = Repack {
        strip_components: args.strip_components,
        add_prefix: args.add_prefix.clone(),
        wrap_as: args.force_archive.then(|| download.to_owned()),
    };
    let dest = dest.to_string_lossy();
    if !repack.is_needed(download, &dest) {
        return Ok(Placing::Keep);
    }
    if !is_tar_zst(&dest) {
        return Err(Error::Usage {
            what: format!(
                "cannot repack `{download}` as `{dest}`: only .tar.zst archives can be produced"
            ),
            hint: Some("to keep the download as it is, give DEST the same suffixes".into()),
        });
    }
    if args.force_archive && download.is_empty() {
        return Err(Error::usage(format!(
            "{} has no file name to give to the member of an archive",
            SafeUrl::from(url)
        )));
    }
    Ok(Placing::Repack(repack))
}

//! `fetch-content static-url`: one upstream URL becomes one verified file, repacked where its name asks for it.

use crate::{
    archive::{Placing, Repack, is_tar_zst},
    cli::{args, settings::Tunables, ui::Ui, upload::FileUpload},
    error::{self, Error, Result},
    fetch::{Context, Request, Signed, Staged, fetch, placing_slots},
    fs::{self, Staging},
    http::{Address, Client, Header, Source},
    observe::Event,
    safe_url::SafeUrl,
    stream::bridge::run_blocking,
    verify::{
        Expected,
        openpgp::{Fingerprint, Keyring},
    },
};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, sync::Arc, time::Instant};
use url::Url;

/// Runs the subcommand. Everything that can be wrong with its input is found before the first request.
pub(super) async fn run(args: args::StaticUrl, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let url = url(&args.url)?;
    let observer_name = label(&url).to_owned();
    let request = request(&args, url, ui)?;
    let tunables = Tunables::new(&args.tuning)?;
    let client = Client::new(tunables.http)?;
    let upload = args.upload.as_deref();
    let upload = upload.map(|name| FileUpload::prepare(name, &client, &tunables.retry, ui));
    let upload = upload.transpose()?;
    let context = Context {
        client,
        retry: tunables.retry,
        placing_slots: placing_slots(),
        limits: tunables.limits,
        staging: Arc::new(Staging::inside(
            args.dest.parent().unwrap_or(Path::new("")),
        )?),
        start,
    };
    let observer = ui.watch(&observer_name);
    let staged = fetch(&request, &context, &*observer)
        .await
        .map_err(|source| Error::Fetch {
            name: request.name.clone(),
            source: Box::new(source),
        })?;
    for Staged {
        directory,
        warnings,
    } in staged
    {
        for warning in warnings {
            observer.on_event(&Event::Warning(warning));
        }
        let (staging, name) = (Arc::clone(&context.staging), request.file_name.clone());
        run_blocking(move || staging.publish_file(&directory, &name)).await?;
    }
    ui.summary(start.elapsed());
    match upload {
        Some(upload) => upload.run(&args.dest, ui).await,
        None => Ok(()),
    }
}

/// Checks what was typed. The warning comes last, when nothing is wrong.
fn request(args: &args::StaticUrl, url: Url, ui: &Ui) -> Result<Request> {
    let sha256 = args
        .sha256
        .parse()
        .map_err(|err| Error::usage(format!("--sha256: {err}")))?;
    let headers = args.headers.iter().map(|header| header.parse());
    let headers: Vec<_> = headers.collect::<Result<_>>()?;
    if url.scheme() == "ftp" && !headers.is_empty() {
        return Err(Error::usage("--header is for http and https URLs only"));
    }
    let file_name = file_name(&args.dest)?;
    let placing = placing(args, &url, file_name)?;
    let signed = signed(args)?;
    if args.size == 0 {
        ui.warning("with --size 0 the size of the download is not checked");
    }
    let expected = Expected {
        sha256: Some(sha256),
        size: Some(args.size).filter(|&size| size > 0),
        ..Expected::default()
    };
    Ok(Request {
        name: SafeUrl::from(&url).to_string(),
        sources: sources(args, url, headers)?,
        expected: expected.known(),
        signed,
        placings: vec![placing],
        file_name: file_name.to_owned(),
    })
}

/// Returns the places to download from in the order in which they are tried. Headers are for the given one only.
fn sources(args: &args::StaticUrl, given: Url, headers: Vec<Header>) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for mirror in &args.mirrors {
        let mirror =
            url(mirror).map_err(|err| Error::usage(format!("--mirror: {}", error::chain(&err))))?;
        sources.push(Source::Url(Box::new(mirror.into())));
    }
    let given = Source::Url(Box::new(Address {
        headers,
        ..Address::from(given)
    }));
    let place = if args.mirrors_first { sources.len() } else { 0 };
    sources.insert(place, given);
    Ok(sources)
}

/// Reads the keys that a signature is to be verified with. Headers are the business of the download's server and not
/// of the signature's; the Python tool does not send them either.
fn signed(args: &args::StaticUrl) -> Result<Option<Signed>> {
    let (Some(typed), Some(variable)) = (&args.gpg_sig_url, &args.gpg_key_env) else {
        return Ok(None);
    };
    let url = url(typed)?;
    let pins = args.gpg_fingerprint.iter().map(|pin| pin.parse());
    let pins: Vec<Fingerprint> = pins
        .collect::<Result<_, _>>()
        .map_err(|err| Error::usage(format!("--gpg-fingerprint: {err}")))?;
    let text = std::env::var_os(variable).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::Usage {
        what: format!(
            "--gpg-key-env: the environment variable `{}` is not set",
            variable.escape_debug()
        ),
        hint: Some("set it to the text of the public keys that may sign the download".into()),
    })?;
    let from = format!("the environment variable {variable}");
    let mut keys = Keyring::parse(text.as_bytes(), &from)?;
    if !pins.is_empty() {
        keys = keys.pinned_to(&pins, &from)?;
    }
    Ok(Some(Signed {
        by: Source::Url(Box::new(url.into())),
        keys,
    }))
}

fn url(typed: &str) -> Result<Url> {
    // Not shown as typed: it may hold a password.
    let url = Url::parse(typed).map_err(|err| Error::usage(format!("malformed URL: {err}")))?;
    match url.scheme() {
        "http" | "https" | "ftp" => Ok(url),
        scheme => Err(Error::Usage {
            what: format!(
                "`{scheme}` URLs are not supported yet: {}",
                SafeUrl::from(&url)
            ),
            hint: Some("give an http, https or ftp URL".into()),
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

pub(super) fn file_name(dest: &Path) -> Result<&OsStr> {
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

//! `fetch-content static-url`: one upstream URL becomes one verified file, repacked where its name asks for it.

use crate::{
    cli::{args, settings::Tunables, ui::Ui, upload::FileUpload},
    error::{self, Error, Result},
    fetch::{Request, Signed, Staged, fetch},
    fs::{self, Staging},
    http::Source,
    observe::Event,
    stream::bridge::run_blocking,
    upstream::{UpstreamFile, last_segment, parse_url},
    verify::openpgp::{Fingerprint, Keyring},
};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, sync::Arc, time::Instant};
use url::Url;

/// Runs the subcommand. Everything that can be wrong with its input is found before the first request.
pub(super) async fn run(args: args::StaticUrl, ui: &Arc<Ui>) -> Result<()> {
    let start = Instant::now();
    let url = parse_url(&args.url)?;
    let observer_name = label(&url).to_owned();
    let request = request(&args, url, ui)?;
    let tunables = Tunables::new(&args.tuning)?;
    let client = tunables.client()?;
    let upload = FileUpload::prepare(args.upload.as_deref(), &client, &tunables.retry, ui)?;
    let staging = Staging::inside(args.dest.parent().unwrap_or(Path::new("")))?;
    let context = tunables.context(client, staging, start);
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
        ..
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
    let mirrors = args.mirrors.iter().map(|mirror| {
        let url = parse_url(mirror);
        let url = url.map_err(|err| Error::usage(format!("--mirror: {}", error::chain(&err))))?;
        Ok(Source::Url(Box::new(url.into())))
    });
    let mirrors = mirrors.collect::<Result<_>>()?;
    let (before, after) = if args.mirrors_first {
        (mirrors, Vec::new())
    } else {
        (Vec::new(), mirrors)
    };
    let request = UpstreamFile {
        url,
        headers: headers.collect::<Result<_>>()?,
        before,
        after,
        sha256,
        size: args.size,
        signed: signed(args)?,
        strip_components: args.strip_components,
        add_prefix: args.add_prefix.clone(),
        force_archive: args.force_archive,
        file_name: file_name(&args.dest)?.to_owned(),
    }
    .into_request()?;
    if args.size == 0 {
        ui.warning("with --size 0 the size of the download is not checked");
    }
    Ok(request)
}

/// Reads the keys that a signature is to be verified with. Headers are the business of the download's server and not
/// of the signature's; the Python tool does not send them either.
fn signed(args: &args::StaticUrl) -> Result<Option<Signed>> {
    let (Some(typed), Some(variable)) = (&args.gpg_sig_url, &args.gpg_key_env) else {
        return Ok(None);
    };
    let url = parse_url(typed)?;
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

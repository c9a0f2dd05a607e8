//! [`UpstreamFile`]: a file behind a URL, as `static-url` and fetch tasks ask for it. Where else it may be, what it must
//! be, and what becomes of it.

use crate::{
    archive::{Placing, Repack, is_tar_zst},
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::{Request, Signed},
    http::{Address, Header, Source},
    safe_url::SafeUrl,
    verify::Expected,
};
use std::{ffi::OsString, path::PathBuf};
use url::Url;

/// A file to be had from upstream.
pub struct UpstreamFile {
    /// Where it is.
    pub url: Url,
    /// What is sent along to the origin of the URL.
    pub headers: Vec<Header>,
    /// Where it is looked for before, in this order.
    pub before: Vec<Source>,
    /// Where it is looked for behind.
    pub after: Vec<Source>,
    /// What it must be.
    pub sha256: Sha256Digest,
    /// Its size in bytes; 0 stands for any.
    pub size: u64,
    /// What must vouch for it beside.
    pub signed: Option<Signed>,
    /// Components to cut from the names of members.
    pub strip_components: usize,
    /// What is then put in front of them.
    pub add_prefix: String,
    /// Whether to make an archive also of what is none.
    pub force_archive: bool,
    /// The name of the file to make.
    pub file_name: OsString,
}

impl UpstreamFile {
    /// Turns it into what can be fetched: one content for one place.
    ///
    /// # Errors
    /// [`Error::Usage`] for headers that the URL has no use for, and names that ask for what cannot be made.
    pub fn into_request(self) -> Result<Request> {
        if self.url.scheme() == "ftp" && !self.headers.is_empty() {
            return Err(Error::usage("--header is for http and https URLs only"));
        }
        let placing = self.placing()?;
        let given = Source::Url(Box::new(Address {
            headers: self.headers,
            ..Address::from(self.url.clone())
        }));
        let mut sources = self.before;
        sources.push(given);
        sources.extend(self.after);
        let expected = Expected {
            sha256: Some(self.sha256),
            size: Some(self.size).filter(|&size| size > 0),
            ..Expected::default()
        };
        Ok(Request {
            name: SafeUrl::from(&self.url).to_string(),
            sources,
            expected: expected.known(),
            signed: self.signed,
            placings: vec![placing],
            file_name: self.file_name,
        })
    }

    /// Decides by names and options whether to repack.
    fn placing(&self) -> Result<Placing> {
        let download = last_segment(&self.url);
        let repack = Repack {
            strip_components: self.strip_components,
            add_prefix: self.add_prefix.clone(),
            wrap_as: self.force_archive.then(|| download.to_owned()),
        };
        let dest = self.file_name.to_string_lossy();
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
        if self.force_archive && download.is_empty() {
            return Err(Error::usage(format!(
                "{} has no file name to give to the member of an archive",
                SafeUrl::from(&self.url)
            )));
        }
        Ok(Placing::Repack(repack))
    }
}

/// Parses the URL of something upstream.
///
/// # Errors
/// [`Error::Usage`], also for schemes that nothing can be downloaded by.
pub fn parse_url(typed: &str) -> Result<Url> {
    // Not shown as typed: it may hold a password.
    let url = Url::parse(typed).map_err(|err| Error::usage(format!("malformed URL: {err}")))?;
    match url.scheme() {
        "http" | "https" | "ftp" => Ok(url),
        scheme => Err(Error::Usage {
            what: format!("`{scheme}` URLs are not supported: {}", SafeUrl::from(&url)),
            hint: Some("give an http, https or ftp URL".into()),
        }),
    }
}

/// Returns the last segment of a URL's path as it is, without undoing percent-encoding.
#[must_use]
pub fn last_segment(url: &Url) -> &str {
    url.path().rsplit('/').next().unwrap_or_default()
}

/// Returns where a mirror, which has files under their own names, would have one, if it has a name.
#[must_use]
pub fn in_mirror(mirror: &Url, url: &Url) -> Option<Url> {
    let name = Some(last_segment(url)).filter(|name| !name.is_empty())?;
    let mut file = mirror.clone();
    let folder = mirror.path().trim_end_matches('/');
    file.set_path(&format!("{folder}/{name}"));
    Some(file)
}

/// Returns the files of folders that have the name of the one behind a URL.
#[must_use]
pub fn in_folders(folders: &[PathBuf], url: &Url) -> Vec<PathBuf> {
    let name = last_segment(url);
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    let candidates = folders.iter().filter(|_| is_name);
    let candidates = candidates.map(|folder| folder.join(&*name));
    candidates.filter(|file| file.is_file()).collect()
}

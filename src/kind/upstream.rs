//! What a fetch task gets from elsewhere: the `fetch:` part of its definition.

use super::{
    fields::Fields,
    finding::{Finding, Found},
};
use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::Signed,
    fs,
    http::{Header, Source},
    upstream::parse_url,
    verify::openpgp::Keyring,
};
use std::path::Path;

/// Where tasks put their artifacts.
pub(super) const UPLOAD_DIR: &str = "/builds/worker/artifacts";

/// The environment variable with the OpenPGP keys of a task.
pub(super) const KEY_VARIABLE: &str = "FETCH_GPG_KEY";

/// Keys of `fetch:` by type.
pub(super) const STATIC_URL_KEYS: &[&str] = &[
    "type",
    "url",
    "sha256",
    "size",
    "gpg-signature",
    "artifact-name",
    "strip-components",
    "add-prefix",
    "headers",
];
pub(super) const GIT_KEYS: &[&str] = &[
    "type",
    "repo",
    "revision",
    "include-dot-git",
    "artifact-name",
    "path-prefix",
    "ssh-key",
];

/// What is fetched.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// A file.
    StaticUrl(StaticUrl),
    /// A commit.
    Git(Git),
}

/// A file behind a URL.
#[derive(Clone, Debug)]
pub struct StaticUrl {
    /// Where it is, as written.
    pub url: String,
    /// Its digest, as written.
    pub sha256: String,
    /// Its size in bytes, as written.
    pub size: i128,
    /// Its OpenPGP signature.
    pub signature: Option<Signature>,
    /// Components to cut from the names of members.
    pub strip_components: i128,
    /// What is then put in front of them.
    pub add_prefix: String,
    /// Request headers.
    pub headers: Vec<(String, String)>,
}

/// An OpenPGP signature of a download.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Where it is.
    pub url: String,
    /// The text of the keys that may have made it.
    pub keys: String,
}

/// A commit of a git repository.
#[derive(Clone, Debug)]
pub struct Git {
    /// Where the repository is.
    pub repo: String,
    /// The commit.
    pub revision: String,
    /// Whether the archive has the `.git` directory, too.
    pub include_dot_git: bool,
    /// The directory that everything in the archive is in.
    pub path_prefix: String,
    /// The name of the secret with the key for ssh.
    pub ssh_key: Option<String>,
}

impl Upstream {
    /// Reads the `fetch:` of a task. Key files are below `root`.
    pub(super) fn new(fetch: &Fields, label: &str, root: &Path) -> Found<Self> {
        match fetch.required_text("type")? {
            "static-url" => StaticUrl::new(fetch, root).map(Self::StaticUrl),
            "git" => Git::new(fetch, label).map(Self::Git),
            other => {
                let place = fetch.required("type")?;
                let name = label.strip_prefix("fetch-").unwrap_or(label);
                let text = format!(
                    "Unknown fetch type {} in fetch {name}",
                    other.escape_debug()
                );
                Err(Finding::at(place, text).hint("the types are `static-url` and `git`"))
            }
        }
    }

    /// Returns the artifact's name if none is given.
    pub(super) fn default_artifact_name(&self) -> String {
        match self {
            Self::StaticUrl(file) => file.url.rsplit('/').next().unwrap_or_default().to_owned(),
            Self::Git(git) => format!("{}.tar.zst", git.path_prefix),
        }
    }

    pub(super) fn command(&self, artifact_name: &str) -> Vec<String> {
        let dest = format!("{UPLOAD_DIR}/{artifact_name}");
        let mut command = vec!["fetch-content".to_owned()];
        match self {
            Self::StaticUrl(file) => {
                command.push("static-url".into());
                command.extend(file.pins());
                if let Some(signature) = &file.signature {
                    let options = [
                        "--gpg-sig-url",
                        &signature.url,
                        "--gpg-key-env",
                        KEY_VARIABLE,
                    ];
                    command.extend(options.map(str::to_owned));
                }
                for (key, value) in &file.headers {
                    command.extend(["-H".into(), format!("{key}:{value}")]);
                }
                command.extend([file.url.clone(), dest]);
            }
            Self::Git(git) => {
                let arguments = [
                    "git-checkout-archive",
                    "--path-prefix",
                    &git.path_prefix,
                    &git.repo,
                    &git.revision,
                ];
                command.extend(arguments.map(str::to_owned));
                command.push(dest);
                if let Some(secret) = &git.ssh_key {
                    command.extend(["--ssh-key-secret".into(), secret.clone()]);
                }
                if git.include_dot_git {
                    command.push("--include-dot-git".into());
                }
            }
        }
        command
    }

    /// Returns what the digest of the task is over. Not where the content comes from: that it does is what the pins say.
    pub(super) fn digest_data(&self, artifact_name: &str) -> Vec<String> {
        match self {
            Self::StaticUrl(file) => {
                let mut data = file.pins();
                data.push(artifact_name.to_owned());
                data
            }
            Self::Git(git) => {
                let mut data = vec![
                    git.revision.clone(),
                    git.path_prefix.clone(),
                    artifact_name.to_owned(),
                ];
                data.extend(git.include_dot_git.then(|| ".git".to_owned()));
                data
            }
        }
    }
}

impl StaticUrl {
    /// Returns the request headers as what can be sent.
    ///
    /// # Errors
    /// [`Error::Usage`] for what cannot.
    pub fn request_headers(&self) -> Result<Vec<Header>> {
        let headers = self.headers.iter();
        let headers = headers.map(|(key, value)| format!("{key}:{value}").parse());
        headers.collect()
    }

    /// Returns what must vouch for a download.
    ///
    /// # Errors
    /// [`Error::Usage`] for a malformed URL, and keys that cannot be read.
    pub fn signed(&self) -> Result<Option<Signed>> {
        let Some(signature) = &self.signature else {
            return Ok(None);
        };
        Ok(Some(Signed {
            by: Source::Url(Box::new(parse_url(&signature.url)?.into())),
            keys: Keyring::parse(signature.keys.as_bytes(), "the file of `key-path`")?,
        }))
    }

    fn new(fetch: &Fields, root: &Path) -> Found<Self> {
        let url = fetch.required_text("url")?.to_owned();
        fetch.not_null("headers")?;
        let headers = fetch.fields("headers")?;
        fetch.not_null("gpg-signature")?;
        let signature = fetch.fields("gpg-signature")?;
        Ok(Self {
            sha256: fetch.required_text("sha256")?.to_owned(),
            size: fetch.required_int("size")?,
            strip_components: fetch.int("strip-components")?.unwrap_or(0),
            add_prefix: fetch.text("add-prefix")?.unwrap_or("").to_owned(),
            headers: headers.map_or(Ok(Vec::new()), |headers| headers.text_pairs())?,
            signature: signature
                .map(|signature| Signature::new(&signature, &url, root))
                .transpose()?,
            url,
        })
    }

    /// Returns the arguments that say what the artifact is.
    fn pins(&self) -> Vec<String> {
        let mut pins = vec![
            "--sha256".into(),
            self.sha256.clone(),
            "--size".into(),
            self.size.to_string(),
        ];
        if self.strip_components != 0 {
            pins.extend([
                "--strip-components".into(),
                self.strip_components.to_string(),
            ]);
        }
        if !self.add_prefix.is_empty() {
            pins.extend(["--add-prefix".into(), self.add_prefix.clone()]);
        }
        pins
    }

    /// Returns digest and size in bytes (0: any) as what they must be for a download to be checked by them.
    ///
    /// # Errors
    /// [`Error::Usage`] when the one has not 64 hex digits or the other is negative.
    pub fn pinned(&self) -> Result<(Sha256Digest, u64)> {
        let sha256 = self.sha256.parse();
        let sha256 = sha256.map_err(|err| Error::usage(format!("sha256: {err}")))?;
        let size = u64::try_from(self.size);
        let size = size.map_err(|_range| Error::usage(format!("{} is no size", self.size)))?;
        Ok((sha256, size))
    }
}

impl Signature {
    fn new(fields: &Fields, url: &str, root: &Path) -> Found<Self> {
        if let Some(unknown) = fields.unknown(&["sig-url", "key-path"])?.pop() {
            return Err(unknown);
        }
        let pattern = fields.required_text("sig-url")?;
        let signature = with_url(pattern, url).ok_or_else(|| {
            let text = format!("`{}` cannot be filled in", pattern.escape_debug());
            let finding = fields
                .required("sig-url")
                .map(|node| Finding::at(node, text));
            finding
                .unwrap_or_else(|missing| missing)
                .hint("`{url}` stands for the URL; other braces must be doubled")
        })?;
        let path = root.join(fields.required_text("key-path")?);
        let keys = fs::read_to_string(&path).map_err(|err| {
            let text = format!("cannot read the keys: {}", crate::error::chain(&err));
            let finding = fields
                .required("key-path")
                .map(|node| Finding::at(node, text));
            finding.unwrap_or_else(|missing| missing)
        })?;
        Ok(Self {
            url: signature,
            // Python reads text files so.
            keys: keys.replace("\r\n", "\n").replace('\r', "\n"),
        })
    }
}

impl Git {
    fn new(fetch: &Fields, label: &str) -> Found<Self> {
        let repo = fetch.required_text("repo")?;
        let revision = fetch.required_text("revision")?;
        let given = fetch
            .text("path-prefix")?
            .filter(|prefix| !prefix.is_empty());
        let last = repo.trim_end_matches('/').rsplit('/').next();
        if !begins_with_commit(revision) {
            let name = label.strip_prefix("fetch-").unwrap_or(label);
            let text = format!("Revision is not a sha1 in fetch task \"{name}\"");
            return Err(Finding::at(fetch.required("revision")?, text).hint(
                "give the full 40 digits of a commit, and no tag or branch, which may move",
            ));
        }
        Ok(Self {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
            include_dot_git: fetch.bool("include-dot-git")?.unwrap_or(false),
            path_prefix: given.or(last).unwrap_or_default().to_owned(),
            ssh_key: fetch
                .text("ssh-key")?
                .filter(|key| !key.is_empty())
                .map(str::to_owned),
        })
    }
}

/// Whether text begins with 40 hex digits. What follows is not looked at, as the real code does not.
fn begins_with_commit(text: &str) -> bool {
    let digits = text.bytes().take(40);
    text.len() >= 40 && digits.clone().all(|byte| byte.is_ascii_hexdigit())
}

/// Replaces `{url}`, as Python's `str.format` does. There is nothing else that braces may hold.
fn with_url(pattern: &str, url: &str) -> Option<String> {
    let mut filled = String::new();
    let mut rest = pattern;
    while let Some(position) = rest.find(['{', '}']) {
        filled.push_str(&rest[..position]);
        rest = &rest[position..];
        let (text, length) = if rest.starts_with("{{") {
            ("{", 2)
        } else if rest.starts_with("}}") {
            ("}", 2)
        } else if rest.starts_with("{url}") {
            (url, 5)
        } else {
            return None;
        };
        filled.push_str(text);
        rest = &rest[length..];
    }
    filled.push_str(rest);
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::with_url;

    #[test]
    fn signature_urls_are_filled_in_as_python_does() {
        for (pattern, filled) in [
            ("{url}.asc", Some("u.asc")),
            ("x", Some("x")),
            ("{{{url}}}", Some("{u}")),
            ("{url}{url}", Some("uu")),
            ("{URL}", None),
            ("{}", None),
            ("a}b", None),
            ("{url", None),
        ] {
            assert_eq!(with_url(pattern, "u").as_deref(), filled, "{pattern}");
        }
    }
}

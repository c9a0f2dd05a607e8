//! How git comes to talk ssh: with whose key, and with which servers.
//!
//! A server must have a host key that is known: from the list that comes with the program (GitHub's, as published and as
//! taskgraph's `run-task` has it), from a file given for the purpose, or from ssh's own files. The Python tool takes any.

use crate::{
    error::{Error, Result},
    fs::{self, Context},
    http::{Address, Attempts, Client},
};
use serde::Deserialize;
use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
};

/// Host keys that are known without being told.
const KNOWN_HOSTS: &str = include_str!("known_hosts");

/// The most that a secret may be, in bytes.
const SECRET: usize = 1 << 20;

/// The answer of the secrets service, as far as it matters here.
#[derive(Deserialize)]
struct Answer {
    secret: Secret,
}

#[derive(Deserialize)]
struct Secret {
    ssh_privkey: String,
}

/// Returns the private key in a secret.
///
/// # Errors
/// As for any download; [`Error::Usage`] when there is no key in it. Nothing of the secret is in an error.
pub(super) async fn read_key(
    address: &Address,
    client: &Client,
    attempts: &Attempts<'_>,
) -> Result<String> {
    let content = attempts
        .run(|| async { client.get(address).await?.read_all(SECRET).await })
        .await?;
    let answer: Answer = serde_json::from_slice(&content).map_err(|_secret| Error::Usage {
        what: format!(
            "the secret at {} has no ssh key",
            crate::safe_url::SafeUrl::from(&address.url)
        ),
        hint: Some("it must be an object with the private key, a text, as `ssh_privkey`".into()),
    })?;
    let mut key = answer.secret.ssh_privkey;
    // ssh does not read a key whose last line has no end.
    if !key.ends_with('\n') {
        key.push('\n');
    }
    Ok(key)
}

/// Writes what ssh needs to the private directory `home`, and returns the command for git.
pub(super) fn command(
    home: &Path,
    key: Option<&str>,
    known_hosts: Option<&Path>,
) -> Result<String> {
    let shipped = home.join("known_hosts");
    write_private(&shipped, KNOWN_HOSTS)?;
    let mut files = vec![shipped];
    if let Some(file) = known_hosts {
        files.push(std::path::absolute(file).context("read", file)?);
    }
    files.extend(["~/.ssh/known_hosts", "~/.ssh/known_hosts2"].map(PathBuf::from));
    let files: Vec<_> = files.iter().map(|file| option_path(file)).collect();
    let mut options = vec![
        "BatchMode=yes".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        format!("UserKnownHostsFile={}", files.join(" ")),
        "UpdateHostKeys=no".to_owned(),
        // Nothing stays behind, and nobody else's connection is used.
        "ControlPath=none".to_owned(),
        "ConnectTimeout=20".to_owned(),
        // A minute without an answer.
        "ServerAliveInterval=15".to_owned(),
        "ServerAliveCountMax=4".to_owned(),
    ];
    if let Some(key) = key {
        let file = home.join("key");
        write_private(&file, key)?;
        options.push(format!("IdentityFile={}", option_path(&file)));
        options.push("IdentitiesOnly=yes".to_owned());
        options.push("IdentityAgent=none".to_owned());
    }
    let options = options
        .iter()
        .map(|option| format!(" -o {}", quote(option)));
    Ok(format!("ssh{}", options.collect::<String>()))
}

/// Whether the caller has said how to talk ssh. A key from a secret goes before that, as with the Python tool.
pub(super) fn is_configured() -> bool {
    ["GIT_SSH_COMMAND", "GIT_SSH"]
        .iter()
        .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::create_private(path)?;
    file.write_all(text.as_bytes()).context("write", path)
}

/// Writes a path as ssh's options want it, in which `%` has a meaning.
fn option_path(path: &Path) -> String {
    let path = path.display().to_string().replace('%', "%%");
    if path.starts_with('~') {
        path
    } else {
        format!("\"{path}\"")
    }
}

/// Quotes a word for the shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Reads the key, if there is to be one, and returns the command for git; `None` if the caller's is to be used.
pub(super) async fn prepare(
    key: Option<&Address>,
    known_hosts: Option<&Path>,
    home: &Path,
    (client, attempts): (&Client, &Attempts<'_>),
) -> Result<Option<String>> {
    let key = match key {
        Some(address) => Some(read_key(address, client, attempts).await?),
        None if known_hosts.is_none() && is_configured() => return Ok(None),
        None => None,
    };
    let (home, known_hosts) = (home.to_owned(), known_hosts.map(Path::to_owned));
    let command = crate::stream::bridge::run_blocking(move || {
        command(&home, key.as_deref(), known_hosts.as_deref())
    });
    command.await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::{command, option_path, quote};
    use std::path::Path;

    #[test]
    fn odd_paths_are_quoted_twice() {
        assert_eq!(option_path(Path::new("/a b/50%")), "\"/a b/50%%\"");
        assert_eq!(
            option_path(Path::new("~/.ssh/known_hosts")),
            "~/.ssh/known_hosts"
        );
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn servers_must_be_known_and_a_given_key_is_the_only_one() {
        let temp = tempfile::tempdir().unwrap();
        let without = command(temp.path(), None, None).unwrap();
        assert!(without.contains("StrictHostKeyChecking=yes") && !without.contains("Identity"));
        let temp = tempfile::tempdir().unwrap();
        let with = command(temp.path(), Some("k\n"), Some(Path::new("/h"))).unwrap();
        assert!(
            with.contains("IdentitiesOnly=yes") && with.contains("\"/h\""),
            "{with}"
        );
    }
}

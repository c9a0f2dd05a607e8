//! [`Login`]: who a registry is told to be talking to, from the files that `docker login`, `podman login` and
//! `skopeo login` write, and from the credential helpers that these files name.
//!
//! Nothing of a login is ever shown: the types here have no `Debug`, and errors quote neither files nor helpers' output
//! where that may hold a secret.

use crate::{
    error::{Error, Result},
    fs,
    oci::registry::{Reference, helper},
    stream::bridge::run_blocking,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What a name begins with that credentials are not for a user but a token.
const TOKEN_USER: &str = "<token>";

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// Name and password.
    Password { user: String, password: String },
    /// What tokens are asked for with.
    Identity(String),
    /// A token for the registry itself.
    Token(String),
}

/// Where credentials are looked for.
#[derive(Clone, Debug, Default)]
pub struct Logins {
    files: Vec<PathBuf>,
}

/// A file with credentials.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Logins {
    /// Returns the files that the environment says: that of `REGISTRY_AUTH_FILE` alone, or Docker's and then Podman's.
    #[must_use]
    pub fn of(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let directory = |name: &str| set(name).map(PathBuf::from);
        if let Some(file) = directory("REGISTRY_AUTH_FILE") {
            return Self { files: vec![file] };
        }
        let home = directory("HOME");
        let at_home = |below: &str| home.as_ref().map(|home| home.join(below));
        let docker = directory("DOCKER_CONFIG").or(at_home(".docker"));
        let runtime = directory("XDG_RUNTIME_DIR");
        let config = directory("XDG_CONFIG_HOME").or(at_home(".config"));
        let podman = [runtime, config].into_iter().flatten();
        Self {
            files: docker
                .map(|docker| docker.join("config.json"))
                .into_iter()
                .chain(podman.map(|dir| dir.join("containers").join("auth.json")))
                .collect(),
        }
    }

    /// Returns the credentials for an image, if there are any.
    ///
    /// # Errors
    /// [`Error::Usage`] for a file that cannot be read or a helper that fails.
    pub(super) async fn find(&self, reference: &Reference) -> Result<Option<Login>> {
        for path in &self.files {
            let path = path.clone();
            let Some(file) = run_blocking(move || File::read(&path)).await? else {
                continue;
            };
            let found = match file.helper(reference) {
                Some(helper) => helper::get(&helper, reference.server_name()).await?,
                None => None,
            };
            if let Some(login) = found.or_else(|| file.login(reference)) {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

impl File {
    /// Reads a file, if there is one.
    fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(err) if err.is_absence() => return Ok(None),
            Err(err) => return Err(err),
        };
        // The parser's own words may repeat a secret.
        let parsed = serde_json::from_slice(&text).map_err(|err| Error::Usage {
            what: format!(
                "`{}` cannot be read: line {}, column {} is not what such a file holds",
                path.display(),
                err.line(),
                err.column()
            ),
            hint: Some("it is written by `docker login` or `podman login`".into()),
        });
        parsed.map(Some)
    }

    /// Returns the name of the helper that knows the registry.
    fn helper(&self, reference: &Reference) -> Option<String> {
        let names = reference.account_names();
        let own = names.iter().find_map(|name| {
            let mut helpers = self.cred_helpers.iter();
            helpers.find_map(|(key, helper)| (host_of(key) == *name).then_some(helper))
        });
        own.or(self.creds_store.as_ref())
            .filter(|helper| !helper.is_empty())
            .cloned()
    }

    /// Returns the credentials that are in the file itself.
    fn login(&self, reference: &Reference) -> Option<Login> {
        let names = reference.account_names();
        names.iter().find_map(|name| {
            let mut auths = self.auths.iter().filter(|(key, _)| host_of(key) == *name);
            auths.find_map(|(_, auth)| auth.login())
        })
    }
}

impl Auth {
    fn login(&self) -> Option<Login> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Some(Login::Token(token));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Some(Login::Identity(token));
        }
        let decoded = given(&self.encoded).and_then(|encoded| {
            let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
        });
        let (user, password) =
            decoded.or_else(|| given(&self.username).zip(given(&self.password)))?;
        Some(Login::Password { user, password })
    }
}

impl Login {
    /// Takes over what a helper knows.
    pub(super) fn of_helper(user: String, secret: String) -> Self {
        if user == TOKEN_USER {
            Self::Identity(secret)
        } else {
            Self::Password {
                user,
                password: secret,
            }
        }
    }
}

/// Returns what a key of a file is about. Docker once wrote URLs, and Podman writes namespaces.
fn host_of(key: &str) -> &str {
    let bare = ["https://", "http://"]
        .iter()
        .find_map(|scheme| key.strip_prefix(scheme));
    match bare {
        Some(bare) => bare.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    }
}

/// Returns the value of an `Authorization` header.
pub(super) fn basic(user: &str, password: &str) -> String {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests write to the disk directly"
)]
mod tests {
    use super::{File, Login, Logins};
    use std::{ffi::OsString, fs, path::PathBuf};

    fn password(user: &str, password: &str) -> Login {
        Login::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    fn file(json: &str) -> File {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn credentials_are_found_under_all_their_names() {
        // "user:pass:word" and "other:x", with Docker's padding.
        let (first, other) = ("dXNlcjpwYXNzOndvcmQ=", "b3RoZXI6eAAA");
        for (key, image) in [
            ("https://index.docker.io/v1/", "debian"),
            ("docker.io", "me/x"),
            ("h.example:5000", "h.example:5000/a/b:t"),
            ("https://h.example", "h.example/a/b"),
            ("http://h.example/v2/", "h.example/a/b"),
            ("h.example/a", "h.example/a/b"),
            ("h.example/a/b", "h.example/a/b"),
        ] {
            let file = file(&format!(r#"{{"auths":{{"{key}":{{"auth":"{first}"}}}}}}"#));
            let found = file.login(&image.parse().unwrap());
            assert!(
                found == Some(password("user", "pass:word")),
                "{key} {image}"
            );
            assert!(file.login(&"else.example/x".parse().unwrap()).is_none());
        }
        let both = file(&format!(
            r#"{{"auths":{{"h.example":{{"auth":"{first}"}},"h.example/a":{{"auth":"{other}"}},"x":{{}}}}}}"#
        ));
        let found = |image: &str| both.login(&image.parse().unwrap());
        assert!(found("h.example/a/b") == Some(password("other", "x")));
        assert!(found("h.example/b/b") == Some(password("user", "pass:word")));
        assert!(found("h.example/ab/b") == Some(password("user", "pass:word")));
    }

    #[test]
    fn tokens_are_told_from_passwords() {
        let login = |auth: &str| {
            let file = file(&format!(r#"{{"auths":{{"h.example":{auth}}}}}"#));
            file.login(&"h.example/x".parse().unwrap())
        };
        let (name, word) = (r#""username":"u""#, r#""password":"p""#);
        assert!(login(&format!("{{{name},{word}}}")) == Some(password("u", "p")));
        assert!(
            login(r#"{"identitytoken":"t","auth":"dTo="}"#) == Some(Login::Identity("t".into()))
        );
        assert!(login(r#"{"registrytoken":"t"}"#) == Some(Login::Token("t".into())));
        for nothing in [
            "{}",
            r#"{"auth":""}"#,
            r#"{"auth":"*"}"#,
            r#"{"auth":"dQ=="}"#,
        ] {
            assert!(login(nothing).is_none(), "{nothing}");
        }
        assert!(Login::of_helper("<token>".into(), "t".into()) == Login::Identity("t".into()));
    }

    #[test]
    fn a_helper_of_the_registry_comes_before_that_of_all() {
        let file = file(r#"{"credsStore":"all","credHelpers":{"h.example":"own","e.example":""}}"#);
        let helper = |image: &str| file.helper(&image.parse().unwrap());
        assert_eq!(helper("h.example/x").as_deref(), Some("own"));
        assert_eq!(helper("x").as_deref(), Some("all"));
        assert_eq!(helper("e.example/x"), None);
    }

    #[test]
    fn the_environment_says_where_to_look() {
        let files = |set: &[(&str, &str)]| {
            let set: Vec<_> = set
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            let logins = Logins::of(|name| {
                let mut found = set.iter().filter(|(key, _)| key == name);
                found.next().map(|(_, value)| OsString::from(value))
            });
            logins.files
        };
        assert_eq!(files(&[]), [""; 0].map(PathBuf::from));
        assert_eq!(
            files(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]),
            [
                "/h/.docker/config.json",
                "/r/containers/auth.json",
                "/h/.config/containers/auth.json"
            ]
            .map(PathBuf::from)
        );
        assert_eq!(
            files(&[
                ("HOME", "/h"),
                ("DOCKER_CONFIG", "/d"),
                ("XDG_CONFIG_HOME", "/c")
            ]),
            ["/d/config.json", "/c/containers/auth.json"].map(PathBuf::from)
        );
        let only = files(&[
            ("HOME", "/h"),
            ("DOCKER_CONFIG", ""),
            ("REGISTRY_AUTH_FILE", "/f"),
        ]);
        assert_eq!(only, [PathBuf::from("/f")]);
    }

    #[tokio::test]
    async fn the_first_file_that_knows_it_counts_and_broken_ones_are_not_quoted() {
        let temp = tempfile::tempdir().unwrap();
        let files = ["none", "one", "two"].map(|name| temp.path().join(name));
        fs::write(&files[1], r#"{"auths":{"e.example":{"auth":"dTpw"}}}"#).unwrap();
        fs::write(&files[2], r#"{"auths":{"h.example":{"auth":"dTpw"}}}"#).unwrap();
        let logins = Logins {
            files: files.to_vec(),
        };
        let image = "h.example/x".parse().unwrap();
        assert!(logins.find(&image).await.unwrap() == Some(password("u", "p")));
        fs::write(&files[1], "{\n\"auths\":\"s3cret\"}").unwrap();
        let err = logins.find(&image).await.err().unwrap().to_string();
        assert!(err.contains("line 2") && !err.contains("s3cret"), "{err}");
    }
}

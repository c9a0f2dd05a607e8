//! Where cached tasks are found in the index, and where they are put.

use super::config::Config;
use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
};
use chrono::DateTime;
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr, sync::Arc};

/// How far the code of a push is trusted: 1 for anybody's, 3 for releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// The most trusted one.
    pub const HIGHEST: Self = Self(3);

    pub(super) fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "1" => Ok(Self(1)),
            "2" => Ok(Self(2)),
            "3" => Ok(Self(3)),
            _ => Err(Error::usage(format!(
                "`{}` is no level: expected 1, 2 or 3",
                text.escape_debug()
            ))),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What tasks are created for.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// How far the code is trusted.
    pub level: Level,
    /// The event, such as `github-push` or `github-pull-request`.
    pub tasks_for: String,
    /// When, in seconds since 1970 (UTC).
    pub build_date: i64,
}

impl Parameters {
    /// Returns the parts of the index that are trusted at least as much, the most trusted one first.
    fn realms(&self) -> impl Iterator<Item = String> {
        let levels = (self.level.0..=Level::HIGHEST.0).rev();
        levels.map(|level| format!("level-{level}"))
    }

    /// Whether what tasks make must not be mixed with what those of pushes make.
    fn is_pull_request(&self) -> bool {
        self.tasks_for.starts_with("github-pull-request")
            || self.tasks_for == "github-issue-comment"
    }

    /// Whether tasks of pull requests may be taken. Not for untrusted ones, which nevertheless add to them.
    fn may_take_from_pull_requests(&self) -> bool {
        matches!(
            self.tasks_for.as_str(),
            "github-pull-request" | "github-issue-comment"
        )
    }
}

/// A task whose result is found again by a digest of what it depends on.
#[derive(Clone, Debug)]
pub struct Cached {
    /// The type and version of the digest, such as `content.v1`.
    pub kind: &'static str,
    /// The name in the index.
    pub name: String,
    /// Lower-case hex.
    pub digest: String,
    config: Arc<Config>,
}

impl Cached {
    pub(super) fn new(
        config: &Arc<Config>,
        kind: &'static str,
        name: String,
        data: &[String],
    ) -> Self {
        Self {
            kind,
            name,
            digest: Sha256Digest::from_bytes(Sha256::digest(data.join("\n")).into()).to_string(),
            config: Arc::clone(config),
        }
    }

    /// Returns what stands for the task in the digests of those that depend on it.
    pub(super) fn in_digests(&self) -> String {
        format!("{}/{}/{}", self.kind, self.name, self.digest)
    }

    /// Returns the index paths at which a finished task is looked for, in this order.
    #[must_use]
    pub fn index_search(&self, parameters: &Parameters) -> Vec<String> {
        let realms = parameters.realms();
        let mut paths: Vec<_> = realms.map(|realm| self.path(&realm)).collect();
        if parameters.may_take_from_pull_requests() && self.config.cache_pull_requests {
            paths.push(self.path("pr"));
        }
        paths
    }

    /// Returns the routes by which a new task is put into the index.
    #[must_use]
    pub fn routes(&self, parameters: &Parameters) -> Vec<String> {
        if parameters.is_pull_request() {
            let route = format!("index.{}", self.path("pr"));
            return Vec::from_iter(self.config.cache_pull_requests.then_some(route));
        }
        let level = format!("level-{}", parameters.level);
        let date = date(parameters.build_date);
        vec![
            format!("index.{}", self.path(&level)),
            format!("index.{}.latest", self.names(&level)),
            format!("index.{}.pushdate.{date}", self.names(&level)),
        ]
    }

    fn path(&self, realm: &str) -> String {
        format!("{}.hash.{}", self.names(realm), self.digest)
    }

    fn names(&self, realm: &str) -> String {
        names(&self.config, realm, self.kind, &self.name)
    }
}

fn names(config: &Config, realm: &str, kind: &str, name: &str) -> String {
    format!("{}.cache.{realm}.{kind}.{name}", config.cache_prefix)
}

/// Returns the index paths at which the newest task is looked for that has made a docker image, in this order.
pub(super) fn latest_image(name: &str, config: &Config, parameters: &Parameters) -> Vec<String> {
    let realms = parameters.realms();
    let names = realms.map(|realm| names(config, &realm, "docker-images.v2", name));
    names.map(|names| format!("{names}.latest")).collect()
}

fn date(seconds: i64) -> String {
    // Years that no calendar has are no dates of a push.
    let date = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    date.format("%Y.%m.%d.%Y%m%d%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::{Cached, Parameters};
    use crate::kind::{config::Config, yaml};
    use std::{path::Path, sync::Arc};

    fn parameters(level: &str, tasks_for: &str) -> Parameters {
        Parameters {
            level: level.parse().unwrap(),
            tasks_for: tasks_for.into(),
            build_date: 1_700_000_000,
        }
    }

    fn cached(config: &str) -> Cached {
        let (node, _) = yaml::parse(config, &Arc::from(Path::new("config.yml"))).unwrap();
        let (config, _) = Config::new(&node).unwrap();
        let data = [
            "af559f8665a586ef3c389fcf79ada395b1ce2e491372fe765034b3aa73a21e14",
            "public/build/foo.tar.zst",
            "linux",
            "--fast",
            "content.v1/widget-src/5ccf9529486f9e6c35bb3ae2528d0091f7f65eb3ddf97d927f5b0dabb8e3f704",
            "True",
        ];
        let data = data.map(str::to_owned);
        Cached::new(
            &Arc::new(config),
            "toolchains.v3",
            "linux64-foo".into(),
            &data,
        )
    }

    #[test]
    fn the_digest_is_over_lines() {
        let path = "acme.cache.level-3.toolchains.v3.linux64-foo.hash.\
                    79b2d88b651ef69b8a535657049c44b447779b455c7d5ade1a543e2ee5fb7eac";
        let cached = cached("{trust-domain: acme, taskgraph: {}}");
        assert_eq!(cached.index_search(&parameters("3", "hg-push")), [path]);
    }

    #[test]
    fn pull_requests_can_be_kept_out_of_the_index() {
        let cached = cached(
            "{trust-domain: x, taskgraph: {cached-task-prefix: p.q, cache-pull-requests: no}}",
        );
        let parameters = parameters("2", "github-pull-request");
        let search = cached.index_search(&parameters);
        let beginnings: Vec<_> = search.iter().map(|path| &path[..17]).collect();
        assert_eq!(beginnings, ["p.q.cache.level-3", "p.q.cache.level-2"]);
        assert!(cached.routes(&parameters).is_empty());
    }
}

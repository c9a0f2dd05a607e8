//! The names of caches, as taskgraph's task transforms make them, and what goes into a task's payload with them.
//!
//! A name has everything in it that could make caches incompatible: who may write to it (trust domain and level), and for
//! run-task the program itself and the image. A task that would not get along with a cache never sees it.

use crate::digest::Sha256Digest;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The version of how names are made; part of the names.
const VERSION: &str = "v3";
/// What stands for the id of the task that builds the image, until it is known.
pub const IMAGE_TASK: &str = "<docker-image>";

/// What is the same for all caches of a task.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The trust domain of the project.
    pub trust_domain: String,
    /// The level of the task; caches of level 1 are untrusted.
    pub level: u8,
    /// Who runs it.
    pub worker: Worker,
}

/// Who runs a task.
#[derive(Clone, Debug)]
pub enum Worker {
    /// docker-worker, or a generic-worker that is told things in its way.
    Docker(Command),
    /// generic-worker. Nobody looks into its caches.
    Generic,
}

/// What a task runs.
#[derive(Clone, Debug)]
pub enum Command {
    /// Anything that does not look into caches.
    Other,
    /// A program that is called `run-task…`.
    RunTask {
        /// The content of taskgraph's script, which stands for its version.
        script: ScriptDigest,
        /// The image it runs in.
        image: Image,
    },
}

/// The image of a task.
#[derive(Clone, Debug)]
pub enum Image {
    /// Built by the task of this id, or by [`IMAGE_TASK`].
    Task(String),
    /// The same, but its caches are those of all images, as Gecko has it.
    AnyTask,
    /// From a registry, under this name.
    Named(String),
}

/// The first 20 digits of the SHA-256 of a run-task.
#[derive(Clone, Debug)]
pub struct ScriptDigest(String);

impl ScriptDigest {
    /// Takes the digest of a script.
    #[must_use]
    pub fn of(script: &[u8]) -> Self {
        Self(hex(script, 20))
    }
}

/// A cache that a task mounts.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Its name within the project.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// The variable that tells a tool where it is.
    pub variable: Option<&'static str>,
    /// Whether the task does without it where caches are untrusted.
    pub skip_untrusted: bool,
}

/// The caches that taskgraph knows by name, with the variables of the tools that use them. `checkout` is the other one.
const TOOLS: [(&str, &str); 4] = [
    ("cargo", "CARGO_HOME"),
    ("npm", "npm_config_cache"),
    ("pip", "PIP_CACHE_DIR"),
    ("uv", "UV_CACHE_DIR"),
];

/// What a payload says of caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// Where each cache is mounted, by name.
    pub caches: BTreeMap<String, String>,
    /// Variables for run-task and for tools.
    pub env: BTreeMap<&'static str, String>,
    /// Scopes that the task needs.
    pub scopes: Vec<String>,
    /// Exit codes upon which the worker purges the caches and runs the task again.
    pub purge: Vec<u8>,
}

impl Naming {
    /// Returns the full name of a cache.
    #[must_use]
    pub fn full_name(&self, cache: &str) -> String {
        let Self {
            trust_domain,
            level,
            worker,
        } = self;
        let name = format!("{trust_domain}-level-{level}-{cache}");
        match worker {
            Worker::Generic => name,
            Worker::Docker(Command::Other) => format!("{name}-{VERSION}"),
            Worker::Docker(Command::RunTask {
                script: ScriptDigest(digest),
                image,
            }) => {
                let image = match image {
                    Image::Task(id) => format!("-{id}"),
                    Image::AnyTask => String::new(),
                    // Without a hyphen, for no reason but that it has always been so.
                    Image::Named(name) => hex(name.as_bytes(), 12),
                };
                format!("{name}-{VERSION}-{digest}{image}")
            }
        }
    }

    /// Returns a cache that taskgraph knows by name, as its `use-caches` has it, for a docker-worker's task below `workdir`.
    #[must_use]
    pub fn well_known(
        &self,
        name: &str,
        workdir: &str,
        repositories: &[(String, String)],
    ) -> Option<Mount> {
        let path = |relative: String| match self.worker {
            Worker::Docker(_) => format!("{}/{relative}", workdir.trim_end_matches('/')),
            // The task's own directory, which is another one each time.
            Worker::Generic => relative,
        };
        let (name, path, variable) = if name == "checkout" {
            (checkouts(repositories), path("checkouts".to_owned()), None)
        } else {
            let (name, variable) = TOOLS.into_iter().find(|(tool, _)| *tool == name)?;
            let path = path(format!(".task-cache/{name}"));
            (name.to_owned(), path, Some(variable))
        };
        Some(Mount {
            name,
            path,
            variable,
            skip_untrusted: false,
        })
    }

    /// Returns what a payload has to say for a task with these caches, and with these directories as volumes.
    #[must_use]
    pub fn payload(&self, mounts: &[Mount], volumes: &[String]) -> Payload {
        let untrusted = self.level == 1;
        let docker = matches!(self.worker, Worker::Docker(_));
        let scope = if docker {
            "docker-worker:cache:"
        } else {
            "generic-worker:cache:"
        };
        let mut payload = Payload::default();
        for mount in mounts {
            if let Some(variable) = mount.variable {
                payload.env.insert(variable, mount.path.clone());
            }
            // generic-worker has no such thing as a cache that is skipped.
            if docker && untrusted && mount.skip_untrusted {
                continue;
            }
            let name = self.full_name(&mount.name);
            payload.scopes.push(format!("{scope}{name}"));
            payload.caches.insert(name, mount.path.clone());
        }
        if let Worker::Docker(command) = &self.worker {
            // taskgraph says so to all commands, but only run-task listens.
            if untrusted && !payload.caches.is_empty() {
                let variable = "TASKCLUSTER_UNTRUSTED_CACHES";
                payload.env.insert(variable, "1".to_owned());
            }
            if let Command::RunTask { .. } = command {
                payload.purge = vec![super::EXIT_PURGE];
                let caches = payload.caches.values().cloned().collect();
                payload.tell("TASKCLUSTER_CACHES", caches);
                payload.tell("TASKCLUSTER_VOLUMES", volumes.to_vec());
            }
        }
        payload
    }
}

impl Payload {
    /// Sets a variable with paths, unless there are none.
    fn tell(&mut self, variable: &'static str, mut paths: Vec<String>) {
        paths.sort();
        if !paths.is_empty() {
            self.env.insert(variable, paths.join(";"));
        }
    }
}

/// Returns the name of the cache for checkouts of these repositories, given as path and prefix.
///
/// With several repositories it has a digest of them in it. taskgraph takes them in an order that may change from run to
/// run, so only one of its names is this one.
#[must_use]
pub fn checkouts(repositories: &[(String, String)]) -> String {
    let lines: BTreeSet<String> = repositories
        .iter()
        .map(|(path, prefix)| format!("{path}\t{prefix}"))
        .collect();
    if repositories.len() < 2 {
        return "checkouts".to_owned();
    }
    let lines: Vec<String> = lines.into_iter().collect();
    format!("checkouts-repos-{}", hex(lines.join("\n").as_bytes(), 64))
}

/// Returns the first digits of the SHA-256 of some bytes.
fn hex(bytes: &[u8], digits: usize) -> String {
    let mut text = Sha256Digest::from_bytes(Sha256::digest(bytes).into()).to_string();
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::{Command, Image, Mount, Naming, ScriptDigest, Worker, checkouts};

    fn naming(level: u8, command: Command) -> Naming {
        Naming {
            trust_domain: "acme".to_owned(),
            level,
            worker: Worker::Docker(command),
        }
    }

    fn run_task(image: Image) -> Command {
        let script = ScriptDigest("b501540836ece0d08200".to_owned());
        Command::RunTask { script, image }
    }

    fn mount(name: &str, path: &str) -> Mount {
        Mount {
            name: name.to_owned(),
            path: path.to_owned(),
            variable: None,
            skip_untrusted: false,
        }
    }

    #[test]
    fn names_are_those_of_taskgraph() {
        let in_tree = || run_task(Image::Task(super::IMAGE_TASK.to_owned()));
        let named = run_task(Image::Named("acme/ci:1.2".to_owned()));
        for (level, command, cache, name) in [
            (
                3,
                in_tree(),
                "checkouts",
                "acme-level-3-checkouts-v3-b501540836ece0d08200-<docker-image>",
            ),
            (
                1,
                in_tree(),
                "cargo",
                "acme-level-1-cargo-v3-b501540836ece0d08200-<docker-image>",
            ),
            (
                3,
                run_task(Image::AnyTask),
                "cargo",
                "acme-level-3-cargo-v3-b501540836ece0d08200",
            ),
            (
                3,
                named,
                "pip",
                "acme-level-3-pip-v3-b501540836ece0d082007162709df848",
            ),
            (3, Command::Other, "c", "acme-level-3-c-v3"),
        ] {
            assert_eq!(naming(level, command).full_name(cache), name);
        }
        let generic = Naming {
            worker: Worker::Generic,
            ..naming(2, Command::Other)
        };
        assert_eq!(generic.full_name("pip"), "acme-level-2-pip");
    }

    #[test]
    fn payloads_of_level_1_are_untrusted_and_sorted() {
        let mounts = [
            mount("checkouts", "/builds/worker/checkouts"),
            mount("cargo", "/builds/worker/.task-cache/cargo"),
        ];
        let volumes = ["/builds/worker/checkouts".to_owned()];
        let image = Image::Task(super::IMAGE_TASK.to_owned());
        let payload = naming(1, run_task(image)).payload(&mounts, &volumes);
        let env: Vec<_> = payload
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            env,
            [
                "TASKCLUSTER_CACHES=/builds/worker/.task-cache/cargo;/builds/worker/checkouts",
                "TASKCLUSTER_UNTRUSTED_CACHES=1",
                "TASKCLUSTER_VOLUMES=/builds/worker/checkouts"
            ]
        );
        assert_eq!(payload.purge, [72]);
        assert_eq!(payload.scopes.len(), 2);
        assert_eq!(
            payload.scopes[1],
            "docker-worker:cache:acme-level-1-cargo-v3-b501540836ece0d08200-<docker-image>"
        );
    }

    #[test]
    fn without_caches_run_task_is_told_of_none() {
        let skipped = Mount {
            skip_untrusted: true,
            ..mount("cargo", "/cargo")
        };
        let command = || run_task(Image::Named("x".to_owned()));
        let payload = naming(1, command()).payload(std::slice::from_ref(&skipped), &[]);
        assert!(payload.env.is_empty(), "{payload:?}");
        assert!(payload.scopes.is_empty(), "{payload:?}");
        let trusted = naming(3, command()).payload(&[skipped], &[]);
        assert_eq!(trusted.env["TASKCLUSTER_CACHES"], "/cargo");
    }

    #[test]
    fn checkouts_do_not_depend_on_the_order_of_repositories() {
        let repositories =
            |paths: [&str; 2]| checkouts(&paths.map(|path| (path.to_owned(), format!("p-{path}"))));
        let name = repositories(["a", "b"]);
        assert_eq!(name, repositories(["b", "a"]));
        // Of "a\tp-a\nb\tp-b".
        let digest = "0e6b9e439362f163635dd62434db0ad7f20c68997d7c9fed4c689b27496f40a7";
        assert_eq!(name, format!("checkouts-repos-{digest}"));
        assert_eq!(checkouts(&[("a".to_owned(), "p".to_owned())]), "checkouts");
    }
}

//! The Python run-task and ours do the same to caches and volumes, and say the same: exit code, requirements, logs,
//! owners, modes and messages. Runs where `PYTHON_FETCH_CONTENT` names the script that lies beside it, as root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::archives::{file, gz, tar_of, zip_of};
use crate::support::run_task::{
    REQUIRES, SOMEBODY_ELSE, as_somebody, comparable, is_root, make_cache, open_sandbox, owners,
    python, python_run_task, run_task,
};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, artifact};
use crate::support::server::{Reply, Server};
use crate::support::skip::have_programs;
use crate::support::tree::Tree;

/// A state of a worker's directories, and how a task comes to it.
struct Case {
    name: &'static str,
    /// Makes the directories.
    make: Option<fn(&Sandbox)>,
    caches: &'static [&'static str],
    volumes: &'static [&'static str],
    untrusted: bool,
    /// No `TASK_ID`.
    anonymous: bool,
    options: &'static [&'static str],
    code: i32,
}

fn empty(sandbox: &Sandbox) {
    fs::create_dir(sandbox.path("c")).expect("make a directory");
}

fn closed(sandbox: &Sandbox) {
    empty(sandbox);
    fs::set_permissions(sandbox.path("c"), Permissions::from_mode(0o2050)).expect("close");
}

fn cache(sandbox: &Sandbox, requires: &str) {
    make_cache(sandbox, "c", Some(requires), (1, 1));
}

/// A cache of somebody else, with everything in it that can have an owner.
fn foreign(sandbox: &Sandbox) {
    make_cache(
        sandbox,
        "c",
        Some("gid=2\nuid=2\nversion=1"),
        (SOMEBODY_ELSE, SOMEBODY_ELSE),
    );
    sandbox.write("c/content/deep/er/program", "#!");
    sandbox.write("outside/file", "not in the cache");
    let set_id = Permissions::from_mode(0o6755);
    fs::set_permissions(sandbox.path("c/content/deep/er/program"), set_id).expect("set-id");
    fs::set_permissions(
        sandbox.path("c/content/deep"),
        Permissions::from_mode(0o2500),
    )
    .expect("close");
    // Not to a directory: the Python run-task follows such links.
    for (link, target) in [("to-file", "/etc/passwd"), ("dangling", "/no/where")] {
        symlink(target, sandbox.path(format!("c/content/{link}"))).expect("link");
    }
    fs::hard_link(
        sandbox.path("c/content/file"),
        sandbox.path("c/content/deep/same"),
    )
    .expect("link");
}

const CASES: &[Case] = &[
    Case {
        name: "empty",
        make: Some(empty),
        caches: &["c"],
        ..CASE
    },
    Case {
        name: "empty and closed",
        make: Some(closed),
        caches: &["c"],
        ..CASE
    },
    Case {
        name: "empty, no task id",
        make: Some(empty),
        caches: &["c"],
        anonymous: true,
        ..CASE
    },
    Case {
        name: "match",
        make: Some(|s| cache(s, REQUIRES)),
        caches: &["c"],
        ..CASE
    },
    Case {
        name: "match, untrusted",
        make: Some(|s| cache(s, REQUIRES)),
        caches: &["c"],
        untrusted: true,
        ..CASE
    },
    Case {
        name: "other line ends",
        make: Some(|s| cache(s, "version=1\r\nuid=1\rgid=1\n")),
        caches: &["c"],
        ..CASE
    },
    Case {
        name: "subset",
        make: Some(|s| cache(s, "uid=1")),
        caches: &["c"],
        ..CASE
    },
    Case {
        name: "nothing required",
        make: Some(|s| cache(s, "")),
        caches: &["c"],
        ..CASE
    },
    Case {
        name: "another user",
        make: Some(|s| cache(s, "gid=1\nuid=2\nversion=1")),
        caches: &["c"],
        code: 72,
        ..CASE
    },
    Case {
        name: "another group",
        make: Some(|s| cache(s, "gid=2\nuid=1\nversion=1")),
        caches: &["c"],
        code: 72,
        ..CASE
    },
    Case {
        name: "another user, untrusted",
        make: Some(foreign),
        caches: &["c"],
        untrusted: true,
        ..CASE
    },
    Case {
        name: "another group, untrusted",
        make: Some(|s| cache(s, "gid=2\nuid=1\nversion=1")),
        caches: &["c"],
        untrusted: true,
        ..CASE
    },
    Case {
        name: "another version",
        make: Some(|s| cache(s, "gid=1\nuid=1\nversion=2")),
        caches: &["c"],
        code: 72,
        ..CASE
    },
    Case {
        name: "another version, untrusted",
        make: Some(|s| cache(s, "gid=2\nuid=1\nversion=2")),
        caches: &["c"],
        untrusted: true,
        code: 72,
        ..CASE
    },
    Case {
        name: "an empty line",
        make: Some(|s| cache(s, "gid=1\n\nuid=1\nversion=1")),
        caches: &["c"],
        untrusted: true,
        code: 72,
        ..CASE
    },
    Case {
        name: "no requirements",
        make: Some(|s| make_cache(s, "c", None, (1, 1))),
        caches: &["c"],
        code: 72,
        ..CASE
    },
    Case {
        name: "no requirements, untrusted",
        make: Some(|s| make_cache(s, "c", None, (2, 2))),
        caches: &["c"],
        untrusted: true,
        code: 72,
        ..CASE
    },
    Case {
        name: "no log",
        make: Some(|s| {
            cache(s, REQUIRES);
            fs::remove_file(s.path("c/.cachelog")).expect("remove the log");
        }),
        caches: &["c"],
        ..CASE
    },
    Case {
        name: "missing",
        caches: &["c"],
        code: 1,
        ..CASE
    },
    Case {
        name: "a file",
        make: Some(|s| drop(s.write("c", "a file"))),
        caches: &["c"],
        code: 1,
        ..CASE
    },
    Case {
        name: "the second of three is refused",
        make: Some(|s| {
            make_cache(s, "b", Some("version=7"), (1, 1));
            for name in ["a", "c"] {
                fs::create_dir(s.path(name)).expect("make a directory");
            }
        }),
        caches: &["a", "b", "c"],
        code: 72,
        ..CASE
    },
    Case {
        name: "empty volume",
        make: Some(empty),
        volumes: &["c"],
        ..CASE
    },
    Case {
        name: "empty and closed volume",
        make: Some(closed),
        volumes: &["c"],
        ..CASE
    },
    Case {
        name: "volume with something in it",
        make: Some(|s| {
            for name in ["c/z", "c/.a", "c/b c"] {
                s.write(name, "");
            }
        }),
        volumes: &["c"],
        code: 1,
        ..CASE
    },
    Case {
        name: "volume that is a cache",
        make: Some(empty),
        caches: &["c"],
        volumes: &["c"],
        ..CASE
    },
    Case {
        name: "volume that is a cache by another name",
        make: Some(empty),
        caches: &["c"],
        volumes: &["./c"],
        code: 1,
        ..CASE
    },
    Case {
        name: "no such user",
        make: Some(empty),
        caches: &["c"],
        options: &["--user", "nobody-has-this-name"],
        code: 1,
        ..CASE
    },
    Case {
        name: "no such group",
        make: Some(empty),
        caches: &["c"],
        options: &["--group=nobody-has-this-name"],
        code: 1,
        ..CASE
    },
];

const CASE: Case = Case {
    name: "",
    make: None,
    caches: &[],
    volumes: &[],
    untrusted: false,
    anonymous: false,
    options: &[],
    code: 0,
};

/// Paths in a sandbox as the variables have them.
fn joined(sandbox: &Sandbox, names: &[&str]) -> String {
    let root = sandbox.path("");
    let root = root.display().to_string();
    let paths = names
        .iter()
        .map(|name| format!("{}/{name}", root.trim_end_matches('/')));
    paths.collect::<Vec<_>>().join(";")
}

impl Case {
    /// Comes to the state with one of the two.
    fn run(&self, invocation: Invocation<'_>, sandbox: &Sandbox) -> Outcome {
        let mut invocation = as_somebody(invocation).args(self.options);
        for (variable, names) in [
            ("TASKCLUSTER_CACHES", self.caches),
            ("TASKCLUSTER_VOLUMES", self.volumes),
        ] {
            if !names.is_empty() {
                invocation = invocation.env(variable, joined(sandbox, names));
            }
        }
        if self.untrusted {
            invocation = invocation.env("TASKCLUSTER_UNTRUSTED_CACHES", "");
        }
        if !self.anonymous {
            invocation = invocation.env("TASK_ID", "TASK-1");
        }
        invocation
            .args(["--", "echo", "the task's \"output\""])
            .run()
    }
}

/// A sandbox in the state of a case.
fn prepared(case: &Case) -> Sandbox {
    let sandbox = open_sandbox();
    if let Some(make) = case.make {
        make(&sandbox);
    }
    sandbox
}

#[test]
fn every_state_is_treated_as_by_the_python_run_task() {
    let test = "every_state_is_treated_as_by_the_python_run_task";
    let Some(script) = python_run_task(test) else {
        return;
    };
    if !is_root(test) {
        return;
    }
    for case in CASES {
        let name = case.name;
        let (theirs, ours) = (prepared(case), prepared(case));
        let expected = case.run(python(&theirs, &script), &theirs);
        let actual = case.run(run_task(&ours), &ours);
        assert_eq!(
            expected.status.code(),
            Some(case.code),
            "{name}: {expected:?}"
        );
        assert_eq!(actual.status.code(), Some(case.code), "{name}: {actual:?}");
        let warned = actual.stdout.contains("warning:");
        let lines = comparable(&actual, &ours).into_iter();
        let lines: Vec<_> = lines.filter(|line| !line.contains("warning:")).collect();
        assert_eq!(comparable(&expected, &theirs), lines, "{name}: {actual:?}");
        assert_eq!(
            owners(&theirs.path("")),
            owners(&ours.path("")),
            "{name}: {actual:?}"
        );
        // Only theirs does not mind.
        let short = matches!(name, "subset" | "nothing required");
        assert_eq!(warned, short, "{name}: {actual:?}");
        let explains = |outcome: &Outcome| {
            let ids = ["user/group", "user or group"];
            ids.iter().any(|ids| outcome.stdout.contains(ids))
        };
        assert_eq!(explains(&expected), explains(&actual), "{name}: {actual:?}");
    }
}

/// Comes to a directory as its first, second, … task with the run-tasks in this order.
fn history(order: [bool; 4], script: &Path) -> (String, Vec<Option<i32>>) {
    let sandbox = open_sandbox();
    empty(&sandbox);
    let tasks: [(&str, &[&str]); 4] = [
        ("TASK-1", &[]),
        ("TASK-2", &[]),
        ("TASK-3", &["--user", "bin", "--group", "bin"]),
        ("TASK-4", &["--user", "bin", "--group", "bin"]),
    ];
    let mut codes = Vec::new();
    for (number, ((task, options), is_ours)) in tasks.into_iter().zip(order).enumerate() {
        let invocation = if is_ours {
            run_task(&sandbox)
        } else {
            python(&sandbox, script)
        };
        let mut invocation = as_somebody(invocation)
            .args(options)
            .env("TASK_ID", task)
            .env("TASKCLUSTER_CACHES", joined(&sandbox, &["c"]));
        if number == 3 {
            invocation = invocation.env("TASKCLUSTER_UNTRUSTED_CACHES", "1");
        }
        codes.push(invocation.args(["--", "true"]).run().status.code());
    }
    (owners(&sandbox.path("c")), codes)
}

#[test]
fn a_cache_can_change_hands_between_the_two() {
    let test = "a_cache_can_change_hands_between_the_two";
    let Some(script) = python_run_task(test) else {
        return;
    };
    if !is_root(test) {
        return;
    }
    let (expected, codes) = history([false; 4], &script);
    assert_eq!(codes, [Some(0), Some(0), Some(72), Some(0)]);
    assert!(expected.contains("gid=2\\nuid=2"), "{expected}");
    for order in [
        [true, false, true, false],
        [false, true, false, true],
        [true; 4],
    ] {
        let (actual, codes) = history(order, &script);
        assert_eq!(codes, [Some(0), Some(0), Some(72), Some(0)], "{order:?}");
        assert_eq!(expected, actual, "{order:?}");
    }
}

#[test]
fn the_command_gets_the_same_environment() {
    let test = "the_command_gets_the_same_environment";
    let Some(script) = python_run_task(test) else {
        return;
    };
    if !is_root(test) {
        return;
    }
    let sandbox = open_sandbox();
    fs::create_dir(sandbox.path("sub")).expect("make a directory");
    let variables = |invocation: Invocation<'_>| {
        let outcome = as_somebody(invocation)
            .env("PATH", "/usr/bin:/bin")
            .env("TASKCLUSTER_CACHES", joined(&sandbox, &["c"]))
            .env("TASKCLUSTER_VOLUMES", joined(&sandbox, &["c"]))
            .env("TASKCLUSTER_UNTRUSTED_CACHES", "1")
            .env("TASKCLUSTER_ACCESS_TOKEN", "secret")
            .env("TASK_ID", "x")
            .env("UPLOAD_DIR", "../up//./load")
            .env("PIP_CACHE_DIR", "/a/../b/")
            .env("REPOSITORIES", r#"{"comm": "x"}"#)
            .env("COMM_PATH", "comm")
            .env("VCS_PATH", "vcs")
            .env("ODD", "\"'\n x")
            .args(["--task-cwd", "sub", "--", "sh", "-c"])
            .args(["pwd; umask; id -u; id -g; id -G; ls /proc/self/fd; exec env -0"])
            .run();
        assert!(outcome.status.success(), "{outcome:?}");
        let lines = outcome.stdout.lines();
        let lines = lines.filter(|line| line.starts_with("[task "));
        let lines: Vec<_> = lines
            .map(|line| line.split_once("] ").expect("a prefix").1.to_owned())
            .collect();
        let (_executing, output) = lines.split_first().expect("output");
        let output = output.join("\n");
        let mut parts: Vec<_> = output.split('\0').map(str::to_owned).collect();
        // Python counts on none of them; FETCH_CONTENT_… are those of the tests.
        parts.retain(|part| !part.starts_with("FETCH_CONTENT_") && !part.starts_with("LC_CTYPE="));
        parts.sort();
        parts
    };
    empty(&sandbox);
    let expected = variables(python(&sandbox, &script));
    fs::remove_dir_all(sandbox.path("c")).expect("remove the cache");
    empty(&sandbox);
    let actual = variables(run_task(&sandbox));
    assert_eq!(expected, actual);
    let all = actual.join("\n");
    assert!(all.contains("TASK_WORKDIR="), "{all}");
    assert!(!all.contains("TASKCLUSTER_CACHES"), "{all}");
}

/// Serves archives, and returns the list that asks for them.
fn serve(server: &Server) -> Value {
    let tar = tar_of(&[file("tool/run", "#!/bin/sh\n").mode(0o755)]);
    let zip = zip_of(&[file("data/one", "1"), file("data/two", "2")]);
    for (name, content) in [("public/a.tar.gz", gz(&tar)), ("public/b.zip", zip)] {
        server.serve(&artifact(TASK_A, name), Reply::ok(&content));
    }
    json!([
        {"task": TASK_A, "artifact": "public/a.tar.gz", "extract": true, "dest": "tools"},
        {"task": TASK_A, "artifact": "public/b.zip", "extract": true},
    ])
}

#[test]
fn both_fetch_the_same_with_either_fetch_content() {
    let test = "both_fetch_the_same_with_either_fetch_content";
    let Some(script) = python_run_task(test) else {
        return;
    };
    if !have_programs(test, &["unzip"]) {
        return;
    }
    // What images have for it.
    let launcher = include_str!("../../docker/fetch/fetch-content");
    let fetched = |run: &dyn Fn(&Sandbox) -> Outcome| {
        let sandbox = open_sandbox();
        let outcome = run(&sandbox);
        assert!(outcome.status.success(), "{outcome:?}");
        for line in ["fetching artifacts", "finished fetching artifacts"] {
            let logged = outcome.stdout.lines();
            let mut logged = logged.filter(|logged| logged.starts_with("[fetches "));
            assert!(logged.any(|logged| logged.ends_with(line)), "{outcome:?}");
        }
        Tree::of(sandbox.path("fetches")).without_mtimes()
    };
    let server = Server::start();
    let list = serve(&server).to_string();
    let set = |invocation: Invocation<'_>| {
        invocation
            .args(["--user", "root", "--group", "root"])
            .env("MOZ_FETCHES", &list)
            .env("MOZ_FETCHES_DIR", "fetches")
            .env("TASKCLUSTER_ROOT_URL", server.root())
            .env("TASKCLUSTER_PROXY_URL", server.root())
            .args(["--", "true"])
            .run()
    };
    let theirs = fetched(&|sandbox| set(python(sandbox, &script)));
    let ours = fetched(&|sandbox| set(run_task(sandbox)));
    theirs.assert_same(&ours, "the Python run-task (-), ours (+)");
    let mixed = fetched(&|sandbox| {
        let path = sandbox.write("bin/fetch-content", launcher);
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("make it a program");
        fs::create_dir(sandbox.path("libexec")).expect("make a directory");
        let program = sandbox.path("libexec/fetch-content");
        symlink(env!("CARGO_BIN_EXE_fetch-content"), program).expect("link the program");
        let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
        set(python(sandbox, &script).env("PATH", path))
    });
    theirs.assert_same(&mixed, "the Python fetch-content (-), ours (+)");
}

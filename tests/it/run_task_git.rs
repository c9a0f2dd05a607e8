//! Checkouts by `run-task`: the same as those of the Python one, which the tests run beside ours on the same repositories.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::support::git::{Daemon, Manner, Upstream, git_in, have_git, serve_files};
use crate::support::run_task::{
    as_somebody, give, is_root, open_sandbox, owners, python, python_run_task, run_task,
    without_time,
};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, wait_until};
use crate::support::server::{Reply, Server};
use crate::support::skip::{have_programs, skip};

/// Repositories to check out, and a server for them.
struct World {
    upstream: Upstream,
    daemon: Daemon,
    /// Commits by name.
    commits: Vec<(&'static str, String)>,
}

impl World {
    fn new(manners: &[Manner]) -> Self {
        let upstream = Upstream::new();
        let daemon = Daemon::start(&upstream, manners);
        let mut commits = Vec::new();
        let base = upstream.repository("base");
        base.write("file", "one").write("dir/deep", "deep");
        base.program("run", "#!/bin/sh\n").link("link", "file");
        base.write(".gitignore", "ignored*\n");
        commits.push(("one", base.commit()));
        base.git(&["tag", "v1"]);
        base.git(&["tag", "noted"]);
        commits.push(("two", base.write("file", "two").commit()));
        base.git(&["checkout", "--quiet", "-b", "with-sub"]);
        let sub = upstream.repository("sub");
        let in_sub = sub.write("in-sub", "sub").commit();
        base.submodule("sub", "../sub", &in_sub);
        commits.push(("with-sub", base.commit()));
        base.git(&["checkout", "--quiet", "main"]);
        let fork = upstream.repository("fork");
        fork.git(&["fetch", "--quiet", "../base", "main"]);
        fork.git(&["checkout", "--quiet", "-b", "pr", "FETCH_HEAD"]);
        commits.push(("fork", fork.write("file", "of the fork").commit()));
        Self {
            upstream,
            daemon,
            commits,
        }
    }

    /// What a value of a case stands for: `@name` a commit, `%name` the URL of a repository.
    fn value(&self, text: &str) -> String {
        if let Some(name) = text.strip_prefix('@') {
            let found = self.commits.iter().find(|(known, _)| *known == name);
            return found.expect("a known commit").1.clone();
        }
        text.strip_prefix('%')
            .map_or_else(|| text.to_owned(), |name| self.daemon.url(name))
    }
}

/// Variables about the repository, without their prefix, and options.
type Task = (
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

/// Tasks after each other on the same cache, and what happens between the first and the second.
struct Case {
    name: &'static str,
    tasks: &'static [Task],
    between: fn(&World, &Path),
    /// The exit code of the last one.
    code: i32,
    /// Ours finds the mistake before it does anything.
    is_early: bool,
    /// It fails between the clone and the checkout: ours has no files then, and theirs those of another commit.
    has_no_files: bool,
}

const CASE: Case = Case {
    name: "",
    tasks: &[],
    between: |_, _| (),
    code: 0,
    is_early: false,
    has_no_files: false,
};

const fn head(variables: &'static [(&'static str, &'static str)]) -> Task {
    (variables, &[])
}

const ONE: Task = head(&[("HEAD_REV", "@one")]);
const TWO: Task = head(&[("HEAD_REF", "main"), ("HEAD_REV", "@two")]);
const FORK: Task = head(&[
    ("BASE_REPOSITORY", "%base"),
    ("HEAD_REPOSITORY", "%fork"),
    ("HEAD_REF", "pr"),
    ("HEAD_REV", "@fork"),
]);

const CASES: &[Case] = &[
    Case {
        name: "a revision",
        tasks: &[ONE],
        ..CASE
    },
    Case {
        name: "a branch",
        tasks: &[head(&[("HEAD_REF", "main")])],
        ..CASE
    },
    Case {
        name: "a branch and a revision that is not its end",
        tasks: &[head(&[
            ("HEAD_REF", "refs/heads/main"),
            ("HEAD_REV", "@one"),
        ])],
        ..CASE
    },
    Case {
        name: "a tag of the same repository",
        tasks: &[head(&[
            ("BASE_REPOSITORY", "%base"),
            ("HEAD_REF", "refs/tags/noted"),
        ])],
        ..CASE
    },
    Case {
        name: "a fork and a base revision",
        tasks: &[(
            &[
                ("BASE_REPOSITORY", "%base"),
                ("BASE_REV", "@with-sub"),
                ("HEAD_REPOSITORY", "%fork"),
                ("HEAD_REF", "pr"),
            ],
            &[],
        )],
        ..CASE
    },
    Case {
        name: "the revision before the first",
        tasks: &[head(&[
            ("BASE_REV", "0000000000000000000000000000000000000000"),
            ("HEAD_REV", "@two"),
        ])],
        ..CASE
    },
    Case {
        name: "shallow, a branch and another revision",
        tasks: &[(
            &[("HEAD_REF", "with-sub"), ("HEAD_REV", "@one")],
            &["--vcs-shallow-clone"],
        )],
        ..CASE
    },
    Case {
        name: "shallow, a revision and one to compare with",
        tasks: &[(
            &[
                ("BASE_REV", "@one"),
                ("HEAD_REV", "@fork"),
                ("HEAD_REPOSITORY", "%fork"),
            ],
            &["--vcs-shallow-clone"],
        )],
        ..CASE
    },
    Case {
        name: "a submodule",
        tasks: &[head(&[("HEAD_REF", "with-sub")])],
        ..CASE
    },
    Case {
        name: "kept, another revision",
        tasks: &[ONE, TWO],
        ..CASE
    },
    Case {
        name: "kept, the same",
        tasks: &[TWO, TWO],
        ..CASE
    },
    Case {
        name: "kept, of another repository",
        tasks: &[TWO, FORK, ONE],
        ..CASE
    },
    Case {
        name: "kept, a submodule goes",
        tasks: &[head(&[("HEAD_REF", "with-sub")]), ONE],
        ..CASE
    },
    Case {
        name: "kept, somebody worked in it",
        tasks: &[
            head(&[("HEAD_REF", "with-sub")]),
            head(&[("HEAD_REF", "with-sub")]),
        ],
        between: |_, checkout| disturb(checkout),
        ..CASE
    },
    Case {
        name: "kept, a tag has moved",
        tasks: &[
            head(&[("BASE_REPOSITORY", "%base"), ("HEAD_REF", "v1")]),
            head(&[("BASE_REPOSITORY", "%base"), ("HEAD_REF", "v1")]),
        ],
        between: |world, _| {
            let base = world.upstream.root().join("base");
            git_in(&base, &["tag", "--force", "v1", "main"]);
        },
        ..CASE
    },
    Case {
        name: "kept, a branch was rewritten",
        tasks: &[head(&[("HEAD_REF", "main")]), head(&[("HEAD_REF", "main")])],
        between: |world, _| {
            let base = world.upstream.root().join("base");
            git_in(&base, &["update-ref", "refs/heads/main", "v1"]);
        },
        ..CASE
    },
    Case {
        name: "no such revision",
        tasks: &[head(&[(
            "HEAD_REV",
            "1111111111111111111111111111111111111111",
        )])],
        code: 128,
        has_no_files: true,
        ..CASE
    },
    Case {
        name: "no such branch",
        tasks: &[ONE, head(&[("HEAD_REF", "gone"), ("HEAD_REV", "@two")])],
        code: 128,
        ..CASE
    },
    Case {
        name: "no such repository",
        tasks: &[head(&[("HEAD_REPOSITORY", "%gone"), ("HEAD_REV", "@two")])],
        code: 128,
        ..CASE
    },
    Case {
        name: "a cache is there",
        tasks: &[ONE, ONE],
        between: |_, checkout| {
            fs::write(checkout.join(".cacherequires"), "").expect("write a file");
        },
        code: 1,
        ..CASE
    },
    Case {
        name: "neither a branch nor a revision",
        tasks: &[head(&[])],
        code: 1,
        is_early: true,
        ..CASE
    },
    Case {
        name: "another system",
        tasks: &[head(&[("HEAD_REV", "@one"), ("REPOSITORY_TYPE", "svn")])],
        code: 1,
        is_early: true,
        ..CASE
    },
    Case {
        name: "a branch, but no checkout",
        tasks: &[(&[("HEAD_REF", "main")], &["--vcs-checkout="])],
        code: 1,
        is_early: true,
        ..CASE
    },
    Case {
        name: "in no cache",
        tasks: &[(
            &[("HEAD_REV", "@one")],
            &["--vcs-checkout", "elsewhere/a/vcs"],
        )],
        ..CASE
    },
];

/// Does to a checkout what tasks do.
fn disturb(checkout: &Path) {
    let write = |name: &str, content: &str| {
        let path = checkout.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
        fs::write(path, content).expect("write a file");
    };
    write("file", "changed");
    write("sub/in-sub", "changed");
    fs::remove_file(checkout.join("dir/deep")).expect("remove a file");
    write("new/a/b", "new");
    write("ignored-one", "ignored");
    write("ignored-dir/x", "ignored");
    write("dir/with space", "new");
    fs::create_dir_all(checkout.join("empty/er")).expect("make a directory");
    let nested = checkout.join("nested");
    git_in(checkout, &["init", "--quiet", "nested"]);
    fs::write(nested.join("n"), "n").expect("write a file");
    git_in(&nested, &["add", "n"]);
    git_in(&nested, &["commit", "--quiet", "-m", "n"]);
    symlink("/etc", checkout.join("to-etc")).expect("link");
    give_all(checkout);
    fs::set_permissions(checkout.join("new/a"), Permissions::from_mode(0o500)).expect("close");
}

/// Gives everything to the task's user.
fn give_all(path: &Path) {
    give(path, 1, 1);
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("list a directory") {
            give_all(&entry.expect("an entry").path());
        }
    }
}

/// Starts a run-task that checks out to `c/vcs`, where `c` is a cache.
fn prepared<'a>(
    invocation: Invocation<'a>,
    sandbox: &'a Sandbox,
    world: &World,
    (variables, options): Task,
) -> Invocation<'a> {
    let mut invocation = as_somebody(invocation)
        .env("HOME", sandbox.path("home"))
        .env("TASKCLUSTER_CACHES", sandbox.path("c"))
        .env("TASK_ID", "TASK-1")
        .env("VCS_REPOSITORY_TYPE", "git")
        .env("VCS_HEAD_REPOSITORY", world.daemon.url("base"));
    for (name, value) in variables {
        invocation = invocation.env(&format!("VCS_{name}"), world.value(value));
    }
    if !options.iter().any(|option| option.contains("-checkout")) {
        invocation = invocation.args(["--vcs-checkout", "c/vcs"]);
    }
    invocation
        .args(options)
        .args(["--", "sh", "-c", "echo at $VCS_HEAD_REV"])
}

/// A sandbox with an empty cache, and a home for the task's user.
fn sandbox_with_cache() -> Sandbox {
    let sandbox = open_sandbox();
    for name in ["c", "home"] {
        fs::create_dir(sandbox.path(name)).expect("make a directory");
    }
    if rustix::process::geteuid().is_root() {
        give(sandbox.path("home"), 1, 1);
    }
    sandbox
}

/// Asks git about a checkout. What it says on failure counts, too.
fn asked(checkout: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(args)
        .current_dir(checkout)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .stdin(Stdio::null())
        .output()
        .expect("start git");
    let mut lines: Vec<_> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    if args[0] == "config" {
        lines.sort();
    }
    format!(
        "{args:?}: {:?}\n{}\n",
        output.status.code(),
        lines.join("\n")
    )
}

/// All that matters about a checkout.
fn state(sandbox: &Sandbox) -> String {
    let mut text = String::new();
    for place in ["c/vcs", "elsewhere/a/vcs"] {
        let checkout = sandbox.path(place);
        if !checkout.join(".git").exists() {
            continue;
        }
        for args in [
            &["rev-parse", "HEAD"][..],
            &["symbolic-ref", "HEAD"],
            &["for-each-ref"],
            &["config", "--local", "--list"],
            &["status", "--porcelain", "--ignored"],
            &["submodule", "status"],
            &["rev-parse", "--is-shallow-repository"],
            &["rev-list", "--all", "--count"],
        ] {
            text += &asked(&checkout, args);
        }
    }
    // The Python run-task adds the same again and again.
    let configuration = fs::read_to_string(sandbox.path("home/.gitconfig")).unwrap_or_default();
    let mut lines: Vec<_> = configuration.lines().map(str::trim).collect();
    lines.sort_unstable();
    lines.dedup();
    for line in lines {
        let _ = writeln!(text, "home: {line}");
    }
    for line in owners(&sandbox.path("")).lines() {
        if !line.contains(".git/") {
            let _ = writeln!(text, "{line}");
        }
    }
    text.replace(
        sandbox.path("").display().to_string().trim_end_matches('/'),
        "[TMP]",
    )
}

/// What is said by both: calls of git but for those that only one of them makes, warnings, and the command's output.
fn said(outcome: &Outcome, sandbox: &Sandbox) -> Vec<String> {
    let root = sandbox.path("");
    let root = root.display().to_string();
    let lines = outcome.stdout.lines().map(|line| {
        let line = without_time(line);
        line.replace(root.trim_end_matches('/'), "[TMP]")
            .replace(".vcs.cloning", "vcs")
            .replace(".ner.cloning", "ner")
            // Ours never checks out what the next call may replace.
            .replace(", '--no-checkout'", "")
            // What it would show has passwords of URLs.
            .replace("'init', '--quiet'", "'init'")
    });
    let mut lines: Vec<_> = lines
        .filter(|line| {
            let calls = line.starts_with("[vcs] executing")
                && !line.contains("'clean'")
                && !line.contains("'config'");
            let others = [
                "[vcs] WARNING",
                "[vcs] TinderboxPrint",
                "[task] at",
                "error: cannot",
            ];
            calls || others.iter().any(|begin| line.starts_with(begin))
        })
        .collect();
    for line in &mut lines {
        // In no order of Python's.
        if line.contains("'fetch'") {
            let mut words: Vec<_> = line.trim_end_matches(']').split(", ").collect();
            words.sort_unstable();
            *line = words.join(" ");
        }
    }
    // How often is not the same.
    lines.dedup();
    lines
}

/// Runs all tasks of a case in a sandbox.
fn tasks<'a>(
    case: &Case,
    sandbox: &'a Sandbox,
    world: &World,
    start: &dyn Fn() -> Invocation<'a>,
) -> (Outcome, Vec<String>) {
    let mut all = Vec::new();
    let mut last = None;
    for (number, task) in case.tasks.iter().enumerate() {
        if number == 1 {
            (case.between)(world, &sandbox.path("c/vcs"));
        }
        let outcome = prepared(start(), sandbox, world, *task).run();
        all.extend(said(&outcome, sandbox));
        last = Some(outcome);
    }
    (last.expect("at least one task"), all)
}

fn compare(test: &str, part: usize, of: usize) {
    let Some(script) = python_run_task(test) else {
        return;
    };
    if !is_root(test) || !have_git(test) {
        return;
    }
    for case in CASES.iter().skip(part).step_by(of) {
        let name = case.name;
        let world = World::new(&[Manner::Whole]);
        let (theirs, ours) = (sandbox_with_cache(), sandbox_with_cache());
        let (expected, they_said) = tasks(case, &theirs, &world, &|| python(&theirs, &script));
        // What happened between the tasks must not have happened before ours.
        let again = World::new(&[Manner::Whole]);
        let (actual, we_said) = tasks(case, &ours, &again, &|| run_task(&ours));
        assert_eq!(
            expected.status.code(),
            Some(case.code),
            "{name}: {expected:?}"
        );
        assert_eq!(actual.status.code(), Some(case.code), "{name}: {actual:?}");
        if case.is_early {
            assert!(
                !ours.path("c/.cacherequires").exists(),
                "{name}: {actual:?}"
            );
            continue;
        }
        let url = |world: &World, text: &str| text.replace(&world.daemon.url(""), "[URL]/");
        let (they_said, we_said) = (
            url(&world, &they_said.join("\n")),
            url(&again, &we_said.join("\n")),
        );
        assert_eq!(they_said, we_said, "{name}: {actual:?}");
        if case.has_no_files {
            assert!(ours.path("c/vcs/.git").exists(), "{name}: {actual:?}");
            continue;
        }
        let (their_state, our_state) = (state(&theirs), state(&ours));
        assert_eq!(
            url(&world, &their_state),
            url(&again, &our_state),
            "{name}: {actual:?}"
        );
    }
}

#[test]
fn checkouts_are_those_of_the_python_run_task_1() {
    compare("checkouts_are_those_of_the_python_run_task_1", 0, 3);
}

#[test]
fn checkouts_are_those_of_the_python_run_task_2() {
    compare("checkouts_are_those_of_the_python_run_task_2", 1, 3);
}

#[test]
fn checkouts_are_those_of_the_python_run_task_3() {
    compare("checkouts_are_those_of_the_python_run_task_3", 2, 3);
}

#[test]
fn a_checkout_can_change_hands_between_the_two() {
    let test = "a_checkout_can_change_hands_between_the_two";
    let Some(script) = python_run_task(test) else {
        return;
    };
    if !is_root(test) || !have_git(test) {
        return;
    }
    let kept = CASES
        .iter()
        .filter(|case| case.tasks.len() > 1 && case.code == 0);
    for case in kept {
        let states = [
            [false, false, false],
            [true, false, true],
            [false, true, false],
        ]
        .map(|is_ours| {
            let (world, sandbox) = (World::new(&[Manner::Whole]), sandbox_with_cache());
            for (number, task) in case.tasks.iter().enumerate() {
                if number == 1 {
                    (case.between)(&world, &sandbox.path("c/vcs"));
                }
                let run = if is_ours[number] {
                    run_task(&sandbox)
                } else {
                    python(&sandbox, &script)
                };
                let outcome = prepared(run, &sandbox, &world, *task).run();
                assert_eq!(code(&outcome), Some(0), "{}: {outcome:?}", case.name);
            }
            state(&sandbox).replace(&world.daemon.url(""), "[URL]/")
        });
        assert_eq!(states[0], states[1], "{}", case.name);
        assert_eq!(states[0], states[2], "{}", case.name);
    }
}

/// A task that checks out to `c/vcs` as who the test is.
fn as_self<'a>(sandbox: &'a Sandbox, url: &str, variables: &[(&str, &str)]) -> Invocation<'a> {
    by_self(run_task(sandbox), sandbox, url, variables)
}

/// The same, started in some way.
fn by_self<'a>(
    invocation: Invocation<'a>,
    sandbox: &'a Sandbox,
    url: &str,
    variables: &[(&str, &str)],
) -> Invocation<'a> {
    let mut invocation = invocation
        .args(["--user", "root", "--group", "root"])
        .env("HOME", sandbox.path("home"))
        .env("TASKCLUSTER_CACHES", sandbox.path("c"))
        .env("VCS_REPOSITORY_TYPE", "git")
        .env("VCS_HEAD_REPOSITORY", url);
    for (name, value) in variables {
        invocation = invocation.env(name, value);
    }
    invocation
        .args(["--vcs-checkout", "c/vcs"])
        .args(["--", "sh", "-c", "echo at $VCS_HEAD_REV"])
}

fn code(outcome: &Outcome) -> Option<i32> {
    outcome.status.code()
}

const NESTED: Task = (
    TWO.0,
    &["--a-checkout=c/vcs/in/ner", "--vcs-checkout=c/vcs"],
);

#[test]
fn checkouts_within_others_come_after_them() {
    let test = "checkouts_within_others_come_after_them";
    let Some(script) = python_run_task(test) else {
        return;
    };
    if !is_root(test) || !have_git(test) {
        return;
    }
    let world = World::new(&[Manner::Whole]);
    let run = |sandbox: &Sandbox, invocation: Invocation<'_>| {
        let outcome = prepared(invocation, sandbox, &world, NESTED)
            .env("REPOSITORIES", r#"{"a": "inner", "vcs": "outer"}"#)
            .env("A_REPOSITORY_TYPE", "git")
            .env("A_HEAD_REPOSITORY", world.daemon.url("sub"))
            .env("A_HEAD_REF", "main")
            .run();
        assert_eq!(code(&outcome), Some(0), "{outcome:?}");
        (said(&outcome, sandbox), state(sandbox))
    };
    let (theirs, ours) = (sandbox_with_cache(), sandbox_with_cache());
    for _ in 0..2 {
        let expected = run(&theirs, python(&theirs, &script));
        let actual = run(&ours, run_task(&ours));
        assert_eq!(expected, actual);
        assert!(actual.1.contains("c/vcs/in/ner/in-sub"), "{}", actual.1);
    }
}

#[test]
fn both_run_tasks_ask_again() {
    let test = "both_run_tasks_ask_again";
    let Some(script) = python_run_task(test) else {
        return;
    };
    if !is_root(test) || !have_git(test) {
        return;
    }
    let run = |start: &dyn Fn(&Sandbox, &World) -> Outcome| {
        let world = World::new(&[
            Manner::Cut(200),
            Manner::Whole,
            Manner::Cut(9),
            Manner::Whole,
        ]);
        let sandbox = sandbox_with_cache();
        let outcome = start(&sandbox, &world);
        assert_eq!(code(&outcome), Some(0), "{outcome:?}");
        assert_eq!(world.daemon.connections(), 4, "{outcome:?}");
        let all = format!("{:?}\n{}", said(&outcome, &sandbox), state(&sandbox));
        all.replace(&world.daemon.url(""), "[URL]/")
    };
    let theirs =
        run(&|sandbox, world| prepared(python(sandbox, &script), sandbox, world, TWO).run());
    let ours = run(&|sandbox, world| prepared(run_task(sandbox), sandbox, world, TWO).run());
    assert_eq!(theirs, ours);
}

#[test]
fn servers_that_break_off_are_asked_again() {
    let test = "servers_that_break_off_are_asked_again";
    if !have_git(test) {
        return;
    }
    let world = World::new(&[
        Manner::Cut(200),
        Manner::Whole,
        Manner::Cut(100),
        Manner::Whole,
    ]);
    let sandbox = sandbox_with_cache();
    let commit = world.value("@two");
    let outcome = as_self(
        &sandbox,
        &world.daemon.url("base"),
        &[("VCS_HEAD_REV", &commit)],
    )
    .run();
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    assert_eq!(world.daemon.connections(), 4, "{outcome:?}");
    assert!(
        outcome.stdout.contains(&format!("at {commit}")),
        "{outcome:?}"
    );

    // What is not there is not there the next time, either, and a server that is away is given up.
    let gone = "1".repeat(40);
    let outcome = as_self(
        &sandbox,
        &world.daemon.url("base"),
        &[("VCS_HEAD_REV", &gone)],
    )
    .run();
    assert_eq!(code(&outcome), Some(128), "{outcome:?}");
    let calls = outcome.stdout.matches("executing ['git', 'fetch'").count();
    assert_eq!(calls, 2, "{outcome:?}");
    assert!(
        outcome.stdout.contains(": git cannot fetch: "),
        "{outcome:?}"
    );
    let away = World::new(&[Manner::Cut(0)]);
    let sandbox = sandbox_with_cache();
    let outcome = as_self(
        &sandbox,
        &away.daemon.url("base"),
        &[("VCS_HEAD_REV", &commit)],
    )
    .run();
    // By the signal for a broken pipe, if git writes late.
    let failed = matches!(code(&outcome), Some(128 | 141));
    assert!(failed, "{outcome:?}");
    assert_eq!(away.daemon.connections(), 5, "{outcome:?}");
    assert!(!sandbox.path("c/vcs").exists(), "{outcome:?}");
    assert!(!outcome.stdout.contains("[task "), "{outcome:?}");
}

#[test]
fn a_filter_that_fails_is_run_again_and_nothing_is_cloned_twice() {
    let test = "a_filter_that_fails_is_run_again_and_nothing_is_cloned_twice";
    if !have_git(test) {
        return;
    }
    let upstream = Upstream::new();
    let repository = upstream.repository("base");
    repository.write(".gitattributes", "big filter=lfs\n");
    let commit = repository.write("big", "content").commit();
    let daemon = Daemon::start(&upstream, &[Manner::Whole]);
    let sandbox = sandbox_with_cache();
    let seen = sandbox.path("seen");
    let smudge = format!(
        "test -e {0} && cat || {{ touch {0}; false; }}",
        seen.display()
    );
    sandbox.write(
        "home/.gitconfig",
        format!("[filter \"lfs\"]\n\tsmudge = \"{smudge}\"\n\trequired = true\n"),
    );
    let task = [("VCS_HEAD_REF", "main"), ("VCS_HEAD_REV", &*commit)];
    let outcome = as_self(&sandbox, &daemon.url("base"), &task).run();
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    assert!(
        outcome.stdout.contains("smudge filter lfs failed"),
        "{outcome:?}"
    );
    for (call, count) in [("clone", 1), ("checkout", 2)] {
        let call = format!("executing ['git', '{call}'");
        assert_eq!(outcome.stdout.matches(&call).count(), count, "{outcome:?}");
    }
    assert_eq!(sandbox.read("c/vcs/big"), b"content");
}

#[test]
fn what_a_killed_run_leaves_is_made_good() {
    let test = "what_a_killed_run_leaves_is_made_good";
    if !have_git(test) {
        return;
    }
    let world = World::new(&[Manner::Stall(300), Manner::Whole]);
    let sandbox = sandbox_with_cache();
    let commit = world.value("@two");
    let task = || {
        as_self(
            &sandbox,
            &world.daemon.url("base"),
            &[("VCS_HEAD_REV", &commit)],
        )
    };
    let mut running = task().spawn();
    wait_until("the clone has begun", || {
        world.daemon.stalled() == 1 || running.has_ended()
    });
    running.signal(Signal::KILL);
    drop(running);
    assert!(!sandbox.path("c/vcs").exists());
    assert!(sandbox.path("c/.vcs.cloning").exists());
    let outcome = task().run();
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    assert!(!sandbox.path("c/.vcs.cloning").exists(), "{outcome:?}");

    for lock in [
        "index.lock",
        "HEAD.lock",
        "refs/heads/main.lock",
        "shallow.lock",
        "objects/maintenance.lock",
        "objects/pack/multi-pack-index.lock",
        "objects/info/commit-graphs/commit-graph-chain.lock",
        "refs/heads/objects/branch.lock",
    ] {
        sandbox.write(&format!("c/vcs/.git/{lock}"), "");
    }
    let outcome = task().run();
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    let removed = outcome
        .stdout
        .matches(".lock, which was left behind")
        .count();
    assert_eq!(removed, 8, "{outcome:?}");

    // Nothing has come of the directory.
    fs::remove_dir_all(sandbox.path("c/vcs")).expect("remove the checkout");
    fs::create_dir(sandbox.path("c/vcs")).expect("make a directory");
    let outcome = task().run();
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
}

/// A branch to check out where something is there that no cache may have.
const IN_NO_CACHE: [(&str, &str); 2] = [("TASKCLUSTER_CACHES", ""), ("VCS_HEAD_REF", "main")];

#[test]
fn what_is_around_a_checkout_is_not_taken_for_it() {
    let test = "what_is_around_a_checkout_is_not_taken_for_it";
    if !have_git(test) {
        return;
    }
    let world = World::new(&[Manner::Whole]);
    let url = world.daemon.url("base");
    for (there, expected, problem) in [
        ("file", 1, "c/vcs is not empty, and not a checkout"),
        // As a full disk leaves it.
        (".git/config", 128, "not a git repository"),
    ] {
        let sandbox = sandbox_with_cache();
        git_in(&sandbox.path("c"), &["init", "--quiet"]);
        git_in(&sandbox.path("c"), &["remote", "add", "origin", "kept"]);
        sandbox.write(&format!("c/vcs/{there}"), "");
        let configuration = sandbox.read("c/.git/config");
        let outcome = as_self(&sandbox, &url, &IN_NO_CACHE).run();
        assert_eq!(code(&outcome), Some(expected), "{outcome:?}");
        assert!(outcome.stdout.contains(problem), "{outcome:?}");
        let is_told = outcome.stdout.contains("\nhint: remove what is in it");
        assert_eq!(is_told, there == "file", "{outcome:?}");
        assert_eq!(sandbox.read("c/.git/config"), configuration, "{outcome:?}");
        assert!(sandbox.path("c/vcs").join(there).exists(), "{outcome:?}");
    }
    assert_eq!(world.daemon.connections(), 0);
}

#[test]
fn directories_that_nothing_can_replace_are_cloned_into() {
    let test = "directories_that_nothing_can_replace_are_cloned_into";
    if !have_git(test) {
        return;
    }
    let world = World::new(&[Manner::Whole]);
    let url = world.daemon.url("base");
    let sandbox = sandbox_with_cache();
    // What a clone that was killed has left.
    sandbox.write("c/real/.cloning/.git/config", "");
    symlink("real", sandbox.path("c/vcs")).expect("link");
    for _ in 0..2 {
        let outcome = as_self(&sandbox, &url, &IN_NO_CACHE).run();
        assert_eq!(code(&outcome), Some(0), "{outcome:?}");
        assert_eq!(sandbox.read("c/real/file"), b"two");
        assert!(!sandbox.path("c/real/.cloning").exists(), "{outcome:?}");
    }
    assert!(sandbox.path("c/vcs").is_symlink());

    let sandbox = sandbox_with_cache();
    symlink("nowhere", sandbox.path("c/vcs")).expect("link");
    let before = world.daemon.connections();
    let outcome = as_self(&sandbox, &url, &IN_NO_CACHE).run();
    assert_eq!(code(&outcome), Some(1), "{outcome:?}");
    assert!(
        outcome.stdout.contains("c/vcs`: No such file"),
        "{outcome:?}"
    );
    assert_eq!(world.daemon.connections(), before, "{outcome:?}");

    if !is_root(test) || !have_programs(test, &["unshare", "mount"]) {
        return;
    }
    let sandbox = sandbox_with_cache();
    fs::create_dir(sandbox.path("c/vcs")).expect("make a directory");
    let mounting = sandbox.program("unshare").args([
        "--mount",
        "sh",
        "-c",
        "mount --bind c/vcs c/vcs || exit 77; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_run-task"),
    ]);
    let outcome = by_self(mounting, &sandbox, &url, &IN_NO_CACHE).run();
    if code(&outcome) == Some(77) || outcome.stderr.contains("unshare") {
        skip(test, "nothing can be mounted");
        return;
    }
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    assert_eq!(sandbox.read("c/vcs/file"), b"two");
}

#[test]
fn a_signal_ends_a_checkout_and_the_command_is_not_run() {
    let test = "a_signal_ends_a_checkout_and_the_command_is_not_run";
    if !have_git(test) {
        return;
    }
    let world = World::new(&[Manner::Stall(300)]);
    let sandbox = sandbox_with_cache();
    let running = as_self(
        &sandbox,
        &world.daemon.url("base"),
        &[("VCS_HEAD_REF", "main")],
    )
    .spawn();
    wait_until("the clone has begun", || world.daemon.stalled() == 1);
    running.signal(Signal::TERM);
    let outcome = running.finish();
    assert_eq!(code(&outcome), Some(143), "{outcome:?}");
    assert_eq!(world.daemon.connections(), 1, "{outcome:?}");
    assert!(!outcome.stdout.contains("[task "), "{outcome:?}");
    // Git had the time to clean up.
    assert!(!sandbox.path("c/.vcs.cloning").exists(), "{outcome:?}");
}

/// A git that takes signals for no reason to fail, and has cloned.
const STUBBORN: &str = r#"#!/bin/sh
[ "$1" = clone ] || { PATH=$REAL_PATH; exec git "$@"; }
for to; do :; done
PATH="$REAL_PATH"
trap 'mkdir -p "$to/.git"; exit 0' TERM
touch "$BEGUN"
for i in $(seq 600); do sleep 0.1; done
"#;

#[test]
fn after_a_signal_no_other_git_is_run() {
    let test = "after_a_signal_no_other_git_is_run";
    if !have_git(test) {
        return;
    }
    let sandbox = sandbox_with_cache();
    let git = sandbox.write("bin/git", STUBBORN);
    fs::set_permissions(git, Permissions::from_mode(0o755)).expect("make it a program");
    let real = "/usr/local/bin:/usr/bin:/bin";
    let path = format!("{}:{real}", sandbox.path("bin").display());
    let running = as_self(&sandbox, "git://127.0.0.1:1/r", &[("VCS_HEAD_REF", "main")])
        .env("PATH", path)
        .env("REAL_PATH", real)
        .env("BEGUN", sandbox.path("begun"))
        .spawn();
    wait_until("the clone has begun", || sandbox.path("begun").exists());
    running.signal(Signal::TERM);
    let outcome = running.finish();
    assert_eq!(code(&outcome), Some(143), "{outcome:?}");
    assert!(outcome.stdout.contains("'git', 'clone'"), "{outcome:?}");
    assert!(!outcome.stdout.contains("'git', 'fetch'"), "{outcome:?}");
}

#[test]
fn odd_names_are_cleaned_away() {
    let test = "odd_names_are_cleaned_away";
    if !have_git(test) {
        return;
    }
    let world = World::new(&[Manner::Whole]);
    let sandbox = sandbox_with_cache();
    let task = || {
        let url = world.daemon.url("base");
        let outcome = as_self(&sandbox, &url, &[("VCS_HEAD_REF", "main")]).run();
        assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    };
    task();
    for name in ["a\nb", "tab\t", "\"quoted\"", "back\\slash", "é", " "] {
        sandbox.write(&format!("c/vcs/{name}"), "");
    }
    let bytes = OsStr::from_bytes(b"\xff\xfe");
    fs::write(sandbox.path("c/vcs").join(bytes), "").expect("write a file");
    task();
    let status = asked(
        &sandbox.path("c/vcs"),
        &["status", "--porcelain", "--ignored"],
    );
    assert!(status.ends_with("Some(0)\n\n"), "{status}");
}

#[test]
fn logins_are_not_in_the_log() {
    let test = "logins_are_not_in_the_log";
    if !have_git(test) {
        return;
    }
    let (upstream, server, sandbox) = (Upstream::new(), Server::start(), sandbox_with_cache());
    let repository = upstream.repository("private");
    let sub = upstream.repository("sub");
    let in_sub = sub.write("in-sub", "sub").commit();
    repository.submodule("sub", "./../sub.git", &in_sub);
    repository.write("file", "x").commit();
    // me:s3cret
    serve_files(
        &server,
        &repository,
        "/private.git",
        Some("Basic bWU6czNjcmV0"),
    );
    let url = server
        .url("/private.git")
        .replace("http://", "http://me:s3cret@");
    // Git says from where it cannot get a submodule.
    let outcome = as_self(&sandbox, &url, &[("VCS_HEAD_REF", "main")]).run();
    assert_eq!(code(&outcome), Some(1), "{outcome:?}");
    assert!(
        outcome.stdout.contains("fatal: clone of 'http://…@"),
        "{outcome:?}"
    );
    assert!(!outcome.stdout.contains("s3cret"), "{outcome:?}");
    serve_files(&server, &sub, "/sub.git", Some("Basic bWU6czNjcmV0"));
    let outcome = as_self(&sandbox, &url, &[("VCS_HEAD_REF", "main")]).run();
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    assert!(!outcome.stdout.contains("s3cret"), "{outcome:?}");
    assert_eq!(sandbox.read("c/vcs/sub/in-sub"), b"sub");
    let wrong = url.replace("s3cret", "wr0ng");
    let outcome = as_self(&sandbox, &wrong, &[("VCS_HEAD_REF", "main")]).run();
    assert_eq!(code(&outcome), Some(128), "{outcome:?}");
    assert!(!outcome.stdout.contains("wr0ng"), "{outcome:?}");
    assert!(outcome.stdout.contains("\nhint: "), "{outcome:?}");
    assert!(outcome.stdout.contains("…_SSH_SECRET_NAME"), "{outcome:?}");
}

/// An ssh that tells how it was called and does at once what it would do elsewhere.
const SSH: &str = r#"#!/bin/sh
for word; do
    case $word in
    IdentityFile=* | -oIdentityFile=*) key=${word#*=} ;;
    esac
    command=$word
done
# Quoted by one of the two.
key=${key#\"}; key=${key%\"}
{ cat "$key"; stat -c '%a' "$key"; } >>"$SSH_LOG"
exec sh -c "$command"
"#;

/// Runs a task that needs a key.
fn with_ssh(sandbox: &Sandbox, invocation: Invocation<'_>, server: &Server, url: &str) -> Outcome {
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    invocation
        .env("PATH", path)
        .env("TMPDIR", sandbox.path("tmp"))
        .env("SSH_LOG", sandbox.path("log"))
        .env("HOME", sandbox.path("home"))
        .env("TASKCLUSTER_PROXY_URL", server.root())
        .env("VCS_REPOSITORY_TYPE", "git")
        .env("VCS_HEAD_REPOSITORY", url)
        .env("VCS_HEAD_REF", "main")
        .env("VCS_SSH_SECRET_NAME", "a/b")
        .args(["--user=root", "--group=root"])
        .args(["--vcs-checkout=c/vcs", "--", "true"])
        .run()
}

#[test]
fn a_secret_s_key_is_for_ssh_and_is_gone_afterwards() {
    let test = "a_secret_s_key_is_for_ssh_and_is_gone_afterwards";
    if !have_git(test) {
        return;
    }
    let (world, server) = (World::new(&[Manner::Whole]), Server::start());
    let secret = json!({"secret": {"ssh_privkey": "the key\n"}});
    for path in ["/api/secrets/v1/secret/a/b", "/secrets/v1/secret/a/b"] {
        server.serve(path, Reply::ok(secret.to_string()));
    }
    let url = format!(
        "ssh://git@h.invalid{}",
        world.upstream.root().join("base").display()
    );
    let script = python_run_task(test);
    let run = |start: &dyn Fn(&Sandbox) -> Outcome| {
        let sandbox = sandbox_with_cache();
        let ssh = sandbox.write("bin/ssh", SSH);
        fs::set_permissions(ssh, Permissions::from_mode(0o755)).expect("make it a program");
        fs::create_dir(sandbox.path("tmp")).expect("make a directory");
        let outcome = start(&sandbox);
        assert_eq!(code(&outcome), Some(0), "{outcome:?}");
        assert!(
            outcome.stdout.contains("fetching secret a/b from "),
            "{outcome:?}"
        );
        assert!(!outcome.stdout.contains("the key"), "{outcome:?}");
        assert!(
            sandbox
                .tree()
                .paths()
                .iter()
                .all(|path| !path.contains("tmp/")),
            "{outcome:?}"
        );
        assert!(!sandbox.path("home/.ssh-run-task").exists(), "{outcome:?}");
        String::from_utf8(sandbox.read("log")).expect("text")
    };
    let with = |sandbox: &Sandbox, invocation: Invocation<'_>| {
        with_ssh(sandbox, invocation, &server, &url)
    };
    let ours = run(&|sandbox| with(sandbox, run_task(sandbox)));
    assert_eq!(ours, "the key\n600\nthe key\n600\n");
    if let Some(script) = script {
        assert_eq!(
            run(&|sandbox| with(sandbox, python(sandbox, &script))),
            ours
        );
    }
    server.serve("/api/secrets/v1/secret/a/b", Reply::status(404));
    let sandbox = sandbox_with_cache();
    let outcome = with(&sandbox, run_task(&sandbox));
    assert_eq!(code(&outcome), Some(1), "{outcome:?}");
    assert!(!sandbox.path("c/vcs").exists(), "{outcome:?}");
}

#[test]
fn links_do_not_lead_root_out_of_a_cache() {
    let test = "links_do_not_lead_root_out_of_a_cache";
    if !is_root(test) || !have_git(test) {
        return;
    }
    for target in ["outside", "nowhere/at/all"] {
        let world = World::new(&[Manner::Whole]);
        let sandbox = sandbox_with_cache();
        let first = prepared(run_task(&sandbox), &sandbox, &world, ONE).run();
        assert_eq!(code(&first), Some(0), "{first:?}");
        fs::create_dir(sandbox.path("outside")).expect("make a directory");
        symlink(sandbox.path(target), sandbox.path("c/link")).expect("link");
        // One of the image, which leads into the cache.
        symlink("c", sandbox.path("image")).expect("link");
        let before = owners(&sandbox.path("outside"));
        let tasks: [Task; 2] = [
            (ONE.0, &["--vcs-checkout=c/link/more/vcs"]),
            (ONE.0, &["--vcs-checkout=image/link/more/vcs"]),
        ];
        for task in tasks {
            let outcome = prepared(run_task(&sandbox), &sandbox, &world, task).run();
            assert_eq!(code(&outcome), Some(1), "{outcome:?}");
            assert_eq!(owners(&sandbox.path("outside")), before, "{outcome:?}");
            assert!(!sandbox.path("nowhere").exists(), "{outcome:?}");
        }
        let task: Task = (ONE.0, &["--vcs-checkout=image/other/vcs"]);
        let outcome = prepared(run_task(&sandbox), &sandbox, &world, task).run();
        assert_eq!(code(&outcome), Some(0), "{outcome:?}");
        assert_eq!(sandbox.read("c/other/vcs/file"), b"one");
        assert!(!outcome.stdout.contains("not in cache"), "{outcome:?}");
    }
}

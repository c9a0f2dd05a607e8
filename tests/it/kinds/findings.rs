//! What is wrong or odd: each with file, line, task and what can be done.

use super::{graph, kind, success};
use crate::support::sandbox::{Outcome, Sandbox};

const SUM: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILE: &str = "taskcluster/kinds/fetch/kind.yml";

/// A graph with these tasks, which begin in line 5 of their file.
fn with_tasks(tasks: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    config(
        &sandbox,
        "trust-domain: acme\ntaskgraph: {repositories: {acme: {name: Acme}}}\n",
    );
    let tasks = tasks.replace("SUM", SUM).replace("COMMIT", COMMIT);
    let text = format!("---\ntransforms:\n  - taskgraph.transforms.fetch\ntasks:\n{tasks}");
    sandbox.write(FILE, text);
    sandbox
}

fn config(sandbox: &Sandbox, text: &str) {
    sandbox.write("taskcluster/config.yml", text);
}

fn check(sandbox: &Sandbox, code: i32) -> Outcome {
    sandbox
        .binary()
        .args(["kind", "check"])
        .run()
        .expect_code(code)
}

/// The lines without the last one, which counts, and without the severity in front.
fn told(outcome: &Outcome, severity: &str) -> Vec<String> {
    let lines = outcome.lines(&format!("{severity}: "));
    let lines = lines
        .into_iter()
        .filter_map(|line| line.split_once(": ").map(|(_, text)| text.to_owned()));
    lines.filter(|text| !text.starts_with("checked ")).collect()
}

/// A graph with a task `x` that is sound but for its `fetch:`, which is all in line 7.
fn with_fetch(fetch: &str) -> Sandbox {
    let fetch = fetch
        .replace("URL", "url: 'https://h/x.tar.xz'")
        .replace("UPPER", &SUM.to_uppercase())
        .replace(
            "ONES",
            &"1".repeat(if fetch.starts_with("git") { 40 } else { 64 }),
        );
    with_tasks(&format!(
        "  x:
    description: X
    fetch: {{type: {fetch}}}
"
    ))
}

/// The `fetch:` of a task, what is odd about it, and the hint.
const ODD: &[(&str, &str, &str)] = &[
    (
        "static-url, URL, sha256: SUM, size: 1, strip_components: 1",
        "nobody knows the key `fetch.strip_components`, it has no effect",
        "did you mean `strip-components`?",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, path-prefix: x, repo: null",
        "nobody knows the key `fetch.path-prefix`, it has no effect",
        "it belongs to the type `git`",
    ),
    (
        "static-url, URL, sha256: abc, size: 1",
        "`fetch.sha256` never fits: sha256: `abc` is not a SHA-256: expected 64 hexadecimal digits, got 3 characters",
        "`fetch-content kind update NAME` fills in what the URL has now",
    ),
    (
        "static-url, URL, sha256: UPPER, size: 1",
        "`fetch.sha256` has upper-case digits",
        "the Python tool compares it as text, and refuses every download",
    ),
    (
        "static-url, URL, sha256: SUM, size: 0",
        "`fetch.size` is 0, with which the size is not checked",
        "give the size in bytes",
    ),
    (
        "static-url, URL, sha256: SUM, size: -1",
        "`fetch.size` never fits: -1 is no size",
        "`fetch-content kind update NAME` fills in what the URL has now",
    ),
    (
        "static-url, url: 'https://h/get.tar.gz?id=1', sha256: SUM, size: 1",
        "the artifact is called `get.tar.gz?id=1`, with what the URL asks for",
        "give it a name by `artifact-name`",
    ),
    (
        "static-url, url: 'https://h/x/', sha256: SUM, size: 1",
        "the artifact has no name: the URL ends in a slash",
        "give it one by `artifact-name`",
    ),
    (
        "static-url, url: 's3://h/x', sha256: SUM, size: 1",
        "`fetch.url` is no URL that can be fetched",
        "give an http, https or ftp URL",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, artifact-name: ../x",
        "`../x` is no name for an artifact",
        "give the name of a file",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, add-prefix: x/",
        "`fetch.add-prefix` needs an artifact that is a .tar.zst, and not x.tar.xz",
        "give an `artifact-name` that ends in .tar.zst",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, strip-components: -1, artifact-name: x.tar.zst",
        "`fetch.strip-components` is negative",
        "give the number of components to remove",
    ),
    (
        "git, repo: r, revision: COMMIT-v2",
        "`fetch.revision` has more than 40 digits: `0123456789abcdef0123456789abcdef01234567-v2`",
        "whatever follows them is given to git, too",
    ),
];

#[test]
fn oddities_are_warned_of() {
    for (fetch, text, hint) in ODD {
        let sandbox = with_fetch(fetch);
        let outcome = check(&sandbox, 0);
        let expected = format!("{FILE}:7: fetch-x: {text}");
        assert_eq!(told(&outcome, "warning"), [expected], "{fetch}");
        outcome.expect_stderr(&[&format!("hint: {hint}\n"), "0 errors, 1 warning\n"]);
        sandbox
            .binary()
            .args(["kind", "check", "--strict"])
            .run()
            .expect_code(2);
    }
}

#[test]
fn a_sound_graph_is_silent() {
    let sandbox = with_fetch("static-url, URL, sha256: SUM, size: 1");
    let outcome = check(&sandbox, 0);
    assert_eq!(
        outcome.stderr,
        "checked 1 fetch task and 0 toolchains: 0 errors, 0 warnings\n"
    );
    sandbox
        .binary()
        .args(["kind", "check", "--strict"])
        .run()
        .expect_code(0);
    for project in ["gecko-gcc", "vpn", "taskgraph", "translations"] {
        let outcome = success(kind(&sandbox, &graph(project)).args(["check", "--strict"]));
        outcome.expect_stderr(&["0 errors, 0 warnings"]);
    }
}

#[test]
fn names_that_stand_for_two_tasks_are_warned_of() {
    let task = |name: &str, rest: &str| {
        format!(
            "  {name}: {{description: X, {rest}, fetch: {{type: git, repo: 'https://h/r', revision: COMMIT}}}}\n"
        )
    };
    let tasks = [
        task("a", "fetch-alias: one"),
        task("b", "fetch-alias: one"),
        task("c", "fetch-alias: a"),
    ];
    let sandbox = with_tasks(&tasks.concat());
    assert_eq!(
        told(&check(&sandbox, 0), "warning"),
        [
            format!("{FILE}:6: fetch-b: the alias `one` was that of fetch-a before"),
            format!("{FILE}:7: fetch-c: the alias `a` hides fetch-a"),
        ]
    );
}

#[test]
fn keys_that_are_there_twice_are_warned_of() {
    let sandbox = with_fetch("static-url, URL, sha256: SUM, size: 1, size: 2");
    assert_eq!(
        told(&check(&sandbox, 0), "warning"),
        [format!("{FILE}:7: `size` replaces that of line 7")]
    );
}

/// The `fetch:` of a task, and what taskgraph fails on. Its own words are kept where it has some.
const WRONG: &[(&str, &str)] = &[
    (
        "static-url, URL, size: 1",
        "the required key `fetch.sha256` is missing",
    ),
    (
        "static-url, URL, sha256: SUM, size: '1'",
        "`fetch.size`: expected `int`, got `str`",
    ),
    (
        "static-url, URL, sha256: SUM, size: yes",
        "`fetch.size`: expected `int`, got `bool`",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1.0",
        "`fetch.size`: expected `int`, got `float`",
    ),
    (
        "static-url, URL, sha256: SUM, size:",
        "`fetch.size`: expected `int`, got `null`",
    ),
    (
        "static-url, URL, sha256: ONES, size: 1",
        "`fetch.sha256`: expected `str`, got `int`",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, artifact-name: 2024-01-02",
        "`fetch.artifact-name`: expected `str`, got `date`",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, headers: {a: 1}",
        "`fetch.headers.a`: expected `str`, got `int`",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, headers: {1: a}",
        "a key of `fetch.headers`: expected `str`, got `int`",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, headers: []",
        "`fetch.headers`: expected `object`, got `array`",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, headers: null",
        "`fetch.headers` has no value: give it one or remove it",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, gpg-signature: {sig-url: x}",
        "the required key `fetch.gpg-signature.key-path` is missing",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, gpg-signature: {sig-url: x, key-path: y, key: z}",
        "nobody knows the key `fetch.gpg-signature.key`",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, gpg-signature: {sig-url: '{uri}', key-path: y}",
        "`{uri}` cannot be filled in",
    ),
    (
        "static-url, URL, sha256: SUM, size: 1, gpg-signature: {sig-url: '{url}', key-path: y}",
        "cannot read the keys: cannot read `y`: No such file or directory (os error 2)",
    ),
    (
        "git, repo: r, revision: main",
        "Revision is not a sha1 in fetch task \"x\"",
    ),
    (
        "git, repo: r, revision: ONES",
        "`fetch.revision`: expected `str`, got `int`",
    ),
    (
        "git, repo: r, revision: COMMIT, include-dot-git: 'yes'",
        "`fetch.include-dot-git`: expected `bool`, got `str`",
    ),
    ("hg", "Unknown fetch type hg in fetch x"),
];

#[test]
fn errors_have_file_line_and_task() {
    for (fetch, text) in WRONG {
        let sandbox = with_fetch(fetch);
        let outcome = check(&sandbox, 2);
        let expected = format!("{FILE}:7: fetch-x: {text}");
        assert_eq!(told(&outcome, "error"), [expected.as_str()], "{fetch}");
        outcome.expect_stderr(&["1 error, 0 warnings"]);
        let outcome = sandbox.binary().args(["kind", "tasks"]).run();
        let outcome = outcome.expect_code(2);
        let error = outcome.error();
        assert_eq!(error.lines().next(), Some(&*format!("error: {expected}")));
    }
}

#[test]
fn errors_at_the_top_of_a_task_have_its_lines() {
    let fetch = "fetch: {type: git, repo: 'https://h/r', revision: COMMIT}";
    for (tasks, line, text) in [
        (
            format!("  x: {{{fetch}}}\n"),
            5,
            "fetch-x: the required key `description` is missing",
        ),
        (
            format!("  x: {{description: 5, {fetch}}}\n"),
            5,
            "fetch-x: `description`: expected `str`, got `int`",
        ),
        (
            "  x: {description: X}\n".into(),
            5,
            "fetch-x: the required key `fetch` is missing",
        ),
        (
            "  x: {description: X, fetch: {}}\n".into(),
            5,
            "fetch-x: the required key `fetch.type` is missing",
        ),
        (
            "  x: {description: X, fetch: 1}\n".into(),
            5,
            "fetch-x: `fetch`: expected `object`, got `int`",
        ),
        (
            format!("  x:\n    description: X\n    fetch_alias: y\n    {fetch}\n"),
            7,
            "fetch-x: nobody knows the key `fetch_alias`",
        ),
        (
            format!("  x: {{description: X, attributes: [], {fetch}}}\n"),
            5,
            "fetch-x: `attributes`: expected `object`, got `array`",
        ),
        (
            format!("  x: {{description: X, artifact-prefix:, {fetch}}}\n"),
            5,
            "fetch-x: `artifact-prefix` has no value: give it one or remove it",
        ),
    ] {
        let sandbox = with_tasks(&tasks);
        let outcome = check(&sandbox, 2);
        assert_eq!(
            told(&outcome, "error"),
            [format!("{FILE}:{line}: {text}")],
            "{tasks}"
        );
    }
}

/// A file that is wrong as a whole ends everything.
#[test]
fn broken_files_are_named() {
    let sandbox = Sandbox::new();
    let outcome = check(&sandbox, 2);
    outcome.expect_stderr(&[
        "cannot read `taskcluster/config.yml`",
        "hint: run this in the root of a repository",
    ]);
    for (tasks, text) in [
        (
            "  5: {description: X}\n",
            format!("{FILE}:5: the name of a task: expected `str`, got `int`"),
        ),
        (
            "  x:\n",
            format!("{FILE}:5: `x`: expected `object`, got `null`"),
        ),
        ("  x: [\n", format!("{FILE}:6: not YAML: ")),
        (
            "  {}\nloader: project.loader:load\n",
            format!("{FILE}:6: only taskgraph can tell what tasks the loader"),
        ),
        (
            "  {}\ntasks-from: [more.yml]\n",
            "cannot read `taskcluster/kinds/fetch/more.yml`: No such file or directory".into(),
        ),
    ] {
        let sandbox = with_tasks(tasks);
        let outcome = check(&sandbox, 2);
        assert!(outcome.stderr.contains(&text), "{tasks}: {outcome:?}");
    }
}

#[test]
fn a_broken_configuration_is_named() {
    let good = "  x: {description: X, fetch: {type: git, repo: 'https://h/r', revision: COMMIT}}\n";
    for (text, expected) in [
        (
            "taskgraph: {}",
            "taskcluster/config.yml:1: the required key `trust-domain` is missing",
        ),
        (
            "trust-domain: 1\ntaskgraph: {}",
            "taskcluster/config.yml:1: `trust-domain`: expected `str`, got `int`",
        ),
        (
            "trust-domain: x",
            "taskcluster/config.yml:1: the required key `taskgraph` is missing",
        ),
        (
            "trust-domain: x\ntaskgraph:\n  cache-pull-requests: 'no'",
            "taskcluster/config.yml:3: `taskgraph.cache-pull-requests`: expected `bool`, got `str`",
        ),
    ] {
        let sandbox = with_tasks(good);
        config(&sandbox, text);
        let error = check(&sandbox, 2).error();
        assert_eq!(error.lines().next(), Some(&*format!("error: {expected}")));
    }
    let sandbox = with_tasks(good);
    config(
        &sandbox,
        "trust-domain: x\ntaskgraph: {cached-task-prefx: y}\n",
    );
    check(&sandbox, 0).expect_stderr(&[
        "config.yml:2: nobody knows the key `taskgraph.cached-task-prefx`",
        "did you mean `cached-task-prefix`?",
    ]);
}

#[test]
fn a_broken_task_does_not_stand_in_the_way_of_others() {
    let good = "  x: {description: X, fetch: {type: git, repo: 'https://h/r', revision: COMMIT}}\n";
    let sandbox = with_tasks(&format!("{good}  y: {{}}\n"));
    let run = |arguments: &[&str]| sandbox.binary().args(["kind"]).args(arguments).run();
    let succeed = |arguments: &[&str]| success(sandbox.binary().args(["kind"]).args(arguments));
    let wrong = format!("{FILE}:6: fetch-y: the required key `description` is missing");
    succeed(&["tasks", "x"]);
    succeed(&["list"]).expect_stderr(&[&format!("warning: {wrong}")]);
    for arguments in [
        &["tasks"][..],
        &["tasks", "x", "y"],
        &["show", "fetch-y"],
        &["update", "y"],
    ] {
        assert_eq!(
            run(arguments)
                .expect_code(2)
                .error()
                .lines()
                .next()
                .unwrap_or_default(),
            format!("error: {wrong}"),
            "{arguments:?}"
        );
    }
    let outcome = run(&["tasks", "z"]).expect_code(2);
    assert_eq!(
        outcome.error().lines().next().unwrap_or_default(),
        "error: there is no task `z`"
    );
    run(&["tasks", "--level", "4"])
        .expect_code(2)
        .expect_stderr(&["`4` is no level: expected 1, 2 or 3"]);
}

#[test]
fn a_name_in_two_files_is_an_error() {
    let sandbox = with_tasks(
        "  x: {description: X, fetch: {type: git, repo: 'https://h/r', revision: COMMIT}}\n",
    );
    let text = "transforms: ['taskgraph.transforms.fetch:transforms']\ntasks:\n  x: {}\n";
    sandbox.write("taskcluster/kinds/more/kind.yml", text);
    assert_eq!(
        told(&check(&sandbox, 2), "error"),
        [format!(
            "taskcluster/kinds/more/kind.yml:3: fetch-x: there is already a task with this label: {FILE}:5"
        )]
    );
}

fn toolchain(sandbox: &Sandbox, more: &str) {
    let text = format!(
        "kind-dependencies: [fetch]\ntransforms: [taskgraph.transforms.run, \
         taskgraph.transforms.cached_tasks]\ntasks:\n{more}"
    );
    sandbox.write("taskcluster/kinds/toolchain/kind.yml", text);
    sandbox.write("taskcluster/scripts/toolchain/x.sh", "");
}

#[test]
fn uses_of_fetches_are_checked() {
    let run = "run: {using: toolchain-script, script: x.sh, toolchain-artifact: public/build/x.tar.zst}, worker-type: b";
    let file = "taskcluster/kinds/toolchain/kind.yml";
    for (fetches, text) in [
        ("{fetch: [y]}", "Missing fetch task for toolchain-t: y"),
        ("{toolchain: [y]}", "Missing fetch task for toolchain-t: y"),
        (
            "{build: [y]}",
            "toolchain-t can't fetch build artifacts because it has no build dependencies!",
        ),
        (
            "{fetch: [{artifact: x, destination: y}]}",
            "nobody knows the key `fetches.fetch[…].destination`",
        ),
        (
            "{fetch: [{dest: y}]}",
            "the required key `fetches.fetch[…].artifact` is missing",
        ),
        ("{fetch: x}", "`fetches.fetch`: expected `array`, got `str`"),
    ] {
        let sandbox = with_fetch("static-url, URL, sha256: SUM, size: 1");
        toolchain(&sandbox, &format!("  t: {{{run}, fetches: {fetches}}}\n"));
        assert_eq!(
            told(&check(&sandbox, 2), "error"),
            [format!("{file}:4: toolchain-t: {text}")]
        );
        let outcome = sandbox
            .binary()
            .args(["kind", "fetches", "toolchain", "t"])
            .run()
            .expect_code(2);
        assert_eq!(
            outcome.error().lines().next().unwrap_or_default(),
            format!("error: {file}:4: toolchain-t: {text}")
        );
    }
    let sandbox = with_fetch("static-url, URL, sha256: SUM, size: 1");
    toolchain(
        &sandbox,
        &format!("  t: {{{run}, fetches: {{fetch: [x, x]}}}}\n"),
    );
    assert_eq!(
        told(&check(&sandbox, 0), "warning"),
        [format!(
            "{file}:4: toolchain-t: gets public/x.tar.xz of fetch-x twice"
        )]
    );
    toolchain(
        &sandbox,
        "  t: {run: {using: toolchain-script, script: x.sh}}\n",
    );
    assert_eq!(
        told(&check(&sandbox, 2), "error"),
        [format!(
            "{file}:4: toolchain-t: the required key `run.toolchain-artifact` is missing"
        )]
    );
}

#[test]
fn toolchains_without_a_digest_say_why() {
    let run = |more: &str| {
        format!(
            "run: {{using: toolchain-script, script: x.sh, toolchain-artifact: public/build/x.tar.zst{more}}}, worker-type: b"
        )
    };
    for (tasks, text) in [
        (
            format!("  t: {{{}, dependencies: {{b: build-x}}}}\n", run("")),
            "Cached task toolchain-t has uncached parent task: build-x",
        ),
        (
            format!("  t: {{{}}}\n", run(", resources: [no/*.txt]")),
            "no/*.txt did not match anything",
        ),
        (
            format!("  t: {{{}}}\n", run(", arguments: [1]")),
            "`run.arguments[…]`: expected `str`, got `int`",
        ),
        (
            format!("  t: {{{}, fetches: {{toolchain: [t]}}}}\n", run("")),
            "depends on itself, by toolchain-t",
        ),
    ] {
        let sandbox = with_fetch("static-url, URL, sha256: SUM, size: 1");
        toolchain(&sandbox, &tasks);
        let outcome = success(sandbox.binary().args(["kind", "show", "t"]));
        let expected = format!(
            "warning: its digest is not known: taskcluster/kinds/toolchain/kind.yml:4: toolchain-t: {text}"
        );
        assert_eq!(
            outcome.lines("warning: its digest"),
            [expected],
            "{outcome:?}"
        );
    }
    let sandbox = with_fetch("static-url, URL, sha256: SUM, size: 1");
    config(
        &sandbox,
        "trust-domain: x\ntaskgraph: {}\nworkers: {aliases: {c: {implementation: docker-worker}}}\n",
    );
    toolchain(&sandbox, &format!("  t: {{{}}}\n", run("")));
    let outcome = success(sandbox.binary().args(["kind", "show", "t"]));
    outcome.expect_stderr(&["`b` is not among the `workers.aliases` of taskcluster/config.yml"]);
}

#!/usr/bin/env python3
"""Writes what taskgraph makes of a task graph: full.level-L.EVENT.json with its fetch tasks, toolchains.json with the
digests of its toolchains and fetches.json with the MOZ_FETCHES of all its tasks.

    python3 make.py GRAPH        with taskcluster-taskgraph 24.5.1 and git
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

os.environ.pop("TASK_ID", None)
source = os.path.abspath(sys.argv[1])
root = os.path.join(tempfile.mkdtemp(), "graph")
shutil.copytree(source, root, ignore=shutil.ignore_patterns("*.json"))
os.chdir(root)
# git's own attributes and configuration must not change bytes.
git = ["git", "-c", "user.name=x", "-c", "user.email=x", "-c", "core.autocrlf=false"]
for arguments in ["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]:
    subprocess.run(git + arguments, check=True)

import taskgraph
from taskgraph.config import load_graph_config
from taskgraph.generator import Kind
from taskgraph.parameters import Parameters

taskgraph.GECKO = root
config = load_graph_config("taskcluster")
KINDS = [kind for kind in ("fetch", "toolchain", "pub", "build") if os.path.isdir(f"taskcluster/kinds/{kind}")]


def generate(level, tasks_for):
    parameters = {
        "base_ref": "main", "base_repository": "https://github.com/acme/acme.git", "base_rev": "", "build_date": 1700000000,
        "build_number": 1, "do_not_optimize": [], "enable_always_target": True, "existing_tasks": {}, "files_changed": [],
        "filters": ["target_tasks_method"], "head_ref": "main", "head_repository": "https://github.com/acme/acme", "head_rev":
        "f" * 40, "head_tag": "", "level": level, "moz_build_date": "20231114221320", "next_version": None,
        "optimize_strategies": None, "optimize_target_tasks": True, "owner": "dev@acme.example", "project": "acme", "pushdate":
        0, "pushlog_id": "7", "repository_type": "git", "target_tasks_method": "default", "tasks_for": tasks_for, "version": "",
    }
    loaded = {}
    for name in KINDS:
        kind = Kind.load("taskcluster", config, name)
        dependencies = {
            label: task for label, task in loaded.items()
            if task.kind in kind.config.get("kind-dependencies", [])
        }
        for task in kind.load_tasks(Parameters(strict=False, **parameters), dependencies, False):
            loaded[task.label] = task
    return loaded


def write(name, value):
    with open(os.path.join(source, name), "w") as file:
        file.write(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


for level, tasks_for in ("1", "github-push"), ("1", "github-pull-request"), ("1", "github-pull-request-untrusted"), ("2", "github-issue-comment"), ("3", "hg-push"):
    tasks = generate(level, tasks_for)
    fetches = {t.attributes["cached_task"]["name"]: t for t in tasks.values() if t.kind == "fetch"}
    write(f"full.level-{level}.{tasks_for}.json", {name: task.to_json() for name, task in fetches.items()})
tasks = generate("3", "hg-push")
write("toolchains.json", {
    t.label: {"cached_task": t.attributes["cached_task"], "index_search": t.optimization["index-search"]}
    for t in tasks.values() if t.kind == "toolchain"
})
write("fetches.json", {
    t.label: {
        "MOZ_FETCHES": t.task["payload"]["env"]["MOZ_FETCHES"]["task-reference"],
        "scopes": [scope for scope in t.task["scopes"] if str(scope).startswith("queue:get-artifact:")],
        "dependencies": {name: label for name, label in t.dependencies.items() if name != "docker-image"},
        "env": {name: value for name, value in t.task["payload"]["env"].items() if name.startswith("BAR_")},
    }
    for t in tasks.values() if "MOZ_FETCHES" in t.task["payload"]["env"]
})

//! The whole definition of a fetch task, as taskgraph hands it to the queue.

use super::{
    caches::{self, Names},
    fetch_task::FetchTask,
    fields::Fields,
    finding::{Finding, Found},
    graph::Graph,
    image::Image,
    index::Parameters,
    keyed_by,
    push::Push,
    upstream::UPLOAD_DIR,
    yaml::Node,
};
use crate::{
    cachedir::name::{Payload, ScriptDigest},
    error::Result,
};
use serde_json::{Value as Json, json};

impl Graph {
    /// Returns a task with its definition, attributes and dependencies, as in taskgraph's `full-task-graph.json`.
    /// `run_task` is taskgraph's, which is needed where tasks have caches.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] when the configuration lacks something that it needs.
    pub fn definition(
        &self,
        task: &FetchTask,
        parameters: &Parameters,
        push: &Push,
        run_task: Option<&ScriptDigest>,
    ) -> Result<Json> {
        let definition = Definition {
            graph: self,
            task,
            parameters,
            push,
            run_task,
            config: Fields::of(&self.config().node, "")?,
        };
        Ok(definition.build().map_err(|err| err.of_task(&task.label))?)
    }
}

/// A task to be defined, and what it depends on.
struct Definition<'a> {
    graph: &'a Graph,
    task: &'a FetchTask,
    parameters: &'a Parameters,
    push: &'a Push,
    run_task: Option<&'a ScriptDigest>,
    config: Fields<'a>,
}

/// The worker that runs a task.
struct Worker {
    provisioner: String,
    worker_type: String,
}

impl Definition<'_> {
    fn build(&self) -> Found<Json> {
        let image = Image::new(self.task, self.graph)?;
        let dependencies = image
            .task
            .as_ref()
            .map_or_else(|| json!({}), |task| json!({"docker-image": task}));
        Ok(json!({
            "kind": self.task.kind,
            "label": self.task.label,
            "description": self.task.description,
            "attributes": self.attributes()?,
            "dependencies": dependencies,
            "soft_dependencies": [],
            "if_dependencies": [],
            "optimization": {"index-search": self.task.index_search(self.parameters)},
            "task": self.task_definition(&image)?,
        }))
    }

    fn attributes(&self) -> Found<Json> {
        let given = self.task.attributes.as_ref();
        let mut attributes = match given.map(Node::to_json) {
            None => json!({}),
            Some(Some(attributes)) => attributes,
            Some(None) => {
                let text =
                    "`attributes` has a date or a number that JSON has not: put it in quotes";
                return Err(Finding::new(&self.task.place, text));
            }
        };
        let cached = &self.task.cached;
        attributes["fetch-artifact"] = self.task.artifact().into();
        if let Some(alias) = &self.task.alias {
            attributes["fetch-alias"] = alias.as_str().into();
        }
        attributes["cached_task"] =
            json!({"type": cached.kind, "name": cached.name, "digest": cached.digest});
        attributes["kind"] = self.task.kind.as_str().into();
        attributes["run_on_projects"] = json!([]);
        attributes["run_on_tasks_for"] = json!(["all"]);
        attributes["always_target"] = false.into();
        if attributes.get("shipping_phase").is_none() {
            attributes["shipping_phase"] = Json::Null;
        }
        Ok(attributes)
    }

    fn task_definition(&self, image: &Image) -> Found<Json> {
        let worker = self.worker()?;
        let mut routes = self.task.routes(self.parameters);
        let mut description = self.task.description.clone();
        let mut extra = json!({"index": {"rank": 0}, "parent": self.push.decision_task});
        if self.config.map.get("treeherder").is_some() {
            let (project, suffix) = self.push.treeherder_project(self.parameters);
            let (rev, id) = (&self.push.head_rev, &self.push.pushlog_id);
            routes.push(format!("tc-treeherder.v2.{project}{suffix}.{rev}.{id}"));
            let jobs = "https://treeherder.mozilla.org/#/jobs";
            let link = format!("{jobs}?repo={}{suffix}&revision={rev}", self.push.project);
            description = format!("{description} ([Treeherder push]({link}))");
            extra["treeherder"] = self.treeherder()?;
            extra["treeherder-platform"] = "fetch/opt".into();
            extra["index"]["rank"] = self.parameters.build_date.into();
        }
        if self.push.repository_type == "git" {
            routes.push("checks".into());
        }
        if image.task.is_some() {
            let image = json!({"docker-image": {"task-reference": "<docker-image>"}});
            extra["chainOfTrust"] = json!({"inputs": image});
        }
        let expires = json!({"relative-datestamp": self.task.expires_after(self.parameters)});
        let caches = self.caches(image)?;
        let scopes = self.task.scopes().into_iter();
        let scopes = scopes.map(|scope| json!(self.filled_scope(&scope)));
        let for_caches = caches.scopes.iter();
        let scopes = scopes.chain(for_caches.map(|scope| json!({"task-reference": scope})));
        Ok(json!({
            "provisionerId": worker.provisioner,
            "workerType": worker.worker_type,
            "routes": routes,
            "created": {"relative-datestamp": "0 seconds"},
            "deadline": {"relative-datestamp": self.by_project("task-deadline-after", Some("1 day"))?},
            "expires": expires,
            "scopes": scopes.collect::<Vec<_>>(),
            "metadata": {
                "description": description,
                "name": self.task.label,
                "owner": self.push.owner,
                "source": self.push.source(&format!("taskcluster/kinds/{}", self.task.kind))?,
            },
            "extra": extra,
            "tags": self.tags(),
            "priority": self.by_project("task-priority", None)?,
            "payload": self.payload(image, &expires, caches),
        }))
    }

    fn filled_scope(&self, scope: &str) -> String {
        let level = self.parameters.level.to_string();
        scope
            .replace("{level}", &level)
            .replace("{project}", &self.push.project)
    }

    fn tags(&self) -> Json {
        json!({
            "os": "linux",
            "worker-implementation": "docker-worker",
            "createdForUser": self.push.owner,
            "kind": self.task.kind,
            "label": self.task.label,
            "project": self.push.project,
            "trust-domain": self.graph.config().trust_domain,
        })
    }

    fn treeherder(&self) -> Found<Json> {
        let name = &self.task.name;
        if name.chars().count() > 25 || name.contains(['(', ')']) {
            let text = "the name is no symbol for Treeherder: it may have up to 25 characters, and no parentheses";
            return Err(Finding::new(&self.task.place, text));
        }
        let treeherder = self.config.required_fields("treeherder")?;
        let groups = treeherder.fields("group-names")?;
        let group = groups
            .map_or(Ok(None), |groups| groups.text("Fetch"))?
            .ok_or_else(|| {
                treeherder
                    .missing("group-names.Fetch")
                    .hint("Treeherder group Fetch has no name; add it to taskcluster/config.yml")
            })?;
        Ok(json!({
            "machine": {"platform": "fetch"},
            "collection": {"opt": true},
            "groupSymbol": "Fetch",
            "groupName": group,
            "symbol": name,
            "jobKind": "build",
            "tier": 1,
        }))
    }

    fn by_project(&self, key: &str, default: Option<&str>) -> Found<String> {
        let node = match (self.config.node(key), default) {
            (Some(node), _) => node,
            (None, Some(default)) => return Ok(default.to_owned()),
            (None, None) => return Err(self.config.missing(key)),
        };
        let node = keyed_by::resolve(node, &[("project", &self.push.project)])?;
        let text = node
            .text()
            .ok_or_else(|| self.config.mismatch(key, node, "str"))?;
        Ok(text.to_owned())
    }

    fn worker(&self) -> Found<Worker> {
        let workers = self.config.required_fields("workers")?;
        let aliases = workers.required_fields("aliases")?;
        let images = keyed_by::alternative(aliases.map, "images")?
            .ok_or_else(|| aliases.missing("images"))?;
        let images = Fields::of(images, "workers.aliases.images")?;
        let implementation = images.required_text("implementation")?;
        if implementation != "docker-worker" {
            let text = format!(
                "`images` workers are `{implementation}`: only definitions for docker-worker are known"
            );
            return Err(Finding::at(images.required("implementation")?, text));
        }
        let level = self.parameters.level.to_string();
        let resolved = |key| {
            let node = keyed_by::resolve(images.required(key)?, &[("level", &level)])?;
            let text = node
                .text()
                .ok_or_else(|| images.mismatch(key, node, "str"))?;
            let text = text.replace("{level}", &level).replace("{alias}", "images");
            Ok(text.replace("{trust-domain}", &self.graph.config().trust_domain))
        };
        Ok(Worker {
            provisioner: resolved("provisioner")?,
            worker_type: resolved("worker-type")?,
        })
    }

    fn caches(&self, image: &Image) -> Found<Payload> {
        let names = Names {
            trust_domain: &self.graph.config().trust_domain,
            level: self.parameters.level.number(),
            image,
            run_task: self.run_task,
        };
        caches::payload(&self.config, &names)
    }

    fn payload(&self, image: &Image, expires: &Json, caches: Payload) -> Json {
        let mut env = json!({
            "MOZ_SCM_LEVEL": self.parameters.level.to_string(),
            "SCCACHE_DISABLE": "1",
            "MOZ_AUTOMATION": "1",
        });
        for (name, value) in self.task.env() {
            env[name] = value.into();
        }
        for (name, value) in caches.env {
            env[name] = value.into();
        }
        let mut command = vec!["/usr/local/bin/run-task".to_owned(), "--".to_owned()];
        command.extend(self.task.command());
        let mut features = json!({"chainOfTrust": true});
        if !self.task.scopes().is_empty() {
            features["taskclusterProxy"] = true.into();
        }
        let artifacts = json!({"type": "directory", "path": UPLOAD_DIR, "expires": expires});
        let mut payload = json!({
            "image": image.json,
            "env": env,
            "command": command,
            "maxRunTime": 900,
            "onExitStatus": {"retry": caches.purge, "purgeCaches": caches.purge},
            "artifacts": {self.task.artifact_prefix.as_str(): artifacts},
            "features": features,
        });
        if !caches.caches.is_empty() {
            payload["cache"] = json!({"task-reference": caches.caches});
        }
        payload
    }
}

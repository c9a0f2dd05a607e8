//! [`Submission`]: fetch tasks created on a deployment, which performs them where one machine is not enough.
//!
//! As taskgraph does it: what the index has is not created again, `{"relative-datestamp": …}` and `{"task-reference": …}` of
//! a definition become times and task ids, and all that is created together is in one group. Fetch tasks depend on nothing
//! but the image that they run in, which has to be there already.

use super::{
    fetch_task::FetchTask,
    graph::Graph,
    index::{Parameters, latest_image},
    push::Push,
    time,
};
use crate::{
    cachedir::name::ScriptDigest,
    error::{Error, Result},
    task::{Deployment, TaskId},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What tasks have in common that are created together.
pub struct Submission<'a> {
    /// Where they are created.
    pub deployment: Deployment,
    /// The graph that they are of.
    pub graph: &'a Graph,
    /// What they are for.
    pub parameters: Parameters,
    /// The commit that they are for.
    pub push: Push,
    /// taskgraph's run-task, which is in the names of caches.
    pub run_task: Option<ScriptDigest>,
    /// Tasks that they depend on, by label; others are looked up in the index.
    pub dependencies: HashMap<String, TaskId>,
    /// The group that they are in.
    pub group: TaskId,
    /// When they are created.
    pub now: DateTime<Utc>,
}

/// A task that is to be created.
pub struct NewTask {
    /// What the graph calls it.
    pub label: String,
    /// What the deployment is to call it.
    pub id: TaskId,
    /// Its definition, as the queue takes it.
    pub definition: Json,
}

/// The definition of a task, before times and ids are put in.
struct Draft {
    label: String,
    /// Labels by the names that the definition has for them.
    dependencies: BTreeMap<String, String>,
    task: Json,
}

impl Draft {
    fn new(label: &str, mut definition: Json) -> Self {
        let dependencies = definition["dependencies"].as_object().into_iter().flatten();
        let dependencies = dependencies
            .filter_map(|(name, label)| Some((name.clone(), label.as_str()?.to_owned())));
        Self {
            label: label.to_owned(),
            dependencies: dependencies.collect(),
            task: definition["task"].take(),
        }
    }
}

impl Submission<'_> {
    /// Returns which of these tasks the deployment has done already, or is at, by label.
    ///
    /// # Errors
    /// [`Error::Deployment`].
    pub async fn known(&self, tasks: &[&FetchTask]) -> Result<HashMap<String, TaskId>> {
        let paths = tasks.iter().map(|task| {
            let paths = task.index_search(&self.parameters);
            (task.label.clone(), paths)
        });
        self.look_up(paths.collect()).await
    }

    /// Defines tasks to be created, each with an id of its own. What they depend on is looked up if it was not given.
    ///
    /// # Errors
    /// [`Error::Usage`] naming a task that is not to be found, or what the configuration lacks; [`Error::Deployment`].
    pub async fn prepare(&mut self, tasks: &[&FetchTask]) -> Result<Vec<NewTask>> {
        let drafts = tasks.iter().map(|task| {
            let (parameters, run_task) = (&self.parameters, self.run_task.as_ref());
            let definition = self
                .graph
                .definition(task, parameters, &self.push, run_task)?;
            Ok(Draft::new(&task.label, definition))
        });
        let drafts: Vec<Draft> = drafts.collect::<Result<_>>()?;
        self.find_images(&drafts).await?;
        drafts.into_iter().map(|draft| self.finish(draft)).collect()
    }

    async fn find_images(&mut self, drafts: &[Draft]) -> Result<()> {
        let mut images: BTreeSet<_> = drafts
            .iter()
            .flat_map(|draft| draft.dependencies.values())
            .collect();
        images.retain(|label| !self.dependencies.contains_key(*label));
        let paths = images.iter().map(|label| {
            let name = label.strip_prefix("docker-image-").unwrap_or(label);
            let paths = latest_image(name, self.graph.config(), &self.parameters);
            ((*label).clone(), paths)
        });
        let found = self.look_up(paths.collect()).await?;
        if let Some(label) = images.into_iter().find(|label| !found.contains_key(*label)) {
            return Err(Error::Usage {
                what: format!("the index of the deployment has no {label} for the tasks to run in"),
                hint: Some(format!(
                    "name a task that has made that image: --task {label}=TASK_ID"
                )),
            });
        }
        self.dependencies.extend(found);
        Ok(())
    }

    /// Puts everything into a definition that the queue wants.
    fn finish(&self, draft: Draft) -> Result<NewTask> {
        let id = TaskId::random()?;
        let needed = draft.dependencies.iter();
        let needed =
            needed.filter_map(|(name, label)| Some((name.as_str(), self.dependencies.get(label)?)));
        let mut ids: HashMap<_, _> = needed.collect();
        let dependencies = json!(ids.values().collect::<Vec<_>>());
        ids.extend([("self", &id), ("decision", &self.group)]);
        let mut definition = self
            .filled(draft.task, &ids)
            .map_err(|problem| Error::usage(format!("{}: {problem}", draft.label)))?;
        let (trust_domain, level) = (&self.graph.config().trust_domain, self.parameters.level);
        definition["dependencies"] = dependencies;
        definition["taskGroupId"] = json!(self.group);
        definition["schedulerId"] = format!("{trust_domain}-level-{level}").into();
        Ok(NewTask {
            label: draft.label,
            id,
            definition,
        })
    }

    /// Puts times and ids in.
    fn filled(&self, value: Json, ids: &HashMap<&str, &TaskId>) -> Result<Json, String> {
        match value {
            Json::Array(list) => list
                .into_iter()
                .map(|value| self.filled(value, ids))
                .collect(),
            Json::Object(map) if map.len() == 1 && map.contains_key("relative-datestamp") => {
                let after = map.into_values().next();
                let after = after.as_ref().and_then(Json::as_str).unwrap_or_default();
                self.time(after).map(Json::from)
            }
            Json::Object(mut map) if map.len() == 1 && map.contains_key("task-reference") => {
                match map.remove("task-reference") {
                    Some(Json::String(text)) => with_ids(&text, ids).map(Json::from),
                    // The keys refer to tasks.
                    Some(Json::Object(map)) => self.each(map, ids, |key| with_ids(&key, ids)),
                    other => Ok(other.unwrap_or_default()),
                }
            }
            Json::Object(map) => self.each(map, ids, Ok),
            other => Ok(other),
        }
    }

    fn each(
        &self,
        map: Map<String, Json>,
        ids: &HashMap<&str, &TaskId>,
        key: impl Fn(String) -> Result<String, String>,
    ) -> Result<Json, String> {
        let filled = map
            .into_iter()
            .map(|(name, value)| Ok((key(name)?, self.filled(value, ids)?)));
        filled.collect()
    }

    fn time(&self, after: &str) -> Result<String, String> {
        let then = time::ahead(after, self.now);
        let then = then.ok_or_else(|| format!("`{}` is no time ahead", after.escape_debug()))?;
        Ok(then.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    /// Returns the tasks that the index has, and that are of use, by label. The first path that leads to one counts.
    async fn look_up(&self, paths: Vec<(String, Vec<String>)>) -> Result<HashMap<String, TaskId>> {
        let all: Vec<String> = paths.iter().flat_map(|(_, paths)| paths.clone()).collect();
        let indexed = self.deployment.find_tasks(&all).await?;
        let mut found = HashMap::new();
        for (label, paths) in paths {
            for entry in paths.iter().filter_map(|path| indexed.get(path)) {
                if self.is_of_use(&entry.task_id).await? {
                    found.insert(label, entry.task_id.clone());
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Whether a task has its artifacts, or may get them yet.
    async fn is_of_use(&self, task: &TaskId) -> Result<bool> {
        match self.deployment.task_status(task).await {
            Ok(status) => Ok(!matches!(status.state.as_str(), "failed" | "exception")
                && status.expires > self.now),
            Err(err) if err.is_absence() => Ok(false),
            Err(err) => Err(err),
        }
    }
}

/// Replaces each `<name>` by the id of that task, and `<<>` by `<`.
fn with_ids(text: &str, ids: &HashMap<&str, &TaskId>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('<') {
        filled.push_str(before);
        let Some((name, after)) = behind.split_once('>').filter(|(name, _)| !name.is_empty())
        else {
            filled.push('<');
            rest = behind;
            continue;
        };
        match ids.get(name) {
            Some(id) => filled.push_str(&id.to_string()),
            None if name == "<" => filled.push('<'),
            None => return Err(format!("refers to <{name}>, on which it does not depend")),
        }
        rest = after;
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::with_ids;
    use crate::task::TaskId;
    use std::collections::HashMap;

    #[test]
    fn references_become_ids() {
        let id = TaskId::of("image");
        let ids = HashMap::from([("docker-image", &id)]);
        for (text, expected) in [
            ("plain", Some("plain".to_owned())),
            ("a <docker-image> b", Some(format!("a {id} b"))),
            ("<docker-image><docker-image>", Some(format!("{id}{id}"))),
            ("1 <<> 2 > 0", Some("1 < 2 > 0".to_owned())),
            ("open < end", Some("open < end".to_owned())),
            ("<>", Some("<>".to_owned())),
            ("<other>", None),
        ] {
            assert_eq!(with_ids(text, &ids).ok(), expected, "{text}");
        }
    }
}

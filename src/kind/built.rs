//! The digests of what is built: a toolchain is the same if its files, its image and all that it is built from are.

use super::{
    finding::{Finding, Found},
    graph::Graph,
    index::Cached,
    source::Kind,
    toolchain::Toolchain,
};
use crate::error::Result;

/// The type and version of these digests.
const CACHE_TYPE: &str = "toolchains.v3";

impl Graph {
    /// Returns how a toolchain is found in the index: by a digest of its files, its image and what it is built from.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] when files are missing, or it depends on something that has no digest.
    pub fn toolchain_cached(&self, task: &Toolchain) -> Result<Cached> {
        Ok(self.cached(task, &mut Vec::new())?)
    }

    /// The digests of `above` wait for this one.
    fn cached(&self, task: &Toolchain, above: &mut Vec<String>) -> Found<Cached> {
        let cached = self.try_cached(task, above);
        cached.map_err(|err| {
            Finding {
                place: err.place.or_else(|| Some(task.place.clone())),
                ..err
            }
            .of_task(&task.label)
        })
    }

    fn try_cached(&self, task: &Toolchain, above: &mut Vec<String>) -> Found<Cached> {
        let Some(kind) = self.kind(&task.kind) else {
            return Err(Finding::nowhere("its kind is gone"));
        };
        if !kind.is_cached() {
            let text = "the kind does not list the transform taskgraph.transforms.cached_tasks";
            return Err(Finding::at(&kind.node, text));
        }
        if above.contains(&task.label) {
            return Err(Finding::nowhere(format!(
                "depends on itself, by {}",
                above.join(", ")
            )));
        }
        above.push(task.label.clone());
        let mut data = task.digest_data(self.config(), self.root())?;
        let inputs = self.inputs_of(kind, kind.tasks()?, &task.raw)?;
        let mut parents = Vec::new();
        for (_, label) in &inputs.dependencies {
            parents.push(self.parent_digest(kind, task, label, above)?);
        }
        parents.sort();
        data.extend(parents);
        // Every toolchain has a chain of trust, which makes a difference to its artifacts.
        data.push("True".into());
        above.pop();
        let name = task.label.replacen(&format!("{}-", task.kind), "", 1);
        Ok(Cached::new(self.config(), CACHE_TYPE, name, &data))
    }

    fn parent_digest(
        &self,
        kind: &Kind,
        task: &Toolchain,
        label: &str,
        above: &mut Vec<String>,
    ) -> Found<String> {
        let visible = |of: &str| of == kind.name || kind.dependencies.iter().any(|name| name == of);
        let fetch = self.fetches().iter().find(|fetch| fetch.label == label);
        if let Some(fetch) = fetch.filter(|fetch| visible(&fetch.kind)) {
            return Ok(fetch.cached.in_digests());
        }
        let parent = self
            .toolchains()
            .iter()
            .find(|parent| parent.label == label);
        if let Some(parent) = parent.filter(|parent| visible(&parent.kind)) {
            return Ok(self.cached(parent, above)?.in_digests());
        }
        let text = format!(
            "Cached task {} has uncached parent task: {label}",
            task.label
        );
        Err(Finding::new(&task.place, text))
    }
}

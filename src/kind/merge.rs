//! `task-defaults`, merged into tasks as taskgraph does it.

use super::yaml::{Map, Node, Value};

/// Returns `defaults` with what `task` says: its values go before, maps are merged, lists appended.
pub(super) fn merge(defaults: &Map, task: &Map) -> Map {
    let mut merged = defaults.clone();
    for (key, node) in task.entries() {
        let value = match (&node.value, key.text().and_then(|key| merged.get(key))) {
            // Not merged, since the alternatives of the two would get mixed.
            (Value::Map(map), _) if is_keyed_by(map) => node.value.clone(),
            (Value::Map(own), Some(before)) if before.map().is_some() => Value::Map(
                before
                    .map()
                    .map_or_else(|| own.clone(), |before| merge(before, own)),
            ),
            (Value::List(own), Some(before)) if before.list().is_some() => {
                let mut list = before.list().unwrap_or_default().to_vec();
                list.extend_from_slice(own);
                Value::List(list)
            }
            _ => node.value.clone(),
        };
        let node = Node {
            value,
            ..node.clone()
        };
        merged.set(key.clone(), node);
    }
    merged
}

/// Whether a map gives alternatives, `by-…`.
pub(super) fn is_keyed_by(map: &Map) -> bool {
    let mut keys = map.entries().filter_map(|(key, _)| key.text());
    map.len() == 1 && keys.all(|key| key.starts_with("by-"))
}

#[cfg(test)]
mod tests {
    use super::merge;
    use crate::kind::yaml::{Node, Value, parse};
    use std::{path::Path, sync::Arc};

    /// The expected value is what `taskgraph.util.templates.merge` makes of the two.
    #[test]
    fn tasks_go_before_defaults() {
        let text = "
            defaults: {a: 1, b: {c: 2, d: [x]}, e: [1], f: {by-level: {'3': x}}, g: text, h: {i: 1}}
            task: {a: 3, b: {d: [y], z: 4}, e: {k: 1}, f: {by-level: {'1': y}}, g: null, h: [1], n: {}}";
        let (node, _) = parse(text, &Arc::from(Path::new("x.yml"))).unwrap();
        let [defaults, task] =
            ["defaults", "task"].map(|key| node.map().unwrap().get(key).unwrap());
        let merged = Node {
            value: Value::Map(merge(defaults.map().unwrap(), task.map().unwrap())),
            ..defaults.clone()
        };
        let expected = serde_json::json!({
            "a": 3, "b": {"c": 2, "d": ["x", "y"], "z": 4}, "e": {"k": 1}, "f": {"by-level": {"1": "y"}}, "g": null,
            "h": [1], "n": {},
        });
        assert_eq!(merged.to_json().unwrap(), expected);
    }
}

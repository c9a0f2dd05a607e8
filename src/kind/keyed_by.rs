//! Values that depend on something: `by-level: {"3": …, default: …}`.

use super::{
    finding::{Finding, Found},
    merge::is_keyed_by,
    yaml::{Map, Node},
};
use regex::Regex;

/// Resolves a value, with what it may depend on as pairs of name and value.
pub(super) fn resolve<'a>(mut node: &'a Node, known: &[(&str, &str)]) -> Found<&'a Node> {
    while let Some(map) = node.map().filter(|map| is_keyed_by(map)) {
        let Some((key, alternatives)) = map.entries().next() else {
            break;
        };
        let name = key.text().unwrap_or_default();
        let name = name.strip_prefix("by-").unwrap_or(name);
        let alternatives = alternatives
            .map()
            .ok_or_else(|| Finding::at(alternatives, format!("`by-{name}` needs a map")))?;
        let value = known.iter().find(|(known, _)| *known == name);
        let found = match value {
            Some((_, value)) => alternative(alternatives, value)?,
            None => alternatives.get("default"),
        };
        node = found.ok_or_else(|| {
            let value = value.map_or_else(String::new, |(_, value)| format!(" for `{value}`"));
            Finding::at(
                key,
                format!("`by-{name}` has no alternative{value}, and no `default`"),
            )
        })?;
    }
    Ok(node)
}

/// Returns the alternative for a value: by its name, else the one by a pattern, else the default.
pub(super) fn alternative<'a>(alternatives: &'a Map, value: &str) -> Found<Option<&'a Node>> {
    if let Some(node) = alternatives.get(value) {
        return Ok(Some(node));
    }
    let mut matching = Vec::new();
    for (key, node) in alternatives.entries() {
        let Some(pattern) = key.text() else { continue };
        // As Python's `re.match(key + "$", value)`: in `a|b`, only b is anchored at its end.
        let regex = Regex::new(&format!("^(?:{pattern}$)"));
        let regex = regex.map_err(|err| {
            Finding::at(
                key,
                format!("`{pattern}` is no pattern that is supported: {err}"),
            )
        })?;
        if regex.is_match(value) {
            matching.push((key, node));
        }
    }
    match matching[..] {
        [] => Ok(alternatives.get("default")),
        [(_, node)] => Ok(Some(node)),
        [_, (key, _), ..] => {
            let text = format!("several alternatives match `{value}`");
            Err(Finding::at(key, text))
        }
    }
}

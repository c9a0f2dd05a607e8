//! Typed access to the keys of a map, with messages that name the key, what was expected and what is there.

use super::{
    finding::{Finding, Found},
    nearest::nearest,
    yaml::{Map, Node, Place, Value},
};

/// The keys of a map.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    pub(super) map: &'a Map,
    place: &'a Place,
    /// What stands in front of the names of its keys, such as `fetch.`.
    prefix: String,
}

impl<'a> Fields<'a> {
    /// Takes a node for a map; `name` is what it is called, and empty for a whole task or file.
    pub(super) fn of(node: &'a Node, name: &str) -> Found<Self> {
        let map = node.map().ok_or_else(|| match name {
            "" => mismatch(node, "this", "object"),
            name => mismatch(node, &format!("`{name}`"), "object"),
        })?;
        let prefix = match name {
            "" => String::new(),
            name => format!("{name}."),
        };
        let place = &node.place;
        Ok(Self { map, place, prefix })
    }

    /// Returns the value of a key. Null counts as absent.
    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        self.map.get(key).filter(|node| !node.is_null())
    }

    pub(super) fn required(&self, key: &str) -> Found<&'a Node> {
        self.map.get(key).ok_or_else(|| self.missing(key))
    }

    pub(super) fn missing(&self, key: &str) -> Finding {
        let text = format!("the required key `{}{key}` is missing", self.prefix);
        Finding::new(self.place, text)
    }

    /// Returns the value of a key that may be absent but, if taskgraph is not to fail on it, not null.
    pub(super) fn not_null(&self, key: &str) -> Found<Option<&'a Node>> {
        match self.map.get(key) {
            Some(node) if node.is_null() => {
                let text = format!(
                    "`{}{key}` has no value: give it one or remove it",
                    self.prefix
                );
                Err(Finding::at(node, text))
            }
            found => Ok(found),
        }
    }

    pub(super) fn required_text(&self, key: &str) -> Found<&'a str> {
        self.as_text(key, self.required(key)?)
    }

    pub(super) fn text(&self, key: &str) -> Found<Option<&'a str>> {
        self.node(key)
            .map(|node| self.as_text(key, node))
            .transpose()
    }

    fn as_text(&self, key: &str, node: &'a Node) -> Found<&'a str> {
        node.text().ok_or_else(|| self.mismatch(key, node, "str"))
    }

    pub(super) fn required_int(&self, key: &str) -> Found<i128> {
        self.as_int(key, self.required(key)?)
    }

    pub(super) fn int(&self, key: &str) -> Found<Option<i128>> {
        self.node(key)
            .map(|node| self.as_int(key, node))
            .transpose()
    }

    fn as_int(&self, key: &str, node: &Node) -> Found<i128> {
        match node.value {
            Value::Int(int) => Ok(int),
            Value::HugeInt => {
                let text = format!("`{}{key}` is too large a number", self.prefix);
                Err(Finding::at(node, text))
            }
            _ => Err(self.mismatch(key, node, "int")),
        }
    }

    pub(super) fn bool(&self, key: &str) -> Found<Option<bool>> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        match node.value {
            Value::Bool(bool) => Ok(Some(bool)),
            _ => Err(self.mismatch(key, node, "bool")),
        }
    }

    pub(super) fn fields(&self, key: &str) -> Found<Option<Fields<'a>>> {
        let name = format!("{}{key}", self.prefix);
        self.node(key)
            .map(|node| Fields::of(node, &name))
            .transpose()
    }

    pub(super) fn required_fields(&self, key: &str) -> Found<Fields<'a>> {
        Fields::of(self.required(key)?, &format!("{}{key}", self.prefix))
    }

    pub(super) fn list(&self, key: &str) -> Found<&'a [Node]> {
        let Some(node) = self.node(key) else {
            return Ok(&[]);
        };
        node.list().ok_or_else(|| self.mismatch(key, node, "array"))
    }

    pub(super) fn texts(&self, key: &str) -> Found<Vec<&'a str>> {
        let list = self.list(key)?.iter();
        list.map(|node| self.as_text(&format!("{key}[…]"), node))
            .collect()
    }

    /// Returns the pairs of a map from text to text.
    pub(super) fn text_pairs(&self) -> Found<Vec<(String, String)>> {
        let pairs = self.map.entries().map(|(key, node)| {
            let key = self.key(key)?;
            let value = self.as_text(key, node)?;
            Ok((key.to_owned(), value.to_owned()))
        });
        pairs.collect()
    }

    /// Returns a key, which must be text.
    pub(super) fn key(&self, key: &'a Node) -> Found<&'a str> {
        let name = format!("a key of `{}`", self.prefix.trim_end_matches('.'));
        let name = if self.prefix.is_empty() {
            "a key"
        } else {
            &name
        };
        key.text().ok_or_else(|| mismatch(key, name, "str"))
    }

    pub(super) fn keys(&self) -> Found<Vec<(&'a str, &'a Node)>> {
        self.map
            .entries()
            .map(|(key, _)| Ok((self.key(key)?, key)))
            .collect()
    }

    /// Returns what is wrong with keys that are not among the known ones.
    pub(super) fn unknown(&self, known: &[&str]) -> Found<Vec<Finding>> {
        let mut unknown = self.keys()?;
        unknown.retain(|(key, _)| !known.contains(key));
        let findings = unknown
            .into_iter()
            .map(|(key, node)| self.nobody_knows(key, node, known));
        Ok(findings.collect())
    }

    pub(super) fn nobody_knows(&self, key: &str, node: &Node, known: &[&str]) -> Finding {
        let text = format!(
            "nobody knows the key `{}{}`",
            self.prefix,
            key.escape_debug()
        );
        let finding = Finding::at(node, text);
        match nearest(key, known) {
            Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
            None => finding,
        }
    }

    pub(super) fn mismatch(&self, key: &str, node: &Node, expected: &str) -> Finding {
        mismatch(node, &format!("`{}{key}`", self.prefix), expected)
    }
}

fn mismatch(node: &Node, name: &str, expected: &str) -> Finding {
    let got = node.value.type_name();
    let finding = Finding::at(node, format!("{name}: expected `{expected}`, got `{got}`"));
    match (expected, &node.value) {
        (
            "str",
            Value::Int(_) | Value::HugeInt | Value::Float(_) | Value::Bool(_) | Value::Date,
        ) => finding
            .hint("without quotes, YAML takes it for something else than text: put it in quotes"),
        ("int", Value::Text(_)) => finding.hint("a number must have no quotes"),
        _ => finding,
    }
}

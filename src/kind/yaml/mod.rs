//! YAML as taskgraph reads it, with the place of everything in it.
//!
//! taskgraph loads its files with PyYAML's safe loader, which means YAML 1.1: `yes` and `on` are booleans, `010` is 8,
//! `1:30` is 90, `2024-01-02` is a date. [`parse`] takes values as Python takes them, or refuses what it cannot.

mod build;
mod scalar;
#[cfg(test)]
mod tests;

pub(super) use build::parse;
pub(super) use scalar::is_plain_text;

use std::{fmt, ops::Range, path::Path, sync::Arc};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, the first is 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    pub(super) origin: Origin,
}

/// What there is to know of a node's text to replace it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Origin {
    /// Its bytes in the file. For a quoted scalar that includes the quotes.
    pub(super) bytes: Range<usize>,
    /// How it is written.
    pub(super) style: Style,
    /// Whether it has an anchor, or is there by an alias or merge key: a change of it would show elsewhere, too.
    pub(super) shared: bool,
}

/// How a node is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    /// A scalar with `|` or `>`, or a collection.
    Other,
}

/// A value, as Python has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    /// An integer that is larger than any that matters.
    HugeInt,
    Float(f64),
    /// A date, with or without a time.
    Date,
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

impl Value {
    /// Returns the name of the type, as taskgraph's messages have it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::HugeInt => "int",
            Self::Float(_) => "float",
            Self::Date => "date",
            Self::Text(_) => "str",
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }
}

/// Nodes are equal when their values are, wherever they stand.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub(super) fn map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Returns the value as JSON, for what is passed through. Dates, infinity and huge numbers have no place in there.
    pub(super) fn to_json(&self) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        Some(match &self.value {
            Value::Null => Json::Null,
            Value::Bool(bool) => Json::from(*bool),
            Value::Int(int) => Json::from(i64::try_from(*int).ok()?),
            Value::Float(float) => Json::Number(serde_json::Number::from_f64(*float)?),
            Value::HugeInt | Value::Date => return None,
            Value::Text(text) => Json::from(text.as_str()),
            Value::List(list) => list.iter().map(Node::to_json).collect::<Option<_>>()?,
            Value::Map(map) => {
                let entries = map.entries();
                let entries =
                    entries.map(|(key, node)| Some((key.text()?.to_owned(), node.to_json()?)));
                Json::Object(entries.collect::<Option<_>>()?)
            }
        })
    }
}

/// A mapping in the order of its keys' first appearance, as a Python dictionary has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Map(Vec<(Node, Node)>);

impl Map {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, node)| node)
    }

    pub(super) fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        self.0.iter().find(|(known, _)| known.text() == Some(key))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Node, &Node)> {
        self.0.iter().map(|(key, node)| (key, node))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let found = self
            .0
            .iter_mut()
            .find(|(known, _)| known.text() == Some(key));
        found.map(|(_, node)| node)
    }

    /// Sets what belongs to a key, and returns the key that was there.
    pub(super) fn set(&mut self, key: Node, node: Node) -> Option<Node> {
        if let Some(entry) = self.0.iter_mut().find(|(known, _)| *known == key) {
            entry.1 = node;
            return Some(std::mem::replace(&mut entry.0, key));
        }
        self.0.push((key, node));
        None
    }

    /// Removes a key, and returns what belonged to it.
    pub(super) fn remove(&mut self, key: &str) -> Option<Node> {
        let position = self
            .0
            .iter()
            .position(|(known, _)| known.text() == Some(key))?;
        Some(self.0.remove(position).1)
    }
}

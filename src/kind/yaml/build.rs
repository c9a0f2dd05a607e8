//! From the parser's events to nodes: aliases, merge keys and tags as PyYAML's safe loader treats them.

use super::{
    Map, Node, Origin, Place, Style, Value,
    scalar::{self, Plain},
};
use crate::kind::finding::{Finding, Found};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use std::{collections::HashMap, ops::Range, path::Path, sync::Arc};

/// How deep nodes may be nested. taskgraph's files are at five or so.
const MAX_DEPTH: usize = 64;

/// How many nodes a file may have with its aliases written out, so that a few lines cannot fill the memory.
const MAX_NODES: usize = 1_000_000;

/// Reads the one document of a file. The findings are of what PyYAML overlooks: keys that are there twice.
pub(in crate::kind) fn parse(text: &str, file: &Arc<Path>) -> Found<(Node, Vec<Finding>)> {
    let start = text
        .strip_prefix('\u{feff}')
        .map_or(0, |rest| text.len() - rest.len());
    let mut builder = Builder {
        parser: Parser::new_from_str(&text[start..]),
        text,
        start,
        offsets: Offsets::default(),
        file,
        anchors: HashMap::new(),
        nodes: 0,
        doubled: Vec::new(),
    };
    builder.refuse_line_breaks()?;
    let document = builder.document()?;
    Ok((document, builder.doubled))
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    start: usize,
    offsets: Offsets,
    file: &'a Arc<Path>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    doubled: Vec<Finding>,
}

/// Where a search for the byte of a character can begin: events come in the order of the text.
#[derive(Default)]
struct Offsets {
    character: usize,
    byte: usize,
}

impl<'a> Builder<'a> {
    /// Refuses what ends a line in YAML 1.1 only: the parser would take it for text.
    fn refuse_line_breaks(&self) -> Found<()> {
        let odd = |char| matches!(char, '\u{85}' | '\u{2028}' | '\u{2029}');
        let Some(position) = self.text.find(odd) else {
            return Ok(());
        };
        let line = 1 + self.text[..position].matches('\n').count();
        Err(Finding::new(
            &self.place(line),
            "has a character (U+0085, U+2028 or U+2029) that ends a line in YAML 1.1",
        )
        .hint("write it as an escape in double quotes"))
    }

    fn document(&mut self) -> Found<Node> {
        let mut document = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                Event::StreamEnd => break,
                _ if document.is_some() => {
                    return Err(Finding::new(
                        &self.place(span.start.line()),
                        "expected a single document, but another one begins here",
                    ));
                }
                event => document = Some(self.node(event, span, 0)?),
            }
        }
        let empty = || Node {
            value: Value::Null,
            place: self.place(1),
            origin: Origin {
                bytes: 0..0,
                style: Style::Other,
                shared: false,
            },
        };
        Ok(document.unwrap_or_else(empty))
    }

    fn next(&mut self) -> Found<(Event<'a>, Span)> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(err)) => Err(Finding::new(
                &self.place(err.marker().line()),
                format!("not YAML: {}", err.info()),
            )),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn place(&self, line: usize) -> Place {
        Place {
            file: Arc::clone(self.file),
            line,
        }
    }

    fn count(&mut self, nodes: usize, place: &Place) -> Found<()> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let text =
                format!("the file has more than {MAX_NODES} values, with its aliases written out");
            return Err(Finding::new(place, text));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Found<Node> {
        let place = self.place(span.start.line());
        self.count(1, &place)?;
        if depth > MAX_DEPTH {
            let text = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(Finding::new(&place, text));
        }
        let bytes = self.bytes(span);
        let (value, style, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, &place),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar_value(&text, style, tag.as_deref(), &place)?;
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::SingleQuoted,
                    ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Other,
                };
                (value, style, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_collection(tag.as_deref(), "seq", &place)?;
                (self.list(depth)?, Style::Other, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_collection(tag.as_deref(), "map", &place)?;
                (self.map(depth)?, Style::Other, anchor)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(Finding::new(&place, "not YAML: a value is missing"));
            }
        };
        let origin = Origin {
            bytes,
            style,
            shared: anchor != 0,
        };
        let mut node = Node {
            value,
            place,
            origin,
        };
        if anchor != 0 {
            share(&mut node);
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Returns what an anchor stands for, which is complete: one within itself is refused.
    fn alias(&mut self, anchor: usize, place: &Place) -> Found<Node> {
        let node = self.anchors.get(&anchor).cloned();
        let node = node
            .ok_or_else(|| Finding::new(place, "an alias stands within what it is the alias of"))?;
        self.count(count(&node), place)?;
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Found<Value> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(list)),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Found<Value> {
        let mut own: Vec<(Node, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = if is_merge_key(&event) {
                None
            } else {
                Some(self.node(event, span, depth + 1)?)
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            match key {
                None => merged.extend(mappings_to_merge(node)?),
                Some(key) if matches!(key.value, Value::List(_) | Value::Map(_)) => {
                    return Err(Finding::at(&key, "a key must not be a list or a map"));
                }
                Some(key) => own.push((key, node)),
            }
        }
        let mut map = Map::default();
        for (key, node) in merged {
            map.set(key, node);
        }
        let first_own = own.len();
        for (number, (key, node)) in own.into_iter().enumerate() {
            let line = key.place.line;
            let name = key
                .text()
                .map_or_else(|| "a key".to_owned(), |key| format!("`{key}`"));
            let before = map.set(key, node);
            if let Some(before) =
                before.filter(|before| number < first_own && !before.origin.shared)
            {
                let text = format!("{name} replaces that of line {}", before.place.line);
                self.doubled.push(Finding::new(&self.place(line), text));
            }
        }
        Ok(Value::Map(map))
    }

    /// Turns positions in characters into positions in bytes.
    fn bytes(&mut self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        let length = span.end.index().saturating_sub(span.start.index());
        let rest = &self.text[start..];
        let end = rest
            .char_indices()
            .nth(length)
            .map_or(rest.len(), |(at, _)| at);
        start..start + end_of_scalar(&rest[..end])
    }

    fn byte(&mut self, character: usize) -> usize {
        if character < self.offsets.character {
            self.offsets = Offsets::default();
        }
        let rest = &self.text[self.start + self.offsets.byte..];
        let ahead = rest.char_indices().nth(character - self.offsets.character);
        self.offsets.byte += ahead.map_or(rest.len(), |(at, _)| at);
        self.offsets.character = character;
        self.start + self.offsets.byte
    }
}

/// Returns where a scalar ends that `text` begins with. The parser counts blanks and comments behind a quoted one to it.
fn end_of_scalar(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    let quote = text.chars().next();
    if !matches!(quote, Some('"' | '\'')) {
        return text.trim_end().len();
    }
    while let Some((at, char)) = chars.next() {
        if char == '\\' && quote == Some('"') {
            chars.next();
        } else if Some(char) == quote {
            match chars.peek() {
                Some(&(_, '\'')) if quote == Some('\'') => chars.next(),
                _ => return at + 1,
            };
        }
    }
    text.len()
}

fn is_merge_key(event: &Event) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<")
}

/// Returns what a merge key brings, what counts less first.
fn mappings_to_merge(node: Node) -> Found<Vec<(Node, Node)>> {
    let maps = match node.value {
        Value::Map(map) => vec![map],
        Value::List(list) => {
            let maps = list.into_iter().rev().map(|node| match node.value {
                Value::Map(map) => Ok(map),
                _ => Err(Finding::at(&node, "only maps can be merged")),
            });
            maps.collect::<Found<_>>()?
        }
        _ => {
            return Err(Finding::at(
                &node,
                "only maps and lists of maps can be merged",
            ));
        }
    };
    let mut entries: Vec<(Node, Node)> = maps.into_iter().flat_map(|map| map.0).collect();
    for (key, node) in &mut entries {
        share(key);
        share(node);
    }
    Ok(entries)
}

/// Marks a node and all in it as standing elsewhere, too.
fn share(node: &mut Node) {
    node.origin.shared = true;
    match &mut node.value {
        Value::List(list) => list.iter_mut().for_each(share),
        Value::Map(map) => {
            for (key, node) in &mut map.0 {
                share(key);
                share(node);
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::HugeInt
        | Value::Float(_)
        | Value::Date
        | Value::Text(_) => {}
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(list) => list.iter().map(count).sum(),
        Value::Map(map) => map.entries().map(|(_, node)| 1 + count(node)).sum(),
        _ => 0,
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: &Place) -> Found<Value> {
    let tag = tag.map(core_tag).transpose();
    let tag = tag.map_err(|tag| Finding::new(place, format!("nobody knows the tag `{tag}`")))?;
    let plain = match tag {
        Some("") if !text.is_empty() => scalar::resolve(text),
        Some("" | "str") => Plain::Value(Value::Text(text.to_owned())),
        Some("int") => scalar::int(text),
        Some("float") => scalar::float(text),
        Some("null") => Plain::Value(Value::Null),
        Some("bool") => match scalar::boolean(text) {
            Some(bool) => Plain::Value(Value::Bool(bool)),
            None => Plain::Refused("not a boolean"),
        },
        Some(_) => Plain::Refused("a scalar with this tag is not supported"),
        None if style == ScalarStyle::Plain => scalar::resolve(text),
        None => Plain::Value(Value::Text(text.to_owned())),
    };
    match plain {
        Plain::Value(value) => Ok(value),
        Plain::Merge => Err(Finding::new(
            place,
            "`<<` merges maps, and is no value: put it in quotes",
        )),
        Plain::Refused(why) => Err(Finding::new(
            place,
            format!("`{}`: {why}", text.escape_debug()),
        )),
    }
}

fn check_collection(tag: Option<&Tag>, expected: &str, place: &Place) -> Found<()> {
    match tag.map(core_tag) {
        None => Ok(()),
        Some(Ok(tag)) if tag == expected || tag.is_empty() => Ok(()),
        Some(Ok(tag)) => {
            let text = format!("a collection with the tag `!!{tag}` is not supported");
            Err(Finding::new(place, text))
        }
        Some(Err(tag)) => Err(Finding::new(place, format!("nobody knows the tag `{tag}`"))),
    }
}

/// Returns the name of one of YAML's own tags, or of another one as the error. The tag `!` has no name.
fn core_tag(tag: &Tag) -> Result<&str, String> {
    if tag.is_yaml_core_schema() {
        return Ok(&tag.suffix);
    }
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("" | "!", "" | "!") => Ok(""),
        // As a whole, `!<…>`.
        ("", suffix) => {
            let name = suffix.strip_prefix("tag:yaml.org,2002:");
            name.ok_or_else(|| format!("!<{suffix}>"))
        }
        _ => Err(tag.to_string()),
    }
}

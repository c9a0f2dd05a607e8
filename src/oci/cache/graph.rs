//! [`Cache`]: a description whose numbers are all of something.

use super::model::{Input, MAX_EXPORTED, Record, TableEntry};
use crate::oci::{Descriptor, Digest, media_type::LayerFormat};
use chrono::{DateTime, FixedOffset};
use std::{cmp::Reverse, collections::HashSet};

/// Layers of one result, at most. No system mounts as many.
const MAX_LAYERS: usize = 1000;

/// Records of one cache, at most. The largest images have some thousands.
pub(super) const MAX_RECORDS: usize = 65_536;

/// What begins the name of what must not be found.
const RANDOM: &str = "random:";

/// A description of a cache, checked: every number is of something, and nothing is below itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The layers.
    pub layers: Vec<Layer>,
    /// The records.
    pub entries: Vec<Entry>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its blob.
    pub blob: Digest,
    /// The layer below it.
    pub parent: Option<usize>,
    /// Where it is and what it must become, or why it cannot be used.
    pub content: Result<(Descriptor, Digest), String>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name of the operation.
    pub digest: String,
    /// What it was done to: for each input, alternatives.
    pub inputs: Vec<Vec<Link>>,
    /// What became of it, the newest first.
    pub outcomes: Vec<Outcome>,
}

/// A link to another record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Which part of it; may be empty.
    pub selector: String,
    /// The number of the record.
    pub record: usize,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A layer with everything below it.
    Prefix(usize),
    /// Certain layers, lowest first.
    Chain(Vec<usize>),
}

impl Cache {
    /// Checks a description. The error says what is wrong: then nothing of it can be used.
    pub(super) fn new(layers: Vec<Layer>, records: Vec<Record>) -> Result<Self, String> {
        refuse_parent_loops(&layers)?;
        let count = records.len();
        if count > MAX_RECORDS {
            return Err(format!(
                "it has {count} records, and may have {MAX_RECORDS} at most"
            ));
        }
        let entries = records.into_iter().enumerate();
        let entries = entries.map(|(number, record)| {
            entry(record, layers.len(), count).map_err(|what| format!("record {number}: {what}"))
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        refuse_link_loops(&entries)?;
        Ok(Self { layers, entries })
    }

    /// Returns the numbers of the layers of a result, lowest first.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn layers_of(&self, outcome: &Outcome) -> Result<Vec<usize>, String> {
        let numbers = match outcome {
            Outcome::Chain(numbers) => numbers.clone(),
            Outcome::Prefix(top) => {
                let below = std::iter::successors(Some(*top), |&number| self.layers[number].parent);
                let mut numbers: Vec<usize> = below.take(MAX_LAYERS + 1).collect();
                numbers.reverse();
                numbers
            }
        };
        if numbers.is_empty() {
            return Err("it is a chain of no layers".into());
        }
        if numbers.len() > MAX_LAYERS {
            return Err(format!("it has more than {MAX_LAYERS} layers"));
        }
        match numbers
            .iter()
            .find_map(|&number| self.layers[number].content.as_ref().err())
        {
            Some(problem) => Err(problem.clone()),
            None => Ok(numbers),
        }
    }

    /// Returns the records of an operation that has no inputs.
    pub fn roots(&self, digest: Digest) -> impl Iterator<Item = usize> {
        self.named(digest)
            .filter(|(_, entry)| entry.inputs.is_empty())
            .map(|(number, _)| number)
    }

    /// Returns the records of an operation on one input: on part `selector` of one of `records`.
    pub fn on_top(
        &self,
        digest: Digest,
        selector: Digest,
        records: &HashSet<usize>,
    ) -> impl Iterator<Item = usize> {
        let selector = selector.to_string();
        let is_it = move |link: &Link| link.selector == selector && records.contains(&link.record);
        self.named(digest)
            .filter(move |(_, entry)| match &entry.inputs[..] {
                [only] => only.iter().any(&is_it),
                _ => false,
            })
            .map(|(number, _)| number)
    }

    fn named(&self, digest: Digest) -> impl Iterator<Item = (usize, &Entry)> {
        let digest = digest.to_string();
        let entries = self.entries.iter().enumerate();
        entries.filter(move |(_, entry)| entry.digest == digest)
    }
}

impl Layer {
    /// Returns a layer that a descriptor tells of, or not.
    pub(super) fn new(
        entry: &TableEntry,
        parent: Option<usize>,
        found: Option<&Descriptor>,
    ) -> Self {
        let content = found
            .ok_or_else(|| format!("the manifest has no blob {}", entry.blob))
            .and_then(|found| Ok((found.clone(), diff_id(found)?)));
        Self {
            blob: entry.blob,
            parent,
            content,
        }
    }
}

/// What tells the digest of a layer that is uncompressed.
pub(super) const UNCOMPRESSED: &str = "containerd.io/uncompressed";

fn diff_id(descriptor: &Descriptor) -> Result<Digest, String> {
    let of = |problem: &str| format!("layer {} {problem}", descriptor.digest);
    if LayerFormat::of(&descriptor.media_type).is_none() {
        let media_type = descriptor.media_type.escape_debug();
        return Err(of(&format!("is of the unknown type `{media_type}`")));
    }
    let id = descriptor.annotations.get(UNCOMPRESSED);
    let id = id.ok_or_else(|| of(&format!("has no annotation `{UNCOMPRESSED}`")))?;
    id.parse()
        .map_err(|err| of(&format!("`{UNCOMPRESSED}`: {err}")))
}

/// Returns what a number stands for.
pub(super) fn index(number: i64, count: usize, what: &str) -> Result<usize, String> {
    let index = usize::try_from(number).ok().filter(|index| *index < count);
    index.ok_or_else(|| format!("there is no {what} {number}, of {count}"))
}

fn entry(record: Record, layers: usize, records: usize) -> Result<Entry, String> {
    let link = |Input { selector, link }| {
        Ok(Link {
            selector,
            record: index(link, records, "record")?,
        })
    };
    let mut inputs = Vec::with_capacity(record.inputs.len());
    for alternatives in record.inputs {
        if alternatives.is_empty() {
            return Err("one of its inputs has no alternative".into());
        }
        let links: Result<Vec<Link>, String> = alternatives.into_iter().map(link).collect();
        inputs.push(links?);
    }
    let mut outcomes = Vec::new();
    for prefix in record.prefixes {
        let top = index(prefix.layer, layers, "layer")?;
        outcomes.push((time(prefix.created_at), Outcome::Prefix(top)));
    }
    for chain in record.chains {
        let numbers = chain.layers.iter();
        let numbers = numbers.map(|&number| index(number, layers, "layer"));
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        outcomes.push((time(chain.created_at), Outcome::Chain(numbers)));
    }
    outcomes.sort_by_key(|(time, _)| Reverse(*time));
    // Such a name is found by nobody; others may link to it.
    let is_random = record.digest.starts_with(RANDOM);
    Ok(Entry {
        digest: if is_random {
            String::new()
        } else {
            record.digest
        },
        inputs,
        outcomes: outcomes.into_iter().map(|(_, outcome)| outcome).collect(),
    })
}

/// What tells no time is older than what does.
fn time(text: Option<String>) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(&text?).ok()
}

fn refuse_parent_loops(layers: &[Layer]) -> Result<(), String> {
    let below: Vec<Vec<usize>> = layers
        .iter()
        .map(|layer| layer.parent.into_iter().collect())
        .collect();
    match in_a_loop(&below) {
        Some(number) => Err(format!("layer {number} is below itself")),
        None => Ok(()),
    }
}

fn refuse_link_loops(entries: &[Entry]) -> Result<(), String> {
    let links = |entry: &Entry| {
        entry
            .inputs
            .iter()
            .flatten()
            .map(|link| link.record)
            .collect()
    };
    let links: Vec<Vec<usize>> = entries.iter().map(links).collect();
    match in_a_loop(&links) {
        Some(number) => Err(format!("record {number} is made from itself")),
        None => Ok(()),
    }
}

/// Returns something that leads to itself. Without recursion: whoever wrote the graph decides how deep it is.
fn in_a_loop(edges: &[Vec<usize>]) -> Option<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; edges.len()];
    for start in 0..edges.len() {
        if states[start] != State::New {
            continue;
        }
        states[start] = State::Open;
        let mut way = vec![(start, edges[start].iter())];
        while let Some((here, rest)) = way.last_mut() {
            match rest.next() {
                None => {
                    states[*here] = State::Done;
                    way.pop();
                }
                Some(&next) => match states[next] {
                    State::Open => return Some(next),
                    State::Done => {}
                    State::New => {
                        states[next] = State::Open;
                        way.push((next, edges[next].iter()));
                    }
                },
            }
        }
    }
    None
}

/// Returns the layers of a table, each with the descriptor of its blob.
pub(super) fn table(entries: &[TableEntry], blobs: &[Descriptor]) -> Result<Vec<Layer>, String> {
    let by_digest: std::collections::HashMap<Digest, &Descriptor> =
        blobs.iter().map(|blob| (blob.digest, blob)).collect();
    let layer = |entry: &TableEntry| {
        let parent = match entry.parent {
            -1 => None,
            number => Some(index(number, entries.len(), "layer")?),
        };
        Ok(Layer::new(
            entry,
            parent,
            by_digest.get(&entry.blob).copied(),
        ))
    };
    entries.iter().map(layer).collect()
}

/// Says of something too large for BuildKit's reader how large it is.
pub(super) fn check_size(what: &str, size: u64) -> Result<(), String> {
    if size <= MAX_EXPORTED {
        return Ok(());
    }
    Err(format!(
        "{what} has {size} bytes, more than the {MAX_EXPORTED} that BuildKit reads"
    ))
}

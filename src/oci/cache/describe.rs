//! The records of an image whose layers are fetches, so that builds find them.
//!
//! A build asks for `ADD` by the names of the operations that it becomes. With `--link` these are a file operation on
//! nothing, and merges of everything so far with the next one; merges must be there, too, or BuildKit fetches from upstream
//! to find out what is merged. Without, it is a file operation on everything so far.

use super::model::{Chain, Input, Prefix, Record};
use crate::{
    digest::Sha256Digest,
    oci::{
        Digest,
        key::{self, Add, Base, Generation},
    },
};

/// An image whose layers are to be found.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// What is below the fetches, if builds begin with it and not with `scratch`.
    pub base: Option<BaseImage>,
    /// The fetches, in the order of the instructions.
    pub fetches: Vec<Fetched>,
    /// When it was made, as RFC 3339 has it.
    pub created: Option<String>,
    /// For which instructions.
    pub instructions: Instructions,
}

/// The lowest layers.
#[derive(Clone, Debug, Default)]
pub struct BaseImage {
    /// What it is called: by its digest, by its layers.
    pub records: Vec<Digest>,
    /// How many layers it has.
    pub layers: usize,
}

/// A fetch.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// How `ADD` would have made it, if it could have.
    pub add: Option<Added>,
    /// What this program calls it.
    pub own: Option<Digest>,
    /// The numbers of its layers.
    pub layers: Vec<usize>,
}

/// What `ADD` says of a fetch.
#[derive(Clone, Debug)]
pub struct Added {
    /// The last segment of the URL.
    pub file_name: String,
    /// What it downloads.
    pub sha256: Sha256Digest,
    /// Where it goes: absolute, with a slash at the end of a directory.
    pub dest: String,
    /// Whether it is unpacked.
    pub unpack: bool,
}

/// The instructions that find layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instructions {
    /// `ADD --link` and `ADD`.
    #[default]
    Both,
    /// `ADD --link`.
    Link,
    /// `ADD`.
    Plain,
}

/// Returns the records of an image.
#[must_use]
pub fn records(described: &Described) -> Vec<Record> {
    let mut writer = Writer {
        records: Vec::new(),
        created: described.created.clone(),
    };
    let base = described.base.as_ref();
    let below = base.map(|base| writer.base(base));
    let added: Vec<(&Added, &[usize])> = described
        .fetches
        .iter()
        .filter_map(|fetch| Some((fetch.add.as_ref()?, &fetch.layers[..])))
        .collect();
    let sources: Vec<usize> = added.iter().map(|(add, _)| writer.source(add)).collect();
    if described.instructions != Instructions::Plain || below.is_none() {
        writer.linked(&added, &sources, below.as_ref(), described.instructions);
    }
    if described.instructions != Instructions::Link {
        writer.plain(&added, &sources, below.as_ref());
    }
    for fetch in &described.fetches {
        if let Some(own) = fetch.own {
            writer.push(own, Vec::new(), Some(&fetch.layers));
        }
    }
    writer.records
}

/// Something that instructions are executed on top of.
#[derive(Clone)]
struct State {
    /// Records of it, which are alternatives.
    records: Vec<usize>,
    layers: Vec<usize>,
}

struct Writer {
    records: Vec<Record>,
    created: Option<String>,
}

impl Writer {
    /// Appends a record and returns its number.
    fn push(&mut self, digest: Digest, inputs: Vec<Vec<Input>>, layers: Option<&[usize]>) -> usize {
        let mut record = Record {
            digest: digest.to_string(),
            inputs,
            ..Record::default()
        };
        let created_at = self.created.clone();
        if let Some(layers) = layers {
            // Of all layers of an image up to one, only that is named: else the size grows with the square.
            if layers.iter().copied().eq(0..layers.len()) {
                record.prefixes.push(Prefix {
                    layer: number(layers.len()) - 1,
                    created_at,
                });
            } else {
                record.chains.push(Chain {
                    layers: layers.iter().copied().map(number).collect(),
                    created_at,
                });
            }
        }
        self.records.push(record);
        self.records.len() - 1
    }

    fn base(&mut self, base: &BaseImage) -> State {
        let records = base.records.iter();
        State {
            records: records
                .map(|&digest| self.push(digest, Vec::new(), None))
                .collect(),
            layers: (0..base.layers).collect(),
        }
    }

    fn source(&mut self, add: &Added) -> usize {
        let digest = key::http_source(&add.file_name, &add.sha256);
        self.push(digest, Vec::new(), None)
    }

    /// Appends file operations on nothing, and merges of them.
    fn linked(
        &mut self,
        added: &[(&Added, &[usize])],
        sources: &[usize],
        below: Option<&State>,
        instructions: Instructions,
    ) {
        let mut operations = Vec::new();
        for ((add, layers), &source) in added.iter().zip(sources) {
            let inputs = vec![vec![selected(add, source)]];
            let record = self.push(key::add(&add.key(), Base::Scratch), inputs, Some(layers));
            operations.push(State {
                records: vec![record],
                layers: layers.to_vec(),
            });
            if instructions == Instructions::Plain {
                // Only the first instruction has nothing below it then.
                return;
            }
        }
        let mut rest = operations.into_iter();
        let Some(first) = below.cloned().or_else(|| rest.next()) else {
            return;
        };
        let mut states = [first.clone(), first];
        for operation in rest {
            let generations = [Generation::New, Generation::Old];
            for (state, generation) in states.iter_mut().zip(generations) {
                state.layers.extend(&operation.layers);
                let inputs = vec![links(&state.records), links(&operation.records)];
                let record = self.push(key::merge(generation), inputs, Some(&state.layers));
                state.records = vec![record];
            }
        }
    }

    /// Appends file operations on top of each other. The first one on nothing is there already.
    fn plain(&mut self, added: &[(&Added, &[usize])], sources: &[usize], below: Option<&State>) {
        let mut rest = added.iter().zip(sources);
        let mut state = match below {
            Some(below) => below.clone(),
            None => match rest.next() {
                Some(((_, layers), _)) => State {
                    // Behind the sources.
                    records: vec![sources.len()],
                    layers: layers.to_vec(),
                },
                None => return,
            },
        };
        for ((add, layers), &source) in rest {
            // What is there already is not put on top once more.
            let new: Vec<usize> = layers
                .iter()
                .copied()
                .filter(|layer| !state.layers.contains(layer))
                .collect();
            state.layers.extend(new);
            let inputs = vec![links(&state.records), vec![selected(add, source)]];
            let record = self.push(
                key::add(&add.key(), Base::State),
                inputs,
                Some(&state.layers),
            );
            state.records = vec![record];
        }
    }
}

impl Added {
    /// Returns what its record depends on.
    #[must_use]
    pub fn key(&self) -> Add<'_> {
        Add {
            file_name: &self.file_name,
            dest: &self.dest,
            unpack: self.unpack,
        }
    }
}

fn selected(add: &Added, source: usize) -> Input {
    Input {
        selector: key::selector(&format!("/{}", add.file_name)).to_string(),
        link: number(source),
    }
}

fn links(records: &[usize]) -> Vec<Input> {
    let link = |&record| Input {
        selector: String::new(),
        link: number(record),
    };
    records.iter().map(link).collect()
}

fn number(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

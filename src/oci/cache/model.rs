//! The JSON of a cache's description. Fields are in the order in which BuildKit writes them.

use crate::oci::Digest;
use serde::{Deserialize, Serialize};

/// Bytes of an exported configuration and of its manifest that BuildKit reads, at most.
pub const MAX_EXPORTED: u64 = 1 << 20;

/// An exported configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Config {
    /// Layers, which results refer to by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<TableEntry>,
    /// Records, which links refer to by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Record>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TableEntry {
    /// The digest of its blob.
    pub blob: Digest,
    /// The layer below it, -1 if there is none. BuildKit leaves out a 0.
    #[serde(default)]
    pub parent: i64,
}

/// What is known of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// Results that are a layer with everything below it.
    #[serde(
        default,
        rename = "layers",
        deserialize_with = "null_is_none",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub prefixes: Vec<Prefix>,
    /// Results that are certain layers.
    #[serde(
        default,
        deserialize_with = "null_is_none",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub chains: Vec<Chain>,
    /// The name of the operation. Some are no digests.
    pub digest: String,
    /// What the operation was done to: for each of its inputs, alternatives.
    #[serde(
        default,
        deserialize_with = "null_is_none",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub inputs: Vec<Vec<Input>>,
}

/// What an operation was done to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Input {
    /// Which part of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// The number of the record.
    #[serde(default)]
    pub link: i64,
}

/// A layer with everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prefix {
    /// The number of the layer.
    #[serde(default)]
    pub layer: i64,
    /// When, as RFC 3339 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// Certain layers on top of each other, whatever is below them elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// The numbers of the layers, lowest first.
    #[serde(default, deserialize_with = "null_is_none")]
    pub layers: Vec<i64>,
    /// When, as RFC 3339 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// Go writes `null` for a list that nobody has made.
fn null_is_none<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

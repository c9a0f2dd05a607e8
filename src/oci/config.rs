//! [`ImageConfig`]: the configuration of an image, with everything in it that nobody here knows.

use super::{Digest, Platform};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The field that holds an inline cache.
const INLINE_CACHE: &str = "moby.buildkit.cache.v0";

/// The configuration of an image. It is JSON with some fields that are read and written here; all others stay.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct ImageConfig(pub Map<String, Value>);

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct HistoryEntry {
    /// When, as RFC 3339 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Returns the configuration of an image without layers.
    #[must_use]
    pub fn new(os: &str, architecture: &str) -> Self {
        let mut config = Map::new();
        config.insert("architecture".into(), architecture.into());
        config.insert("config".into(), Value::Object(Map::new()));
        config.insert("os".into(), os.into());
        Self(config)
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// [`Error::Damaged`] for what is no JSON object.
    pub fn parse(json: &[u8], place: &str) -> Result<Self> {
        serde_json::from_slice(json).map_err(|err| Error::Damaged {
            place: place.to_owned(),
            problem: format!("is no configuration of an image: {err}"),
        })
    }

    /// Returns the bytes of the configuration, the same for the same content.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }

    /// Returns a text field such as `os`.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    /// Returns what the image runs on, if it says that.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        Some(Platform {
            architecture: self.text("architecture")?.to_owned(),
            os: self.text("os")?.to_owned(),
            variant: self.text("variant").map(str::to_owned),
            os_version: self.text("os.version").map(str::to_owned),
            ..Platform::default()
        })
    }

    /// Returns the digests of the uncompressed layers, lowest first.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn diff_ids(&self) -> Result<Vec<Digest>, String> {
        let ids = self
            .0
            .get("rootfs")
            .and_then(|rootfs| rootfs.get("diff_ids"));
        match ids {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(ids) => Vec::deserialize(ids).map_err(|err| format!("rootfs.diff_ids: {err}")),
        }
    }

    /// Sets the digests of the uncompressed layers.
    pub fn set_diff_ids(&mut self, ids: &[Digest]) {
        let ids: Vec<Value> = ids.iter().map(|id| id.to_string().into()).collect();
        let rootfs = serde_json::json!({"diff_ids": ids, "type": "layers"});
        self.0.insert("rootfs".into(), rootfs);
    }

    /// Returns how the image was made.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn history(&self) -> Result<Vec<HistoryEntry>, String> {
        match self.0.get("history") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(history) => Vec::deserialize(history).map_err(|err| format!("history: {err}")),
        }
    }

    /// Adds a step to how the image was made.
    pub fn push_history(&mut self, entry: &HistoryEntry) {
        let history = self.0.entry("history").or_insert(Value::Null);
        if !history.is_array() {
            *history = Value::Array(Vec::new());
        }
        if let (Value::Array(history), Ok(entry)) = (history, serde_json::to_value(entry)) {
            history.push(entry);
        }
    }

    /// Returns the inline cache as it is written: base64.
    #[must_use]
    pub fn inline_cache(&self) -> Option<&str> {
        self.text(INLINE_CACHE)
    }

    /// Sets or removes the inline cache.
    pub fn set_inline_cache(&mut self, base64: Option<String>) {
        match base64 {
            Some(base64) => self.0.insert(INLINE_CACHE.into(), base64.into()),
            None => self.0.remove(INLINE_CACHE),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{HistoryEntry, ImageConfig};
    use crate::oci::Digest;

    #[test]
    fn what_is_not_known_stays() {
        let json = br#"{"os":"linux","x":{"b":[1,2],"a":null},"rootfs":{"type":"layers"}}"#;
        let mut config = ImageConfig::parse(json, "x").unwrap();
        assert_eq!(config.diff_ids().unwrap(), []);
        config.set_diff_ids(&[Digest::of(b"")]);
        config.push_history(&HistoryEntry::default());
        config.set_inline_cache(Some("W10=".into()));
        let again = ImageConfig::parse(&config.to_json(), "x").unwrap();
        assert_eq!(again, config);
        assert_eq!(again.diff_ids().unwrap(), [Digest::of(b"")]);
        assert_eq!(again.history().unwrap().len(), 1);
        assert_eq!(again.inline_cache(), Some("W10="));
        assert!(
            String::from_utf8(again.to_json())
                .unwrap()
                .contains(r#""x":{"a":null,"b":[1,2]}"#)
        );
    }

    #[test]
    fn nonsense_is_told_and_no_panic() {
        assert!(ImageConfig::parse(b"[]", "x").is_err());
        for json in [
            &br#"{"rootfs":{"diff_ids":3},"history":3}"#[..],
            br#"{"rootfs":{"diff_ids":["x"]},"history":[3]}"#,
        ] {
            let config = ImageConfig::parse(json, "x").unwrap();
            assert!(config.diff_ids().is_err() && config.history().is_err());
            assert_eq!(config.inline_cache(), None);
        }
    }
}

//! What is in an image, for people who ask why a cache is or is not used.

use super::{
    Blobs, Descriptor, Digest, HistoryEntry, ImageConfig, MAX_CONFIG, MAX_MANIFEST, Manifest,
    Platform,
    cache::{self, Cache, Document, Found, Outcome},
    media_type,
};
use crate::error::{Error, Result, chain};
use serde::Serialize;

/// Layers of all results of a cache that are shown, at most. A few bytes of a description can stand for hundreds.
const MAX_SHOWN: usize = 1_000_000;

/// All there is to know of what a tag leads to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspected {
    /// What the tag leads to.
    pub digest: Digest,
    /// What that is.
    pub media_type: String,
    /// Images, of which an index can have several.
    pub images: Vec<Image>,
    /// Caches.
    pub caches: Vec<Described>,
}

/// An image, or the manifest of a cache.
#[derive(Debug, Serialize)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: Digest,
    /// What it runs on, if its index or configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A layer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Its blob.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// The digest of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
    /// By which command it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// A cache.
#[derive(Debug, Default, Serialize)]
pub struct Described {
    /// The blobs of its layers, by their numbers.
    pub layers: Vec<Digest>,
    /// What can be found in it.
    pub records: Vec<Record>,
    /// Why nothing of it can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A record of a cache.
#[derive(Debug, Serialize)]
pub struct Record {
    /// The name of the operation; empty for what nobody can find.
    pub digest: String,
    /// The numbers of the records that it was done to: for each input, alternatives.
    pub inputs: Vec<Vec<usize>>,
    /// What became of it, the newest first.
    pub results: Vec<Usable>,
}

/// A result.
#[derive(Debug, Serialize)]
pub struct Usable {
    /// The numbers of its layers, lowest first.
    pub layers: Vec<usize>,
    /// Why it cannot be used, or is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Looks at what a tag leads to.
///
/// # Errors
/// Those of reading it; what is wrong with images and caches is in the result.
pub async fn inspect(blobs: &dyn Blobs) -> Result<Inspected> {
    let top = blobs.top().await?;
    let json = blobs.read(&top, MAX_MANIFEST).await?;
    let document = Document::parse(&json).map_err(|problem| Error::Damaged {
        place: format!("blob {}", top.digest),
        problem,
    })?;
    let images = match &document {
        Document::Manifest(manifest) => vec![image(&top, manifest, blobs).await],
        Document::Index(index) => {
            let mut images = Vec::new();
            let is_manifest = |entry: &&Descriptor| media_type::is_manifest(&entry.media_type);
            for entry in index.manifests.iter().filter(is_manifest) {
                images.push(of_index(entry, blobs).await);
            }
            images
        }
    };
    let caches = cache::read(&top, blobs).await;
    Ok(Inspected {
        digest: top.digest,
        media_type: top.media_type,
        images,
        caches: caches.into_iter().map(described).collect(),
    })
}

async fn of_index(entry: &Descriptor, blobs: &dyn Blobs) -> Image {
    let read = blobs.read(entry, MAX_MANIFEST).await;
    let parsed = read
        .map_err(|err| chain(&err))
        .and_then(|json| Document::parse(&json));
    let problem = match parsed {
        Ok(Document::Manifest(manifest)) => return image(entry, &manifest, blobs).await,
        Ok(Document::Index(_)) => "an index says it is a manifest".to_owned(),
        Err(problem) => problem,
    };
    Image {
        digest: entry.digest,
        platform: entry.platform.clone(),
        layers: Vec::new(),
        problem: Some(problem),
    }
}

async fn image(entry: &Descriptor, manifest: &Manifest, blobs: &dyn Blobs) -> Image {
    let (mut ids, mut steps, mut platform, mut problem) = (Vec::new(), Vec::new(), None, None);
    if media_type::is_config(&manifest.config.media_type) {
        match told(&manifest.config, blobs).await {
            Ok(told) => (ids, steps, platform) = told,
            Err(err) => problem = Some(err),
        }
    }
    let layers = manifest
        .layers
        .iter()
        .enumerate()
        .map(|(number, layer)| Layer {
            descriptor: layer.clone(),
            diff_id: ids.get(number).copied(),
            created_by: steps
                .get(number)
                .and_then(|step: &HistoryEntry| step.created_by.clone()),
        });
    Image {
        digest: entry.digest,
        platform: entry.platform.clone().or(platform),
        layers: layers.collect(),
        problem,
    }
}

/// What a configuration tells: digests of content, steps that made layers, what the image runs on.
type Told = (Vec<Digest>, Vec<HistoryEntry>, Option<Platform>);

async fn told(descriptor: &Descriptor, blobs: &dyn Blobs) -> Result<Told, String> {
    let json = blobs.read(descriptor, MAX_CONFIG).await;
    let json = json.map_err(|err| chain(&err))?;
    let config = ImageConfig::parse(&json, "the configuration").map_err(|err| chain(&err))?;
    let mut history = config.history()?;
    history.retain(|step| !step.empty_layer);
    let platform = config.platform();
    Ok((config.diff_ids()?, history, platform))
}

fn described(found: Found) -> Described {
    let cache = match found {
        Ok(cache) => cache,
        Err(problem) => {
            return Described {
                problem: Some(problem),
                ..Described::default()
            };
        }
    };
    let mut left = MAX_SHOWN;
    let mut shown = |outcome| usable(&cache, outcome, &mut left);
    let records = cache.entries.iter().map(|entry| Record {
        digest: entry.digest.clone(),
        inputs: entry
            .inputs
            .iter()
            .map(|links| links.iter().map(|link| link.record).collect())
            .collect(),
        results: entry.outcomes.iter().map(&mut shown).collect(),
    });
    Described {
        records: records.collect(),
        layers: cache.layers.iter().map(|layer| layer.blob).collect(),
        problem: None,
    }
}

/// Returns the layers of a result, if not more than `left` are shown already.
fn usable(cache: &Cache, outcome: &Outcome, left: &mut usize) -> Usable {
    let shown = cache.layers_of(outcome).and_then(|layers| {
        let rest = left.checked_sub(layers.len());
        *left = rest.ok_or("it is not shown: the results of the cache have too many layers")?;
        Ok(layers)
    });
    match shown {
        Ok(layers) => Usable {
            layers,
            problem: None,
        },
        Err(problem) => Usable {
            layers: Vec::new(),
            problem: Some(problem),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SHOWN, described};
    use crate::oci::{
        Digest,
        cache::{Cache, Entry, Layer, Outcome},
    };

    #[test]
    fn what_is_shown_does_not_grow_with_the_square() {
        let layers = (0..1000).map(|number: usize| Layer {
            blob: Digest::of(b""),
            parent: number.checked_sub(1),
            content: Ok((crate::oci::Descriptor::of("", b""), Digest::of(b""))),
        });
        let cache = Cache {
            layers: layers.collect(),
            entries: vec![Entry {
                digest: String::new(),
                inputs: Vec::new(),
                outcomes: vec![Outcome::Prefix(999); 2000],
            }],
        };
        let shown = described(Ok(cache));
        let results = &shown.records[0].results;
        let fit = MAX_SHOWN / 1000;
        assert_eq!(results[fit - 1].layers.len(), 1000);
        assert_eq!(results[fit - 1].problem, None);
        let problem = results[fit].problem.as_deref().unwrap();
        assert!(problem.contains("too many layers"), "{problem}");
        let count: usize = results.iter().map(|result| result.layers.len()).sum();
        assert_eq!(count, MAX_SHOWN);
        assert_eq!(shown.layers.len(), 1000);
    }
}

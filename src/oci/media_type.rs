//! What blobs are called, by OCI and by Docker.

/// An OCI index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The configuration of an OCI image.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An uncompressed OCI layer; compressed ones have a suffix.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer compressed by gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer compressed by Zstandard.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's configuration of an image.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's layer, uncompressed.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's layer.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// A description of a `BuildKit` cache.
pub const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerFormat {
    /// Not at all.
    Tar,
    /// By gzip.
    Gzip,
    /// By Zstandard.
    Zstd,
}

impl LayerFormat {
    /// Returns how a layer of a media type is compressed; `None` for what is no layer.
    #[must_use]
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            LAYER | DOCKER_LAYER => Some(Self::Tar),
            LAYER_GZIP | DOCKER_LAYER_GZIP => Some(Self::Gzip),
            LAYER_ZSTD => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Returns the media type of such a layer.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Tar => LAYER,
            Self::Gzip => LAYER_GZIP,
            Self::Zstd => LAYER_ZSTD,
        }
    }
}

/// Returns whether a media type is that of an index.
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_LIST)
}

/// Returns whether a media type is that of a manifest.
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, MANIFEST | DOCKER_MANIFEST)
}

/// Returns whether a media type is that of an image's configuration.
#[must_use]
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, CONFIG | DOCKER_CONFIG)
}

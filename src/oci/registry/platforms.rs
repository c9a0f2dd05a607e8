//! [`Platforms`]: which of several images is wanted.

use crate::oci::Platform;
use std::{fmt, str::FromStr};

/// Which of the images of an index to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platforms {
    /// All, with the index itself.
    All,
    /// The first that fits.
    One(Platform),
}

/// A text names no platform.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no platform: expected OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64, or `all`"
)]
pub struct ParsePlatformsError(String);

impl Default for Platforms {
    /// What this program runs on.
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self::One(Platform {
            os: std::env::consts::OS.to_owned(),
            architecture: architecture.to_owned(),
            ..Platform::default()
        })
    }
}

impl FromStr for Platforms {
    type Err = ParsePlatformsError;

    fn from_str(text: &str) -> Result<Self, ParsePlatformsError> {
        let parts: Vec<&str> = text.split('/').collect();
        let of = |os: &str, architecture: &str, variant: Option<&str>| {
            Self::One(Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.map(str::to_owned),
                ..Platform::default()
            })
        };
        match parts[..] {
            ["all"] => Ok(Self::All),
            _ if parts.contains(&"") => Err(ParsePlatformsError(text.escape_debug().to_string())),
            [os, architecture] => Ok(of(os, architecture, None)),
            [os, architecture, variant] => Ok(of(os, architecture, Some(variant))),
            _ => Err(ParsePlatformsError(text.escape_debug().to_string())),
        }
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::One(wanted) => {
                write!(f, "{}/{}", wanted.os, wanted.architecture)?;
                let mut variant = wanted.variant.iter();
                variant.try_for_each(|variant| write!(f, "/{variant}"))
            }
        }
    }
}

impl Platforms {
    /// Returns whether an image for a platform is wanted.
    pub(super) fn allow(&self, platform: &Platform) -> bool {
        match self {
            Self::All => true,
            Self::One(wanted) => platform.fits(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Platforms;
    use crate::oci::Platform;

    #[test]
    fn platforms_are_read_and_shown() {
        for text in ["all", "linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platforms>().unwrap().to_string(), text);
        }
        for text in ["", "linux", "/amd64", "linux/", "linux/a/b/c", "All"] {
            let err = text.parse::<Platforms>().unwrap_err().to_string();
            assert!(
                err.starts_with(&format!("`{text}` is no platform")),
                "{err}"
            );
        }
        let arm = |variant: Option<&str>| Platform {
            architecture: "arm".into(),
            os: "linux".into(),
            variant: variant.map(str::to_owned),
            os_version: None,
            ..Platform::default()
        };
        let any: Platforms = "linux/arm".parse().unwrap();
        let seven: Platforms = "linux/arm/v7".parse().unwrap();
        assert!(any.allow(&arm(None)) && any.allow(&arm(Some("v6"))));
        assert!(seven.allow(&arm(Some("v7"))) && !seven.allow(&arm(Some("v6"))));
        assert!(!Platforms::default().allow(&arm(None)) || cfg!(target_arch = "arm"));
    }
}

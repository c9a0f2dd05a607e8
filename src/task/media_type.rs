//! The media type of an artifact, by its name: what browsers show is told apart from what they save.

/// Types by extension. A compressed log is what it is stored as, since nothing undoes the compression on the way.
const TYPES: [(&str, &str); 16] = [
    ("bz2", "application/x-bzip2"),
    ("css", "text/css"),
    ("gz", "application/gzip"),
    ("html", "text/html"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("jsonl", "application/jsonl"),
    ("log", "text/plain"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("txt", "text/plain"),
    ("xml", "text/xml"),
    ("xz", "application/x-xz"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// Returns the media type for a file or an artifact of this name.
#[must_use]
pub fn media_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let known = TYPES.iter().find(|(known, _)| *known == extension);
    known.map_or("application/octet-stream", |(_, media_type)| media_type)
}

#[cfg(test)]
mod tests {
    use super::media_type;

    #[test]
    fn the_last_extension_decides() {
        for (name, expected) in [
            ("public/build/x.tar.zst", "application/zstd"),
            ("public/logs/live.log", "text/plain"),
            ("public/log", "application/octet-stream"),
            ("public.json/x", "application/octet-stream"),
            ("public/x.json", "application/json"),
        ] {
            assert_eq!(media_type(name), expected, "{name}");
        }
    }
}

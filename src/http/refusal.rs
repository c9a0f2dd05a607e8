//! Answers that are neither content nor a redirect, as errors in the words of whoever answered.

use crate::{error::Error, http::encoding, safe_url::SafeUrl};
use reqwest::{
    Response,
    header::{HeaderMap, RETRY_AFTER},
};
use std::time::{Duration, SystemTime};
use url::Url;

/// How much of an error's body is read for its message, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// How long a message is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Turns an answer into an error with the human part of its body. `handed_out` is whether another answer had named `url`.
pub(super) async fn refusal(url: &Url, response: Response, handed_out: bool) -> Error {
    let status = response.status();
    let retry_after = retry_after(response.headers(), SystemTime::now());
    let answer = tokio::time::timeout(PATIENCE, read_some(response))
        .await
        .unwrap_or_default();
    Error::Status {
        url: SafeUrl::from(url),
        status: status.to_string(),
        code: status.as_u16(),
        answer: human_text(&answer).map(|text| without_query(&text, url)),
        retry_after,
        handed_out,
    }
}

/// Reads the beginning of a body; what cannot be read is left out.
async fn read_some(mut response: Response) -> Vec<u8> {
    let encoded = encoding::is_gzip(response.headers());
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(MAX_ANSWER);
    if encoded {
        body = encoding::gunzip_some(&body, MAX_ANSWER as u64);
    }
    body
}

/// Returns what an error's body says to people: `message` and `reason` of the Taskcluster API's JSON (before its
/// `---` separator), code and message of a registry's JSON or of an S3 storage's XML, or the first line of other text
/// that is not HTML.
fn human_text(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct ApiError {
        message: Option<String>,
        reason: Option<String>,
        #[serde(default)]
        errors: Vec<RegistryError>,
    }
    #[derive(serde::Deserialize)]
    struct RegistryError {
        code: Option<String>,
        message: Option<String>,
    }
    let text = String::from_utf8_lossy(body);
    let text = match serde_json::from_slice::<ApiError>(body) {
        Ok(ApiError {
            message,
            reason,
            errors,
        }) => {
            let message = message
                .as_deref()
                .map(|text| text.split("\n---").next().unwrap_or_default().trim());
            let first = errors.first();
            [
                reason.as_deref(),
                message,
                first.and_then(|error| error.code.as_deref()),
                first.and_then(|error| error.message.as_deref()),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(": ")
        }
        Err(_) if text.trim_start().starts_with('<') => storage_text(&text).unwrap_or_default(),
        Err(_) => text
            .trim()
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect(),
    };
    let shown = shown(&text.trim().replace('\n', " "));
    (!shown.is_empty()).then_some(shown)
}

/// Returns code and message of the error of an S3 storage. The rest of it may repeat what was signed.
fn storage_text(xml: &str) -> Option<String> {
    let (_, error) = xml.split_once("<Error>")?;
    let element = |start, end| Some(error.split_once(start)?.1.split_once(end)?.0);
    let code = element("<Code>", "</Code>")?;
    Some(match element("<Message>", "</Message>") {
        Some(message) => format!("{code}: {message}"),
        None => code.to_owned(),
    })
}

/// Makes a server's words fit to be shown: control characters are escaped, quotes are not.
pub(super) fn shown(words: &str) -> String {
    words
        .escape_debug()
        .to_string()
        .replace("\\\"", "\"")
        .replace("\\'", "'")
}

/// Returns `text` without what it repeats of the URL's query, which may hold a signature.
fn without_query(text: &str, url: &Url) -> String {
    // Shorter values are no secrets, and may be words.
    const SECRET: usize = 8;
    let query = url.query().unwrap_or_default();
    let values = query.split('&').filter_map(|pair| pair.split_once('='));
    let values = values.map(|(_, value)| value);
    std::iter::once(query)
        .chain(values)
        .filter(|part| part.len() >= SECRET)
        .fold(text.to_owned(), |text, part| text.replace(part, "…"))
}

/// Reads `Retry-After` in either form: seconds or an HTTP date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(
        httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::{human_text, retry_after, without_query};
    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
    use std::time::{Duration, SystemTime};
    use url::Url;

    #[test]
    fn the_human_part_of_an_error_is_found_and_escaped() {
        let api = br#"{"code":"ResourceNotFound","message":"Artifact not found\n\n---\n\n* method: x","requestInfo":{}}"#;
        assert_eq!(human_text(api).unwrap(), "Artifact not found");
        let error = br#"{"reason":"file-missing-on-worker","message":"no \u001b[31mfile"}"#;
        assert_eq!(
            human_text(error).unwrap(),
            "file-missing-on-worker: no \\u{1b}[31mfile"
        );
        let registry = br#"{"errors":[{"code":"DENIED","message":"not yours","detail":[1]},{}]}"#;
        assert_eq!(human_text(registry).unwrap(), "DENIED: not yours");
        let storage = br#"<?xml version="1.0"?>
<Error><Code>RequestTimeout</Code><Message>Idle connections will be closed.</Message><RequestId>7</RequestId></Error>"#;
        assert_eq!(
            human_text(storage).unwrap(),
            "RequestTimeout: Idle connections will be closed."
        );
        assert_eq!(human_text(b"<html>Bad Gateway</html>"), None);
        assert_eq!(
            human_text(b"plain \"words\"\nmore").unwrap(),
            "plain \"words\""
        );
        assert_eq!(human_text(b""), None);
    }

    #[test]
    fn what_a_server_repeats_of_a_query_is_not_shown() {
        let url = Url::parse("http://h/x?list=a&sig=0123456789%2F").unwrap();
        let text = "no /x?list=a&sig=0123456789%2F at a: sig 0123456789%2F is bad";
        assert_eq!(without_query(text, &url), "no /x?… at a: sig … is bad");
        let url = Url::parse("http://h/x").unwrap();
        assert_eq!(without_query("no /x", &url), "no /x");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let read = |value: &str| {
            retry_after(
                &HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]),
                now,
            )
        };
        assert_eq!(read("17"), Some(Duration::from_secs(17)));
        assert_eq!(
            read("Tue, 14 Nov 2023 22:13:50 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(read("Tue, 14 Nov 2023 22:13:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}

//! TLS: which certificates are trusted, and why one is refused, in words.

use crate::error::{Error, Result};
use rustls::{CertificateError, ClientConfig, RootCertStore, pki_types::UnixTime};
use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Returns a configuration that trusts the system's certificates, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
pub(super) fn client_config() -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // Certificates that cannot be read are missing; a server that needs them fails with the reason.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|err| Error::usage(format!("cannot set up TLS: {err}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(config)
}

/// Why a server's certificate is refused. Asking again does not change it.
pub(super) struct Refusal {
    /// Goes after "its certificate".
    pub(super) problem: String,
    /// What can be done.
    pub(super) hint: Option<String>,
}

/// Returns why `err` is a refusal, if it is one.
pub(super) fn refusal(err: &rustls::Error) -> Option<Refusal> {
    let certificate = match err {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::NoCertificatesPresented => &CertificateError::BadEncoding,
        _ => return None,
    };
    let clock = Some(
        "check the clock of this machine; if it is right, the server needs a new certificate"
            .to_owned(),
    );
    let (problem, hint) = match certificate {
        CertificateError::UnknownIssuer => (
            "is signed by nobody trusted here".to_owned(),
            Some(trust_hint()),
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
            let problem = format!(
                "is for {}, and not for {}",
                names.join(", "),
                expected.to_str()
            );
            (problem, None)
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            (format!("expired on {}", date(*not_after)), clock)
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            (format!("is not valid before {}", date(*not_before)), clock)
        }
        other => (format!("is refused: {}", shown(other)), None),
    };
    Some(Refusal { problem, hint })
}

/// Returns how to make an authority trusted, and which certificates could not be read.
fn trust_hint() -> String {
    let mut hint = "put the certificate of the authority that signed it in a PEM file, and name that in SSL_CERT_FILE"
        .to_owned();
    // Read again: only here anybody wants to know, and a run that needs no TLS must not fail for them.
    for err in rustls_native_certs::load_native_certs().errors {
        hint.push_str("; trusted certificates could not be read: ");
        hint.push_str(&shown(err));
    }
    hint
}

/// Returns `mirror.example` for `DnsName("mirror.example")`, which is how a certificate's names are told.
fn plain_name(name: &str) -> String {
    let inside = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    shown(inside.unwrap_or(name).trim_matches('"'))
}

/// A server writes its certificate: control characters are escaped.
fn shown(text: impl Display) -> String {
    text.to_string().escape_debug().to_string()
}

fn date(time: UnixTime) -> String {
    let since = Duration::from_secs(time.as_secs());
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        // The crate formats years up to 9999.
        .filter(|_| time.as_secs() < 253_402_300_800)
        .map_or_else(
            || format!("{} s after 1970", time.as_secs()),
            httpdate::fmt_http_date,
        )
}

#[cfg(test)]
mod tests {
    use super::{date, plain_name};
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    #[test]
    fn names_are_shown_plain_and_escaped() {
        assert_eq!(plain_name("DnsName(\"a.example\")"), "a.example");
        assert_eq!(plain_name("IpAddress(::1)"), "::1");
        assert_eq!(plain_name("DnsName(\"\u{1b}[31m\")"), "\\u{1b}[31m");
        assert_eq!(plain_name("DirectoryName"), "DirectoryName");
    }

    #[test]
    fn dates_of_any_size_are_shown() {
        let at = |seconds| date(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!(at(1_580_515_200), "Sat, 01 Feb 2020 00:00:00 GMT");
        assert_eq!(at(u64::MAX), "18446744073709551615 s after 1970");
        assert_eq!(at(253_402_300_799), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}

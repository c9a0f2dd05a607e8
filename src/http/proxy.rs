//! Proxies, as the environment names them.
//!
//! The HTTP library reads the same variables, but takes a value that it cannot use for none and then connects directly,
//! lets an empty upper-case variable hide the lower-case one, and does not apply `no_proxy=*` to addresses.

use crate::error::{Error, Result};
use reqwest::{NoProxy, Proxy};
use std::env;
use url::Url;

/// Returns the proxies for `http` and `https` URLs. Lower-case variables win, as for curl and Python.
pub(super) fn from_environment() -> Result<Vec<Proxy>> {
    let exceptions = first(&["no_proxy", "NO_PROXY"]).map_or_else(String::new, |(_, value)| value);
    if exceptions
        .split(',')
        .any(|exception| exception.trim() == "*")
    {
        return Ok(Vec::new());
    }
    let exceptions = || NoProxy::from_string(&exceptions);
    // In a CGI script, a client's header `Proxy` becomes HTTP_PROXY.
    let http: &[_] = match env::var_os("REQUEST_METHOD") {
        Some(_) => &["http_proxy", "all_proxy", "ALL_PROXY"],
        None => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let https: &[_] = &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let mut proxies = Vec::new();
    for (variables, make) in [
        (http, Proxy::http::<Url> as fn(Url) -> _),
        (https, Proxy::https::<Url>),
    ] {
        if let Some((variable, value)) = first(variables) {
            let proxy = parse(&value).and_then(|url| make(url).ok());
            let proxy = proxy.ok_or_else(|| Error::Usage {
                // The value may hold a password.
                what: format!("{variable} is not the URL of a proxy"),
                hint: Some(format!(
                    "set {variable} to http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
                )),
            })?;
            proxies.push(proxy.no_proxy(exceptions()));
        }
    }
    Ok(proxies)
}

/// Returns the first of the variables that is not empty.
fn first<'a>(variables: &[&'a str]) -> Option<(&'a str, String)> {
    variables.iter().find_map(|&variable| {
        let value = env::var(variable).ok()?.trim().to_owned();
        (!value.is_empty()).then_some((variable, value))
    })
}

/// Parses a proxy's URL. `HOST:PORT` alone stands for `http://HOST:PORT`.
fn parse(value: &str) -> Option<Url> {
    let url = if value.contains("://") {
        Url::parse(value)
    } else {
        Url::parse(&format!("http://{value}"))
    };
    url.ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn proxies_may_lack_a_scheme() {
        let url = |value| parse(value).map(String::from);
        assert_eq!(url("proxy:3128").unwrap(), "http://proxy:3128/");
        assert_eq!(url("u:p@proxy").unwrap(), "http://u:p@proxy/");
        assert_eq!(url("https://[::1]:1").unwrap(), "https://[::1]:1/");
        for value in ["socks5://proxy", "ftp://proxy", "http://", "http://[::1"] {
            assert_eq!(url(value), None, "{value}");
        }
    }
}

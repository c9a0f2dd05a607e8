//! [`Challenge`]: how a registry wants to be asked, from its `WWW-Authenticate` headers (RFC 9110, section 11.6.1).

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With name and password.
    Basic,
    /// With a token from somebody else.
    Bearer {
        /// The URL of who gives tokens.
        realm: String,
        /// What they are to be for.
        service: Option<String>,
        /// What they are to allow, separated by spaces.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads the values of all headers. What is not known here is left out.
    pub(super) fn all<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Self> {
        headers.flat_map(of_header).collect()
    }
}

/// One of possibly several challenges of a header: a scheme, and parameters.
#[derive(Default)]
struct Raw {
    scheme: String,
    parameters: Vec<(String, String)>,
}

fn of_header(header: &str) -> Vec<Challenge> {
    let mut raw: Vec<Raw> = Vec::new();
    for item in items(header) {
        // `Bearer realm="x"` begins a challenge, `service="y"` goes on with it, and `Negotiate` is one of its own.
        let (scheme, parameter) = match item.split_once([' ', '\t']) {
            Some((scheme, rest)) if !scheme.contains('=') => (Some(scheme), rest.trim()),
            _ if item.contains('=') => (None, item.as_str()),
            _ => (Some(item.as_str()), ""),
        };
        if let Some(scheme) = scheme {
            raw.push(Raw {
                scheme: scheme.to_ascii_lowercase(),
                ..Raw::default()
            });
        }
        if let (Some(last), Some((name, value))) = (raw.last_mut(), parameter.split_once('=')) {
            let name = name.trim().to_ascii_lowercase();
            last.parameters.push((name, unquoted(value.trim())));
        }
    }
    raw.iter().filter_map(known).collect()
}

/// Splits at commas that are not in quotes.
fn items(header: &str) -> Vec<String> {
    let (mut items, mut item) = (Vec::new(), String::new());
    let (mut quoted, mut escaped) = (false, false);
    for letter in header.chars() {
        match letter {
            ',' if !quoted => items.push(std::mem::take(&mut item)),
            letter => {
                quoted ^= letter == '"' && !escaped;
                escaped = quoted && letter == '\\' && !escaped;
                item.push(letter);
            }
        }
    }
    items.push(item);
    let items = items.iter().map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"') else {
        return value.to_owned();
    };
    let (mut text, mut escaped) = (String::new(), false);
    for letter in quoted.chars() {
        match letter {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => break,
            letter => {
                escaped = false;
                text.push(letter);
            }
        }
    }
    text
}

fn known(raw: &Raw) -> Option<Challenge> {
    let parameter = |wanted: &str| {
        let mut found = raw.parameters.iter().filter(|(name, _)| name == wanted);
        found.next().map(|(_, value)| value.clone())
    };
    match raw.scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
            scope: parameter("scope").filter(|scope| !scope.is_empty()),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Challenge;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_are_found_however_they_are_written() {
        for (header, challenges) in [
            (
                r#"Bearer realm="https://a/t",service="r",scope="repository:a/b:pull,push""#,
                vec![bearer(
                    "https://a/t",
                    Some("r"),
                    Some("repository:a/b:pull,push"),
                )],
            ),
            (
                r#"Negotiate, bearer  Realm = "x\"y,z" , error="invalid_token", BASIC realm="c""#,
                vec![bearer("x\"y,z", None, None), Challenge::Basic],
            ),
            (
                r#"Basic realm="a b, Bearer realm=c""#,
                vec![Challenge::Basic],
            ),
            (
                "Bearer realm=https://a/?x=y",
                vec![bearer("https://a/?x=y", None, None)],
            ),
            ("Basic", vec![Challenge::Basic]),
            ("Bearer service=x", vec![]),
            (
                "Bearer realm=\"x\",scope=\"\"",
                vec![bearer("x", None, None)],
            ),
            ("", vec![]),
        ] {
            assert_eq!(Challenge::all([header].into_iter()), challenges, "{header}");
        }
        let several = Challenge::all(["Basic realm=a", "Bearer realm=b"].into_iter());
        assert_eq!(several, [Challenge::Basic, bearer("b", None, None)]);
    }

    proptest! {
        #[test]
        fn nothing_a_server_sends_panics(header in "\\PC{0,80}") {
            Challenge::all([header.as_str()].into_iter());
        }
    }
}

//! [`Gate`]: what lets requests through to a registry.
//!
//! ```text
//! request ──▶ 401 + challenge ──▶ credentials ──▶ token server ──▶ the same request with a token
//! ```
//!
//! Nobody is told anything before the registry has asked for it, and then everybody waits for one token and not for one
//! each. A token is kept for as long as it is good for; that it is not, any more, is told by another 401. Credentials go
//! to the registry and to the token server that it names, never in the clear where the registry itself is asked by
//! TLS; tokens go to the registry alone, wherever it redirects to.

use super::{
    Reference,
    challenge::Challenge,
    login::{Login, Logins, basic},
    scope::Scopes,
};
use crate::{
    error::{Error, Result},
    http::{Address, Answer, Call, Client, Content, Detour, Header, Method},
    safe_url::SafeUrl,
};
use futures::{FutureExt, future::BoxFuture};
use serde::Deserialize;
use std::{collections::HashMap, io, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, OnceCell},
    time::Instant,
};
use url::{Url, form_urlencoded};

/// How often one request may be refused before it is given up: once without a token or with one that has expired, and
/// once because something else is to be allowed beside.
const REFUSALS: u8 = 2;

/// How long a token is good for if nobody says so.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// The most of its life that a token is not used any more, since requests take their time.
const MARGIN: Duration = Duration::from_secs(10);

/// The longest that a token is used, whoever says what.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The most that a token server answers, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// What this program calls itself to token servers.
const CLIENT_ID: &str = "fetch-content";

/// The way to one registry.
pub(super) struct Gate {
    api: Url,
    reference: Reference,
    logins: Logins,
    login: OnceCell<Option<Login>>,
    passes: Mutex<HashMap<Scopes, Pass>>,
}

/// What an `Authorization` header says.
#[derive(Clone)]
struct Pass {
    authorization: String,
    /// Tells one from those before it.
    number: u64,
    /// When there has to be another one.
    until: Option<Instant>,
}

/// What a token server answers.
#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Gate {
    /// Prepares the way to a registry whose API is at `api`. Asks nobody.
    pub(super) fn new(api: Url, reference: Reference, logins: Logins) -> Arc<Self> {
        Arc::new(Self {
            api,
            reference,
            logins,
            login: OnceCell::new(),
            passes: Mutex::default(),
        })
    }

    /// Returns the address of something that the registry named, or that is part of its API. Where that is elsewhere, it
    /// is asked for without a token.
    pub(super) async fn address(
        self: &Arc<Self>,
        url: Url,
        headers: Vec<Header>,
        scopes: &Scopes,
    ) -> Result<Address> {
        let bare = Address {
            headers,
            ..Address::from(url)
        };
        if bare.url.origin() != self.api.origin() {
            return Ok(bare);
        }
        let pass = self.passes.lock().await.get(scopes).cloned();
        let asking = Asking {
            gate: Arc::clone(self),
            scopes: scopes.clone(),
            bare,
            used: None,
            left: REFUSALS,
        };
        asking.with(pass.filter(Pass::is_good))
    }

    /// Returns what to send in place of `used`, which a registry has refused; `None` if there is nothing else.
    async fn renew(
        &self,
        scopes: &Scopes,
        used: Option<u64>,
        challenges: &[Challenge],
        client: &Client,
    ) -> Result<Option<Pass>> {
        let mut passes = self.passes.lock().await;
        let last = passes.get(scopes);
        if let Some(last) = last.filter(|last| Some(last.number) != used && last.is_good()) {
            // Somebody else was refused at the same time.
            return Ok(Some(last.clone()));
        }
        let number = last.map_or(0, |last| last.number + 1);
        let finding = self
            .login
            .get_or_try_init(|| self.logins.find(&self.reference));
        let login = finding.await?.as_ref();
        // A token is worth less to whoever finds it than a password.
        let bearer = challenges.iter().find(|one| **one != Challenge::Basic);
        let (authorization, until) = match (bearer.or(challenges.first()), login) {
            (None, _) => return Ok(None),
            // There is only one of these, and it is wrong.
            (Some(Challenge::Basic), _) | (_, Some(Login::Token(_))) if used.is_some() => {
                return Ok(None);
            }
            (Some(Challenge::Basic), Some(Login::Password { user, password })) => {
                (basic(user, password), None)
            }
            (Some(Challenge::Basic), _) => return Ok(None),
            (Some(Challenge::Bearer { .. }), Some(Login::Token(token))) => {
                (format!("Bearer {token}"), None)
            }
            (
                Some(Challenge::Bearer {
                    realm,
                    service,
                    scope,
                }),
                login,
            ) => {
                let wanted = TokenRequest {
                    realm: self.realm(realm, login)?,
                    service: service.as_deref(),
                    scopes: scopes.clone().and(scope.as_deref().unwrap_or_default()),
                };
                let (token, until) = wanted.send(login, client).await?;
                (format!("Bearer {token}"), Some(until))
            }
        };
        let pass = Pass {
            authorization,
            number,
            until,
        };
        passes.insert(scopes.clone(), pass.clone());
        Ok(Some(pass))
    }

    /// Returns the URL of the token server, if credentials can be sent there.
    fn realm(&self, realm: &str, login: Option<&Login>) -> Result<Url> {
        let refused = |problem: String| Error::Http {
            url: SafeUrl::from(&self.api),
            transient: false,
            source: io::Error::other(problem),
        };
        let url = Url::parse(realm)
            .map_err(|err| refused(format!("the token server it names has no URL: {err}")))?;
        match url.scheme() {
            "https" => Ok(url),
            // No worse than the registry itself.
            "http" if self.api.scheme() == "http" || login.is_none() => Ok(url),
            _ => Err(refused(format!(
                "credentials are not sent to the token server that it names, {}: that is no https URL",
                SafeUrl::from(&url)
            ))),
        }
    }

    /// Returns whether nothing was asked with credentials.
    pub(super) fn is_anonymous(&self) -> bool {
        !matches!(self.login.get(), Some(Some(_)))
    }
}

impl Pass {
    fn is_good(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// A request that may be refused.
struct Asking {
    gate: Arc<Gate>,
    scopes: Scopes,
    /// What to ask for, without a pass.
    bare: Address,
    /// The number of the pass that it goes with.
    used: Option<u64>,
    /// How often it may be refused.
    left: u8,
}

impl Asking {
    /// Returns the address with a pass.
    fn with(mut self, pass: Option<Pass>) -> Result<Address> {
        let mut address = self.bare.clone();
        self.used = pass.as_ref().map(|pass| pass.number);
        if let Some(pass) = pass {
            let header = format!("Authorization: {}", pass.authorization).parse();
            address.headers.push(header.map_err(|_secret| {
                Error::usage("the credentials have characters that cannot be sent")
            })?);
        }
        address.detour = Some(Arc::new(self));
        Ok(address)
    }
}

impl Detour for Asking {
    fn after<'a>(
        &'a self,
        answer: Answer<'a>,
        client: &'a Client,
    ) -> BoxFuture<'a, Result<Option<Address>>> {
        async move {
            if answer.status() != 401 || self.left == 0 {
                return Ok(None);
            }
            let challenges = Challenge::all(answer.all("www-authenticate"));
            let renewed = self
                .gate
                .renew(&self.scopes, self.used, &challenges, client);
            let Some(pass) = renewed.await? else {
                return Ok(None);
            };
            let again = Self {
                gate: Arc::clone(&self.gate),
                scopes: self.scopes.clone(),
                bare: self.bare.clone(),
                used: None,
                left: self.left - 1,
            };
            again.with(Some(pass)).map(Some)
        }
        .boxed()
    }
}

/// A token that is wanted.
struct TokenRequest<'a> {
    realm: Url,
    service: Option<&'a str>,
    scopes: Scopes,
}

impl TokenRequest<'_> {
    /// Asks for the token, and returns until when it is good.
    async fn send(mut self, login: Option<&Login>, client: &Client) -> Result<(String, Instant)> {
        let asked = Instant::now();
        let shown = SafeUrl::from(&self.realm);
        let reply = match login {
            Some(Login::Identity(token)) => {
                let form = self.form(token);
                let call = Call {
                    method: Method::POST,
                    content: Content::Bytes {
                        media_type: "application/x-www-form-urlencoded",
                        bytes: form.as_bytes(),
                    },
                    limit: MAX_ANSWER,
                };
                client.call(&Address::from(self.realm), &call).await?
            }
            login => {
                self.add_query(login);
                let mut address = Address::from(self.realm);
                if let Some(Login::Password { user, password }) = login {
                    let header = format!("Authorization: {}", basic(user, password));
                    address.headers.push(header.parse()?);
                }
                let call = Call {
                    method: Method::GET,
                    content: Content::None,
                    limit: MAX_ANSWER,
                };
                client.call(&address, &call).await?
            }
        };
        let broken = |problem: &str| Error::Http {
            url: shown.clone(),
            transient: false,
            source: io::Error::new(io::ErrorKind::InvalidData, problem.to_owned()),
        };
        // The parser's own words may repeat the token.
        let given: Given = serde_json::from_slice(&reply.body)
            .map_err(|_secret| broken("the answer is not what token servers answer"))?;
        let life = given.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
        let life = life.min(LONGEST_LIFE);
        let token = given.token.or(given.access_token);
        let token = token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| broken("there is no token in the answer"))?;
        Ok((token, asked + life.saturating_sub(MARGIN.min(life / 2))))
    }

    fn add_query(&mut self, login: Option<&Login>) {
        let mut query = self.realm.query_pairs_mut();
        if let Some(service) = self.service {
            query.append_pair("service", service);
        }
        for scope in self.scopes.iter() {
            query.append_pair("scope", scope);
        }
        query.append_pair("client_id", CLIENT_ID);
        if let Some(Login::Password { user, .. }) = login {
            query.append_pair("account", user);
        }
    }

    fn form(&self, token: &str) -> String {
        let scopes: Vec<&str> = self.scopes.iter().collect();
        form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", token)
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("scope", &scopes.join(" "))
            .append_pair("client_id", CLIENT_ID)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, Login, Logins};
    use std::sync::Arc;

    fn gate(image: &str, plain_http: bool) -> Arc<Gate> {
        let reference: super::Reference = image.parse().unwrap();
        Gate::new(
            reference.api(plain_http).unwrap(),
            reference,
            Logins::default(),
        )
    }

    #[test]
    fn credentials_do_not_go_from_tls_to_none() {
        let login = Login::Password {
            user: "u".into(),
            password: "p".into(),
        };
        let allowed = |gate: &Gate, realm, login| gate.realm(realm, login).is_ok();
        let (tls, plain) = (gate("h.example/x", false), gate("h.example/x", true));
        for realm in ["https://t.example/", "http://t.example/"] {
            let is_safe = realm.starts_with("https:");
            assert_eq!(allowed(&tls, realm, Some(&login)), is_safe);
            assert!(allowed(&tls, realm, None) && allowed(&plain, realm, Some(&login)));
        }
        for realm in ["", "/token", "ftp://t.example/"] {
            assert!(!allowed(&plain, realm, Some(&login)) && !allowed(&tls, realm, Some(&login)));
        }
        let err = tls.realm("http://u:pw@t.example/?x=y", Some(&login));
        let text = crate::error::chain(&err.unwrap_err());
        assert!(
            text.contains("http://t.example/?…: that is no https URL"),
            "{text}"
        );
    }
}

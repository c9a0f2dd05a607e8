//! [`Address`]: where content is on the network, and what it takes to get it there. [`Authorize`] and [`Detour`] are how
//! others take part in a request without this room knowing why.

use crate::{
    error::Result,
    http::{Client, Header},
    verify::Expected,
};
use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use std::sync::Arc;
use url::Url;

/// Where content is on the network. Only `url` is needed; `Address::from(url)` leaves the rest out.
#[derive(Clone)]
pub struct Address {
    /// Asked with GET.
    pub url: Url,
    /// Sent along, to the origin of `url` only.
    pub headers: Vec<Header>,
    /// Signs requests to the origin of `url`.
    pub authorize: Option<Arc<dyn Authorize>>,
    /// Sees the answers of the origin of `url`.
    pub detour: Option<Arc<dyn Detour>>,
    /// Whether another answer has just named it, as a redirect does: it may expire, and a new one can be had there.
    pub handed_out: bool,
    /// What the one who named it promises of the content.
    pub promised: Expected,
}

impl From<Url> for Address {
    fn from(url: Url) -> Self {
        Self {
            url,
            headers: Vec::new(),
            authorize: None,
            detour: None,
            handed_out: false,
            promised: Expected::default(),
        }
    }
}

impl Address {
    /// Returns where a redirect leads. What belongs to this address stays with its origin.
    pub(super) fn redirected(self, url: Url) -> Self {
        let own = url.origin() == self.url.origin();
        Self {
            url,
            handed_out: true,
            headers: if own { self.headers } else { Vec::new() },
            authorize: self.authorize.filter(|_| own),
            detour: self.detour.filter(|_| own),
            promised: self.promised,
        }
    }
}

/// Signs requests.
pub trait Authorize: Send + Sync {
    /// Returns the value of the `Authorization` header for one request. Asked for each anew, also for the next attempt,
    /// and never for another origin.
    ///
    /// # Errors
    /// Whatever keeps it from signing.
    fn authorization(&self, method: &str, url: &Url) -> Result<String>;
}

/// Knows a better way to content from the answer of the first one.
pub trait Detour: Send + Sync {
    /// Returns where to go instead of acting on `answer`; `None` if there is nothing to say to it.
    ///
    /// # Errors
    /// Whatever keeps it from finding out; the attempt fails with it.
    fn after<'a>(
        &'a self,
        answer: Answer<'a>,
        client: &'a Client,
    ) -> BoxFuture<'a, Result<Option<Address>>>;
}

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a HeaderMap,
}

impl<'a> Answer<'a> {
    /// Returns the status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns a header's first value, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns all values of a header that are text.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let values = self.headers.get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok())
    }
}

//! [`Call`]: a request whose answer is small, and whose headers matter.

use crate::{
    error::{Error, Result},
    http::{
        Address, Body, Client,
        client::{MAX_REDIRECTS, check_followable, headers, is_redirect, redirect_target},
        refusal::refusal,
    },
    safe_url::SafeUrl,
};
use reqwest::{
    Method, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use url::Url;

/// A request.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// What to do.
    pub method: Method,
    /// What to send.
    pub content: Content<'a>,
    /// The most bytes that the answer may have. With 0 its body is not read.
    pub limit: usize,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Nothing.
    None,
    /// A few bytes.
    Bytes {
        /// What they are.
        media_type: &'a str,
        /// The bytes.
        bytes: &'a [u8],
    },
}

/// The answer to a [`Call`]: a success.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Who answered.
    pub url: Url,
    /// Such as 200.
    pub status: u16,
    /// The body, if it was read.
    pub body: Vec<u8>,
    headers: HeaderMap,
}

impl Reply {
    pub(super) fn without_body(url: Url, response: &Response) -> Self {
        Self {
            url,
            status: response.status().as_u16(),
            body: Vec::new(),
            headers: response.headers().clone(),
        }
    }

    /// Returns a header's first value, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// Sends a request and returns its answer. Redirects are followed by GET and HEAD only.
    ///
    /// # Errors
    /// [`Error::Http`] or, for what sends something, [`Error::Send`]; [`Error::Status`] for everything but success,
    /// [`Error::Redirect`] and [`Error::Stalled`]; whatever a detour has.
    pub async fn call(&self, asked: &Address, call: &Call<'_>) -> Result<Reply> {
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        let mut here = asked.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.ask(&here, call).await.map_err(|err| match err {
                err if reads => err,
                err => err.while_sending(),
            })?;
            let status = response.status();
            if let Some(next) = self.detour(&here, &response).await? {
                check_followable(&here.url, &next.url)?;
                here = next;
            } else if status.is_success() {
                return self.read(here, response, call).await;
            } else if reads && is_redirect(status) {
                let target = redirect_target(&here.url, &response)?;
                here = here.redirected(target);
            } else {
                return Err(refusal(&here.url, response, here.handed_out).await);
            }
        }
        Err(Error::Redirect {
            url: SafeUrl::from(&asked.url),
            problem: format!("more than {MAX_REDIRECTS} times"),
        })
    }

    async fn ask(&self, address: &Address, call: &Call<'_>) -> Result<Response> {
        let headers = headers(&call.method, address)?;
        let url = &address.url;
        let request = self.shared().request(call.method.clone(), url.clone());
        let mut request = request.headers(headers);
        match call.content {
            Content::Bytes { media_type, bytes } => {
                let media_type = HeaderValue::from_str(media_type)
                    .map_err(|err| Error::usage(format!("`{media_type}`: {err}")))?;
                request = request
                    .header(CONTENT_TYPE, media_type)
                    .body(bytes.to_vec());
            }
            // Some servers want to be told even so.
            Content::None if !matches!(call.method, Method::GET | Method::HEAD) => {
                request = request.header(CONTENT_LENGTH, 0);
            }
            Content::None => {}
        }
        self.send(url, request).await
    }

    async fn read(&self, here: Address, response: Response, call: &Call<'_>) -> Result<Reply> {
        let mut reply = Reply::without_body(here.url.clone(), &response);
        if call.limit > 0 && call.method != Method::HEAD {
            let body = Body::whole(&reply.url, here, response, self.settings());
            reply.body = body.read_all(call.limit).await?;
        }
        Ok(reply)
    }
}

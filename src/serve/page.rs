//! Lists in pages.

use crate::serve::answer::{Call, Refusal};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

/// The most of one page, and what it has unless told otherwise.
const MOST: usize = 1000;

/// Which page is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    limit: Option<String>,
    continuation_token: Option<String>,
}

impl Page {
    /// Returns a page of `items`, which are in the order of their keys, and how to get the next one, if there is one.
    pub(super) fn of<T>(
        &self,
        call: &Call,
        mut items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>), Refusal> {
        if let Some(token) = self
            .continuation_token
            .as_deref()
            .filter(|token| !token.is_empty())
        {
            let last = BASE64_URL_SAFE_NO_PAD.decode(token).ok();
            let last = last.and_then(|bytes| String::from_utf8(bytes).ok());
            let last = last.ok_or_else(|| call.bad_input("the continuationToken is malformed"))?;
            items.retain(|item| key(item) > last);
        }
        let limit = self.limit(call)?;
        if items.len() <= limit {
            return Ok((items, None));
        }
        items.truncate(limit);
        let token = items
            .last()
            .map(|last| BASE64_URL_SAFE_NO_PAD.encode(key(last)));
        Ok((items, token))
    }

    fn limit(&self, call: &Call) -> Result<usize, Refusal> {
        let Some(text) = &self.limit else {
            return Ok(MOST);
        };
        let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
        limit.ok_or_else(|| call.bad_input("limit must be a number from 1 to 1000"))
    }
}

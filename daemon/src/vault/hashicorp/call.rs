//! One call of the API, and what its status means.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Uri};
use serde::de::DeserializeOwned;

use super::Settings;
use crate::types::Secret;
use crate::vault::VaultError;
use crate::web::{self, Answer, Client};

/// Bytes of an answer; a secret has at most 64 KiB, and is one of many fields.
const LONGEST: usize = 512 * 1024;

/// What the server is asked.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

impl Call {
    pub(super) fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: Vec::new(),
        }
    }

    pub(super) fn put(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: Method::PUT,
            path: path.into(),
            body: body.into(),
        }
    }
}

/// Makes the calls.
pub(super) struct Caller {
    address: Uri,
    namespace: Option<String>,
    client: Client,
}

impl Caller {
    pub(super) fn new(settings: &Settings) -> Self {
        let patience: Duration = settings.patience;
        Self {
            address: settings.address.clone(),
            namespace: settings.namespace.clone(),
            client: Client::new(web::Settings {
                ca: settings.ca.clone(),
                plain_anywhere: false,
                patience,
                longest: LONGEST,
            }),
        }
    }

    pub(super) async fn call(
        &self,
        call: Call,
        token: Option<&Secret>,
    ) -> Result<Answer, VaultError> {
        let path = call.path;
        let mut request = Request::new(Bytes::from(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = self.uri(&path)?;
        let headers = request.headers_mut();
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        let odd = |_| VaultError::Answer {
            what: path.clone(),
            problem: "can't be asked for: the token or the namespace has odd characters",
        };
        if let Some(namespace) = &self.namespace {
            let value = HeaderValue::from_str(namespace).map_err(odd)?;
            headers.insert("x-vault-namespace", value);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_bytes(token.expose()).map_err(odd)?;
            value.set_sensitive(true);
            headers.insert("x-vault-token", value);
        }
        let answer = self.client.call(request).await?;
        self.judge(&path, answer)
    }

    fn uri(&self, path: &str) -> Result<Uri, VaultError> {
        let mut parts = self.address.clone().into_parts();
        let base = self.address.path().trim_end_matches('/');
        let odd = || VaultError::Answer {
            what: path.into(),
            problem: "can't be asked for: it is no path",
        };
        let whole = format!("{base}/v1/{path}");
        parts.path_and_query = Some(whole.parse().map_err(|_| odd())?);
        Uri::from_parts(parts).map_err(|_| odd())
    }

    /// What the status means (the API's documentation, "HTTP status codes").
    fn judge(&self, path: &str, answer: Answer) -> Result<Answer, VaultError> {
        let address = || self.address.to_string();
        match answer.status {
            200..=299 => Ok(answer),
            403 => Err(VaultError::Denied { what: path.into() }),
            404 => Err(VaultError::NotFound(path.into())),
            503 | 501 => Err(VaultError::Sealed(address())),
            300..=399 | 429 | 472 | 473 => Err(VaultError::Standby(address())),
            status => Err(VaultError::Status {
                what: path.into(),
                status,
            }),
        }
    }
}

pub(super) fn read<T: DeserializeOwned>(path: &str, answer: &Answer) -> Result<T, VaultError> {
    // The parser's own words would repeat what is wrong.
    serde_json::from_slice(&answer.body).map_err(|_| VaultError::Answer {
        what: path.into(),
        problem: "is not what Vault's documentation says",
    })
}

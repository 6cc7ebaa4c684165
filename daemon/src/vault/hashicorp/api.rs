//! Calls of the API: the token, one call, what its status means.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Uri};
use secrecy::zeroize::Zeroizing;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::answers::LoggedIn;
use super::{Login, Settings};
use crate::types::Secret;
use crate::vault::{VaultError, file};
use crate::web::{self, Answer, Client};

/// Bytes of an answer; a secret has at most 64 KiB, and is one of many fields.
const LONGEST: usize = 512 * 1024;
/// Between tries to renew the token.
const RETRY: Duration = Duration::from_secs(1);

/// The server.
pub struct HashiCorp {
    settings: Settings,
    client: Client,
    /// Of the AppRole method; taken anew when it is refused.
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    value: Secret,
    /// When it is to be renewed; none for one that does not end, or can't be renewed.
    renew_at: Option<Instant>,
    until: Option<Instant>,
}

impl Token {
    fn new(it: LoggedIn, from: Instant) -> Self {
        let auth = it.auth;
        let lasts = Duration::from_secs(auth.lease_duration);
        // 0 is what a token without an end has.
        let until = (!lasts.is_zero()).then(|| from + lasts * 9 / 10);
        Self {
            renew_at: until
                .filter(|_| auth.renewable)
                .map(|_| from + lasts * 2 / 3),
            until,
            value: auth.client_token,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl HashiCorp {
    /// Says nothing to the server yet.
    pub(in crate::vault) fn new(settings: Settings) -> Self {
        let client = Client::new(web::Settings {
            ca: settings.ca.clone(),
            plain_anywhere: false,
            patience: settings.patience,
            longest: LONGEST,
        });
        Self {
            settings,
            client,
            token: Mutex::default(),
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, VaultError> {
        let answer = self.with_token(Method::GET, path, Vec::new()).await?;
        read(path, &answer)
    }

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, VaultError> {
        let answer = self.with_token(Method::PUT, path, body).await?;
        read(path, &answer)
    }

    pub(super) async fn tell(&self, path: &str, body: Vec<u8>) -> Result<(), VaultError> {
        self.with_token(Method::PUT, path, body).await.map(drop)
    }

    async fn with_token(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Answer, VaultError> {
        let token = self.token().await?;
        let first = self.call(method.clone(), path, body.clone(), Some(&token));
        match first.await {
            // It may have been revoked before its time.
            Err(VaultError::Denied { .. }) if self.forget(&token).await => {
                let token = self.token().await?;
                self.call(method, path, body, Some(&token)).await
            }
            answer => answer,
        }
    }

    /// The token to use; one log-in at a time.
    async fn token(&self) -> Result<Secret, VaultError> {
        let Login::AppRole { .. } = &self.settings.login else {
            return self.token_file();
        };
        let mut token = self.token.lock().await;
        if let Some(token) = token
            .as_ref()
            .filter(|token| !token.is_over(Instant::now()))
        {
            return Ok(token.value.clone());
        }
        let fresh = self.log_in().await?;
        Ok(token.insert(fresh).value.clone())
    }

    fn token_file(&self) -> Result<Secret, VaultError> {
        match &self.settings.login {
            Login::TokenFile(path) => file::read_private(path),
            Login::AppRole { .. } => Err(VaultError::NotRenewable),
        }
    }

    async fn log_in(&self) -> Result<Token, VaultError> {
        let Login::AppRole {
            mount,
            role_id,
            secret_id_file,
        } = &self.settings.login
        else {
            return Err(VaultError::NotRenewable);
        };
        let secret_id = file::read_private(secret_id_file)?;
        let secret_id = String::from_utf8_lossy(secret_id.expose());
        let secret_id = Zeroizing::new(secret_id.into_owned());
        let body = json!({ "role_id": role_id, "secret_id": *secret_id });
        let path = format!("auth/{mount}/login");
        let from = Instant::now();
        let call = self.call(Method::POST, &path, body.to_string().into_bytes(), None);
        Ok(Token::new(read(&path, &call.await?)?, from))
    }

    /// Whether there may be a better token than this one, so that another try makes sense.
    async fn forget(&self, used: &Secret) -> bool {
        let mut token = self.token.lock().await;
        token.take_if(|held| held.value.expose() == used.expose());
        matches!(self.settings.login, Login::AppRole { .. })
    }

    /// How long what was got with the token may live, where the token can't be renewed.
    pub(super) async fn token_lasts(&self) -> Option<Duration> {
        let token = self.token.lock().await;
        let token = token.as_ref().filter(|token| token.renew_at.is_none())?;
        Some(token.until?.saturating_duration_since(Instant::now()))
    }

    /// Renews the token in time: leases end with the token that they were got with.
    pub(in crate::vault) async fn keep(&self) {
        const PATH: &str = "auth/token/renew-self";
        let now = Instant::now();
        let due = {
            let mut token = self.token.lock().await;
            let Some(token) = token.as_mut() else { return };
            match token.renew_at {
                Some(at) if at <= now => token.renew_at = Some(now + RETRY),
                _ => return,
            }
            token.value.clone()
        };
        let answer = self
            .call(Method::PUT, PATH, b"{}".to_vec(), Some(&due))
            .await;
        match answer.and_then(|answer| read(PATH, &answer)) {
            Ok(renewed) => *self.token.lock().await = Some(Token::new(renewed, now)),
            Err(error) => tracing::warn!("Vault's token is not renewed yet: {error}"),
        }
    }

    /// Gives the token back, and with it what is left of its leases.
    pub(in crate::vault) async fn log_out(&self) {
        let Some(token) = self.token.lock().await.take() else {
            return;
        };
        let path = "auth/token/revoke-self";
        let told = self.call(Method::PUT, path, b"{}".to_vec(), Some(&token.value));
        if let Err(error) = told.await {
            tracing::warn!("Vault's token is not given back, and ends by itself: {error}");
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        token: Option<&Secret>,
    ) -> Result<Answer, VaultError> {
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri(path)?;
        let headers = request.headers_mut();
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        let odd = |_| VaultError::Answer {
            what: path.into(),
            problem: "can't be asked for: the token or the namespace has odd characters",
        };
        if let Some(namespace) = &self.settings.namespace {
            let value = HeaderValue::from_str(namespace).map_err(odd)?;
            headers.insert("x-vault-namespace", value);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_bytes(token.expose()).map_err(odd)?;
            value.set_sensitive(true);
            headers.insert("x-vault-token", value);
        }
        let answer = self.client.call(request).await?;
        self.judge(path, answer)
    }

    fn uri(&self, path: &str) -> Result<Uri, VaultError> {
        let mut parts = self.settings.address.clone().into_parts();
        let base = self.settings.address.path().trim_end_matches('/');
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
        let address = || self.settings.address.to_string();
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

fn read<T: DeserializeOwned>(path: &str, answer: &Answer) -> Result<T, VaultError> {
    // The parser's own words would repeat what is wrong.
    serde_json::from_slice(&answer.body).map_err(|_| VaultError::Answer {
        what: path.into(),
        problem: "is not what Vault's documentation says",
    })
}

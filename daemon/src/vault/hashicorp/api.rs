//! The calls that need the daemon's token, and keeping that token.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::answers::LoggedIn;
use super::call::{Call, Caller, read};
use super::login::{Logins, Refused};
use super::token::{TokenId, Tokens};
use super::{Login, Settings};
use crate::vault::term::Term;
use crate::vault::{VaultError, file};
use crate::web::Answer;

/// The server.
pub struct HashiCorp {
    pub(super) caller: Caller,
    pub(super) login: Login,
    pub(super) tokens: Tokens,
    /// Held over a login, and not while anybody uses a token.
    pub(super) logins: Mutex<Logins>,
}

impl HashiCorp {
    /// Says nothing to the server yet.
    pub(in crate::vault) fn new(settings: Settings) -> Self {
        Self {
            caller: Caller::new(&settings),
            login: settings.login,
            tokens: Tokens::default(),
            logins: Mutex::default(),
        }
    }

    /// The answer, and the token that it was got with.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<(T, TokenId), VaultError> {
        let (answer, token) = self.with_token(Call::get(path)).await?;
        Ok((read(path, &answer)?, token))
    }

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, VaultError> {
        let (answer, _) = self.with_token(Call::put(path, body)).await?;
        read(path, &answer)
    }

    pub(super) async fn tell(&self, path: &str, body: Vec<u8>) -> Result<(), VaultError> {
        self.with_token(Call::put(path, body)).await.map(drop)
    }

    async fn with_token(&self, call: Call) -> Result<(Answer, TokenId), VaultError> {
        let asked = Instant::now();
        let used = self.token().await?;
        let id = used.id;
        match self.caller.call(call.clone(), Some(&used.value)).await {
            Err(error @ VaultError::Denied { .. }) => {
                let refused = Refused {
                    call,
                    used,
                    asked,
                    error,
                };
                self.again(refused).await
            }
            answer => Ok((answer?, id)),
        }
    }

    /// Whether what was got with the token is still good: it is the one in use.
    pub(super) fn uses(&self, id: TokenId) -> bool {
        if let Login::TokenFile(path) = &self.login
            // One that can't be read now says nothing about the one before.
            && let Ok(value) = file::read_private(path)
        {
            return self.tokens.of_file(value).id == id;
        }
        self.tokens.current().is_some_and(|token| token.id == id)
    }

    /// Renews the token in time: leases end with the token that they were got with.
    pub(in crate::vault) async fn keep(&self) {
        const PATH: &str = "auth/token/renew-self";
        let now = Instant::now();
        let Some(due) = self.tokens.take_due(now) else {
            return;
        };
        let answer = self.caller.call(Call::put(PATH, "{}"), Some(&due.value));
        match answer
            .await
            .and_then(|answer| read::<LoggedIn>(PATH, &answer))
        {
            Ok(LoggedIn { auth }) => {
                let lasts = Duration::from_secs(auth.lease_duration);
                let renewed = |term: &mut _| Term::renewed(term, now, lasts, auth.renewable);
                self.tokens.change(&due, renewed);
            }
            Err(error @ VaultError::Denied { .. }) => {
                self.tokens.change(&due, Term::stop_renewing);
                tracing::warn!("Vault's token will not be renewed, and be got anew: {error}");
            }
            Err(error) => tracing::warn!("Vault's token is not renewed yet: {error}"),
        }
    }

    /// Gives the token back, and with it what is left of its leases.
    pub(in crate::vault) async fn log_out(&self) {
        let mut logins = self.logins.lock().await;
        logins.closed = true;
        if let Login::AppRole { .. } = &self.login
            && let Some(token) = self.tokens.take()
        {
            self.revoke(&token.value).await;
        }
    }
}

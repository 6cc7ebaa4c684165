//! Getting a token, and getting another when one is refused.
//!
//! A 403 is mostly Vault's policy and not the token: another token is got only when the
//! one in use may not even look itself up, and is taken only if it is any better. One at
//! a time does this, and those who wait share what came of it. Absent on purpose: keeping
//! a token of somebody else's file.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use secrecy::zeroize::Zeroizing;
use serde_json::json;
use tokio::time::Instant;

use super::Login;
use super::answers::{Auth, LoggedIn};
use super::api::HashiCorp;
use super::call::{Call, read};
use super::token::{Token, TokenId};
use crate::types::Secret;
use crate::vault::{VaultError, file};
use crate::web::Answer;

/// How long a login that failed is not tried again.
const FAILED: Duration = Duration::from_secs(1);
/// Between two tokens that were refused, and after one that was no better.
const PAUSE: Duration = Duration::from_secs(5);
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// What came of the last ones.
#[derive(Default)]
pub(super) struct Logins {
    failed: Option<(Instant, Arc<VaultError>)>,
    /// When it was last seen what a refusal meant.
    looked: Option<Instant>,
    /// No token is replaced before this.
    pause: Option<Instant>,
    /// The daemon stops.
    pub(super) closed: bool,
}

/// A call that was answered with 403.
pub(super) struct Refused {
    pub(super) call: Call,
    pub(super) used: Token,
    pub(super) asked: Instant,
    pub(super) error: VaultError,
}

impl HashiCorp {
    /// The token to use.
    pub(super) async fn token(&self) -> Result<Token, VaultError> {
        let asked = Instant::now();
        if let Login::TokenFile(path) = &self.login {
            return Ok(self.tokens.of_file(file::read_private(path)?));
        }
        if let Some(token) = self.tokens.current() {
            return Ok(token);
        }
        let mut logins = self.logins.lock().await;
        if let Some(token) = self.tokens.current() {
            return Ok(token);
        }
        let (auth, from) = self.log_in(&mut logins, asked).await?;
        Ok(self.tokens.install(auth, from))
    }

    async fn log_in(
        &self,
        logins: &mut Logins,
        asked: Instant,
    ) -> Result<(Auth, Instant), VaultError> {
        let from = Instant::now();
        if logins.closed {
            return Err(VaultError::Stopped);
        }
        if let Some((ended, error)) = &logins.failed
            && (*ended >= asked || *ended + FAILED > from)
        {
            return Err(VaultError::Login(Arc::clone(error)));
        }
        match self.ask_for_token().await {
            Ok(auth) => {
                logins.failed = None;
                Ok((auth, from))
            }
            Err(error) => {
                let error = Arc::new(error);
                logins.failed = Some((Instant::now(), Arc::clone(&error)));
                Err(VaultError::Login(error))
            }
        }
    }

    async fn ask_for_token(&self) -> Result<Auth, VaultError> {
        let Login::AppRole {
            mount,
            role_id,
            secret_id_file,
        } = &self.login
        else {
            return Err(VaultError::NotRenewable);
        };
        let secret_id = file::read_private(secret_id_file)?;
        let secret_id = String::from_utf8_lossy(secret_id.expose());
        let secret_id = Zeroizing::new(secret_id.into_owned());
        let body = json!({ "role_id": role_id, "secret_id": *secret_id });
        let path = format!("auth/{mount}/login");
        let call = Call {
            method: Method::POST,
            path: path.clone(),
            body: body.to_string().into_bytes(),
        };
        let answer = self.caller.call(call, None).await?;
        Ok(read::<LoggedIn>(&path, &answer)?.auth)
    }

    /// Calls again with another token, if there may be a better one.
    pub(super) async fn again(&self, refused: Refused) -> Result<(Answer, TokenId), VaultError> {
        let Refused { used, asked, .. } = &refused;
        if let Login::TokenFile(_) = &self.login {
            let token = self.token().await?;
            if token.id == used.id {
                return Err(refused.error);
            }
            let answer = self.caller.call(refused.call, Some(&token.value)).await?;
            return Ok((answer, token.id));
        }
        let mut logins = self.logins.lock().await;
        if let Some(token) = self.tokens.current().filter(|token| token.id != used.id) {
            drop(logins);
            let answer = self.caller.call(refused.call, Some(&token.value)).await?;
            return Ok((answer, token.id));
        }
        if logins.looked.is_some_and(|at| at >= *asked) {
            return Err(refused.error);
        }
        let lives = self.lives(&used.value).await;
        let now = Instant::now();
        logins.looked = Some(now);
        if lives || logins.pause.is_some_and(|until| until > now) {
            return Err(refused.error);
        }
        let fresh = self.log_in(&mut logins, *asked).await?;
        self.try_out(&mut logins, fresh, refused.call).await
    }

    /// Takes another token if the call, or at least a look at itself, is allowed to it.
    async fn try_out(
        &self,
        logins: &mut Logins,
        (auth, from): (Auth, Instant),
        call: Call,
    ) -> Result<(Answer, TokenId), VaultError> {
        let answer = self.caller.call(call, Some(&auth.client_token)).await;
        let no_better = match &answer {
            Err(VaultError::Denied { .. }) => !self.lives(&auth.client_token).await,
            _ => false,
        };
        let now = Instant::now();
        logins.looked = Some(now);
        if no_better {
            logins.pause = Some(now + LONG_PAUSE);
            self.revoke(&auth.client_token).await;
            return Ok((answer?, TokenId::default()));
        }
        logins.pause = Some(now + PAUSE);
        let id = self.tokens.install(auth, from).id;
        Ok((answer?, id))
    }

    /// Whether the token is still one, as far as Vault says so. Every token may look itself
    /// up by Vault's policy `default`; one without it can't be told from a dead one.
    async fn lives(&self, token: &Secret) -> bool {
        let call = Call::get("auth/token/lookup-self");
        let answer = self.caller.call(call, Some(token)).await;
        !matches!(answer, Err(VaultError::Denied { .. }))
    }

    pub(super) async fn revoke(&self, token: &Secret) {
        let call = Call::put("auth/token/revoke-self", "{}");
        if let Err(error) = self.caller.call(call, Some(token)).await {
            tracing::warn!("Vault's token is not given back, and ends by itself: {error}");
        }
    }
}

//! The token in use. What was got with one is known by its [`TokenId`]: a lease ends with
//! the token that it was got with. Absent on purpose: how one is got.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::answers::Auth;
use crate::types::Secret;
use crate::vault::term::Term;

/// Which token something was got with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::vault) struct TokenId(u64);

#[derive(Clone)]
pub(super) struct Token {
    pub(super) id: TokenId,
    pub(super) value: Secret,
    /// None for one that does not end, or that somebody else keeps.
    term: Option<Term>,
}

/// The one in use, and how many there were.
#[derive(Default)]
pub(super) struct Tokens(Mutex<(TokenId, Option<Token>)>);

impl Tokens {
    /// The token in use, if it is not over.
    pub(super) fn current(&self) -> Option<Token> {
        let now = Instant::now();
        let over = |token: &Token| token.term.as_ref().is_some_and(|term| term.is_over(now));
        self.lock().1.clone().filter(|token| !over(token))
    }

    /// From now on this one, asked for at `from`.
    pub(super) fn install(&self, auth: Auth, from: Instant) -> Token {
        let lasts = Duration::from_secs(auth.lease_duration);
        // 0 is what a token without an end has.
        let term = (!lasts.is_zero()).then(|| Term::new(from, lasts, auth.renewable));
        self.put(auth.client_token, term)
    }

    /// What a file has now; a new one if it is another than before.
    pub(super) fn of_file(&self, value: Secret) -> Token {
        let same = |token: &Token| token.value.expose() == value.expose();
        let held = self.current().filter(same);
        held.unwrap_or_else(|| self.put(value, None))
    }

    fn put(&self, value: Secret, term: Option<Term>) -> Token {
        let mut all = self.lock();
        all.0 = TokenId(all.0.0 + 1);
        let id = all.0;
        all.1.insert(Token { id, value, term }).clone()
    }

    /// The token, if it is to be renewed now.
    pub(super) fn take_due(&self, now: Instant) -> Option<Token> {
        let mut all = self.lock();
        let token = all.1.as_mut()?;
        token.term.as_mut()?.take_due(now).then(|| token.clone())
    }

    /// Changes the term of the token, if it is still the one in use.
    pub(super) fn change(&self, token: &Token, change: impl FnOnce(&mut Term)) {
        let mut all = self.lock();
        let held = all.1.as_mut().filter(|held| held.id == token.id);
        if let Some(term) = held.and_then(|held| held.term.as_mut()) {
            change(term);
        }
    }

    pub(super) fn take(&self) -> Option<Token> {
        self.lock().1.take()
    }

    fn lock(&self) -> MutexGuard<'_, (TokenId, Option<Token>)> {
        // Each change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(value: &str, lasts: u64) -> Auth {
        Auth {
            client_token: Secret::new(value.into()),
            lease_duration: lasts,
            renewable: true,
        }
    }

    #[test]
    fn an_answer_for_one_token_changes_no_other() {
        let tokens = Tokens::default();
        let from = Instant::now();
        let first = tokens.install(auth("first", 60), from);
        let second = tokens.install(auth("second", 60), from);
        assert!(first.id != second.id);
        tokens.change(&first, Term::stop_renewing);
        let due = tokens.take_due(from + Duration::from_secs(41));
        assert!(due.is_some_and(|due| due.id == second.id));
        tokens.change(&second, Term::stop_renewing);
        assert!(tokens.take_due(from + Duration::from_secs(43)).is_none());
    }

    #[test]
    fn a_file_that_says_the_same_is_the_same_token() {
        let tokens = Tokens::default();
        let of_file = |text: &str| tokens.of_file(Secret::new(text.into())).id;
        let first = of_file("first");
        assert!(first == of_file("first"));
        assert!(first != of_file("second"));
    }
}

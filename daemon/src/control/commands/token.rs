//! Where a command finds the token that it is given.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::control::api::Token;

/// The longest token that is sent, in bytes.
const LONGEST: u64 = 32 * 1024;

/// A token of an OpenID provider.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
pub(super) struct Source {
    /// A token of an OpenID provider, from this file; a fresh one there renews the session.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// The same from this environment variable, which the command does not get.
    #[arg(long, value_name = "NAME")]
    pub(super) token_env: Option<String>,
}

impl Source {
    /// Reads it, if one is asked for.
    pub(super) fn read(&self) -> anyhow::Result<Option<Token>> {
        match (&self.token_file, &self.token_env) {
            (Some(file), _) => from_file(file).map(Some),
            (None, Some(name)) => from_environment(name).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// Reads a token from a file.
pub(super) fn from_file(path: &Path) -> anyhow::Result<Token> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read the token file {name}"))?;
    let mut text = String::new();
    let read = file.take(LONGEST + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read the token file {name}"))?;
    check(&text, &format!("the token file {name}"))
}

fn from_environment(name: &str) -> anyhow::Result<Token> {
    match std::env::var(name) {
        Ok(text) => check(&text, &format!("the environment variable {name}")),
        Err(std::env::VarError::NotPresent) => bail!("there is no environment variable {name}"),
        Err(error) => bail!("the environment variable {name}: {error}"),
    }
}

fn check(text: &str, place: &str) -> anyhow::Result<Token> {
    let token = text.trim();
    ensure!(!token.is_empty(), "{place} is empty");
    let fits = u64::try_from(text.len()).is_ok_and(|length| length <= LONGEST);
    ensure!(
        fits,
        "{place} holds more than {LONGEST} bytes: no token is that long"
    );
    ensure!(
        token.bytes().all(|byte| byte.is_ascii_graphic()),
        "{place} holds more than one token, or none: a token has no spaces"
    );
    Ok(Token(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_and_nothing_else() {
        assert_eq!(check("a.b.c\n", "x").expect("token").0, "a.b.c");
        let long = "a".repeat(40_000);
        for (text, said) in [("", "empty"), ("a b", "spaces"), (long.as_str(), "bytes")] {
            let error = check(text, "x").expect_err(text).to_string();
            assert!(error.contains(said) && !error.contains("a b"), "{error}");
        }
    }
}

//! Where an issuer's keys come from: the issuer itself, or a file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cache::{Cache, Step};
use super::fetch::Remote;
use super::keys::KeySet;
use super::refusal::TokenRefusal;
use super::settings::IssuerSettings;

/// The longest key file, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// An issuer's keys.
#[derive(Debug)]
pub(super) enum Source {
    /// Read anew for each token, so that a changed file counts at once.
    File(PathBuf),
    Issuer(Box<Asked>),
}

/// An issuer with what it has answered so far.
#[derive(Debug)]
pub(super) struct Asked {
    remote: Remote,
    keep: Duration,
    start: Instant,
    cache: Mutex<Cache>,
    /// One question at a time; who waits finds the answer.
    turn: tokio::sync::Mutex<()>,
}

impl Source {
    pub(super) fn new(settings: &IssuerSettings) -> Self {
        match &settings.jwks_file {
            Some(path) => Self::File(path.clone()),
            None => Self::Issuer(Box::new(Asked {
                remote: Remote::new(settings),
                keep: settings.keep_keys,
                start: Instant::now(),
                cache: Mutex::default(),
                turn: tokio::sync::Mutex::default(),
            })),
        }
    }

    /// The keys among which `kid` is looked for.
    pub(super) async fn keys(&self, kid: &str) -> Result<Arc<KeySet>, TokenRefusal> {
        match self {
            Self::File(path) => match read(path) {
                Ok(keys) => Ok(Arc::new(keys)),
                Err(problem) => {
                    let place = path.display();
                    Err(TokenRefusal::NoKeys(format!("{place}: {problem}")))
                }
            },
            Self::Issuer(asked) => asked.keys(kid).await,
        }
    }
}

impl Asked {
    async fn keys(&self, kid: &str) -> Result<Arc<KeySet>, TokenRefusal> {
        if let Some(known) = self.known(kid) {
            return known;
        }
        let _turn = self.turn.lock().await;
        if let Some(known) = self.known(kid) {
            return known;
        }
        let answer = self.remote.fetch().await;
        let now = self.start.elapsed();
        let mut cache = self.cache();
        match answer {
            Ok((keys, max_age)) => cache.fetched(kid, now, keys, max_age),
            Err(problem) => cache.failed(now, problem),
        }
        settled(cache.best(kid, now, self.keep)).unwrap_or(Err(TokenRefusal::UnknownKey))
    }

    /// None when the issuer has to be asked.
    fn known(&self, kid: &str) -> Option<Result<Arc<KeySet>, TokenRefusal>> {
        let now = self.start.elapsed();
        settled(self.cache().step(kid, now, self.keep))
    }

    /// As if so much time had passed.
    #[cfg(test)]
    pub(super) fn pass(&mut self, time: Duration) {
        self.start -= time;
    }

    // Each change of the cache is one assignment, so a panic elsewhere leaves it usable.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settled(step: Step) -> Option<Result<Arc<KeySet>, TokenRefusal>> {
    match step {
        Step::Use(keys) => Some(Ok(keys)),
        Step::Refuse(refusal) => Some(Err(refusal)),
        Step::Fetch => None,
    }
}

/// Who can change the file can be anybody: only root or the daemon's user may.
fn read(path: &Path) -> Result<KeySet, String> {
    let failed = |error: std::io::Error| error.to_string();
    // Before opening: opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err("not a regular file".into());
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let ours = metadata.uid() == 0 || metadata.uid() == nix::unistd::geteuid().as_raw();
    if metadata.mode() & 0o022 != 0 || !ours {
        return Err("others than root may change it".into());
    }
    let mut text = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err("longer than 1 MiB".into());
    }
    KeySet::parse(&text).map_err(str::to_owned)
}

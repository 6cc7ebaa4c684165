//! Analysed texts, shared by all connections.
//!
//! Each shard has a young and an old generation: when the young one is full it becomes the
//! old one, and what is still in use is carried over as it is asked for. So it is bounded in
//! entries and bytes and keeps what is used. Invariant: an entry is returned only for the
//! very same text and search path, whatever its hash. Absent on purpose: the policy; an
//! analysis does not depend on it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Context, analyse};
use crate::protocol::Operation;

/// Power of two.
const SHARDS: usize = 16;
/// A text longer than this (bytes) is analysed each time.
const LONGEST_KEPT: usize = 64 * 1024;
/// Bytes that an entry takes beside its text, about.
const OVERHEAD: usize = 512;

/// Texts to their operations.
#[derive(Debug)]
pub struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Half of what a shard may hold: a generation's share.
    max_entries: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    entries: HashMap<u64, Entry, BuildHasherDefault<Hashed>>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    search_path: Arc<[String]>,
    operation: Arc<Operation>,
}

impl Entry {
    fn is_of(&self, text: &str, context: &Context<'_>) -> bool {
        *self.operation.text == *text && *self.search_path == *context.search_path
    }
}

impl Cache {
    /// A cache of about so many entries and bytes of text at most.
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            max_entries: (max_entries / SHARDS / 2).max(1),
            max_bytes: max_bytes / SHARDS / 2,
        }
    }

    /// The operation of a text: the one that was analysed before, or a new one.
    pub fn analyse(&self, text: &str, context: &Context<'_>) -> Arc<Operation> {
        if text.len() > LONGEST_KEPT {
            return Arc::new(analyse(text, context));
        }
        let hash = self.hash(text, context);
        if let Some(operation) = self.find(hash, text, context) {
            return operation;
        }
        // The lock is not held: two connections may analyse the same text at once.
        let operation = Arc::new(analyse(text, context));
        let entry = Entry {
            search_path: context.search_path.into(),
            operation: Arc::clone(&operation),
        };
        self.with_shard(hash, |shard| self.keep(shard, hash, entry));
        operation
    }

    fn hash(&self, text: &str, context: &Context<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text.as_bytes());
        for schema in context.search_path {
            hasher.write_u8(0xff);
            hasher.write(schema.as_bytes());
        }
        hasher.finish()
    }

    fn find(&self, hash: u64, text: &str, context: &Context<'_>) -> Option<Arc<Operation>> {
        self.with_shard(hash, |shard| {
            if let Some(entry) = shard.young.entries.get(&hash) {
                return entry
                    .is_of(text, context)
                    .then(|| Arc::clone(&entry.operation));
            }
            let entry = shard
                .old
                .entries
                .get(&hash)
                .filter(|entry| entry.is_of(text, context))?
                .clone();
            let operation = Arc::clone(&entry.operation);
            self.keep(shard, hash, entry);
            Some(operation)
        })?
    }

    fn keep(&self, shard: &mut Shard, hash: u64, entry: Entry) {
        let size = OVERHEAD + entry.operation.text.len();
        let young = &mut shard.young;
        if young.entries.len() >= self.max_entries || young.bytes + size > self.max_bytes {
            shard.old = mem::take(young);
        }
        if size > self.max_bytes {
            return;
        }
        let young = &mut shard.young;
        young.bytes += size;
        if let Some(replaced) = young.entries.insert(hash, entry) {
            young.bytes -= OVERHEAD + replaced.operation.text.len();
        }
    }

    fn with_shard<T>(&self, hash: u64, work: impl FnOnce(&mut Shard) -> T) -> Option<T> {
        // The low bits choose within the map, the high ones the shard.
        let index = usize::try_from(hash >> 60).unwrap_or(0) % SHARDS;
        let shard = self.shards.get(index)?;
        Some(work(
            &mut shard.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// The key is a hash already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(cache: &Cache) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            shard.young.entries.len() + shard.old.entries.len()
        };
        cache.shards.iter().map(count).sum()
    }

    #[test]
    fn the_same_text_and_search_path_share_one_operation() {
        let cache = Cache::new(100, 1 << 20);
        let (public, other) = (["public".to_owned()], ["other".to_owned()]);
        let (public, other) = (
            Context {
                search_path: &public,
            },
            Context {
                search_path: &other,
            },
        );
        let first = cache.analyse("SELECT 1 FROM t", &public);
        assert!(Arc::ptr_eq(
            &first,
            &cache.analyse("SELECT 1 FROM t", &public)
        ));
        assert_ne!(
            first.effects,
            cache.analyse("SELECT 1 FROM t", &other).effects
        );
    }

    #[test]
    fn a_hash_that_two_texts_share_mixes_nothing_up() {
        let cache = Cache::new(100, 1 << 20);
        let path = ["public".to_owned()];
        let context = Context { search_path: &path };
        let operation = Arc::new(analyse("SELECT 1", &context));
        let hash = cache.hash("DELETE FROM t", &context);
        let entry = Entry {
            search_path: path.to_vec().into(),
            operation,
        };
        cache.with_shard(hash, |shard| cache.keep(shard, hash, entry));
        assert_eq!(
            &*cache.analyse("DELETE FROM t", &context).text,
            "DELETE FROM t"
        );
    }

    #[test]
    fn it_stays_bounded_in_entries_and_bytes() {
        let path = ["public".to_owned()];
        let context = Context { search_path: &path };
        let cache = Cache::new(64, 1 << 30);
        let small = Cache::new(1 << 20, 64 * 1024);
        for number in 0..500 {
            let text = format!("SELECT {number}");
            cache.analyse(&text, &context);
            small.analyse(&text, &context);
        }
        assert!(entries(&cache) <= 64, "{}", entries(&cache));
        assert!(
            entries(&small) <= 64 * 1024 / OVERHEAD,
            "{}",
            entries(&small)
        );
        assert!(entries(&small) > 16);
    }

    #[test]
    fn what_is_used_stays() {
        let path = ["public".to_owned()];
        let context = Context { search_path: &path };
        let cache = Cache::new(256, 1 << 30);
        let kept = cache.analyse("SELECT 'kept'", &context);
        for number in 0..2000 {
            cache.analyse(&format!("SELECT {number}"), &context);
            assert!(Arc::ptr_eq(
                &kept,
                &cache.analyse("SELECT 'kept'", &context)
            ));
        }
    }
}

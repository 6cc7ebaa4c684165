//! Analysed texts, shared by all connections.
//!
//! Each shard has a young and an old generation: when the young one is full it becomes the
//! old one, and what is still in use is carried over as it is asked for. So it is bounded in
//! entries and bytes and keeps what is used. Invariant: an entry is returned only for the
//! very same text and search path, whatever its hash, or for a text of the very same
//! [`shape`]. Absent on purpose: the policy; an analysis does not depend on it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use super::shape::{holds_for_all, shape};
use super::{Context, analyse};
use crate::protocol::{Names, Operation};

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
    /// What it is of, if not of the operation's own text.
    shape: Option<Arc<str>>,
    operation: Arc<Operation>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
enum Key<'a> {
    Text(&'a str),
    Shape(&'a str),
}

impl Entry {
    fn is_of(&self, key: Key<'_>, context: &Context<'_>) -> bool {
        let same = match (key, &self.shape) {
            (Key::Text(text), None) => *self.operation.text == *text,
            (Key::Shape(shape), Some(own)) => **own == *shape,
            _ => false,
        };
        same && *self.search_path == *context.search_path
    }

    fn size(&self) -> usize {
        let shape = self.shape.as_ref().map_or(0, |shape| shape.len());
        OVERHEAD + self.operation.text.len() + shape
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
        if let Some(operation) = self.find(Key::Text(text), context) {
            return operation;
        }
        let shape = shape(text);
        if let Some(shape) = &shape
            && let Some(like) = self.find(Key::Shape(shape), context)
        {
            return Arc::new(of_same_shape(text, &like));
        }
        // The lock is not held: two connections may analyse the same text at once.
        let operation = Arc::new(analyse(text, context));
        let search_path: Arc<[String]> = context.search_path.into();
        if let Some(shape) = shape.filter(|_| holds_for_all(&operation)) {
            let entry = Entry {
                search_path: Arc::clone(&search_path),
                shape: Some(shape.as_str().into()),
                operation: Arc::clone(&operation),
            };
            self.insert(Key::Shape(&shape), context, entry);
        }
        let entry = Entry {
            search_path,
            shape: None,
            operation: Arc::clone(&operation),
        };
        self.insert(Key::Text(text), context, entry);
        operation
    }

    fn insert(&self, key: Key<'_>, context: &Context<'_>, entry: Entry) {
        let hash = self.hash(key, context);
        self.with_shard(hash, |shard| self.keep(shard, hash, entry));
    }

    fn hash(&self, key: Key<'_>, context: &Context<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        let (kind, text) = match key {
            Key::Text(text) => (0, text),
            Key::Shape(shape) => (1, shape),
        };
        hasher.write_u8(kind);
        hasher.write(text.as_bytes());
        for schema in context.search_path {
            hasher.write_u8(0xff);
            hasher.write(schema.as_bytes());
        }
        hasher.finish()
    }

    fn find(&self, key: Key<'_>, context: &Context<'_>) -> Option<Arc<Operation>> {
        let hash = self.hash(key, context);
        self.with_shard(hash, |shard| {
            if let Some(entry) = shard.young.entries.get(&hash) {
                return entry
                    .is_of(key, context)
                    .then(|| Arc::clone(&entry.operation));
            }
            let entry = shard
                .old
                .entries
                .get(&hash)
                .filter(|entry| entry.is_of(key, context))?
                .clone();
            let operation = Arc::clone(&entry.operation);
            self.keep(shard, hash, entry);
            Some(operation)
        })?
    }

    fn keep(&self, shard: &mut Shard, hash: u64, entry: Entry) {
        let size = entry.size();
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
            young.bytes -= replaced.size();
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

/// The operation of a text, from that of another text of its shape.
fn of_same_shape(text: &str, like: &Operation) -> Operation {
    Operation {
        text: text.into(),
        fingerprint: like.fingerprint.clone(),
        effects: like.effects.clone(),
        // As `shape::holds_for_all` has seen to.
        problem: None,
        names: Names::default(),
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
        let entry = Entry {
            search_path: path.to_vec().into(),
            shape: None,
            operation,
        };
        cache.insert(Key::Text("DELETE FROM t"), &context, entry);
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
            let text = format!("SELECT c{number}");
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
            cache.analyse(&format!("SELECT c{number}"), &context);
            assert!(Arc::ptr_eq(
                &kept,
                &cache.analyse("SELECT 'kept'", &context)
            ));
        }
    }

    #[test]
    fn texts_of_one_shape_share_an_analysis_and_keep_their_own_text() {
        let path = ["public".to_owned()];
        let context = Context { search_path: &path };
        let cache = Cache::new(1000, 1 << 20);
        for (first, second) in [
            (
                "SELECT a FROM t WHERE id = 1",
                "SELECT a FROM t WHERE id = 22",
            ),
            (
                "DELETE FROM t WHERE id IN (1, 2)",
                "DELETE FROM t WHERE id IN (3, 444)",
            ),
            (
                "SELECT 1; UPDATE t SET a = a + 5",
                "SELECT 9; UPDATE t SET a = a + 10",
            ),
            ("SELECT a FROM t LIMIT 5", "SELECT a FROM t LIMIT 999999999"),
            // These are analysed each for itself.
            ("SELECT nextval(1)", "SELECT nextval(2)"),
            ("SET statement_timeout = 1", "SET statement_timeout = 2"),
            ("FETCH 1 FROM c", "FETCH 2 FROM c"),
            ("SELECT a FROM t1", "SELECT a FROM t2"),
            ("SELECT a FROM \"1\"", "SELECT a FROM \"2\""),
            ("SELECT 1 FROM a WHERE (", "SELECT 2 FROM a WHERE ("),
            ("PREPARE x AS SELECT 1", "PREPARE x AS SELECT 2"),
        ] {
            cache.analyse(first, &context);
            for text in [second, first] {
                let (cached, own) = (cache.analyse(text, &context), analyse(text, &context));
                assert_eq!(*cached.text, *text);
                assert_eq!(cached.effects, own.effects, "{text}");
                assert_eq!(cached.fingerprint, own.fingerprint, "{text}");
                assert_eq!(cached.problem.is_some(), own.problem.is_some(), "{text}");
                assert_eq!(cached.names, own.names, "{text}");
            }
        }
    }
}

//! What is known of files, so that it is not read again.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use object_store::path::Path;
use parking_lot::Mutex;

/// Something about each of several files. Bounded by bytes; what was not used for the longest time goes first.
pub(crate) struct FileCache<T> {
    limit_bytes: usize,
    weigh: fn(&T) -> usize,
    entries: Mutex<Entries<T>>,
    clock: AtomicU64,
}

struct Entries<T> {
    of_files: HashMap<Path, Entry<T>>,
    bytes: usize,
}

struct Entry<T> {
    value: T,
    bytes: usize,
    used: u64,
}

impl<T: Clone> FileCache<T> {
    /// `weigh` tells the bytes of memory that a value takes.
    pub(crate) fn new(limit_bytes: usize, weigh: fn(&T) -> usize) -> FileCache<T> {
        let entries = Mutex::new(Entries { of_files: HashMap::new(), bytes: 0 });
        FileCache { limit_bytes, weigh, entries, clock: AtomicU64::new(0) }
    }

    pub(crate) fn get(&self, path: &Path) -> Option<T> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        let entry = entries.of_files.get_mut(path)?;
        entry.used = now;
        Some(entry.value.clone())
    }

    pub(crate) fn insert(&self, path: Path, value: T) {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let bytes = path.as_ref().len() + size_of::<Entry<T>>() + (self.weigh)(&value);
        let mut entries = self.entries.lock();
        entries.remove(&path);
        entries.bytes += bytes;
        entries.of_files.insert(path, Entry { value, bytes, used });
        while entries.bytes > self.limit_bytes && entries.of_files.len() > 1 {
            let oldest = entries.of_files.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(path, _)| path.clone()) else { break };
            entries.remove(&oldest);
        }
    }

    pub(crate) fn remove(&self, path: &Path) {
        self.entries.lock().remove(path);
    }
}

impl<T> Entries<T> {
    fn remove(&mut self, path: &Path) {
        if let Some(entry) = self.of_files.remove(path) {
            self.bytes -= entry.bytes;
        }
    }
}

//! All file I/O of the storage, through one small trait: the local disk, or in tests a disk that crashes.

#[cfg(test)]
mod crash;
mod local;
mod store;

use std::{fmt, io, ops::Range, time::SystemTime};

use bytes::Bytes;

#[cfg(test)]
pub(crate) use crash::{CrashDisk, Fault, Moment, Unsynced};
pub(crate) use local::LocalDisk;
pub(crate) use store::DiskStore;

/// A directory tree. Paths are relative to its root, with `/` between their parts.
pub(crate) trait Disk: fmt::Debug + Send + Sync + 'static {
    /// A new, empty file; fails if there is one. Missing directories are made.
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file a second name; fails if the name is taken.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Replaces what is at `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in the directory of `path` durable, and those of the directories above it.
    fn sync_names(&self, path: &str) -> io::Result<()>;

    /// `range` may reach past the end: what is there is returned.
    fn read(&self, path: &str, range: Range<u64>) -> io::Result<Bytes>;

    /// The file to be read part by part, also after it was removed.
    fn open(&self, path: &str) -> io::Result<Box<dyn OpenFile>>;

    fn stat(&self, path: &str) -> io::Result<FileStat>;

    /// Files under a directory, at any depth, in no order; none if it does not exist.
    fn list(&self, directory: &str) -> io::Result<Vec<(String, FileStat)>>;
}

pub(crate) trait DiskFile: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when the contents are durable. After an error nothing is known of what was appended since the last
    /// success, and the file must not be used again.
    fn sync(&mut self) -> io::Result<()>;
}

pub(crate) trait OpenFile: Send + Sync {
    /// `range` may reach past the end: what is there is returned.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes>;
}

/// A file that is in memory.
impl OpenFile for Bytes {
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let end = (range.end as usize).min(self.len());
        Ok(self.slice((range.start as usize).min(end)..end))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct FileStat {
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
}

/// Files that are not finished have names with this mark; what a crash leaves of them is removed at the start.
pub(crate) const UNFINISHED: &str = ".unfinished-";

pub(crate) fn is_unfinished(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.contains(UNFINISHED))
}

/// Whether a file may replace another of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Replace,
    Keep,
}

/// Writes a whole file so that after a crash it is there whole or not at all, and durably once this returns. With
/// `Existing::Keep` a file of that name makes it fail with `AlreadyExists`.
pub(crate) fn put(disk: &dyn Disk, path: &str, bytes: &[Bytes], existing: Existing) -> io::Result<()> {
    let unfinished = format!("{path}{UNFINISHED}{}", uuid::Uuid::new_v4().simple());
    let written = (|| {
        let mut file = disk.create(&unfinished)?;
        bytes.iter().try_for_each(|part| file.append(part))?;
        file.sync()
    })();
    let named = written.and_then(|()| publish(disk, &unfinished, path, existing));
    if named.is_err() {
        let _ = disk.remove(&unfinished);
    }
    named
}

/// Gives a finished and synced file its name.
pub(crate) fn publish(disk: &dyn Disk, unfinished: &str, path: &str, existing: Existing) -> io::Result<()> {
    match existing {
        Existing::Replace => {
            disk.rename(unfinished, path)?;
            disk.sync_names(path)
        }
        Existing::Keep => {
            disk.link(unfinished, path)?;
            let durable = disk.remove(unfinished).and_then(|()| disk.sync_names(path));
            if durable.is_err() {
                // Readers would believe in a name that a crash may take back.
                let _ = disk.remove(path);
            }
            durable
        }
    }
}

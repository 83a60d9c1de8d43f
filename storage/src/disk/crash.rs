//! A disk in memory that forgets, as real ones do, what was not synced. It can fail, it can be watched at every step,
//! and it can keep what it was before each.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    io,
    ops::Range,
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Disk, DiskFile, FileStat, OpenFile};

/// What goes wrong, and at which step. Every change counts as a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// This step fails, and the next ones go on.
    Error {
        at: u64,
    },
    /// No space is left for a number of steps.
    Full {
        from: u64,
        steps: u64,
    },
    /// Nothing can be changed in directories of this name, as after a `chmod`.
    ReadOnly(&'static str),
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsynced {
    Lost,
    Kept,
    /// Of the changes of names in each directory, some of the first; of contents, some, torn.
    Torn(u64),
}

#[derive(Clone)]
pub(crate) struct CrashDisk {
    state: Arc<Mutex<State>>,
    watcher: Arc<Mutex<Option<Watcher>>>,
}

/// Is told the path of every change before it is made.
pub(crate) type Watcher = Arc<dyn Fn(&str) + Send + Sync>;

#[derive(Clone)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    /// As the process sees them.
    names: BTreeMap<Arc<str>, u64>,
    durable_names: BTreeMap<Arc<str>, u64>,
    /// Changes of names that are not durable yet, in order.
    pending: Vec<(Arc<str>, Option<u64>)>,
    next_inode: u64,
    steps: u64,
    fault: Fault,
    /// What it was before each step, and what that step was.
    record: Option<Vec<(Moment, String)>>,
}

/// The disk as it was between two steps. Cheap: contents are shared.
#[derive(Clone)]
pub(crate) struct Moment(Box<State>);

#[derive(Clone)]
struct Inode {
    bytes: Arc<Vec<u8>>,
    synced: usize,
    /// Bytes that a crash turned to zeros.
    torn: Range<usize>,
    /// After a sync failed, the system thinks the contents clean: later ones sync nothing.
    dirty_lost: bool,
    modified: SystemTime,
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn apply(names: &mut BTreeMap<Arc<str>, u64>, (name, inode): &(Arc<str>, Option<u64>)) {
    match inode {
        Some(inode) => names.insert(name.clone(), *inode),
        None => names.remove(name),
    };
}

impl State {
    /// Counts a step, unless it is to fail.
    fn step(&mut self, what: &str, path: &str) -> io::Result<()> {
        if let Some(mut record) = self.record.take() {
            record.push((Moment(Box::new(self.clone())), format!("{what} {path}")));
            self.record = Some(record);
        }
        self.steps += 1;
        match self.fault {
            Fault::Error { at } if self.steps == at => Err(io::Error::other("injected")),
            Fault::Full { from, steps } if (from..from + steps).contains(&self.steps) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Fault::ReadOnly(name) if path.split('/').any(|part| part == name) => {
                Err(io::ErrorKind::PermissionDenied.into())
            }
            _ => Ok(()),
        }
    }

    fn change(&mut self, name: &str, inode: Option<u64>) {
        let change = (Arc::from(name), inode);
        apply(&mut self.names, &change);
        self.pending.push(change);
    }

    fn inode(&self, path: &str) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Moment {
    /// What is found when the power is back: everything synced, and of the rest what `unsynced` says.
    pub(crate) fn after_crash(&self, unsynced: Unsynced) -> CrashDisk {
        let mut state = (*self.0).clone();
        let mut random = match unsynced {
            Unsynced::Torn(seed) => Some(StdRng::seed_from_u64(seed)),
            _ => None,
        };
        let mut names = state.durable_names.clone();
        let mut directories: Vec<&str> = state.pending.iter().map(|(name, _)| directory(name)).collect();
        directories.sort_unstable();
        directories.dedup();
        for of in directories {
            let changes: Vec<_> = state.pending.iter().filter(|(name, _)| directory(name) == of).collect();
            let survived = match (&mut random, unsynced) {
                (Some(random), _) => random.random_range(0..=changes.len()),
                (None, Unsynced::Kept) => changes.len(),
                (None, _) => 0,
            };
            changes.iter().take(survived).for_each(|change| apply(&mut names, change));
        }
        for inode in state.inodes.values_mut().filter(|inode| inode.synced < inode.bytes.len()) {
            let (synced, written) = (inode.synced, inode.bytes.len());
            let length = match (&mut random, unsynced) {
                (Some(random), _) => random.random_range(synced..=written),
                (None, Unsynced::Kept) => written,
                (None, _) => synced,
            };
            let bytes = Arc::make_mut(&mut inode.bytes);
            bytes.truncate(length);
            if let Some(random) = random.as_mut().filter(|_| length > synced)
                && random.random_bool(0.5)
            {
                // A later block was written, an earlier one was not.
                let from = random.random_range(synced..length);
                let to = random.random_range(from..=length);
                bytes.iter_mut().take(to).skip(from).for_each(|byte| *byte = 0);
                inode.torn = from..to;
            }
            inode.synced = length;
        }
        state.durable_names.clone_from(&names);
        (state.names, state.pending, state.steps, state.fault) = (names, Vec::new(), 0, Fault::None);
        CrashDisk::with(state)
    }
}

impl CrashDisk {
    pub(crate) fn new() -> CrashDisk {
        CrashDisk::with(State {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            next_inode: 0,
            steps: 0,
            fault: Fault::None,
            record: None,
        })
    }

    fn with(state: State) -> CrashDisk {
        CrashDisk { state: Arc::new(Mutex::new(state)), watcher: Arc::default() }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.state.lock().steps
    }

    /// A copy that counts its steps from zero.
    pub(crate) fn copy(&self, fault: Fault) -> CrashDisk {
        let mut state = self.state.lock().clone();
        (state.steps, state.fault) = (0, fault);
        CrashDisk::with(state)
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.state.lock().fault = fault;
    }

    /// Keeps what it is before each step from now on.
    pub(crate) fn record(&self) {
        self.state.lock().record = Some(Vec::new());
    }

    /// What was recorded, and the present.
    pub(crate) fn recorded(&self) -> Vec<(Moment, String)> {
        let mut state = self.state.lock();
        let mut record = state.record.take().unwrap_or_default();
        record.push((Moment(Box::new(state.clone())), "end".to_string()));
        record
    }

    pub(crate) fn now(&self) -> Moment {
        Moment(Box::new(self.state.lock().clone()))
    }

    pub(crate) fn watch(&self, watcher: Option<Watcher>) {
        *self.watcher.lock() = watcher;
    }

    /// Equal for disks that grew out of the same one and have the same files in a directory, to the byte.
    pub(crate) fn fingerprint(&self, directory: &str) -> u64 {
        let state = self.state.lock();
        let mut hash = DefaultHasher::new();
        for (name, inode) in state.names.iter().filter(|(name, _)| name.starts_with(directory)) {
            (name, inode).hash(&mut hash);
            if let Some(inode) = state.inodes.get(inode) {
                (inode.bytes.len(), &inode.torn).hash(&mut hash);
            }
        }
        hash.finish()
    }

    /// Flips a bit of a file, as worn media do.
    pub(crate) fn flip_bit(&self, path: &str, at: usize) {
        let mut state = self.state.lock();
        let inode = state.inode(path).ok().and_then(|inode| state.inodes.get_mut(&inode));
        let bytes = Arc::make_mut(&mut inode.expect("a file").bytes);
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 0x20;
    }

    /// Makes all files older, or younger than the clock says that it is.
    pub(crate) fn age(&self, seconds: i64) {
        let shift = std::time::Duration::from_secs(seconds.unsigned_abs());
        for inode in self.state.lock().inodes.values_mut() {
            inode.modified = if seconds < 0 { inode.modified + shift } else { inode.modified - shift };
        }
    }

    /// Tells the watcher, then takes the step.
    fn step(&self, what: &str, path: &str) -> (parking_lot::MutexGuard<'_, State>, io::Result<()>) {
        let watcher = self.watcher.lock().clone();
        if let Some(watcher) = watcher {
            watcher(path);
        }
        let mut state = self.state.lock();
        let outcome = state.step(what, path);
        (state, outcome)
    }
}

impl std::fmt::Debug for CrashDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CrashDisk")
    }
}

impl Disk for CrashDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let (mut state, step) = self.step("create", path);
        step?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        let empty = Inode {
            bytes: Arc::default(),
            synced: 0,
            torn: 0..0,
            dirty_lost: false,
            modified: SystemTime::now(),
        };
        state.inodes.insert(inode, empty);
        state.change(path, Some(inode));
        Ok(Box::new(CrashFile { disk: self.clone(), path: path.to_string(), inode }))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, step) = self.step("link", to);
        step?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inode(from)?;
        state.change(to, Some(inode));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, step) = self.step("rename", to);
        step?;
        let inode = state.inode(from)?;
        state.change(to, Some(inode));
        state.change(from, None);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let (mut state, step) = self.step("remove", path);
        step?;
        state.inode(path)?;
        state.change(path, None);
        Ok(())
    }

    fn sync_names(&self, path: &str) -> io::Result<()> {
        let (mut state, step) = self.step("sync names of", path);
        step?;
        let State { pending, durable_names, .. } = &mut *state;
        let of = directory(path);
        pending.retain(|change| {
            let own = directory(&change.0);
            let synced =
                own.is_empty() || of == own || of.strip_prefix(own).is_some_and(|rest| rest.starts_with('/'));
            if synced {
                apply(durable_names, change);
            }
            !synced
        });
        Ok(())
    }

    fn read(&self, path: &str, range: Range<u64>) -> io::Result<Bytes> {
        let state = self.state.lock();
        let bytes = &state.inodes[&state.inode(path)?].bytes;
        let end = (range.end as usize).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[(range.start as usize).min(end)..end]))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(self.read(path, 0..u64::MAX)?))
    }

    fn stat(&self, path: &str) -> io::Result<FileStat> {
        let state = self.state.lock();
        let inode = &state.inodes[&state.inode(path)?];
        Ok(FileStat { size: inode.bytes.len() as u64, modified: inode.modified })
    }

    fn list(&self, directory: &str) -> io::Result<Vec<(String, FileStat)>> {
        let state = self.state.lock();
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let within = state.names.iter().filter(|(path, _)| path.starts_with(&prefix));
        Ok(within
            .map(|(path, inode)| {
                let inode = &state.inodes[inode];
                (path.to_string(), FileStat { size: inode.bytes.len() as u64, modified: inode.modified })
            })
            .collect())
    }
}

struct CrashFile {
    disk: CrashDisk,
    path: String,
    inode: u64,
}

impl DiskFile for CrashFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut state, step) = self.disk.step("append to", &self.path);
        // Also a write that fails may have written something.
        let written = if step.is_ok() { bytes.len() } else { bytes.len() / 2 };
        if let Some(inode) = state.inodes.get_mut(&self.inode) {
            Arc::make_mut(&mut inode.bytes).extend_from_slice(&bytes[..written]);
            inode.modified = SystemTime::now();
        }
        step
    }

    fn sync(&mut self) -> io::Result<()> {
        let (mut state, step) = self.disk.step("sync", &self.path);
        if let Some(inode) = state.inodes.get_mut(&self.inode) {
            inode.dirty_lost |= step.is_err();
            if !inode.dirty_lost {
                inode.synced = inode.bytes.len();
            }
        }
        step
    }
}

//! A disk in memory that forgets, as real ones do, what was not synced.

use std::{collections::BTreeMap, io, ops::Range, sync::Arc, time::SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Disk, DiskFile, FileStat};

/// What goes wrong, and at which step. Every change counts as a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The power goes off in the middle of this step.
    Crash {
        at: u64,
    },
    /// This step fails, and the next ones go on.
    Error {
        at: u64,
    },
    /// No space is left for a number of steps.
    Full {
        from: u64,
        steps: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct CrashDisk(Arc<Mutex<State>>);

#[derive(Clone, Debug)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    /// As the process sees them.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names that are not durable yet, in order.
    pending: Vec<NameChange>,
    next_inode: u64,
    steps: u64,
    fault: Fault,
    off: bool,
}

#[derive(Clone, Debug)]
struct Inode {
    bytes: Vec<u8>,
    synced: usize,
    modified: SystemTime,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, u64),
    Gone(String),
}

fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Set(name, inode) => names.insert(name.clone(), *inode),
        NameChange::Gone(name) => names.remove(name),
    };
}

impl State {
    /// Counts a step. `Ok(true)`: it is the one in whose middle the power goes off.
    fn step(&mut self) -> io::Result<bool> {
        self.power()?;
        self.steps += 1;
        match self.fault {
            Fault::Crash { at } if self.steps == at => {
                self.off = true;
                Ok(true)
            }
            Fault::Error { at } if self.steps == at => Err(io::Error::other("injected")),
            Fault::Full { from, steps } if (from..from + steps).contains(&self.steps) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(false),
        }
    }

    fn power(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.pending.push(change);
    }

    fn inode(&mut self, path: &str) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

const POWER_OFF: &str = "the power went off";

impl CrashDisk {
    pub(crate) fn new() -> CrashDisk {
        CrashDisk(Arc::new(Mutex::new(State {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            next_inode: 0,
            steps: 0,
            fault: Fault::None,
            off: false,
        })))
    }

    pub(crate) fn steps(&self) -> u64 {
        self.0.lock().steps
    }

    pub(crate) fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// A copy that counts its steps from zero.
    pub(crate) fn copy(&self, fault: Fault) -> CrashDisk {
        let mut state = self.0.lock().clone();
        (state.steps, state.fault) = (0, fault);
        CrashDisk(Arc::new(Mutex::new(state)))
    }

    /// What is found when the power is back: everything synced; of the changes of names that were not, some of the
    /// first; of contents that were not, some, torn.
    pub(crate) fn after_crash(&self, seed: u64) -> CrashDisk {
        let mut random = StdRng::seed_from_u64(seed);
        let mut state = self.0.lock().clone();
        let mut names = state.durable_names.clone();
        let survived = random.random_range(0..=state.pending.len());
        state.pending.iter().take(survived).for_each(|change| apply(&mut names, change));
        for inode in state.inodes.values_mut() {
            let length = random.random_range(inode.synced..=inode.bytes.len());
            inode.bytes.truncate(length);
            if random.random_bool(0.5) && length > inode.synced {
                // A later block was written, an earlier one was not.
                let from = random.random_range(inode.synced..length);
                let to = random.random_range(from..=length);
                inode.bytes.iter_mut().take(to).skip(from).for_each(|byte| *byte = 0);
            }
            inode.synced = length;
        }
        state.durable_names.clone_from(&names);
        (state.names, state.pending, state.steps) = (names, Vec::new(), 0);
        (state.fault, state.off) = (Fault::None, false);
        CrashDisk(Arc::new(Mutex::new(state)))
    }
}

impl Disk for CrashDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        if state.step()? {
            return Err(io::Error::other(POWER_OFF));
        }
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode { bytes: Vec::new(), synced: 0, modified: SystemTime::now() });
        state.change(NameChange::Set(path.to_string(), inode));
        Ok(Box::new(CrashFile { disk: self.clone(), inode }))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let cut = state.step()?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inode(from)?;
        state.change(NameChange::Set(to.to_string(), inode));
        if cut { Err(io::Error::other(POWER_OFF)) } else { Ok(()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let cut = state.step()?;
        let inode = state.inode(from)?;
        state.change(NameChange::Set(to.to_string(), inode));
        state.change(NameChange::Gone(from.to_string()));
        if cut { Err(io::Error::other(POWER_OFF)) } else { Ok(()) }
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let cut = state.step()?;
        state.inode(path)?;
        state.change(NameChange::Gone(path.to_string()));
        if cut { Err(io::Error::other(POWER_OFF)) } else { Ok(()) }
    }

    fn sync_names(&self, _: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.step()? {
            return Err(io::Error::other(POWER_OFF));
        }
        state.durable_names = state.names.clone();
        state.pending.clear();
        Ok(())
    }

    fn read(&self, path: &str, range: Range<u64>) -> io::Result<Bytes> {
        let mut state = self.0.lock();
        state.power()?;
        let inode = state.inode(path)?;
        let bytes = &state.inodes[&inode].bytes;
        let end = (range.end as usize).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[(range.start as usize).min(end)..end]))
    }

    fn stat(&self, path: &str) -> io::Result<FileStat> {
        let mut state = self.0.lock();
        state.power()?;
        let inode = state.inode(path)?;
        let inode = &state.inodes[&inode];
        Ok(FileStat { size: inode.bytes.len() as u64, modified: inode.modified })
    }

    fn list(&self, directory: &str) -> io::Result<Vec<(String, FileStat)>> {
        let state = self.0.lock();
        state.power()?;
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let within = state.names.iter().filter(|(path, _)| path.starts_with(&prefix));
        Ok(within
            .map(|(path, inode)| {
                let inode = &state.inodes[inode];
                (path.clone(), FileStat { size: inode.bytes.len() as u64, modified: inode.modified })
            })
            .collect())
    }
}

struct CrashFile {
    disk: CrashDisk,
    inode: u64,
}

impl DiskFile for CrashFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let step = state.step();
        // Also a write that fails may have written something.
        let written = if matches!(step, Ok(false)) { bytes.len() } else { bytes.len() / 2 };
        if let Some(inode) = state
            .inodes
            .get_mut(&self.inode)
            .filter(|_| !matches!(&step, Err(e) if e.to_string().contains("is off")))
        {
            inode.bytes.extend_from_slice(&bytes[..written]);
            inode.modified = SystemTime::now();
        }
        if step? { Err(io::Error::other(POWER_OFF)) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.step()? {
            return Err(io::Error::other(POWER_OFF));
        }
        if let Some(inode) = state.inodes.get_mut(&self.inode) {
            inode.synced = inode.bytes.len();
        }
        Ok(())
    }
}

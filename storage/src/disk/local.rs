use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;

use super::{Disk, DiskFile, FileStat, OpenFile};

/// A directory of the local file system.
#[derive(Debug)]
pub(crate) struct LocalDisk {
    root: PathBuf,
}

impl LocalDisk {
    pub(crate) fn new(root: impl Into<PathBuf>) -> LocalDisk {
        LocalDisk { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Disk for LocalDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path(path);
        let open = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                open()?
            }
            other => other?,
        };
        Ok(Box::new(LocalFile(file)))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.path(from), self.path(to))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn sync_names(&self, path: &str) -> io::Result<()> {
        let path = self.path(path);
        let within = |directory: &&Path| directory.starts_with(&self.root);
        path.ancestors()
            .skip(1)
            .take_while(within)
            .try_for_each(|directory| File::open(directory)?.sync_all())
    }

    fn read(&self, path: &str, range: Range<u64>) -> io::Result<Bytes> {
        OpenFile::read(&File::open(self.path(path))?, range)
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(File::open(self.path(path))?))
    }

    fn stat(&self, path: &str) -> io::Result<FileStat> {
        stat(&fs::metadata(self.path(path))?)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<(String, FileStat)>> {
        let mut found = Vec::new();
        let mut directories = vec![directory.to_string()];
        while let Some(directory) = directories.pop() {
            let entries = match fs::read_dir(self.path(&directory)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
                match entry.metadata() {
                    // Removed meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    metadata => {
                        let metadata = metadata?;
                        if metadata.is_dir() {
                            directories.push(path);
                        } else {
                            found.push((path, stat(&metadata)?));
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

impl OpenFile for File {
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let size = self.metadata()?.len();
        let range = range.start.min(size)..range.end.min(size);
        let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, range.start + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.into())
    }
}

fn stat(metadata: &fs::Metadata) -> io::Result<FileStat> {
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(FileStat { size: metadata.len(), modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH) })
}

struct LocalFile(File);

impl DiskFile for LocalFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

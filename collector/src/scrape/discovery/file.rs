//! `file_sd_configs`: files with groups of targets, followed as they change.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pharos_model::PromDuration;
use serde::Deserialize;

use super::{DiscoveryConfig, MAX_LIST_BYTES, StaticConfig, TargetGroup, Teller, path_text};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::scrape) struct FileSdConfig {
    files: Vec<PathBuf>,
    /// Taken for compatibility: files are looked at every few seconds anyway.
    #[serde(default, rename = "refresh_interval")]
    _refresh_interval: Option<PromDuration>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::scrape) struct FileSd {
    /// May hold `*` in the last part of the path.
    patterns: Vec<PathBuf>,
}

/// How often files are looked at.
const CHECK: Duration = Duration::from_secs(1);

impl FileSdConfig {
    pub(in crate::scrape) fn resolve(self, base: &Path) -> Result<DiscoveryConfig, String> {
        if self.files.is_empty() {
            return Err("file_sd_configs names no files".into());
        }
        for file in &self.files {
            let text = path_text(file);
            let folder = file.parent().map(path_text).unwrap_or_default();
            let extension = file.extension().and_then(|end| end.to_str()).unwrap_or_default();
            let known = ["json", "yml", "yaml"].contains(&extension.to_ascii_lowercase().as_str());
            if !known || folder.contains('*') || text.matches('*').count() > 1 {
                return Err(format!("path name {text:?} is not valid for file discovery"));
            }
        }
        Ok(DiscoveryConfig::File(FileSd {
            patterns: self.files.iter().map(|file| base.join(file)).collect(),
        }))
    }
}

/// When a file was written, and how long it is.
type Stamp = (Option<SystemTime>, u64);

impl FileSd {
    pub(super) async fn run(self, teller: Teller) {
        let mut known: BTreeMap<PathBuf, Stamp> = BTreeMap::new();
        let mut last_fault = None;
        loop {
            let mut fault = None;
            let paths: Vec<PathBuf> =
                self.patterns.iter().flat_map(|pattern| matching_files(pattern)).collect();
            let gone: Vec<PathBuf> = known.keys().filter(|path| !paths.contains(path)).cloned().collect();
            for path in gone {
                known.remove(&path);
                teller.tell(path_text(&path), Vec::new()).await;
            }
            for path in paths {
                let stamp = std::fs::metadata(&path).map_or((None, 0), |of| (of.modified().ok(), of.len()));
                if known.get(&path) == Some(&stamp) {
                    continue;
                }
                // A file that cannot be read keeps what it said before.
                match read_groups(&path) {
                    Ok(groups) => {
                        teller.tell(path_text(&path), groups).await;
                        known.insert(path, stamp);
                    }
                    Err(error) => fault = Some(format!("{}: {error}", path.display())),
                }
            }
            teller.fault(&mut last_fault, fault);
            tokio::time::sleep(CHECK).await;
        }
    }
}

fn read_groups(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > MAX_LIST_BYTES as u64 {
        return Err(format!("{bytes} bytes are more than {MAX_LIST_BYTES}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let groups: Vec<StaticConfig> = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
    Ok(groups
        .into_iter()
        .map(|group| {
            let mut group = TargetGroup::from(group);
            group.labels.insert("__meta_filepath".into(), path_text(path));
            group
        })
        .collect())
}

/// Existing files that `pattern` names; `*` may stand in its last part.
pub(in crate::scrape) fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((front, back)) = name.split_once('*') else {
        return if pattern.exists() { vec![pattern.to_path_buf()] } else { Vec::new() };
    };
    let folder = pattern.parent().unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= front.len() + back.len() && name.starts_with(front) && name.ends_with(back)
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

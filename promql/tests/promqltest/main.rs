//! Runs promqltest files: those of Prometheus in `$CONFORMANCE_DIR/promqltest` (default
//! `../shared/conformance` beside the workspace), and our own in `testdata/`.

mod check;
mod points;
mod rerun;
mod run;
mod script;

use std::path::{Path, PathBuf};

fn conformance_dir() -> PathBuf {
    match std::env::var_os("CONFORMANCE_DIR") {
        Some(dir) => PathBuf::from(dir).join("promqltest"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance/promqltest"),
    }
}

fn test_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    files.sort();
    files
}

/// Runs all files and reports each of them; the failures of all come in one panic.
fn check_dir(dir: &Path) -> usize {
    let files = test_files(dir);
    let mut failures = Vec::new();
    for path in &files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let text = std::fs::read_to_string(path).expect("a readable test file");
        let report = run::run_file(&text);
        eprintln!("{name}: {} of {} evals pass", report.evals - report.failures.len(), report.evals);
        failures.extend(report.failures.into_iter().map(|failure| format!("{name}:{failure}")));
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    files.len()
}

#[test]
fn the_files_of_prometheus_pass() {
    let dir = conformance_dir();
    if check_dir(&dir) == 0 {
        eprintln!("conformance data is absent: {}", dir.display());
    }
}

#[test]
fn our_own_files_pass() {
    let files = check_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"));
    assert!(files > 0);
}

//! Where test data of others lies, outside of the repository.

use std::path::PathBuf;

/// A folder of the conformance data: `CONFORMANCE_DIR`, default `../shared/conformance` beside the
/// workspace. `None`, said aloud, when it is not there.
pub(crate) fn conformance(folder: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("CONFORMANCE_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
    };
    let dir = root.join(folder);
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("conformance data: absent ({})", dir.display());
    None
}

//! Puts the web UI where `web_ui` embeds it from. Without a built `ui/dist` the binary serves one page that says how
//! to build it, so that Rust builds and tests never need Node.

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let dist = Path::new("../ui/dist");
    println!("cargo::rerun-if-changed=../ui/dist");
    let embedded = Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join("web_ui");
    if embedded.exists() {
        fs::remove_dir_all(&embedded)?;
    }
    if dist.join("index.html").exists() {
        copy(dist, &embedded)
    } else {
        fs::create_dir_all(&embedded)?;
        fs::write(embedded.join("index.html"), include_str!("src/no_ui.html"))
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

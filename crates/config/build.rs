//! Puts the group templates of `templates/` into the library, by name.

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let mut out = String::from("&[\n");
    for path in &files {
        let path = path.canonicalize()?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        writeln!(
            out,
            "({name:?}, include_str!({:?})),",
            path.display().to_string()
        )?;
    }
    out.push(']');
    let target = PathBuf::from(std::env::var("OUT_DIR")?).join("templates.rs");
    std::fs::write(target, out)?;
    Ok(())
}

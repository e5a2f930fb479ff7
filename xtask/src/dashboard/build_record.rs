//! Record of the last dashboard build, which tells whether dist/ is what a build would make now.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::build_kind::BuildKind;
use super::files::files_below;
use super::wasm_opt;
use crate::setup;
use crate::workspace::Workspace;

/// Files and folders that the dashboard is built from.
const SOURCES: [&str; 6] = ["frontend", "shared", "proto", "Cargo.lock", "Cargo.toml", "Trunk.toml"];
/// Folders in them whose contents are generated.
const IGNORED: [&str; 3] = ["node_modules", "target", "dist"];

/// Hash of everything that dist/ would be built from now. The stamp holds that hash for the last build, and a list of
/// the built files, because a build by hand changes dist/ without changing the stamp.
pub(crate) struct BuildRecord {
    sources: String,
    dist: PathBuf,
    stamp: PathBuf,
}

impl BuildRecord {
    pub(crate) fn new(workspace: &Workspace, kind: BuildKind) -> Result<Self> {
        let mut hash = Sha256::new();
        hash.update(setup::tool_versions(workspace)?);
        hash.update([u8::from(setup::wasm_opt(workspace).is_some())]);
        hash.update(wasm_opt::OPTIONS.concat());
        hash.update(kind.profile());
        for source in SOURCES {
            add(&mut hash, &workspace.root, Path::new(source))?;
        }
        let stamp = workspace.target.join("dashboard.stamp");
        Ok(Self { sources: hex(hash), dist: workspace.dist(), stamp })
    }

    /// Whether dist/ is what a build would make now.
    pub(crate) fn is_current(&self) -> Result<bool> {
        let stamp = fs::read_to_string(&self.stamp).unwrap_or_default();
        Ok(self.dist.is_dir() && stamp == self.content()?)
    }

    /// Writes the stamp, after dist/ has been built from these sources.
    pub(crate) fn write(&self) -> Result<()> {
        fs::write(&self.stamp, self.content()?).with_context(|| format!("cannot write {}", self.stamp.display()))
    }

    fn content(&self) -> Result<String> {
        Ok(format!("{}\n{}", self.sources, listing(&self.dist)?))
    }
}

/// Adds a file, or the files of a folder, to the hash by name and content. A path that does not exist adds nothing.
fn add(hash: &mut Sha256, root: &Path, relative: &Path) -> Result<()> {
    let path = root.join(relative);
    if path.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&path)?.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            if !IGNORED.iter().any(|ignored| name == OsStr::new(ignored)) {
                add(hash, root, &relative.join(name))?;
            }
        }
    } else if path.exists() {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update(relative.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    }
    Ok(())
}

/// Names and sizes of the built files. Their names contain a hash of their content.
fn listing(dist: &Path) -> Result<String> {
    let mut text = String::new();
    for file in files_below(dist)? {
        let name = file.strip_prefix(dist).unwrap_or(&file).display().to_string();
        let _ = writeln!(text, "{name} {}", file.metadata()?.len());
    }
    Ok(text)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(root: &Path) -> Workspace {
        for (file, content) in [
            ("Cargo.lock", "[[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.126\"\n"),
            ("frontend/src/main.rs", "fn main() {}"),
            ("frontend/node_modules/x.js", "1"),
            ("shared/src/lib.rs", ""),
            ("dist/index.html", "<html>"),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::create_dir_all(root.join("target")).unwrap();
        Workspace { root: root.to_owned(), target: root.join("target") }
    }

    #[test]
    fn dist_is_built_again_exactly_when_something_in_it_would_change() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let workspace = workspace(root);
        let current = || BuildRecord::new(&workspace, BuildKind::Release).unwrap().is_current().unwrap();
        assert!(!current(), "never built");
        BuildRecord::new(&workspace, BuildKind::Release).unwrap().write().unwrap();
        assert!(current());
        assert!(
            !BuildRecord::new(&workspace, BuildKind::Quick).unwrap().is_current().unwrap(),
            "it tells how it was built"
        );

        fs::write(root.join("frontend/node_modules/x.js"), "2").unwrap();
        fs::create_dir(root.join("server")).unwrap();
        fs::write(root.join("server/main.rs"), "fn main() {}").unwrap();
        assert!(current(), "neither is part of it");

        for (file, content) in [
            ("frontend/src/main.rs", "fn main() { }"),
            ("proto/jobqueue/v1/job.proto", "syntax"),
            ("Cargo.lock", "[[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.127\"\n"),
            ("dist/index.html", "<html></html>"),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            assert!(!current(), "{file}");
            BuildRecord::new(&workspace, BuildKind::Release).unwrap().write().unwrap();
        }
        fs::remove_dir_all(root.join("dist")).unwrap();
        assert!(!current(), "dist/ is gone");
    }
}

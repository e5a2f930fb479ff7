//! Files of the dashboard: those that are embedded in the binary, or those of a folder.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use axum::body::Bytes;
use sha2::{Digest as _, Sha256};

use super::INDEX;

/// Maximum size of a folder's files together, in bytes; a folder that holds more was named by mistake.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Maximum number of files and folders in a folder, which also ends links that lead in a circle.
const MAX_ENTRIES: usize = 10_000;

/// Page of a binary without a dashboard.
const PAGE_WITHOUT_DASHBOARD: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>jobqueue</title>
<h1>jobqueue</h1>
<p>The server runs, but this binary was built without its dashboard. <code>cargo xtask up</code> builds both and
starts them; by hand it is <code>trunk build --release</code>, then
<code>cargo build --release -p jobqueue-server --features dashboard</code>.
";

/// A file in one encoding.
#[derive(Clone, Debug)]
pub(super) struct Asset {
    pub(super) bytes: Bytes,
    pub(super) sha256: [u8; 32],
    pub(super) mime: String,
}

impl Asset {
    fn new(name: &str, bytes: Bytes) -> Self {
        let mime = mime_guess::from_path(name).first_or_octet_stream().to_string();
        Self { sha256: Sha256::digest(&bytes).into(), mime, bytes }
    }
}

/// Files by their path in the URL, without the leading `/`.
#[derive(Debug, Default)]
pub struct Files(HashMap<String, Asset>);

impl Files {
    /// Files that are embedded in the binary; a page that explains how to build them if it has none.
    #[must_use]
    pub fn embedded() -> Self {
        let mut files = Self(embedded());
        let missing = || Asset::new(INDEX, Bytes::from_static(PAGE_WITHOUT_DASHBOARD.as_bytes()));
        files.0.entry(INDEX.to_owned()).or_insert_with(missing);
        files
    }

    /// Reads all files of a folder, once: later changes are not seen.
    ///
    /// # Errors
    /// When the folder cannot be read, has no index.html or is too large.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut files = Self::default();
        let (mut folders, mut bytes, mut entries) = (vec![(folder.to_owned(), String::new())], 0, 0);
        while let Some((path, prefix)) = folders.pop() {
            for entry in fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))? {
                entries += 1;
                ensure!(entries <= MAX_ENTRIES, "{} holds more than {MAX_ENTRIES} files", folder.display());
                let path: PathBuf = entry?.path();
                let Some(name) = path.file_name().and_then(|it| it.to_str()) else { continue };
                let name = format!("{prefix}{name}");
                let found = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
                if found.is_dir() {
                    folders.push((path, format!("{name}/")));
                    continue;
                }
                ensure!(found.is_file(), "{} is no file", path.display());
                bytes += found.len();
                ensure!(bytes <= MAX_BYTES, "{} holds more than {} MiB", folder.display(), MAX_BYTES / 1024 / 1024);
                let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let asset = Asset::new(&name, content.into());
                files.0.insert(name, asset);
            }
        }
        ensure!(files.0.contains_key(INDEX), "{} has no {INDEX}", folder.display());
        Ok(files)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Asset> {
        self.0.get(name)
    }
}

#[cfg(feature = "dashboard")]
fn embedded() -> HashMap<String, Asset> {
    use std::borrow::Cow;

    use rust_embed::RustEmbed;

    #[derive(RustEmbed)]
    #[folder = "../dist"]
    struct Dist;

    let asset = |file: rust_embed::EmbeddedFile| Asset {
        sha256: file.metadata.sha256_hash(),
        mime: file.metadata.mimetype().to_owned(),
        bytes: match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        },
    };
    Dist::iter().filter_map(|name| Dist::get(&name).map(|file| (name.into_owned(), asset(file)))).collect()
}

#[cfg(not(feature = "dashboard"))]
fn embedded() -> HashMap<String, Asset> {
    HashMap::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Files {
        pub(in crate::dashboard) fn of(files: &[(&str, &'static [u8])]) -> Self {
            let asset = |name, bytes: &'static [u8]| Asset::new(name, Bytes::from_static(bytes));
            Self(files.iter().map(|(name, bytes)| ((*name).to_owned(), asset(name, bytes))).collect())
        }
    }

    #[test]
    fn a_folder_is_read_with_the_folders_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let error = Files::read(root).unwrap_err().to_string();
        assert!(error.contains("has no index.html"), "{error}");
        fs::create_dir_all(root.join("a/b")).unwrap();
        for (name, content) in [("index.html", "page"), ("a/b/x.css", "style"), ("a/app.wasm", "wasm")] {
            fs::write(root.join(name), content).unwrap();
        }
        let files = Files::read(root).unwrap();
        let is = |name: &str| files.get(name).map(|it| (it.bytes.clone(), it.mime.clone()));
        assert_eq!(is("index.html"), Some(("page".into(), "text/html".to_owned())));
        assert_eq!(is("a/b/x.css"), Some(("style".into(), "text/css".to_owned())));
        assert_eq!(is("a/app.wasm"), Some(("wasm".into(), "application/wasm".to_owned())));
        assert_eq!(is("a"), None);
        assert_eq!(is("../index.html"), None);
        let error = Files::read(&root.join("none")).unwrap_err().to_string();
        assert!(error.contains("cannot read") && error.contains("none"), "{error}");
        for name in ["a/circle", "a/another"] {
            std::os::unix::fs::symlink(root, root.join(name)).unwrap();
        }
        let error = Files::read(root).unwrap_err().to_string();
        assert!(error.contains("more than 10000 files") || error.contains("cannot read"), "{error}");
    }

    #[test]
    fn a_folder_named_by_mistake_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.html"), "page").unwrap();
        fs::File::create(folder.path().join("disk.img")).unwrap().set_len(MAX_BYTES).unwrap();
        let error = Files::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("more than 64 MiB"), "{error}");
    }
}

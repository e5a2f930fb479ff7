//! Location of PostgreSQL's programs, and a check of their version.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, MINIMUM_VERSION, process};

/// Programs that a cluster needs, all in one folder.
const NEEDED: [&str; 4] = ["initdb", "pg_basebackup", "postgres", "psql"];

/// Folder with the server programs of one PostgreSQL version.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Finds the folder: asks `pg_config --bindir` first, then takes the newest of Debian's folders. `pg_config` may
    /// belong to the client library alone, so a folder counts only when the server's programs are in it.
    pub(crate) fn find() -> Result<Self, Error> {
        let mut searched = Vec::new();
        let mut folders: Vec<PathBuf> = Vec::new();
        match process::run(Command::new("pg_config").arg("--bindir")) {
            Ok(output) => folders.push(PathBuf::from(output.trim())),
            Err(_) => searched.push("no pg_config on PATH".to_owned()),
        }
        folders.extend(debian_folders(Path::new("/usr/lib/postgresql")));
        for folder in folders {
            if let Some(missing) = NEEDED.iter().find(|name| !folder.join(name).is_file()) {
                searched.push(format!("no {missing} in {}", folder.display()));
                continue;
            }
            let output = process::run(Command::new(folder.join("postgres")).arg("--version"))?;
            match major_version(&output) {
                Some(version) if version >= MINIMUM_VERSION => return Ok(Self { folder }),
                _ => searched.push(format!("{} is {}", folder.display(), output.trim())),
            }
        }
        searched.push("looked in /usr/lib/postgresql/*/bin".to_owned());
        Err(Error::NotInstalled { searched: searched.join("; ") })
    }

    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }
}

/// Folders `<root>/<version>/bin`, newest version first.
fn debian_folders(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// Major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, also of betas like `19beta1`.
fn major_version(output: &str) -> Option<u32> {
    let after = output.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = after.len() - after.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    after[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_releases_and_betas() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major_version("something else 15"), None);
    }

    #[test]
    fn debians_newest_version_comes_first_by_number_not_by_spelling() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9", "15", "17", "notes"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let found = debian_folders(root.path());
        assert_eq!(found, ["17", "15", "9"].map(|version| root.path().join(version).join("bin")));
    }
}

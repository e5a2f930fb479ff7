//! Folders of the repository and of its build output.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cargo::cargo;
use crate::process;

/// Repository, as cargo sees it.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's output folder; xtask's tools and logs are below it, too.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"]);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
        Self::parse(&process::output(&mut command)?)
    }

    fn parse(metadata: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(metadata).context("cargo metadata printed no JSON")?;
        let path = |key: &str| metadata[key].as_str().map(PathBuf::from).with_context(|| format!("no {key}"));
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// Folder of the tools that xtask installs for itself: binaries in `bin`, npm packages in `npm`, Python's in
    /// `venv`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.tools().join("bin").join(name)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.target.join("log").join(format!("{name}.log"))
    }

    /// Folder of the built dashboard.
    pub(crate) fn dist(&self) -> PathBuf {
        self.root.join("dist")
    }

    /// Path of a built program. `profile` is cargo's folder name, such as "debug" or "release".
    pub(crate) fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }

    /// Version of a crate in Cargo.lock.
    pub(crate) fn locked_version(&self, name: &str) -> Result<String> {
        let lock = std::fs::read_to_string(self.root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
        locked_version(&lock, name).with_context(|| format!("{name} is not in Cargo.lock"))
    }
}

fn locked_version(lock: &str, name: &str) -> Option<String> {
    let mut lines = lock.lines();
    lines.find(|line| *line == format!("name = \"{name}\""))?;
    let version = lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')?;
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_is_that_of_exactly_the_named_crate() {
        let lock = "[[package]]\nname = \"wasm-bindgen-macro\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.126\"\nsource = \"x\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen").as_deref(), Some("0.2.126"));
        assert_eq!(locked_version(lock, "wasm"), None);
    }

    #[test]
    fn what_is_installed_goes_below_cargos_output_folder() {
        let workspace = Workspace::parse(r#"{"workspace_root": "/r", "target_directory": "/t"}"#).unwrap();
        assert_eq!((workspace.root.as_path(), workspace.tools().as_path()), (Path::new("/r"), Path::new("/t/tools")));
        assert!(Workspace::parse("{}").is_err());
    }
}

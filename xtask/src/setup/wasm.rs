//! Compiler for the dashboard: rustup's wasm32 target, or Debian's rustc with a standard library that is built here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::{self, Package};
use crate::cargo::cargo;
use crate::process;
use crate::progress::{Step, Task};
use crate::workspace::Workspace;

const TARGET: &str = "wasm32-unknown-unknown";

/// Variable that chooses the compiler: `rustup` or `debian`. Unset: the first one that works, rustup's first.
const VARIABLE: &str = "JOBQUEUE_WASM";

/// Path of Debian's compiler, in full because rustup's comes first on PATH.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LIBRARIES: &str = "/usr/lib/rustlib/wasm32-unknown-unknown/lib";
const DEBIAN_WHY: &str = "rustup's wasm32 target cannot be had here";
const DEBIAN_PACKAGES: [Package; 4] = [
    Package { name: "rustc-web", why: DEBIAN_WHY },
    Package { name: "rust-web-src", why: DEBIAN_WHY },
    Package { name: "rust-web-llvm", why: DEBIAN_WHY },
    Package { name: "lld-22", why: DEBIAN_WHY },
];

/// Source of a crate that links the whole standard library with LTO, as the dashboard does.
const PROBE: &str =
    "#[unsafe(no_mangle)]\npub extern \"C\" fn probe(n: usize) -> usize { format!(\"{:?}\", vec![n; n]).len() }\n";

/// Compiler that can build for [`TARGET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// Compiler that builds everything else.
    Rustup,
    /// Debian's rustc-web.
    Debian,
}

impl Toolchain {
    /// Compiler that is ready for use, if any.
    pub(crate) fn find(workspace: &Workspace) -> Result<Option<Self>> {
        let forced = Self::forced()?;
        let ready = |toolchain| match toolchain {
            Self::Rustup => rustup_ready(),
            Self::Debian => debian_ready(workspace),
        };
        let candidates = forced.map_or_else(|| vec![Self::Rustup, Self::Debian], |toolchain| vec![toolchain]);
        Ok(candidates.into_iter().find(|toolchain| ready(*toolchain)))
    }

    /// Makes `command`, which runs cargo in the end, use this compiler.
    pub(crate) fn apply(self, command: &mut Command, workspace: &Workspace) {
        if self == Self::Debian {
            // An output folder of its own: in a common one, the two compilers would rebuild each other's output for
            // ever.
            command.env("RUSTC", DEBIAN_RUSTC).env("CARGO_TARGET_DIR", workspace.target.join("wasm-debian"));
        }
    }

    fn forced() -> Result<Option<Self>> {
        Self::parse(&std::env::var(VARIABLE).unwrap_or_default())
    }

    fn parse(value: &str) -> Result<Option<Self>> {
        match value {
            "" => Ok(None),
            "rustup" => Ok(Some(Self::Rustup)),
            "debian" => Ok(Some(Self::Debian)),
            other => bail!("{VARIABLE} is `{other}`; it can be `rustup` or `debian`"),
        }
    }
}

/// Task that makes a compiler ready; `None` when one is.
pub(crate) fn task(workspace: &Workspace) -> Result<Option<Task<'_>>> {
    if Toolchain::find(workspace)?.is_some() {
        return Ok(None);
    }
    let forced = Toolchain::forced()?;
    Ok(Some(Task::new(format!("Rust's {TARGET} target"), "compiles the dashboard", move |step| {
        let log = workspace.log("wasm");
        if forced != Some(Toolchain::Debian) {
            let added = process::logged(Command::new("rustup").args(["target", "add", TARGET]), &log, step);
            if added.is_ok() && rustup_ready() {
                return Ok(());
            }
            if forced == Some(Toolchain::Rustup) {
                return added;
            }
            step.note("rustup cannot install it; building Debian's");
        }
        install_debian(workspace, &log, step)
    })))
}

fn rustup_ready() -> bool {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let folder = process::output(rustc.args(["--print", "target-libdir", "--target", TARGET]));
    folder.is_ok_and(|folder| has_std(Path::new(folder.trim())))
}

fn has_std(libraries: &Path) -> bool {
    fs::read_dir(libraries)
        .is_ok_and(|files| files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

/// True when Debian's library was built by the very compiler that is installed now, and a crate links with it.
fn debian_ready(workspace: &Workspace) -> bool {
    has_std(Path::new(DEBIAN_LIBRARIES))
        && rustc_version().is_ok_and(|now| fs::read_to_string(version_file()).is_ok_and(|built| built == now))
        && probe(workspace).is_ok()
}

fn rustc_version() -> Result<String> {
    process::output(Command::new(DEBIAN_RUSTC).arg("--version"))
}

/// File with the version of the compiler that built the library: another version cannot read the library.
fn version_file() -> PathBuf {
    Path::new(DEBIAN_LIBRARIES).with_file_name("built-by")
}

fn probe(workspace: &Workspace) -> Result<()> {
    let folder = workspace.tools().join("wasm-probe");
    fs::create_dir_all(&folder)?;
    let source = folder.join("probe.rs");
    fs::write(&source, PROBE)?;
    let mut command = Command::new(DEBIAN_RUSTC);
    command.args(["--edition=2024", "--crate-type=cdylib", "--target", TARGET, "-Copt-level=1", "-Clto=fat"]);
    process::output(command.arg("-o").arg(folder.join("probe.wasm")).arg(&source)).map(drop)
}

fn install_debian(workspace: &Workspace, log: &Path, step: &Step) -> Result<()> {
    let installed = DEBIAN_PACKAGES.iter().all(|package| {
        process::output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package.name]))
            .is_ok_and(|status| status == "installed")
    });
    apt::require_apt(&DEBIAN_PACKAGES)?;
    if !installed {
        apt::install(workspace, &DEBIAN_PACKAGES.map(|package| package.name), step)?;
    }

    let folder = workspace.tools().join("wasm-std");
    fs::create_dir_all(folder.join("src"))?;
    let manifest = "[package]\nname = \"wasm-std\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
                    [lib]\ncrate-type = [\"cdylib\"]\n\n[workspace]\n";
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/lib.rs"), "")?;
    let mut command = cargo();
    command.current_dir(&folder).args(["build", "--release", "--target", TARGET]);
    command.args(["-Z", "build-std=std,panic_abort,proc_macro"]).arg("--target-dir").arg(folder.join("target"));
    // Without bitcode in the library, building the dashboard with LTO fails.
    command.env("RUSTFLAGS", "-Cembed-bitcode=yes").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").env("CARGO_TERM_COLOR", "never");
    process::logged(&mut command, log, step)?;

    let libraries = Path::new(DEBIAN_LIBRARIES);
    // The folder is replaced, because the files of an older version would be found beside the new ones.
    if libraries.exists() {
        fs::remove_dir_all(libraries)?;
    }
    fs::create_dir_all(libraries).with_context(|| format!("cannot make {DEBIAN_LIBRARIES}"))?;
    for file in fs::read_dir(folder.join("target").join(TARGET).join("release/deps"))?.flatten() {
        if file.path().extension().is_some_and(|extension| extension == "rlib") {
            fs::copy(file.path(), libraries.join(file.file_name()))?;
        }
    }
    fs::remove_dir_all(&folder)?;
    probe(workspace).context("the standard library was built, but a crate does not link with it")?;
    fs::write(version_file(), rustc_version()?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_can_be_chosen_and_a_wrong_choice_is_said() {
        assert_eq!(Toolchain::parse("").unwrap(), None);
        assert_eq!(Toolchain::parse("debian").unwrap(), Some(Toolchain::Debian));
        assert_eq!(Toolchain::parse("rustup").unwrap(), Some(Toolchain::Rustup));
        let error = Toolchain::parse("gcc").unwrap_err().to_string();
        assert!(error.contains(VARIABLE) && error.contains("gcc") && error.contains("debian"), "{error}");
    }

    #[test]
    fn a_folder_without_the_standard_library_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libcore-1.rlib"), "").unwrap();
        assert!(!has_std(folder.path()));
        fs::write(folder.path().join("libstd-1.rlib"), "").unwrap();
        assert!(has_std(folder.path()));
    }
}

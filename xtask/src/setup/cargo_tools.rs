//! Programs from crates.io, built into target/tools: trunk, wasm-bindgen, cargo-deny and inferno.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::need::Need;
use crate::cargo::cargo;
use crate::process;
use crate::progress::Task;
use crate::workspace::Workspace;

/// Newest version of trunk that the toolchain of this repository compiles.
const TRUNK: &str = "0.21.14";
const CARGO_DENY: &str = "0.20.2";
const INFERNO: &str = "0.12.8";

/// Versions that shape the dashboard, which decide whether it must be built again.
pub(crate) fn versions(workspace: &Workspace) -> Result<String> {
    Ok(format!("trunk {TRUNK}, wasm-bindgen {}", workspace.locked_version("wasm-bindgen")?))
}

/// Path of a program: the one built into target/tools, or else the one on PATH.
pub(crate) fn find(workspace: &Workspace, binary: &str) -> PathBuf {
    let own = workspace.tool(binary);
    if own.exists() { own } else { process::which(&[binary]).unwrap_or(own) }
}

struct Tool {
    package: &'static str,
    binary: &'static str,
    version: String,
    /// True when a newer version of the series does not serve.
    exact: bool,
    options: &'static [&'static str],
    why: &'static str,
}

impl Tool {
    fn of(need: Need, workspace: &Workspace) -> Result<Option<Self>> {
        Ok(match need {
            Need::Trunk => Some(Self {
                package: "trunk",
                binary: "trunk",
                version: TRUNK.to_owned(),
                exact: false,
                // Without TLS, which only its own downloads and a page served by HTTPS need.
                options: &["--no-default-features"],
                why: "builds the dashboard",
            }),
            // wasm-bindgen's program must be of exactly the version that the dashboard links.
            Need::WasmBindgen => Some(Self {
                package: "wasm-bindgen-cli",
                binary: "wasm-bindgen",
                version: workspace.locked_version("wasm-bindgen")?,
                exact: true,
                options: &[],
                why: "ties the dashboard's WebAssembly to JavaScript",
            }),
            Need::CargoDeny => Some(Self {
                package: "cargo-deny",
                binary: "cargo-deny",
                version: CARGO_DENY.to_owned(),
                exact: false,
                options: &[],
                why: "checks the licences and sources of dependencies",
            }),
            Need::Inferno => Some(Self {
                package: "inferno",
                binary: "inferno-flamegraph",
                version: INFERNO.to_owned(),
                exact: false,
                options: &[],
                why: "draws profiles",
            }),
            _ => None,
        })
    }

    fn installed(&self, workspace: &Workspace) -> bool {
        process::output(Command::new(find(workspace, self.binary)).arg("--version"))
            .is_ok_and(|text| self.serves(&text))
    }

    /// Whether a program can be used that prints `text` as its version.
    fn serves(&self, text: &str) -> bool {
        let (Some(wanted), Some(found)) = (process::version(&self.version), process::version(text)) else {
            return false;
        };
        // Later versions of a series serve as well, except for the program that must have the version of its library.
        found == wanted || (!self.exact && found[..2] == wanted[..2] && found > wanted)
    }
}

/// Tasks that build the programs that are missing or have another version.
pub(crate) fn tasks(workspace: &Workspace, needs: impl Iterator<Item = Need>) -> Result<Vec<Task<'_>>> {
    let mut missing = Vec::new();
    for need in needs {
        missing.extend(Tool::of(need, workspace)?.filter(|tool| !tool.installed(workspace)));
    }
    let count = missing.len();
    let task = |(index, tool): (usize, Tool)| {
        let what = format!("{} {}", tool.package, tool.version);
        Task::new(what, tool.why, move |step| {
            // A common folder, so that dependencies that the tools share are compiled once.
            let build = workspace.tools().join("build");
            let mut command = cargo();
            command.args(["install", "--locked", "--debug", "--root"]).arg(workspace.tools());
            command.args(tool.options).arg(format!("{}@{}", tool.package, tool.version));
            command
                .env("CARGO_TARGET_DIR", &build)
                .env("CARGO_PROFILE_DEV_DEBUG", "0")
                .env("CARGO_TERM_COLOR", "never");
            // Flags meant for this repository, such as -D warnings, must not apply to a tool.
            command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
            process::logged(&mut command, &workspace.log("tools"), step)?;
            if index + 1 == count {
                std::fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
            }
            Ok(())
        })
    };
    Ok(missing.into_iter().enumerate().map(task).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_installed_already_is_used_when_its_version_serves() {
        let tool =
            |exact| Tool { package: "p", binary: "p", version: "0.21.14".to_owned(), exact, options: &[], why: "test" };
        for (text, serves, serves_exactly) in [
            ("trunk 0.21.14", true, true),
            ("trunk 0.21.15", true, false),
            ("trunk 0.21.9", false, false),
            ("trunk 0.22.0", false, false),
            ("trunk", false, false),
        ] {
            assert_eq!((tool(false).serves(text), tool(true).serves(text)), (serves, serves_exactly), "{text}");
        }
    }

    #[test]
    fn a_program_of_target_tools_comes_before_that_of_path() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().to_owned();
        let workspace = Workspace { root: target.clone(), target };
        assert_eq!(Some(find(&workspace, "sh")), process::which(&["sh"]));
        let own = workspace.tool("sh");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(find(&workspace, "sh"), own);
    }
}

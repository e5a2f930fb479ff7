//! Programs from crates.io, built into target/tools: trunk, wasm-bindgen, cargo-deny and inferno.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::Need;
use crate::process;
use crate::progress::Task;
use crate::workspace::{Workspace, cargo};

/// The newest trunk that the toolchain of this repository compiles.
const TRUNK: &str = "0.21.14";
const CARGO_DENY: &str = "0.20.2";
const INFERNO: &str = "0.12.8";

/// The versions that shape the dashboard, for telling whether it must be built again.
pub(crate) fn versions(workspace: &Workspace) -> Result<String> {
    Ok(format!("trunk {TRUNK}, wasm-bindgen {}", workspace.locked_version("wasm-bindgen")?))
}

struct Tool {
    package: &'static str,
    binary: &'static str,
    version: String,
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
                options: &["--no-default-features", "--features", "rustls"],
                why: "builds the dashboard",
            }),
            // wasm-bindgen's program must be of exactly the version that the dashboard links.
            Need::WasmBindgen => Some(Self {
                package: "wasm-bindgen-cli",
                binary: "wasm-bindgen",
                version: workspace.locked_version("wasm-bindgen")?,
                options: &[],
                why: "ties the dashboard's WebAssembly to JavaScript",
            }),
            Need::CargoDeny => Some(Self {
                package: "cargo-deny",
                binary: "cargo-deny",
                version: CARGO_DENY.to_owned(),
                options: &[],
                why: "checks the licences and sources of dependencies",
            }),
            Need::Inferno => Some(Self {
                package: "inferno",
                binary: "inferno-flamegraph",
                version: INFERNO.to_owned(),
                options: &[],
                why: "draws profiles",
            }),
            _ => None,
        })
    }

    fn installed(&self, workspace: &Workspace) -> bool {
        let wanted = process::version(&self.version);
        let found = process::output(Command::new(workspace.tool(self.binary)).arg("--version"));
        found.is_ok_and(|text| process::version(&text) == wanted)
    }
}

/// The tasks that build what is missing or of another version.
pub(crate) fn tasks(workspace: &Workspace, needs: impl Iterator<Item = Need>) -> Result<Vec<Task<'_>>> {
    let mut missing = Vec::new();
    for need in needs {
        missing.extend(Tool::of(need, workspace)?.filter(|tool| !tool.installed(workspace)));
    }
    let count = missing.len();
    let task = |(index, tool): (usize, Tool)| {
        let what = format!("{} {}", tool.package, tool.version);
        Task::new(what, tool.why, move |step| {
            // The tools share here what they have in common.
            let build = workspace.tools().join("build");
            let mut command = cargo();
            command.args(["install", "--locked", "--debug", "--root"]).arg(workspace.tools());
            command.args(tool.options).arg(format!("{}@{}", tool.package, tool.version));
            command
                .env("CARGO_TARGET_DIR", &build)
                .env("CARGO_PROFILE_DEV_DEBUG", "0")
                .env("CARGO_TERM_COLOR", "never");
            // Flags meant for this repository, such as -D warnings, are none of a tool's business.
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

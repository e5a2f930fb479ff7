//! `trunk serve` for `up --dev`: reloads the page when the dashboard's source changes, and passes the API on.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::dashboard;
use crate::workspace::Workspace;

/// Address of the API in Trunk.toml.
const DEFAULT_BACKEND: &str = "http://127.0.0.1:8080";

/// Configuration file of trunk for a server on another address; removed when this is dropped. It is beside Trunk.toml,
/// because trunk resolves the paths in it from there.
pub(super) struct Config(Option<PathBuf>);

impl Config {
    pub(super) fn new(workspace: &Workspace, http: SocketAddr) -> Result<Self> {
        let backend = format!("http://{http}");
        if backend == DEFAULT_BACKEND {
            return Ok(Self(None));
        }
        let file = workspace.root.join("Trunk.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let own = workspace.root.join(".trunk-dev.toml");
        fs::write(&own, with_backend(&text, &backend)).with_context(|| format!("cannot write {}", own.display()))?;
        Ok(Self(Some(own)))
    }

    /// Command that serves the dashboard on `address`.
    pub(super) fn serve(&self, workspace: &Workspace, address: SocketAddr) -> Result<Command> {
        let mut trunk = dashboard::trunk(workspace)?;
        trunk.args(["serve", "--color", "never", "--dist"]).arg(workspace.target.join("dashboard-dev"));
        trunk.args(["--address", &address.ip().to_string(), "--port", &address.port().to_string()]);
        trunk.args(["--disable-address-lookup", "true"]);
        trunk.args(self.0.iter().flat_map(|file| [Path::new("--config"), file]));
        Ok(trunk)
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = fs::remove_file(file);
        }
    }
}

fn with_backend(config: &str, backend: &str) -> String {
    config.replace(DEFAULT_BACKEND, backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proxy_of_the_real_configuration_follows_the_server() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Trunk.toml");
        let config = fs::read_to_string(file).unwrap();
        let moved = with_backend(&config, "http://127.0.0.1:9999");
        let backends: Vec<&str> = moved.lines().filter(|line| line.starts_with("backend")).collect();
        assert!(backends.len() >= 2, "{moved}");
        assert!(backends.iter().all(|line| line.contains("http://127.0.0.1:9999/")), "{backends:?}");
        assert_eq!(with_backend(&moved, "unused"), moved);
    }
}

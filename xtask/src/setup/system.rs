//! Programs of the system: those that packages have put on this machine.

use std::path::PathBuf;

use crate::process;

/// True when the program is on PATH, or in the folder where Debian puts programs for root only.
pub(super) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.into_iter().any(|folder| folder.join(name).is_file())
}

/// Path of Chromium: the value of CHROMIUM, or else the first of its names on PATH.
pub(crate) fn chromium() -> Option<PathBuf> {
    match std::env::var_os("CHROMIUM") {
        Some(path) if !path.is_empty() => Some(PathBuf::from(path)).filter(|path| path.exists()),
        _ => process::which(&["chromium", "chromium-browser", "google-chrome"]),
    }
}

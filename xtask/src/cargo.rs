//! Calls of cargo: the program, and the features with which the workspace is built for tests.

use std::process::Command;

/// Command for the cargo that runs xtask, so that `cargo +toolchain xtask` stays with its toolchain.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Features with which the workspace is built: the failpoints that tests use, and the dashboard when it has been built.
pub(crate) fn test_features(with_dashboard: bool) -> [&'static str; 2] {
    let both = "jobqueue-server/failpoints,jobqueue-server/dashboard";
    ["--features", if with_dashboard { both } else { "jobqueue-server/failpoints" }]
}

//! Paths of the programs under test: those that xtask has built, or ones built now.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Path of `jobqueue-server`: the value of JOBQUEUE_SERVER_BIN, else built from this workspace.
pub fn server() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("JOBQUEUE_SERVER_BIN", "jobqueue-server")).clone()
}

/// Path of `jobqueue-worker`: the value of JOBQUEUE_WORKER_BIN, else built from this workspace.
pub fn worker() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("JOBQUEUE_WORKER_BIN", "jobqueue-worker")).clone()
}

fn find(variable: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    if let Some(given) = env::var_os(variable).map(PathBuf::from) {
        assert!(given.is_file(), "{variable} names {}, which is missing: build {name} first", given.display());
        return given;
    }
    BUILT.get_or_init(|| cargo_build("--bins"));
    build_folder().join(name)
}

/// Path of a built example: in the folder JOBQUEUE_EXAMPLES, else built from this workspace.
pub fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        if let Some(given) = env::var_os("JOBQUEUE_EXAMPLES") {
            return given.into();
        }
        cargo_build("--examples");
        build_folder().join("examples")
    });
    folder.join(name)
}

/// Folder of this build: target/debug.
fn build_folder() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors().nth(2).map(Path::to_owned).unwrap()
}

/// Builds the programs that the tests start. It uses the features of `cargo test --workspace`, so that little is
/// compiled twice.
fn cargo_build(what: &str) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--features", "jobqueue-server/failpoints", what])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo build {what} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

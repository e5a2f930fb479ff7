//! The released version that upgrades start from, built from its own source.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const VERSION: &str = "0.1.0";

/// The released programs.
#[derive(Clone, Debug)]
pub struct Released {
    pub server: PathBuf,
    pub worker: PathBuf,
}

/// Builds them below target/released, where they are not there yet. Takes minutes the first time.
pub fn programs() -> Released {
    static BUILT: OnceLock<Released> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> Released {
    let name = format!("jobqueue-{VERSION}");
    let place = target().join("released");
    let source = place.join(&name);
    let programs = place.join("build/debug");
    let released = Released { server: programs.join("jobqueue-server"), worker: programs.join("jobqueue-worker") };
    fs::create_dir_all(&place).unwrap();
    // One builds, whoever else wants it waits.
    let lock = fs::File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    if !released.server.is_file() || !released.worker.is_file() {
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("released/v{VERSION}.tar.gz"));
        run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&place));
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--locked", "--bins", "--target-dir"]).arg(place.join("build"));
        // What decides how this workspace is built must not reach into that one.
        command.env_remove("CARGO_TARGET_DIR").env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
        run(command.current_dir(source));
    }
    released
}

/// Where cargo builds this workspace: two folders up from the file that it locks.
fn target() -> PathBuf {
    let program = env::current_exe().unwrap();
    let profile = program.ancestors().find(|folder| folder.join(".cargo-lock").is_file());
    profile.and_then(Path::parent).expect("tests run from cargo's target folder").to_owned()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

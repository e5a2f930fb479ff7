//! Test that a signal to `cargo xtask` alone leaves no process behind.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Path of a script that stands for cargo. For `metadata` it names `folder`; instead of a build it starts two processes
/// that go on, as compilers do, and writes all three process ids to `pids`.
fn cargo(folder: &Path, pids: &Path) -> PathBuf {
    let metadata =
        serde_json::json!({ "workspace_root": folder, "target_directory": folder.join("target") }).to_string();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = metadata ]; then echo '{metadata}'; exit; fi\n\
         (sleep 600 & echo $! >>{pids}.new; wait) &\nsleep 600 &\n\
         while ! [ -s {pids}.new ]; do :; done\necho $$ $! >>{pids}.new\nmv {pids}.new {pids}\nwait\n",
        pids = pids.display()
    );
    let file = folder.join("cargo");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signal_to_xtask_alone_ends_cargo_and_what_cargo_has_started() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["test", "unit"])
            .env("CARGO", cargo(folder.path(), &pids))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the build has begun", || pids.exists() || xtask.try_wait().unwrap().is_some());
        let started: Vec<Pid> = std::fs::read_to_string(&pids)
            .unwrap()
            .split_whitespace()
            .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
            .collect();
        assert_eq!(started.len(), 3);
        kill_process(Pid::from_raw(xtask.id().cast_signed()).unwrap(), signal).unwrap();
        let status = xtask.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{signal:?}");
        eventually("all are gone", || started.iter().all(|pid| test_kill_process(*pid).is_err()));
    }
}

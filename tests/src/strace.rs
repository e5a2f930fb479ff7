//! Failing syncs: strace, attached to running processes, makes them fail with EIO.

use std::process::Command;

use crate::{
    poll::eventually,
    process::{Process, Signal},
};

/// Makes every fsync and fdatasync of some processes fail until it is stopped.
#[derive(Debug)]
pub struct FailingSyncs(Process);

impl FailingSyncs {
    /// Attaches to the processes, all of their threads, and their later children; returns when it has.
    pub async fn of(pids: &[u32]) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]);
        for pid in pids {
            strace.args(["-p", &pid.to_string()]);
        }
        let mut strace = Self(Process::start("strace", &mut strace));
        eventually("strace is attached", async || {
            let ended = strace.0.has_ended();
            assert!(ended.is_none(), "strace ended ({ended:?}): {}", strace.0.stderr());
            let said = strace.0.stderr();
            pids.iter().all(|pid| said.contains(&format!("Process {pid} attached"))).then_some(())
        })
        .await;
        strace
    }

    /// Number of syncs that have failed so far.
    pub fn failed(&self) -> usize {
        self.0.stderr().matches("EIO").count()
    }

    /// Detaches from the processes, whose syncs work again.
    pub async fn stop(mut self) {
        self.0.signal(Signal::INT);
        self.0.ended().await;
    }
}

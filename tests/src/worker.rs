//! `jobqueue-worker` as a process.

use std::{
    ops::{Deref, DerefMut},
    process::Command,
};

use crate::{binaries, process::Process, server::Server};

/// A worker that was started; it may not have reached its server yet.
#[derive(Debug)]
pub struct Worker(Process);

impl Worker {
    /// Starts a worker for the jobs of `worker_id`, with `args` that say how it runs them.
    pub fn start(server: &Server, worker_id: &str, args: &[&str]) -> Self {
        Self::start_at(&server.endpoint(), worker_id, args)
    }

    /// Starts a worker by a launcher, which is given the program and its arguments: `["sh", "-c", "ulimit -n 64; exec
    /// \"$@\"", "sh"]`.
    pub fn start_by(launcher: &[&str], server: &Server, worker_id: &str, args: &[&str]) -> Self {
        let mut command = Command::new(launcher[0]);
        command.args(&launcher[1..]).arg(binaries::worker());
        Self::run(command, &server.endpoint(), worker_id, args)
    }

    /// Starts a worker for a server that is reached by another address than its own.
    pub fn start_at(endpoint: &str, worker_id: &str, args: &[&str]) -> Self {
        Self::run(Command::new(binaries::worker()), endpoint, worker_id, args)
    }

    fn run(mut command: Command, endpoint: &str, worker_id: &str, args: &[&str]) -> Self {
        command.args(["--server", endpoint, "--worker-id", worker_id, "--log", "debug,h2=info,hyper=info"]);
        Self(Process::start("jobqueue-worker", command.args(args)))
    }
}

impl Deref for Worker {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl DerefMut for Worker {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.0
    }
}

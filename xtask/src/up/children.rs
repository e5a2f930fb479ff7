//! Programs that `up` runs: started, watched and stopped together.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::interrupt;

/// Time after which a program is killed. Longer than the grace periods of server and worker, which end earlier by
/// themselves.
const GRACE: Duration = Duration::from_mins(1);

const POLL: Duration = Duration::from_millis(50);

/// End of a run of `up`.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The run was asked to stop, and all programs did.
    Stopped,
    /// A program ended without being asked; the others were stopped then.
    Died { name: &'static str, status: ExitStatus },
    /// A program had to be killed.
    Killed { name: &'static str },
}

/// Running programs. Dropping them kills those that are left.
pub(crate) struct Children {
    running: Vec<(&'static str, Child)>,
    /// Number of requests to stop: one means in order, more mean at once.
    asked: Arc<AtomicUsize>,
}

impl Children {
    /// Takes over the signals: from here on, Ctrl-C, SIGTERM and SIGHUP stop the children and not only this program.
    pub(crate) fn new() -> Self {
        Self { running: Vec::new(), asked: interrupt::take_over() }
    }

    pub(crate) fn start(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        // A process group of its own: Ctrl-C reaches only xtask, which stops the children in their order.
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        self.running.push((name, child.with_context(|| format!("cannot start {name}"))?));
        Ok(())
    }

    /// Waits until `GET /readyz` answers 200. Returns the outcome if the run has ended before.
    pub(crate) fn wait_ready(&mut self, address: SocketAddr, within: Duration) -> Result<Option<Outcome>> {
        let deadline = Instant::now() + within;
        while !is_ready(address) {
            if let Some(outcome) = self.outcome_if_over() {
                return Ok(Some(outcome));
            }
            if Instant::now() > deadline {
                self.stop();
                bail!("the server was not ready within {} s (http://{address}/readyz)", within.as_secs());
            }
            std::thread::sleep(POLL);
        }
        Ok(None)
    }

    /// Waits until a stop is requested, or a child ends by itself.
    pub(crate) fn wait(&mut self) -> Outcome {
        loop {
            if let Some(outcome) = self.outcome_if_over() {
                return outcome;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Outcome of the run, if it is over; everything has been stopped then.
    fn outcome_if_over(&mut self) -> Option<Outcome> {
        if self.asked.load(Ordering::SeqCst) > 0 {
            return Some(self.stop());
        }
        let dead = self.running.iter_mut().position(|(_, child)| matches!(child.try_wait(), Ok(Some(_)) | Err(_)))?;
        let (name, mut child) = self.running.remove(dead);
        let status = child.wait().unwrap_or_default();
        // A child that ends while everything is told to stop, as by a service manager, has not died by accident.
        if self.asked.load(Ordering::SeqCst) > 0 {
            return Some(self.stop());
        }
        end_group(&child);
        eprintln!("{name} ended ({status}); stopping the rest");
        self.stop();
        Some(Outcome::Died { name, status })
    }

    /// Stops the programs, the last started first, so that a worker releases its jobs to a server that still runs.
    fn stop(&mut self) -> Outcome {
        let mut outcome = Outcome::Stopped;
        while let Some((name, mut child)) = self.running.pop() {
            eprintln!("stopping {name} …");
            signal(&child, Signal::TERM);
            let deadline = Instant::now() + GRACE;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > deadline || self.asked.load(Ordering::SeqCst) > 1 {
                    signal(&child, Signal::KILL);
                    let _ = child.wait();
                    outcome = Outcome::Killed { name };
                    break;
                }
                std::thread::sleep(POLL);
            }
            end_group(&child);
        }
        outcome
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
            end_group(child);
        }
    }
}

/// Kills the processes that a child left running, such as the compiler that `trunk serve` had started.
fn end_group(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // An error means that the child has ended already.
        let _ = kill_process(pid, signal);
    }
}

fn is_ready(address: SocketAddr) -> bool {
    status_line(address).is_ok_and(|line| line.split_whitespace().nth(1) == Some("200"))
}

/// Status line of the answer to `GET /readyz`.
fn status_line(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    // Sent in one piece, because a formatted write sends a packet for every part of it.
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use super::*;

    fn children() -> Children {
        Children { running: Vec::new(), asked: Arc::new(AtomicUsize::new(0)) }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_that_dies_is_named_with_its_status_and_the_rest_is_stopped() {
        let mut children = children();
        children.start("lives", &mut shell("exec sleep 600")).unwrap();
        let lives = children.running[0].1.id();
        children.start("dies", &mut shell("exit 3")).unwrap();
        match children.wait() {
            Outcome::Died { name: "dies", status } => assert_eq!(status.code(), Some(3)),
            other => panic!("{other:?}"),
        }
        assert!(!std::path::Path::new(&format!("/proc/{lives}")).exists());
    }

    /// Starts a shell loop that has set its traps when this returns.
    fn start_trapping(children: &mut Children, name: &'static str, trap: &str, folder: &Path) {
        let script = format!("trap '{trap}' TERM; touch {name}; while :; do sleep 0.02; done");
        children.start(name, shell(&script).current_dir(folder)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !folder.join(name).exists() {
            assert!(Instant::now() < deadline, "{name} does not start");
            std::thread::yield_now();
        }
    }

    #[test]
    fn being_asked_once_stops_in_reverse_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut children = children();
        for name in ["first", "second"] {
            start_trapping(&mut children, name, &format!("echo {name} >>order; exit 0"), folder.path());
        }
        children.asked.store(1, Ordering::SeqCst);
        assert!(matches!(children.wait(), Outcome::Stopped));
        assert_eq!(std::fs::read_to_string(folder.path().join("order")).unwrap(), "second\nfirst\n");
    }

    #[test]
    fn being_asked_twice_kills_what_does_not_listen() {
        let folder = tempfile::tempdir().unwrap();
        let mut children = children();
        start_trapping(&mut children, "stubborn", "", folder.path());
        children.asked.store(2, Ordering::SeqCst);
        assert!(matches!(children.wait(), Outcome::Killed { name: "stubborn" }));
        assert!(children.running.is_empty());
    }

    #[test]
    fn only_a_200_counts_as_ready() {
        for (answer, ready) in [("HTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(is_ready(address), ready, "{answer}");
            server.join().unwrap();
        }
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(!is_ready(nobody));
    }
}

//! Stop signals: Ctrl-C, SIGTERM and SIGHUP end the programs that xtask has started, and then xtask itself.
//!
//! Each program runs in a process group of its own, with everything that it starts: cargo with its compilers, a test
//! with its servers. A terminal's Ctrl-C therefore reaches xtask alone, as a signal to its process id does, and xtask
//! passes it on to the groups.

use std::collections::BTreeSet;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// Time that programs have to end before they are killed; a second signal kills them at once. Compilers end at once,
/// servers and workers in order.
const GRACE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(20);

/// Exit status that a shell reports for a program that Ctrl-C has ended.
const EXIT_STATUS: i32 = 130;

/// Number of signals that told this process to end.
static ASKED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// True when a command ends its programs itself, in an order of its own.
static TAKEN_OVER: AtomicBool = AtomicBool::new(false);

/// Process groups of the running programs.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Installs the handler of signals, which ends the programs first and this process after them.
pub(crate) fn listen() -> Result<()> {
    ctrlc::set_handler(|| {
        let asked = ASKED.fetch_add(1, Ordering::SeqCst);
        if asked == 0 && !TAKEN_OVER.load(Ordering::SeqCst) {
            // Done in a thread, so that a second signal is received meanwhile.
            std::thread::spawn(|| {
                end_groups(&running(), GRACE, || ASKED.load(Ordering::SeqCst) > 1);
                std::process::exit(EXIT_STATUS);
            });
        }
    })?;
    Ok(())
}

/// Leaves the reaction to signals to the caller: they are only counted, in the value that is returned.
pub(crate) fn take_over() -> Arc<AtomicUsize> {
    TAKEN_OVER.store(true, Ordering::SeqCst);
    Arc::clone(&ASKED)
}

/// Waits for the end of this process if a signal asked for it: what its programs report then is no failure of theirs.
pub(crate) fn wait_if_asked() {
    while is_ending() {
        std::thread::sleep(POLL);
    }
}

fn is_ending() -> bool {
    ASKED.load(Ordering::SeqCst) > 0 && !TAKEN_OVER.load(Ordering::SeqCst)
}

/// Program in a process group of its own, which a signal to this process ends.
pub(crate) struct Running {
    child: Child,
    group: i32,
}

/// Starts a program in a process group of its own. Once a signal has come, it starts none and waits for the end.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Running> {
    // Under the lock: either the thread that ends the groups sees this program, or this call sees that they are being
    // ended.
    let mut groups = lock();
    while is_ending() {
        drop(groups);
        wait_if_asked();
        groups = lock();
    }
    let child = command.process_group(0).spawn()?;
    let group = child.id().cast_signed();
    groups.insert(group);
    Ok(Running { child, group })
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock().remove(&self.group);
    }
}

fn lock() -> MutexGuard<'static, BTreeSet<i32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn running() -> Vec<Pid> {
    lock().iter().filter_map(|group| Pid::from_raw(*group)).collect()
}

/// Sends SIGTERM to the groups, and SIGKILL to those that are left after `grace`, or as soon as `now` returns true.
fn end_groups(groups: &[Pid], grace: Duration, now: impl Fn() -> bool) {
    signal(groups, Signal::TERM);
    let deadline = Instant::now() + grace;
    while !now() && Instant::now() < deadline && groups.iter().any(|group| test_kill_process_group(*group).is_ok()) {
        std::thread::sleep(POLL);
    }
    signal(groups, Signal::KILL);
}

fn signal(groups: &[Pid], signal: Signal) {
    for group in groups {
        // An error means that the group has ended already.
        let _ = kill_process_group(*group, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_ends_with_all_that_its_program_started_whether_it_listens_or_not() {
        for (trap, grace) in [("", Duration::from_mins(1)), ("trap '' TERM;", Duration::from_millis(50))] {
            let script = format!("{trap} (sleep 600 & sleep 600) & sleep 600 & echo ready; wait");
            let mut command = Command::new("sh");
            let mut program = spawn(command.args(["-c", &script]).stdout(std::process::Stdio::piped())).unwrap();
            let mut ready = String::new();
            let output = program.stdout.take().unwrap();
            io::BufRead::read_line(&mut io::BufReader::new(output), &mut ready).unwrap();
            let group = Pid::from_raw(program.group).unwrap();
            assert!(running().contains(&group));
            let reaper = std::thread::spawn(move || program.wait().map(|_| drop(program)));
            end_groups(&[group], grace, || false);
            reaper.join().unwrap().unwrap();
            while test_kill_process_group(group).is_ok() {
                std::thread::sleep(POLL);
            }
            assert!(!running().contains(&group), "it is forgotten when it has ended");
        }
    }
}

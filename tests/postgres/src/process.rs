//! Running programs, and inspecting and killing processes by id.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::Error;

/// Runs a program to its end and returns its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(format!("cannot run {program}")))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let _ = write!(text, "{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Program { program, status: output.status.to_string(), output: text })
}

/// Sends a signal; a process that is gone already is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Ids of the processes whose parent is `parent`. Empty where there is no /proc.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| status(*pid).is_some_and(|(_, its_parent)| its_parent == parent))
        .collect()
}

/// Waits until a process is gone; one that ended and was not reaped by its parent counts as gone.
pub(crate) fn wait_gone(pid: i32) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive(pid) {
        if Instant::now() > deadline {
            return Err(Error::StillAlive(pid));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Polls until the condition holds, for a minute at most.
pub(crate) fn wait_until(what: &'static str, mut is_so: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so()? {
        if Instant::now() > deadline {
            return Err(Error::Late(what));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub(crate) fn alive(pid: i32) -> bool {
    if std::path::Path::new("/proc/self/stat").exists() {
        return status(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X');
    }
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// State letter and parent of a process.
fn status(pid: i32) -> Option<(char, i32)> {
    parse_status(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses `/proc/<pid>/stat`. The program's name stands in parentheses and may hold any byte, parentheses too.
fn parse_status(line: &str) -> Option<(char, i32)> {
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_confuse_the_parser() {
        assert_eq!(parse_status("4711 (a) R 1 (b) S 42 4711 0"), Some(('S', 42)));
        assert_eq!(parse_status(""), None);
    }

    #[test]
    fn a_failing_program_is_reported_with_its_words() {
        let error = run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("one") && error.contains("two") && error.contains('3'), "{error}");
    }
}

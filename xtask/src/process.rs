//! Other programs: run for their output, or for a long time with a log file.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::interrupt;
use crate::progress::Step;

/// Number of lines of a log that are shown when its program fails.
const TAIL_LINES: usize = 30;

/// Runs a short program and returns its standard output. A failure is an error with the program's standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let words = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{words}`"))?;
    if !output.status.success() {
        bail!("`{words}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program whose output people watch, to its end.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let words = describe(command);
    let mut program =
        interrupt::spawn(command.stdin(Stdio::null())).with_context(|| format!("cannot run `{words}`"))?;
    Ok(program.wait()?)
}

/// Runs a long program with its output appended to `log`; the newest line is shown beside the progress.
pub(crate) fn logged(command: &mut Command, log: &Path, step: &Step) -> Result<()> {
    run_logged(command, log, None, step)
}

/// Runs a long program with its standard output in `file` and the rest appended to `log`.
pub(crate) fn logged_to(command: &mut Command, file: &Path, log: &Path, step: &Step) -> Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let file = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    run_logged(command, log, Some(file), step)
}

fn run_logged(command: &mut Command, log: &Path, output: Option<File>, step: &Step) -> Result<()> {
    let words = describe(command);
    let mut file = open_log(log)?;
    writeln!(file, "$ {words}")?;
    let start = file.stream_position()?;
    let output = output.map_or_else(|| file.try_clone(), Ok)?;
    command.stdin(Stdio::null()).stdout(output).stderr(file.try_clone()?);
    let mut child = interrupt::spawn(command).with_context(|| format!("cannot run `{words}`"))?;
    let mut shown = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // The output goes to a file and not to a pipe, because services that a package starts may hold it open for
        // ever.
        std::thread::sleep(Duration::from_millis(100));
        let length = file.metadata()?.len();
        if length != shown {
            shown = length;
            if let Some(line) = tail(log, start, 1)?.pop() {
                step.note(&line);
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let lines = tail(log, start, TAIL_LINES)?.join("\n");
    bail!("`{words}` failed ({status}). The end of {}:\n{lines}", log.display())
}

fn open_log(log: &Path) -> Result<File> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(log);
    if let Ok(file) = &mut file {
        file.seek(SeekFrom::End(0))?;
    }
    file.with_context(|| format!("cannot write {}", log.display()))
}

/// Last lines that hold text, from byte `start` on.
fn tail(log: &Path, start: u64, lines: usize) -> Result<Vec<String>> {
    const WINDOW: u64 = 16 * 1024;
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(WINDOW))))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|&line| line.to_owned()).collect())
}

/// Command as a person would type it, without its environment.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// First program on PATH that has one of the names.
pub(crate) fn which(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| is_executable(file)))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Numbers of the first dotted version in a text: `v20.20.2` is 20, 20, 2; `wasm-bindgen 0.2.126` is 0, 2, 126.
pub(crate) fn version(text: &str) -> Option<Vec<u32>> {
    text.split(|letter: char| letter.is_whitespace() || letter == ',' || letter == '(').find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        let (version, _) = word.split_at(word.find(['-', '+']).unwrap_or(word.len()));
        let numbers: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        numbers.filter(|numbers| numbers.len() > 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_print() {
        assert_eq!(version("v20.20.2\n"), Some(vec![20, 20, 2]));
        assert_eq!(version("trunk 0.21.14"), Some(vec![0, 21, 14]));
        assert_eq!(version("cargo-deny 0.20.2"), Some(vec![0, 20, 2]));
        assert_eq!(version("rustc 1.96.0-nightly (abc 2026-04-14)"), Some(vec![1, 96, 0]));
        assert_eq!(version("18"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn a_failing_program_is_reported_with_the_end_of_its_log_and_not_of_an_earlier_run() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("deep/a.log");
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        logged(&mut shell("echo first run"), &log, &Step::silent()).unwrap();
        let error = logged(&mut shell("echo out; echo err >&2; exit 7"), &log, &Step::silent()).unwrap_err();
        let error = error.to_string();
        let shown = error.split_once("a.log:").unwrap().1;
        assert!(shown.contains("out") && shown.contains("err") && !shown.contains("first run"), "{error}");
        assert!(std::fs::read_to_string(&log).unwrap().contains("first run"));
    }

    #[test]
    fn only_programs_that_can_be_run_are_found() {
        assert!(which(&["no-such-program-here", "sh"]).is_some_and(|file| file.ends_with("sh")));
        assert_eq!(which(&["no-such-program-here"]), None);
    }
}

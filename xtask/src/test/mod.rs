//! `cargo xtask test`: prepares what the chosen parts need, runs each part, and prints a table at the end.

mod commands;
mod counts;
mod parts;
mod programs;
mod results;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use jobqueue_test_postgres::{Cluster, URL_VARIABLE};

use self::counts::Counts;
use self::parts::Part;
use self::results::{Finished, table};
use crate::progress::Task;
use crate::workspace::Workspace;
use crate::{dashboard, interrupt, setup};

#[derive(Args)]
pub(crate) struct Options {
    /// Parts to run; all of them when none is named
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
    /// Options for the test programs, such as a part of a test's name
    #[arg(last = true, value_name = "TEST OPTIONS")]
    options: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let parts = Part::chosen(&options.parts);
    prepare(workspace, &parts)?;

    // The cluster is removed at the end, or by its watchdog if this process is killed before.
    let cluster = match std::env::var_os(URL_VARIABLE) {
        None if parts.iter().any(|part| part.needs_postgres()) => Some(Cluster::start()?),
        _ => None,
    };
    let environment = environment(workspace, cluster.as_ref());

    let programs =
        if parts.iter().any(|part| part.needs_programs()) { programs::built(workspace)? } else { Vec::new() };
    let run_part = |part: Part, screen: &mut dyn Write| -> Result<Finished> {
        let commands =
            commands::commands(part, workspace, &programs, Part::any_needs_dashboard(&parts), &options.options);
        let started = Instant::now();
        let (mut ok, mut counts) = (true, Counts::default());
        for mut command in commands {
            let (went_well, its_counts) = run_command(command.envs(environment.iter().cloned()), screen)?;
            ok &= went_well;
            counts.add(its_counts);
        }
        // A part without tests has failed, unless it may be empty or options select tests.
        let ok = ok && (counts.ran() > 0 || part.may_be_empty() || !options.options.is_empty());
        Ok(Finished { part, ok, counts, time: started.elapsed() })
    };
    let mut finished = run_all(&parts, &run_part)?;
    finished.sort_by_key(|it| it.part);
    drop(cluster);
    print!("\n{}", table(&finished));
    Ok(if finished.iter().all(|part| part.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the parts one after the other, and beside them those that mostly wait. The output of the latter follows at the
/// end, so that it does not mix with that of the others.
fn run_all(
    parts: &[Part],
    run_part: &(impl Fn(Part, &mut dyn Write) -> Result<Finished> + Sync),
) -> Result<Vec<Finished>> {
    thread::scope(|scope| {
        let mut finished = Vec::new();
        let mut beside = Vec::new();
        for part in parts.iter().copied() {
            if part.mostly_waits() && parts.len() > 1 {
                eprintln!("\n== {} == (beside the parts that follow; its output comes at the end)", part.name());
                beside.push(scope.spawn(move || {
                    let mut output = Vec::new();
                    run_part(part, &mut output).map(|its| (its, output))
                }));
            } else {
                eprintln!("\n== {} ==", part.name());
                finished.push(run_part(part, &mut std::io::stdout())?);
            }
        }
        for part in beside {
            let (its, output) = part.join().map_err(|_| anyhow!("a part of the tests panicked"))??;
            eprintln!("\n== {} ==", its.part.name());
            std::io::stdout().write_all(&output)?;
            finished.push(its);
        }
        Ok(finished)
    })
}

/// Installs and builds what the parts need.
fn prepare(workspace: &Workspace, parts: &[Part]) -> Result<()> {
    let needs: Vec<_> = parts.iter().flat_map(|part| part.needs()).collect();
    let mut plan = setup::plan(workspace, &needs)?;
    let with_dashboard = Part::any_needs_dashboard(parts);
    if with_dashboard {
        plan.extend(dashboard::task(workspace, dashboard::BuildKind::Release));
    }
    if parts.iter().any(|part| part.needs_programs() || part.needs_binaries()) {
        plan.push(Task::new("tests, server and worker", "debug build, one for all parts", move |step| {
            programs::build(workspace, parts, step)
        }));
    }
    plan.run()
}

/// Variables that tell the tests where everything is that was prepared.
fn environment(workspace: &Workspace, cluster: Option<&Cluster>) -> Vec<(&'static str, OsString)> {
    let mut variables = vec![
        ("JOBQUEUE_SERVER_BIN", workspace.binary("debug", "jobqueue-server").into()),
        ("JOBQUEUE_WORKER_BIN", workspace.binary("debug", "jobqueue-worker").into()),
        ("JOBQUEUE_EXAMPLES", workspace.target.join("debug/examples").into()),
        ("JOBQUEUE_TEST_PYTHON", setup::python(workspace).into()),
    ];
    variables.extend(cluster.map(|cluster| (URL_VARIABLE, cluster.url("postgres").into())));
    variables.extend(setup::node().map(|node| ("JOBQUEUE_TEST_NODE", node.into())));
    variables.extend(setup::chromium().map(|chromium| ("CHROMIUM", chromium.into())));
    variables
}

/// Runs a command of a part, copies what it prints to `screen`, and counts its tests.
fn run_command(command: &mut Command, screen: &mut dyn Write) -> Result<(bool, Counts)> {
    let program = command.get_program().to_owned();
    let mut child = interrupt::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))
        .with_context(|| format!("cannot run {}", program.display()))?;
    let mut counts = Counts::default();
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        screen.write_all(&line)?;
        counts.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    screen.flush()?;
    Ok((child.wait()?.success(), counts))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{Parser as _, ValueEnum as _};

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &[&str]) -> Result<Options, String> {
        let words = std::iter::once("test").chain(line.iter().copied());
        Line::try_parse_from(words).map(|line| line.options).map_err(|error| error.to_string())
    }

    #[test]
    fn parts_run_in_their_order_once_and_all_when_none_is_named() {
        let chosen = |line: &[&str]| Part::chosen(&parse(line).unwrap().parts);
        assert_eq!(chosen(&["browser", "store", "store"]), [Part::Store, Part::Browser]);
        assert_eq!(chosen(&[]), Part::value_variants());
        let options = parse(&["store", "--", "settle", "--nocapture"]).unwrap();
        assert_eq!((options.parts, options.options), (vec![Part::Store], vec!["settle".into(), "--nocapture".into()]));
    }

    #[test]
    fn an_unknown_part_is_refused_with_the_known_ones() {
        let error = parse(&["stores"]).err().unwrap();
        assert!(error.contains("stores") && error.contains("conformance") | error.contains("store"), "{error}");
        assert!(error.contains("browser"), "{error}");
    }

    #[test]
    fn a_part_that_waits_runs_beside_the_others_and_its_output_follows() {
        let (others_done, heard) = std::sync::mpsc::channel();
        let heard = std::sync::Mutex::new(heard);
        let run = |part: Part, screen: &mut dyn Write| {
            if part == Part::Faults {
                heard.lock().unwrap().recv_timeout(Duration::from_mins(1)).unwrap();
                screen.write_all(b"it was run beside\n")?;
            } else if part == Part::Doc {
                others_done.send(()).unwrap();
            }
            Ok(Finished { part, ok: true, counts: Counts::default(), time: Duration::ZERO })
        };
        let finished = run_all(&[Part::Unit, Part::Faults, Part::Doc], &run).unwrap();
        let order: Vec<Part> = finished.iter().map(|it| it.part).collect();
        assert_eq!(order, [Part::Unit, Part::Doc, Part::Faults]);
        assert!(run_all(&[Part::Unit, Part::Faults], &|_, _| anyhow::bail!("it cannot run")).is_err());
    }

    #[test]
    fn output_is_counted_and_the_exit_status_decides() {
        let script = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            command
        };
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out";
        let mut screen = Vec::new();
        let (ok, counts) = run_command(&mut script(&format!("echo '{line}'; exit 101")), &mut screen).unwrap();
        assert!(!ok);
        assert_eq!(counts, Counts { passed: 3, failed: 1, skipped: 2 });
        assert_eq!(String::from_utf8(screen).unwrap().trim_end(), line);
    }
}

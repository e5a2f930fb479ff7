//! `cargo xtask bench profile`: records with perf and draws with inferno.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::programs::{prepare, program, results};
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{interrupt, process};

#[derive(Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    what: Load,
    /// Store that keeps the jobs
    #[arg(long, value_enum, default_value = "postgres")]
    store: Store,
}

/// Store that keeps the jobs of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Store {
    Sqlite,
    Postgres,
}

/// Load that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Load {
    /// 64 callers that submit one job a call
    Submit,
    /// A no-op worker that works off waiting jobs
    Drain,
}

pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    prepare(workspace, &[Need::Postgres, Need::Perf, Need::Inferno])?;
    let folder = results(workspace);
    std::fs::create_dir_all(&folder)?;
    let what = name(&options.what);
    let mut bench = Command::new(program(workspace));
    bench.args(["profile", &what, "--store", &name(&options.store)]).arg("--folder").arg(&folder);
    if !process::status(&mut bench)?.success() {
        bail!("nothing was recorded. Without root, perf needs kernel.perf_event_paranoid to be 1 or less");
    }
    for part in ["server", "client", "postgres"] {
        let recording = folder.join(format!("{what}-{part}.perf"));
        if part == "postgres" && options.store == Store::Sqlite {
            continue;
        }
        let picture = recording.with_extension("svg");
        draw(workspace, &recording, &picture, &format!("{what}: {part}"))?;
        println!("{}", picture.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws a recording: `perf script | inferno-collapse-perf | inferno-flamegraph > picture`.
fn draw(workspace: &Workspace, recording: &Path, picture: &Path, title: &str) -> Result<()> {
    let quiet = || Stdio::null();
    // Looking up inlined functions takes minutes.
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "--input"]).arg(recording).stdout(Stdio::piped()).stderr(quiet());
    let mut script = interrupt::spawn(&mut script).context("cannot run perf script")?;
    let samples = script.stdout.take().context("no output")?;
    let mut collapse = Command::new(setup::tool(workspace, "inferno-collapse-perf"));
    let mut collapse = interrupt::spawn(collapse.stdin(samples).stdout(Stdio::piped()).stderr(quiet()))?;
    let stacks = collapse.stdout.take().context("no output")?;
    let mut flamegraph = Command::new(setup::tool(workspace, "inferno-flamegraph"));
    flamegraph.args(["--title", title]).stdin(stacks).stdout(File::create(picture)?);
    let drawn = interrupt::spawn(&mut flamegraph)?.wait()?;
    if !(script.wait()?.success() && collapse.wait()?.success() && drawn.success()) {
        bail!("{} could not be drawn from {}", picture.display(), recording.display());
    }
    Ok(())
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

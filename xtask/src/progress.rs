//! Progress of long work in numbered steps: what is done, why, which step of how many, and how long it took.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

type Work<'a> = Box<dyn FnOnce(&Step) -> Result<()> + 'a>;

/// Step of long work.
pub(crate) struct Task<'a> {
    what: String,
    why: String,
    /// Text that says what is lost without this task; set when the plan can go on without it.
    otherwise: Option<&'static str>,
    work: Work<'a>,
}

impl<'a> Task<'a> {
    pub(crate) fn new(
        what: impl Into<String>,
        why: impl Into<String>,
        work: impl FnOnce(&Step) -> Result<()> + 'a,
    ) -> Self {
        Self { what: what.into(), why: why.into(), otherwise: None, work: Box::new(work) }
    }

    /// Calls `start` just before this task begins.
    pub(crate) fn starting_with(self, start: impl FnOnce() + 'a) -> Self {
        let work = self.work;
        Self {
            work: Box::new(move |step| {
                start();
                work(step)
            }),
            ..self
        }
    }

    /// Makes the task optional: its failure does not stop the plan. `otherwise` says what is lost.
    pub(crate) fn optional(mut self, otherwise: &'static str) -> Self {
        self.otherwise = Some(otherwise);
        self
    }
}

/// Tasks in the order in which they run.
#[derive(Default)]
pub(crate) struct Plan<'a>(Vec<Task<'a>>);

impl<'a> Plan<'a> {
    pub(crate) fn push(&mut self, task: Task<'a>) {
        self.0.push(task);
    }

    pub(crate) fn extend(&mut self, tasks: impl IntoIterator<Item = Task<'a>>) {
        self.0.extend(tasks);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Prints the tasks without running them.
    pub(crate) fn list(&self) {
        for task in &self.0 {
            eprintln!("  {}: {}", task.what, task.why);
        }
    }

    /// Runs the tasks one after the other, up to the first one that fails and is not optional.
    pub(crate) fn run(self) -> Result<()> {
        let terminal = std::io::stderr().is_terminal();
        let total = self.0.len();
        for (index, task) in self.0.into_iter().enumerate() {
            let title = format!("[{}/{total}] {} ({})", index + 1, task.what, task.why);
            let started = Instant::now();
            let step = Step::show(&title, terminal);
            let result = (task.work)(&step);
            step.finish(&title, &duration(started.elapsed()), result.is_ok());
            match (result, task.otherwise) {
                (Err(error), Some(otherwise)) => eprintln!("warning: {error:#}\n{otherwise}"),
                (result, _) => result?,
            }
        }
        Ok(())
    }
}

/// Running task on the screen: a spinner in a terminal, one plain line elsewhere.
pub(crate) struct Step {
    bar: Option<ProgressBar>,
}

impl Step {
    fn show(title: &str, terminal: bool) -> Self {
        if !terminal {
            eprint!("{title} …");
            let _ = std::io::stderr().flush();
            return Self { bar: None };
        }
        let bar = ProgressBar::new_spinner().with_prefix(title.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar: Some(bar) }
    }

    /// Step that shows nothing.
    pub(crate) fn silent() -> Self {
        Self { bar: None }
    }

    /// Shows the newest line of output; only in a terminal.
    pub(crate) fn note(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }

    fn finish(self, title: &str, elapsed: &str, ok: bool) {
        let end = if ok { elapsed.to_owned() } else { format!("failed after {elapsed}") };
        match self.bar {
            None => eprintln!(" {end}"),
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("{title} … {end}");
            }
        }
    }
}

/// Duration for people: `0.4 s`, `42 s`, `2 min 40 s`, `1 h 5 min`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let shown = [420, 9_940, 42_000, 160_000, 3_900_000].map(|millis| duration(Duration::from_millis(millis)));
        assert_eq!(shown, ["0.4 s", "9.9 s", "42 s", "2 min 40 s", "1 h 5 min"]);
    }

    #[test]
    fn a_plan_ends_at_a_failure_but_passes_over_an_optional_one() {
        let ran = std::cell::RefCell::new(Vec::new());
        let task = |name: &'static str, ok: bool| {
            let ran = &ran;
            Task::new(name, "test", move |_: &Step| {
                ran.borrow_mut().push(name);
                if ok { Ok(()) } else { anyhow::bail!("{name} broke") }
            })
        };
        let mut plan = Plan::default();
        plan.push(task("optional", false).optional("nothing is lost"));
        plan.push(task("good", true));
        plan.push(task("bad", false));
        plan.push(task("never", true));
        assert_eq!(plan.run().unwrap_err().to_string(), "bad broke");
        assert_eq!(*ran.borrow(), ["optional", "good", "bad"]);
    }
}

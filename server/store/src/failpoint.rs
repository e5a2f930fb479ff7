//! Failpoints for tests: faults between a commit and its answer. Without the feature `failpoints` they are not
//! compiled.
//!
//! Each call of the store passes `before_<method>` and, if it succeeded, `after_<method>`; `insert_commit` is within
//! the commit of PostgreSQL's inserts. The environment variable FAILPOINTS sets their actions, in the syntax of the
//! crate `fail`: `after_settle=0.5%return(exit);before_insert=2*return(lost)`.

pub use inner::{after, before, committed, set_up};

#[cfg(feature = "failpoints")]
mod inner {
    use std::{
        io::{self, Write as _},
        sync::Once,
        time::Duration,
    };

    use crate::{StoreError, StoreResult};

    /// Reads FAILPOINTS, once in a process.
    ///
    /// # Panics
    /// If FAILPOINTS cannot be parsed: a test with a wrong failpoint must not pass.
    pub fn set_up() {
        static READ: Once = Once::new();
        READ.call_once(|| {
            // Dropping the scenario would remove the failpoints.
            std::mem::forget(fail::FailScenario::setup());
            for (place, actions) in fail::list() {
                say(&format_args!("failpoint set: {place} {actions}"));
            }
        });
    }

    /// Writes to stderr directly: tests count these lines, also those before an exit, and the log is written later.
    fn say(line: &std::fmt::Arguments<'_>) {
        let _ = writeln!(io::stderr(), "{line}");
    }

    pub async fn before(method: &str) -> StoreResult<()> {
        reach(&format!("before_{method}")).await
    }

    pub async fn after(method: &str) -> StoreResult<()> {
        reach(&format!("after_{method}")).await
    }

    /// Passes a failpoint after a commit, which may replace the commit's answer.
    pub async fn committed<T>(place: &str, outcome: StoreResult<T>) -> StoreResult<T> {
        let answer = outcome?;
        reach(place).await?;
        Ok(answer)
    }

    async fn reach(place: &str) -> StoreResult<()> {
        let Some(action) = fail::eval(place, Option::unwrap_or_default) else { return Ok(()) };
        say(&format_args!("failpoint fired: {place} {action}"));
        match action.split_once(' ').unwrap_or((&action, "")) {
            ("exit", _) => std::process::exit(86),
            ("panic", _) => panic!("failpoint {place}"),
            ("lost", _) => Err(StoreError::Unavailable(format!("failpoint {place}"))),
            ("wait", ms) => {
                tokio::time::sleep(Duration::from_millis(ms.parse().unwrap_or_default())).await;
                Ok(())
            }
            _ => panic!("failpoint {place}: {action} is not exit, panic, lost or wait <ms>"),
        }
    }
}

#[cfg(not(feature = "failpoints"))]
mod inner {
    use std::future::{Ready, ready};

    use crate::StoreResult;

    pub fn set_up() {}

    pub fn before(_: &str) -> Ready<StoreResult<()>> {
        ready(Ok(()))
    }

    pub fn after(_: &str) -> Ready<StoreResult<()>> {
        ready(Ok(()))
    }

    pub fn committed<T>(_: &str, outcome: StoreResult<T>) -> Ready<StoreResult<T>> {
        ready(outcome)
    }
}

//! Results of the parts that have run, and their table.

use std::time::Duration;

use super::counts::Counts;
use super::parts::Part;
use crate::progress::duration;

/// Result of one part.
pub(super) struct Finished {
    pub(super) part: Part,
    pub(super) ok: bool,
    pub(super) counts: Counts,
    pub(super) time: Duration,
}

/// Table of the results, and the line that adds them up.
pub(super) fn table(finished: &[Finished]) -> String {
    let mut text = format!("{:<10} {:<8} {:>7} {:>7} {:>8}  time\n", "part", "result", "passed", "failed", "skipped");
    let mut total = Counts::default();
    for Finished { part, ok, counts, time } in finished {
        let result = match (ok, counts.ran()) {
            (true, _) => "ok",
            (false, 0) => "no test",
            (false, _) => "FAILED",
        };
        let Counts { passed, failed, skipped } = counts;
        let row =
            format!("{:<10} {result:<8} {passed:>7} {failed:>7} {skipped:>8}  {}\n", part.name(), duration(*time));
        text.push_str(&row);
        total.add(*counts);
    }
    // CI services look for a line of exactly this form.
    let Counts { passed, failed, skipped } = total;
    text + &format!("\ntests: {passed} passed, {failed} failed, {skipped} skipped\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_every_part_and_the_sum() {
        let part = |part, ok, passed, failed| Finished {
            part,
            ok,
            counts: Counts { passed, failed, skipped: 1 },
            time: Duration::from_secs(75),
        };
        let text =
            table(&[part(Part::Unit, true, 12, 0), part(Part::Store, false, 40, 2), part(Part::E2e, false, 0, 0)]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["unit", "ok", "12", "0", "1", "1", "min", "15", "s"]);
        assert_eq!(lines[2], ["store", "FAILED", "40", "2", "1", "1", "min", "15", "s"]);
        assert_eq!(lines[3][..3], ["e2e", "no", "test"]);
        assert_eq!(text.lines().last().unwrap(), "tests: 52 passed, 2 failed, 3 skipped");
    }
}

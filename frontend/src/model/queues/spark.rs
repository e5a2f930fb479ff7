//! Sparkline of a queue: what was done and what failed within the last hour, in bars.

use std::collections::HashMap;

use jobqueue_shared::proto::v1::{GetThroughputsRequest, GetThroughputsResponse, get_throughputs_response::Series};

use crate::model::number::count;

/// Height of a sparkline, in the units of its drawing; a bar is one unit wide.
pub const HEIGHT: f64 = 20.0;
/// Least height of a bar that is not zero.
const LEAST: f64 = 2.0;
const MINUTES: i32 = 60;
const STEP: i32 = 2;

/// Sparkline: its bars as paths, and its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spark {
    pub bars: usize,
    pub done: String,
    /// Bars of the failed jobs, in front of the others.
    pub failed: String,
    pub words: String,
}

impl Spark {
    fn of(series: &Series) -> Self {
        let most = series.done.iter().chain(&series.failed).copied().max().unwrap_or(0);
        let sum = |values: &[i32]| values.iter().map(|&value| i64::from(value.max(0))).sum::<i64>();
        Self {
            bars: series.done.len(),
            done: bars(&series.done, most),
            failed: bars(&series.failed, most),
            words: format!("Last hour: {} done, {} failed", count(sum(&series.done)), count(sum(&series.failed))),
        }
    }

    /// Request for the sparklines of these worker_ids.
    pub fn request(worker_ids: Vec<String>) -> GetThroughputsRequest {
        GetThroughputsRequest { worker_ids, minutes: MINUTES, step: STEP }
    }

    /// Sparklines of an answer by worker_id.
    pub fn all(answer: &GetThroughputsResponse) -> HashMap<String, Self> {
        answer.series.iter().map(|series| (series.worker_id.clone(), Self::of(series))).collect()
    }
}

/// SVG path of bars that stand side by side on the ground.
fn bars(values: &[i32], most: i32) -> String {
    let bar = |(at, &value): (usize, &i32)| {
        let height = (HEIGHT * f64::from(value.max(0)) / f64::from(most.max(1))).max(LEAST);
        (value > 0).then(|| format!("M{at}.1 {HEIGHT}v-{height:.1}h.8v{height:.1}z"))
    };
    values.iter().enumerate().filter_map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_share_of_the_highest() {
        assert_eq!(bars(&[0, 10, 5], 10), "M1.1 20v-20.0h.8v20.0zM2.1 20v-10.0h.8v10.0z");
        assert_eq!(bars(&[1], 1_000_000), "M0.1 20v-2.0h.8v2.0z", "a single one is seen");
        assert_eq!(bars(&[0, -1], 0), "");
    }

    #[test]
    fn a_sparkline_says_its_sums() {
        let series = Series { worker_id: "w".into(), done: vec![1_000, 200], failed: vec![0, 3], ..Series::default() };
        let all = Spark::all(&GetThroughputsResponse { series: vec![series], ..GetThroughputsResponse::default() });
        let spark = &all["w"];
        assert_eq!((spark.bars, spark.words.as_str()), (2, "Last hour: 1,200 done, 3 failed"));
        assert_eq!(spark.failed, "M1.1 20v-2.0h.8v2.0z");
    }
}

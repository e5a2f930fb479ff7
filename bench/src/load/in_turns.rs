//! Speed of two queues, measured in turns within the same minutes, because a machine's speed changes more within an
//! hour than the difference that is looked for.

use anyhow::Result;

use super::steps::{drain, measure_latency, one_worker, preload};
use crate::measure::{stats::median, table::Cell};

/// Rate of jobs for the latencies, in jobs per second.
pub const RATE: f64 = 100.0;

/// Drain rates and latencies of a queue, a value for each round.
#[derive(Clone, Debug, Default)]
pub struct Speed {
    drains: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

/// Measures both queues in turns: in each round a drain of both, then the latencies of both.
pub async fn measure(endpoints: [&str; 2], rounds: usize, jobs: u64, seconds: f64) -> Result<[Speed; 2]> {
    let mut speeds = [Speed::default(), Speed::default()];
    for _ in 0..rounds {
        for (endpoint, speed) in endpoints.iter().zip(&mut speeds) {
            preload(endpoint, jobs, |_| {}).await?;
            speed.drains.push(drain(endpoint, one_worker(endpoint)).await?.rate());
        }
        for (endpoint, speed) in endpoints.iter().zip(&mut speeds) {
            let latencies = measure_latency(endpoint, RATE, seconds).await?;
            speed.p50.push(latencies.start.p50);
            speed.p99.push(latencies.start.p99);
        }
    }
    Ok(speeds)
}

/// Columns for [`cells`]; `other` names the queue to compare with.
pub fn columns(other: &str) -> Vec<String> {
    vec![
        "drain, jobs/s".to_owned(),
        other.to_owned(),
        "of that".to_owned(),
        format!("p50 ms at {RATE}/s"),
        other.to_owned(),
        "of that".to_owned(),
        "p99 ms".to_owned(),
    ]
}

/// Cells of both queues; [`columns`] are their heads.
pub fn cells([one, other]: &[Speed; 2]) -> Vec<Cell> {
    let share = |a: &[f64], b: &[f64]| Cell::share(median(a), Some(median(b)));
    vec![
        (&one.drains).into(),
        (&other.drains).into(),
        share(&one.drains, &other.drains),
        (&one.p50).into(),
        (&other.p50).into(),
        share(&one.p50, &other.p50),
        (&one.p99).into(),
    ]
}

impl Speed {
    /// Median drain rate, in jobs per second.
    pub fn drain_rate(&self) -> f64 {
        median(&self.drains)
    }
}

//! Throughput by minute, or by slots of several minutes: what charts draw, and what they say in words.

use jobqueue_shared::{
    proto::v1::{GetThroughputRequest, GetThroughputResponse, get_throughput_response},
    time::timestamp_ms,
};

use super::number::count;

/// Time that a chart shows, up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Span {
    #[default]
    Hour,
    Day,
}

impl Span {
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "1 h",
            Self::Day => "24 h",
        }
    }

    /// Description of the chart's numbers.
    pub fn note(self) -> &'static str {
        match self {
            Self::Hour => "jobs per minute, last hour; hatched: so far",
            Self::Day => "jobs per quarter of an hour, last 24 hours; hatched: so far",
        }
    }

    /// Label of the chart for screen readers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hour => "Throughput by minute",
            Self::Day => "Throughput by quarter of an hour",
        }
    }

    pub fn request(self, worker_id: String) -> GetThroughputRequest {
        let (minutes, step) = match self {
            Self::Hour => (60, 1),
            Self::Day => (1_440, 15),
        };
        GetThroughputRequest { worker_id, minutes, step }
    }

    /// Number of slots between two labels of the time axis, in a wide chart.
    pub fn tick(self) -> usize {
        match self {
            Self::Hour => 15,
            Self::Day => 16,
        }
    }
}

/// Numbers of jobs within one minute, or one slot of minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Start of the minute, in milliseconds since 1970.
    pub at: Option<i64>,
    pub submitted: i32,
    pub done: i32,
    pub retried: i32,
    pub failed: i32,
    /// True for the present minute, whose numbers still grow.
    pub so_far: bool,
}

impl Minute {
    fn of(minute: &get_throughput_response::Minute) -> Self {
        Self {
            at: minute.start.as_ref().map(timestamp_ms),
            submitted: minute.submitted,
            done: minute.done,
            retried: minute.retried,
            failed: minute.failed,
            so_far: false,
        }
    }

    /// Minutes of the answer, of which the last is the present one.
    pub fn all(answer: &GetThroughputResponse) -> Vec<Self> {
        let mut minutes: Vec<Self> = answer.minutes.iter().map(Self::of).collect();
        if let Some(last) = minutes.last_mut() {
            last.so_far = true;
        }
        minutes
    }

    /// Name of the minute, such as "14:02" or "14:02 so far"; `clock` is its local time.
    pub fn name(&self, clock: &str) -> String {
        if self.so_far { format!("{clock} so far") } else { clock.to_owned() }
    }

    /// Values in words, such as "14:02: 3 submitted, 2 done, 0 retried, 1 failed"; `clock` is the minute's local time.
    pub fn sentence(&self, clock: &str) -> String {
        let values = SERIES.map(|series| format!("{} {}", count((series.value)(self)), series.name));
        format!("{}: {}", self.name(clock), values.join(", "))
    }
}

/// Line of the chart.
pub struct Series {
    pub name: &'static str,
    pub tone: &'static str,
    pub value: fn(&Minute) -> i32,
}

/// Series in drawing order: the most important one is drawn last, on top of the others.
pub const SERIES: [Series; 4] = [
    Series { name: "submitted", tone: "pending", value: |minute| minute.submitted },
    Series { name: "done", tone: "done", value: |minute| minute.done },
    Series { name: "retried", tone: "retrying", value: |minute| minute.retried },
    Series { name: "failed", tone: "failed", value: |minute| minute.failed },
];

/// Minutes that are over, to which lines are drawn: a line to the present minute would look like a fall.
pub fn finished(minutes: &[Minute]) -> &[Minute] {
    let over = minutes.iter().take_while(|minute| !minute.so_far).count();
    &minutes[..over]
}

/// Largest value of any series.
pub fn most(minutes: &[Minute]) -> i32 {
    minutes.iter().flat_map(|it| SERIES.map(|series| (series.value)(it))).max().unwrap_or(0)
}

/// Sum of `value` over all minutes.
pub fn total(minutes: &[Minute], value: fn(&Minute) -> i32) -> i64 {
    minutes.iter().map(|it| i64::from(value(it))).sum()
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::time::timestamp;

    use super::*;

    fn minutes() -> Vec<Minute> {
        let minute = |ms, submitted, failed| get_throughput_response::Minute {
            start: Some(timestamp(ms)),
            submitted,
            failed,
            ..get_throughput_response::Minute::default()
        };
        let minutes = vec![minute(0, i32::MAX, 1), minute(60_000, 1_200, 7)];
        Minute::all(&GetThroughputResponse { minutes })
    }

    #[test]
    fn a_minute_is_read_out_with_all_its_values() {
        assert_eq!(minutes()[1].at, Some(60_000));
        assert_eq!(minutes()[0].name("14:01"), "14:01");
        assert_eq!(minutes()[1].sentence("14:02"), "14:02 so far: 1,200 submitted, 0 done, 0 retried, 7 failed");
    }

    #[test]
    fn only_the_last_minute_is_not_over() {
        assert_eq!(finished(&minutes()), &minutes()[..1]);
        assert_eq!(finished(&Minute::all(&GetThroughputResponse::default())), []);
    }

    #[test]
    fn sums_and_the_largest_value_are_over_all_minutes() {
        assert_eq!(total(&minutes(), |it| it.failed), 8);
        assert_eq!(total(&minutes(), |it| it.submitted), i64::from(i32::MAX) + 1_200);
        assert_eq!((most(&minutes()), most(&[])), (i32::MAX, 0));
    }
}

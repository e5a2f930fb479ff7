//! Rate limit for log lines by kind: clients can cause some kinds at will.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
    warn,
};
use tracing_subscriber::{Layer, layer::Context};

/// Maximum number of lines a second of one kind that clients' requests cause.
const REQUESTED: u32 = 1;
/// Maximum number of lines a second of any other kind.
const OTHERS: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);
/// Modules whose lines clients' requests cause.
const BY_REQUEST: [&str; 3] = ["jobqueue_server::queue", "jobqueue_server::grpc", "jobqueue_server::transport"];

/// Number of lines by kind; a kind is a call site in the code.
#[derive(Debug, Default)]
pub(super) struct Limit {
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

#[derive(Debug)]
struct Kind {
    since: Instant,
    lines: u32,
    left_out: u64,
    message: String,
}

impl Limit {
    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let by_request = BY_REQUEST.iter().any(|it| metadata.target().starts_with(it));
        let most = if by_request { REQUESTED } else { OTHERS };
        let mut kinds = self.kinds.lock();
        let kind = kinds.entry(metadata.callsite()).or_insert_with(|| Kind {
            since: now,
            lines: 0,
            left_out: 0,
            message: String::new(),
        });
        if now.duration_since(kind.since) >= SECOND {
            (kind.since, kind.lines) = (now, 0);
        }
        if kind.lines < most {
            kind.lines += 1;
            return true;
        }
        if kind.left_out == 0 {
            event.record(&mut Message(&mut kind.message));
        }
        kind.left_out += 1;
        false
    }

    /// Suppressed lines since the last call: their number, and the message of one, for each kind.
    fn left_out(&self) -> Vec<(u64, String)> {
        let mut kinds = self.kinds.lock();
        let some = kinds.values_mut().filter(|kind| kind.left_out > 0);
        some.map(|kind| (std::mem::take(&mut kind.left_out), std::mem::take(&mut kind.message))).collect()
    }

    /// Logs how many lines were suppressed.
    pub(super) fn report(&self) {
        for (lines, like) in self.left_out() {
            warn!(lines, like, "lines of one kind were left out");
        }
    }
}

impl<S: Subscriber> Layer<S> for &'static Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admits(event, Instant::now())
    }
}

/// Visitor that stores an event's message.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, subscriber::with_default};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Layer that records the level of each event that passes the limit.
    struct Count(&'static Mutex<Vec<Level>>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().push(*event.metadata().level());
        }
    }

    #[test]
    fn a_kind_is_logged_so_often_in_a_second_and_the_rest_is_counted() {
        let limit: &'static Limit = Box::leak(Box::default());
        let seen: &'static Mutex<Vec<Level>> = Box::leak(Box::default());
        with_default(tracing_subscriber::registry().with(limit).with(Count(seen)), || {
            for _ in 0..100 {
                warn!(target: "jobqueue_server::queue::settle::group", "refused");
                info!(target: "elsewhere", "happens");
                debug!(target: "elsewhere", "is wanted");
            }
        });
        let seen = seen.lock();
        let count = |level| u32::try_from(seen.iter().filter(|it| **it == level).count()).unwrap();
        // A new second may begin meanwhile.
        assert!((REQUESTED..=3 * REQUESTED).contains(&count(Level::WARN)), "{}", count(Level::WARN));
        assert!((OTHERS..=3 * OTHERS).contains(&count(Level::INFO)), "{}", count(Level::INFO));
        assert_eq!(count(Level::DEBUG), 100);
        let mut left_out = limit.left_out();
        left_out.sort();
        let [(info, happens), (warn, refused)] = &left_out[..] else { panic!("{left_out:?}") };
        assert_eq!((happens.as_str(), refused.as_str()), ("happens", "refused"));
        assert_eq!((info + u64::from(count(Level::INFO)), warn + u64::from(count(Level::WARN))), (100, 100));
        assert!(limit.left_out().is_empty());
    }
}

//! Time in which no server could hear a session.
//!
//! A session that is silent for its lease time is lost. While every server is down, stopped by a signal or cut off from
//! the database, nobody hears what sessions say, so that this time is not their silence: whichever server hears them
//! first again extends the leases by it. Servers that share a database note together until when one of them could
//! hear, so that the end of one of many delays nothing.

use std::time::Duration;

/// How often a server notes that it hears sessions.
pub const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// A longer time without a note is an outage; a shorter one is a server that is busy. In milliseconds, and with
/// `LISTEN_EVERY` and a heartbeat that is due each third of the shortest lease well below that lease.
const OUTAGE_MS: i64 = 2_500;

/// How long no server has heard sessions, in milliseconds, if that was an outage: `until` is the last note, 0 in a new
/// database.
pub(super) fn outage_ms(until: i64, now: i64) -> Option<i64> {
    let unheard = now.saturating_sub(until);
    (until > 0 && unheard > OUTAGE_MS).then_some(unheard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_is_no_outage_and_a_clock_set_back_neither() {
        assert_eq!(outage_ms(1_000, 3_500), None);
        assert_eq!(outage_ms(1_000, 3_501), Some(2_501));
        assert_eq!(outage_ms(10_000, 1_000), None);
        assert_eq!(outage_ms(0, 1_000_000), None, "a new database");
    }
}

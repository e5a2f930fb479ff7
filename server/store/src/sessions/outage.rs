//! Outages: times in which no server could receive heartbeats.
//!
//! A session that sends no heartbeat for its lease time is lost. While all servers are down, stopped by a signal or cut
//! off from the database, heartbeats cannot arrive, so that this time does not count as the sessions' silence: the
//! first server that receives heartbeats again extends the leases by it. Servers that share a database keep one common
//! record of the time until which one of them could receive heartbeats, so that the end of one of many servers extends
//! no lease.

use std::time::Duration;

/// Interval at which a server records that it receives heartbeats.
pub const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Time without a record, in milliseconds, beyond which there was an outage; within it, a server was only busy.
/// Together with `NOTE_EVERY`, and with heartbeats every third of a lease, it is well below the shortest lease.
const OUTAGE_MS: i64 = 2_500;

/// Length of an outage in milliseconds, if there was one. `until` is the last record, 0 in a new database.
pub fn outage_ms(until: i64, now: i64) -> Option<i64> {
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

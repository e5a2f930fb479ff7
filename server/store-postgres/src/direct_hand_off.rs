//! Direct hand-off: new jobs are claimed for parked polls by the transaction that stores them.

use std::collections::HashMap;

use jobqueue_store::{
    error::StoreResult,
    leases,
    prepare::NewRow,
    rows::{job::LeasedRow, packed_claim},
    settle::claim::Claim,
    types::{HandOff, Leased},
};
use sqlx::{Arguments as _, FromRow, postgres::PgArguments};
use uuid::Uuid;

use crate::{PostgresStore, Tx, acquire::session_quota::Reservation, session_lock_key};

/// An offer of new jobs to a parked poll, with the claim that its session gets if it takes them.
pub(crate) struct Offered<'a> {
    /// Index of the offer in its group.
    pub at: usize,
    pub claim: Claim,
    acquire_no: u32,
    columns: HashMap<Uuid, LeasedRow>,
    reservation: Reservation<'a>,
}

impl Offered<'_> {
    /// The leases, after the commit. Empty if they cannot be built: the call acquires again under its number, and finds
    /// its claim.
    pub(crate) fn leased(mut self) -> Vec<Leased> {
        self.reservation.record(None, self.claim.entries.len());
        leases::leased(&[self.claim], &mut self.columns).unwrap_or_default()
    }
}

/// The offers whose session is known to have room under its quota. The others are not taken, because their sessions'
/// jobs would have to be counted first.
pub(crate) fn offered<'a>(store: &'a PostgresStore, rows: &[&NewRow<'_>], offers: &[HandOff]) -> Vec<Offered<'a>> {
    let offered = offers.iter().enumerate().filter_map(|(at, offer)| {
        let reservation = store.session_quotas.reserve(offer.session_id, offer.jobs.len() as u32);
        reservation.holds?;
        let (claim, columns) = leases::claim_for_hand_off(rows, offer)?;
        Some(Offered { at, claim, acquire_no: offer.acquire_no, columns, reservation })
    });
    offered.collect()
}

/// Call of the function in migrations/postgres/0001_foundation.sql. Its first parameters are those of all new jobs.
const STORE_AND_HAND_OVER: &str = "
    SELECT * FROM store_and_hand_over($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                                      $20, $21, $22, $23, $24, $25, $26, $27)";

#[derive(FromRow)]
struct TakenOffer {
    offer: i64,
    host: String,
    claimed_at: i64,
}

/// Stores the jobs, and returns the offers that were taken.
pub(crate) async fn write<'a>(
    connection: &mut Tx,
    mut arguments: PgArguments,
    rows: &[&NewRow<'_>],
    offered: Vec<Offered<'a>>,
) -> StoreResult<Vec<Offered<'a>>> {
    let claims = || offered.iter().map(|offered| &offered.claim);
    let numbered = claims().zip(1_i16..);
    let number_of: HashMap<Uuid, i16> =
        numbered.flat_map(|(claim, n)| claim.entries.iter().map(move |entry| (entry.job_id, n))).collect();
    let locks = || claims().map(|claim| session_lock_key(claim.session_id));
    let mut add = || {
        arguments.add(rows.iter().map(|row| number_of.get(&row.id).copied()).collect::<Vec<_>>())?;
        arguments.add(claims().map(|claim| claim.worker_id.as_str()).collect::<Vec<_>>())?;
        arguments.add(claims().map(|claim| claim.session_id).collect::<Vec<_>>())?;
        arguments.add(offered.iter().map(|offered| offered.acquire_no as i32).collect::<Vec<_>>())?;
        arguments.add(locks().collect::<Vec<_>>())?;
        arguments.add(locks().map(|lock| lock as i32).collect::<Vec<_>>())?;
        arguments.add(claims().map(|claim| claim.id).collect::<Vec<_>>())?;
        arguments.add(claims().map(Claim::ids).collect::<Vec<_>>())?;
        arguments.add(claims().map(|claim| packed_claim::encode_entries(&claim.entries)).collect::<Vec<_>>())?;
        arguments.add(
            claims().map(|claim| claim.entries.iter().filter_map(|entry| entry.timeout_ms).min()).collect::<Vec<_>>(),
        )
    };
    add().map_err(sqlx::Error::Encode)?;
    let taken: Vec<TakenOffer> =
        sqlx::query_as_with(STORE_AND_HAND_OVER, arguments).fetch_all(&mut **connection).await?;
    let mut taken: HashMap<_, _> = taken.into_iter().map(|taken| (taken.offer, taken)).collect();
    let of_taken = offered.into_iter().zip(1_i64..).filter_map(|(mut offered, n)| {
        let taken = taken.remove(&n)?;
        (offered.claim.host, offered.claim.claimed_at) = (taken.host, taken.claimed_at);
        Some(offered)
    });
    Ok(of_taken.collect())
}

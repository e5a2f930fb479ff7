//! How claims and done rows keep many jobs in one row: sorted ids as bytes, and beside them what differs by job.
//! Both databases store the same bytes.

use jobqueue_shared::lease::created_at_ms;
use uuid::Uuid;

/// A claims row stays under PostgreSQL's 2,000 bytes, above which rows are moved out of line.
pub const PLACES_PER_CLAIM: usize = 64;
/// The ids of a done row are at most this far apart, so that a job is found by looking back no further.
pub(super) const DONE_SPAN_MS: i64 = 1_000;

/// One job that a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub job_id: Uuid,
    pub run_no: u32,
    pub used: u32,
    /// How long the attempt may take from the claim on.
    pub timeout_ms: Option<i64>,
}

const PLACE_BYTES: usize = 11;
const RUN_BYTES: usize = 6;

pub(super) fn encode_ids(ids: impl IntoIterator<Item = Uuid>) -> Vec<u8> {
    ids.into_iter().flat_map(Uuid::into_bytes).collect()
}

pub(super) fn decode_ids(bytes: &[u8]) -> impl Iterator<Item = Uuid> {
    bytes.as_chunks::<16>().0.iter().map(|bytes| Uuid::from_bytes(*bytes))
}

/// run_no 4 bytes, used 2, timeout 5 (0 = none; a year in milliseconds takes 35 bits), little-endian.
pub(super) fn encode_places(places: &[Place]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(places.len() * PLACE_BYTES);
    for place in places {
        bytes.extend_from_slice(&place.run_no.to_le_bytes());
        bytes.extend_from_slice(&(place.used.min(u32::from(u16::MAX)) as u16).to_le_bytes());
        bytes.extend_from_slice(&place.timeout_ms.unwrap_or(0).to_le_bytes()[..5]);
    }
    bytes
}

/// `None`: the two do not belong together.
pub(super) fn decode_places(ids: &[u8], places: &[u8]) -> Option<Vec<Place>> {
    if !ids.len().is_multiple_of(16) || places.len() != ids.len() / 16 * PLACE_BYTES {
        return None;
    }
    let places = decode_ids(ids).zip(places.as_chunks::<PLACE_BYTES>().0).map(|(job_id, bytes)| {
        let [r0, r1, r2, r3, u0, u1, t0, t1, t2, t3, t4] = *bytes;
        let timeout = i64::from_le_bytes([t0, t1, t2, t3, t4, 0, 0, 0]);
        Place {
            job_id,
            run_no: u32::from_le_bytes([r0, r1, r2, r3]),
            used: u32::from(u16::from_le_bytes([u0, u1])),
            timeout_ms: (timeout > 0).then_some(timeout),
        }
    });
    Some(places.collect())
}

/// run_no and used of done jobs; `None` when each was the job's first, as nearly all are.
pub(super) fn encode_runs(places: &[Place]) -> Option<Vec<u8>> {
    if places.iter().all(|place| (place.run_no, place.used) == (1, 1)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(places.len() * RUN_BYTES);
    for place in places {
        bytes.extend_from_slice(&place.run_no.to_le_bytes());
        bytes.extend_from_slice(&(place.used.min(u32::from(u16::MAX)) as u16).to_le_bytes());
    }
    Some(bytes)
}

/// (run_no, used) of the job at `index`.
pub(super) fn run_at_index(runs: Option<&[u8]>, index: usize) -> (u32, u32) {
    let Some(bytes) = runs.and_then(|runs| runs.as_chunks::<RUN_BYTES>().0.get(index)) else { return (1, 1) };
    let [r0, r1, r2, r3, u0, u1] = *bytes;
    (u32::from_le_bytes([r0, r1, r2, r3]), u32::from(u16::from_le_bytes([u0, u1])))
}

pub(super) fn index_of(ids: &[u8], job_id: Uuid) -> Option<usize> {
    decode_ids(ids).position(|id| id == job_id)
}

/// The smallest id that a done row with `job_id` in it can begin with.
pub(super) fn earliest_first_id(job_id: Uuid) -> Uuid {
    let ms = (created_at_ms(job_id) - DONE_SPAN_MS).max(0) as u128;
    Uuid::from_u128(ms << 80)
}

/// Sorted places in groups that one done row may hold each.
pub(super) fn done_groups(mut places: Vec<Place>) -> Vec<Vec<Place>> {
    places.sort_by_key(|place| place.job_id);
    let mut groups: Vec<Vec<Place>> = Vec::new();
    for place in places {
        match groups.last_mut() {
            Some(group) if place.job_id.as_u128() >> 80 <= (group[0].job_id.as_u128() >> 80) + DONE_SPAN_MS as u128 => {
                group.push(place);
            }
            _ => groups.push(vec![place]),
        }
    }
    groups
}

/// What is left of a done row when jobs are deleted from it.
pub(super) struct Rest {
    pub ids: Vec<u8>,
    pub runs: Option<Vec<u8>>,
    pub removed: Vec<Uuid>,
}

pub(super) fn without(ids: &[u8], runs: Option<&[u8]>, remove: &[Uuid]) -> Rest {
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for (index, job_id) in decode_ids(ids).enumerate() {
        if remove.contains(&job_id) {
            removed.push(job_id);
        } else {
            let (run_no, used) = run_at_index(runs, index);
            kept.push(Place { job_id, run_no, used, timeout_ms: None });
        }
    }
    Rest { ids: encode_ids(kept.iter().map(|place| place.job_id)), runs: encode_runs(&kept), removed }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places() -> impl Strategy<Value = Vec<Place>> {
        let place = (any::<u128>(), any::<u32>(), any::<u16>(), proptest::option::of(1_i64..=31_536_000_000)).prop_map(
            |(id, run_no, used, timeout_ms)| Place {
                job_id: Uuid::from_u128(id),
                run_no,
                used: u32::from(used),
                timeout_ms,
            },
        );
        proptest::collection::vec(place, 0..=PLACES_PER_CLAIM)
    }

    proptest! {
        #[test]
        fn places_survive_the_trip_and_stay_small(places in places()) {
            let ids = encode_ids(places.iter().map(|place| place.job_id));
            let bytes = encode_places(&places);
            prop_assert!(ids.len() + bytes.len() < 1_900);
            prop_assert_eq!(decode_places(&ids, &bytes), Some(places));
        }

        #[test]
        fn runs_survive_the_trip(places in places()) {
            let runs = encode_runs(&places);
            for (index, place) in places.iter().enumerate() {
                prop_assert_eq!(run_at_index(runs.as_deref(), index), (place.run_no, place.used));
            }
        }

        #[test]
        fn a_done_row_is_found_by_looking_back_a_second(places in places()) {
            let count = places.len();
            let groups = done_groups(places);
            prop_assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), count);
            for group in groups {
                for place in &group {
                    prop_assert!(group[0].job_id <= place.job_id);
                    prop_assert!(group[0].job_id >= earliest_first_id(place.job_id));
                }
            }
        }
    }

    #[test]
    fn bytes_that_do_not_belong_together_are_not_read() {
        assert_eq!(decode_places(&[0; 16], &[0; 10]), None);
        assert_eq!(decode_places(&[0; 15], &[]), None);
    }
}

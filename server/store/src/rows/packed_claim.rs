//! Encoding of packed claims, and of done rows, which are packed in the same way: a row of `claims` or `done` holds the
//! ids of many jobs as bytes and, beside them, the values that differ between these jobs. The ids of a claim are in the
//! order of acquisition, those of a done row are sorted. Both databases store the same bytes.

use jobqueue_shared::lease::created_at_ms;
use uuid::Uuid;

/// Maximum number of jobs in a claim. The row stays below PostgreSQL's TOAST threshold of about 2,000 bytes.
pub const ENTRIES_PER_CLAIM: usize = 64;
/// Maximum distance in time between the ids of a done row, in milliseconds. A job's row is found by looking back that
/// far.
pub(crate) const DONE_SPAN_MS: i64 = 1_000;

/// One job of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub job_id: Uuid,
    pub run_no: u32,
    pub attempts_used: u32,
    /// Attempt timeout in milliseconds from the time of the claim.
    pub timeout_ms: Option<i64>,
}

const ENTRY_BYTES: usize = 11;
const RUN_BYTES: usize = 6;

pub fn encode_ids(ids: impl IntoIterator<Item = Uuid>) -> Vec<u8> {
    ids.into_iter().flat_map(Uuid::into_bytes).collect()
}

pub fn decode_ids(bytes: &[u8]) -> impl Iterator<Item = Uuid> {
    bytes.as_chunks::<16>().0.iter().map(|bytes| Uuid::from_bytes(*bytes))
}

/// Encodes entries, little-endian: run_no 4 bytes, attempts_used 2, timeout 5 (0 = none; a year in milliseconds takes 35 bits).
pub fn encode_entries(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        bytes.extend_from_slice(&entry.run_no.to_le_bytes());
        bytes.extend_from_slice(&(entry.attempts_used.min(u32::from(u16::MAX)) as u16).to_le_bytes());
        bytes.extend_from_slice(&entry.timeout_ms.unwrap_or(0).to_le_bytes()[..5]);
    }
    bytes
}

/// Decodes a claim's ids and entries; `None` if their lengths do not match.
pub fn decode_entries(ids: &[u8], entries: &[u8]) -> Option<Vec<Entry>> {
    if !ids.len().is_multiple_of(16) || entries.len() != ids.len() / 16 * ENTRY_BYTES {
        return None;
    }
    let entries = decode_ids(ids).zip(entries.as_chunks::<ENTRY_BYTES>().0).map(|(job_id, bytes)| {
        let [r0, r1, r2, r3, u0, u1, t0, t1, t2, t3, t4] = *bytes;
        let timeout = i64::from_le_bytes([t0, t1, t2, t3, t4, 0, 0, 0]);
        Entry {
            job_id,
            run_no: u32::from_le_bytes([r0, r1, r2, r3]),
            attempts_used: u32::from(u16::from_le_bytes([u0, u1])),
            timeout_ms: (timeout > 0).then_some(timeout),
        }
    });
    Some(entries.collect())
}

/// Encodes run_no and used of done jobs; `None` if each attempt was its job's first, as nearly all are.
pub(crate) fn encode_runs(entries: &[Entry]) -> Option<Vec<u8>> {
    if entries.iter().all(|entry| (entry.run_no, entry.attempts_used) == (1, 1)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(entries.len() * RUN_BYTES);
    for entry in entries {
        bytes.extend_from_slice(&entry.run_no.to_le_bytes());
        bytes.extend_from_slice(&(entry.attempts_used.min(u32::from(u16::MAX)) as u16).to_le_bytes());
    }
    Some(bytes)
}

/// Decodes (run_no, used) of the job at `index`.
pub(crate) fn run_at_index(runs: Option<&[u8]>, index: usize) -> (u32, u32) {
    let Some(bytes) = runs.and_then(|runs| runs.as_chunks::<RUN_BYTES>().0.get(index)) else { return (1, 1) };
    let [r0, r1, r2, r3, u0, u1] = *bytes;
    (u32::from_le_bytes([r0, r1, r2, r3]), u32::from(u16::from_le_bytes([u0, u1])))
}

pub fn index_of(ids: &[u8], job_id: Uuid) -> Option<usize> {
    decode_ids(ids).position(|id| id == job_id)
}

/// Smallest first id that a done row with `job_id` in it can have.
pub fn earliest_first_id(job_id: Uuid) -> Uuid {
    let ms = (created_at_ms(job_id) - DONE_SPAN_MS).max(0) as u128;
    Uuid::from_u128(ms << 80)
}

/// Groups entries for done rows, sorted.
pub fn done_groups(mut entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    entries.sort_by_key(|entry| entry.job_id);
    let mut groups: Vec<Vec<Entry>> = Vec::new();
    for entry in entries {
        match groups.last_mut() {
            Some(group) if entry.job_id.as_u128() >> 80 <= (group[0].job_id.as_u128() >> 80) + DONE_SPAN_MS as u128 => {
                group.push(entry);
            }
            _ => groups.push(vec![entry]),
        }
    }
    groups
}

/// Remainder of a done row after jobs were deleted from it.
pub struct Rest {
    pub ids: Vec<u8>,
    pub runs: Option<Vec<u8>>,
    pub removed: Vec<Uuid>,
}

pub fn without(ids: &[u8], runs: Option<&[u8]>, remove: &[Uuid]) -> Rest {
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for (index, job_id) in decode_ids(ids).enumerate() {
        if remove.contains(&job_id) {
            removed.push(job_id);
        } else {
            let (run_no, attempts_used) = run_at_index(runs, index);
            kept.push(Entry { job_id, run_no, attempts_used, timeout_ms: None });
        }
    }
    Rest { ids: encode_ids(kept.iter().map(|entry| entry.job_id)), runs: encode_runs(&kept), removed }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (any::<u128>(), any::<u32>(), any::<u16>(), proptest::option::of(1_i64..=31_536_000_000)).prop_map(
            |(id, run_no, attempts_used, timeout_ms)| Entry {
                job_id: Uuid::from_u128(id),
                run_no,
                attempts_used: u32::from(attempts_used),
                timeout_ms,
            },
        );
        proptest::collection::vec(entry, 0..=ENTRIES_PER_CLAIM)
    }

    proptest! {
        #[test]
        fn places_survive_the_trip_and_stay_small(entries in entries()) {
            let ids = encode_ids(entries.iter().map(|entry| entry.job_id));
            let bytes = encode_entries(&entries);
            prop_assert!(ids.len() + bytes.len() < 1_900);
            prop_assert_eq!(decode_entries(&ids, &bytes), Some(entries));
        }

        #[test]
        fn runs_survive_the_trip(entries in entries()) {
            let runs = encode_runs(&entries);
            for (index, entry) in entries.iter().enumerate() {
                prop_assert_eq!(run_at_index(runs.as_deref(), index), (entry.run_no, entry.attempts_used));
            }
        }

        #[test]
        fn a_done_row_is_found_by_looking_back_a_second(entries in entries()) {
            let count = entries.len();
            let groups = done_groups(entries);
            prop_assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), count);
            for group in groups {
                for entry in &group {
                    prop_assert!(group[0].job_id <= entry.job_id);
                    prop_assert!(group[0].job_id >= earliest_first_id(entry.job_id));
                }
            }
        }
    }

    #[test]
    fn bytes_that_do_not_belong_together_are_not_read() {
        assert_eq!(decode_entries(&[0; 16], &[0; 10]), None);
        assert_eq!(decode_entries(&[0; 15], &[]), None);
    }
}

//! Lease: the right to settle one attempt. It names the claim and the job, in an opaque text.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

/// Id of a lease. Claim ids are random and new for every claim, so that a lease can be neither guessed nor given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId {
    pub claim_id: Uuid,
    pub job_id: Uuid,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a lease_id of this server")]
pub struct MalformedLease;

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(self.claim_id.as_bytes());
        bytes[16..].copy_from_slice(self.job_id.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for LeaseId {
    type Err = MalformedLease;

    fn from_str(text: &str) -> Result<Self, MalformedLease> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| MalformedLease)?;
        let (claim, job) = bytes.split_at_checked(16).ok_or(MalformedLease)?;
        Ok(Self {
            claim_id: Uuid::from_slice(claim).map_err(|_| MalformedLease)?,
            job_id: Uuid::from_slice(job).map_err(|_| MalformedLease)?,
        })
    }
}

/// Submission time of a job, in milliseconds since 1970: the first 48 bits of its id (RFC 9562, UUIDv7).
pub fn created_at_ms(job_id: Uuid) -> i64 {
    (job_id.as_u128() >> 80) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn leases_survive_the_trip(claim: u128, job: u128) {
            let lease = LeaseId { claim_id: Uuid::from_u128(claim), job_id: Uuid::from_u128(job) };
            prop_assert_eq!(lease.to_string().parse(), Ok(lease));
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,60}") {
            if let Ok(lease) = text.parse::<LeaseId>() {
                prop_assert_eq!(lease.to_string(), text);
            }
        }
    }

    #[test]
    fn the_time_of_an_id_is_its_first_48_bits() {
        let id = Uuid::try_parse("0192f5a6-1000-7000-8000-000000000000").unwrap();
        assert_eq!(created_at_ms(id), 0x0192_f5a6_1000);
    }
}

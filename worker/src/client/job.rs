//! Jobs as the server returns them, with conversions to Rust's own types.

use std::time::SystemTime;

use serde::de::DeserializeOwned;

pub use jobqueue_shared::proto::v1::{Job, job::Status};

/// Conversions that the generated message lacks.
pub trait JobExt {
    /// Payload, deserialized.
    fn payload<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error>;
    /// Result of the handler, deserialized; `None` when it returned none.
    fn result<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error>;
    /// True when the job is done, failed or cancelled: only an operator action moves it from there.
    fn is_finished(&self) -> bool;
    fn created(&self) -> Option<SystemTime>;
    fn updated(&self) -> Option<SystemTime>;
    /// Time from which the job may run; for a retry, the time at which the next attempt is due.
    fn runs_at(&self) -> Option<SystemTime>;
}

impl JobExt for Job {
    fn payload<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.payload_json)
    }

    fn result<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        if self.result_json.is_empty() { Ok(None) } else { serde_json::from_str(&self.result_json).map(Some) }
    }

    fn is_finished(&self) -> bool {
        jobqueue_shared::status::state(self.status()).is_some_and(jobqueue_shared::state::State::is_finished)
    }

    fn created(&self) -> Option<SystemTime> {
        system_time(self.created_at)
    }

    fn updated(&self) -> Option<SystemTime> {
        system_time(self.updated_at)
    }

    fn runs_at(&self) -> Option<SystemTime> {
        system_time(self.run_at)
    }
}

fn system_time(time: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    time.and_then(|time| SystemTime::try_from(time).ok())
}

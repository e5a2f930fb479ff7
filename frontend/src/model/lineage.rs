//! Lineage of a job: the job that it was copied from, and the jobs that were copied from it.

use jobqueue_shared::proto::v1::GetJobResponse;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Id of the original; "" = the job is no copy.
    pub origin: String,
    /// Ids of the copies, newest first.
    pub copies: Vec<String>,
    /// True if there are older copies.
    pub more: bool,
}

impl Lineage {
    pub fn of(answer: &GetJobResponse) -> Self {
        Self {
            origin: answer.job.as_ref().map(|job| job.origin.clone()).unwrap_or_default(),
            copies: answer.copies.iter().map(|copy| copy.job_id.clone()).collect(),
            more: answer.more_copies,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.origin.is_empty() && self.copies.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::proto::v1::{Job, JobCopy};

    use super::*;

    #[test]
    fn both_directions_are_told() {
        let copy = |id: &str| JobCopy { job_id: id.into(), ..JobCopy::default() };
        let job = Job { origin: "o".into(), ..Job::default() };
        let answer = GetJobResponse {
            job: Some(job),
            copies: vec![copy("b"), copy("a")],
            more_copies: true,
            ..GetJobResponse::default()
        };
        let lineage = Lineage::of(&answer);
        assert_eq!((lineage.origin.as_str(), lineage.copies.join(" ").as_str(), lineage.more), ("o", "b a", true));
        assert!(!lineage.is_empty() && Lineage::of(&GetJobResponse::default()).is_empty());
    }
}

//! Recent jobs, from which the submit form makes suggestions.

use jobqueue_shared::{proto::v1::Job, time::timestamp_ms};

use super::{id, status::JobStatus, text::or_dash, time, visible::isolated};

/// Maximum number of jobs to choose from.
const CHOICES: usize = 20;

/// Tasks of the jobs, each once, in order of the alphabet.
pub fn tasks(jobs: &[Job]) -> Vec<String> {
    let mut tasks: Vec<_> = jobs.iter().map(|job| job.task.clone()).filter(|task| !task.is_empty()).collect();
    tasks.sort();
    tasks.dedup();
    tasks
}

/// Ids of the newest jobs, and the words by which a person tells them apart.
pub fn choices(jobs: &[Job], now: i64) -> Vec<(String, String)> {
    let words = |job: &Job| {
        let created = job.created_at.as_ref().map_or(now, timestamp_ms);
        let (task, status) = (or_dash(&isolated(&job.task)), JobStatus::of(job).look(now).word);
        format!("{task}, {status}, {}, {}", time::relative(created, now), id::short(&job.id))
    };
    jobs.iter().take(CHOICES).map(|job| (job.id.clone(), words(job))).collect()
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::{proto::v1::job::Status, time::timestamp};

    use super::*;

    #[test]
    fn tasks_come_once_and_jobs_with_what_tells_them_apart() {
        let job = |task: &str| Job {
            id: "0192f5a6-1000-7000-8000-0000003f2a91".into(),
            task: task.into(),
            status: Status::Done.into(),
            created_at: Some(timestamp(0)),
            ..Job::default()
        };
        let jobs = vec![job("b"), job("a"), job(""), job("b")];
        assert_eq!(tasks(&jobs), ["a", "b"]);
        assert_eq!(choices(&jobs, 120_000)[0].1, "b, done, 2 min ago, 0192f5a6…3f2a91");
        assert_eq!(choices(&vec![job("a"); 50], 0).len(), CHOICES);
    }
}

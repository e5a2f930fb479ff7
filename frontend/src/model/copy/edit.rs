//! Copy of a job while it is edited: the values as typed, the changes that they make, and how they differ from the
//! original.

use jobqueue_shared::{
    proto::v1::{Job, JobChanges},
    time::{duration, duration_ms},
};

use super::diff::{self, Line};
use crate::model::{draft::Complaint, json, span};

/// Values as typed. The payload is indented.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    pub worker_id: String,
    pub task: String,
    pub payload: String,
    pub priority: String,
    pub max_retries: String,
    /// "" = no limit.
    pub attempt_timeout: String,
    /// "" = as the original, or at once.
    pub delay: String,
}

/// Difference of a copy from its original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    Field { name: &'static str, before: String, after: String },
    Payload(Vec<Line>),
}

/// Fields of the editor, by the names that the server's errors use, in the order of the dialog.
pub const FIELDS: [&str; 7] = [
    "changes.worker_id",
    "changes.task",
    "changes.payload_json",
    "changes.priority",
    "changes.max_retries",
    "changes.attempt_timeout",
    "changes.delay",
];

impl Edit {
    /// The original, unchanged.
    pub fn of(job: &Job) -> Self {
        Self {
            worker_id: job.worker_id.clone(),
            task: job.task.clone(),
            payload: json::indented(&job.payload_json),
            priority: job.priority.to_string(),
            max_retries: job.max_retries.to_string(),
            attempt_timeout: job.attempt_timeout.as_ref().map(|it| span::typed(duration_ms(it))).unwrap_or_default(),
            delay: String::new(),
        }
    }

    /// Changes against the original; what is as it was is not set, so that the payload stays as it was byte for byte
    /// unless it is edited. Fails with the fields that cannot be sent; all else is checked by the server.
    pub fn changes(&self, original: &Self) -> Result<JobChanges, Vec<Complaint>> {
        let mut wrong = vec![];
        let text = |is: &String, was: &String| (is != was).then(|| is.clone());
        let mut number = |name: &str, is: &str, was: &str| {
            if is.trim() == was {
                return None;
            }
            let number = is.trim().parse().ok();
            if number.is_none() {
                wrong.push((name.to_owned(), "is no whole number".to_owned()));
            }
            number
        };
        let priority = number("changes.priority", &self.priority, &original.priority);
        let max_retries = number("changes.max_retries", &self.max_retries, &original.max_retries);
        let mut time = |name: &str, is: &str| {
            let ms = span::parse(is);
            if ms.is_none() {
                wrong.push((name.to_owned(), "is no length of time; write it like 30s, 5m or 1h 30m".to_owned()));
            }
            ms.map(duration)
        };
        let attempt_timeout = match self.attempt_timeout.trim() {
            same if same == original.attempt_timeout => None,
            "" => Some(duration(0)),
            text => time("changes.attempt_timeout", text),
        };
        let delay = if self.delay.trim().is_empty() { None } else { time("changes.delay", &self.delay) };
        if let Some(problem) = json::problem(&self.payload) {
            let place = format!("is not JSON: line {}, column {}: {}", problem.line, problem.column, problem.text);
            wrong.push(("changes.payload_json".into(), place));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(JobChanges {
            worker_id: text(&self.worker_id, &original.worker_id),
            payload_json: text(&self.payload, &original.payload),
            task: text(&self.task, &original.task),
            priority,
            max_retries,
            run_at: None,
            delay,
            retry_policy: None,
            attempt_timeout,
        })
    }

    pub fn differences(&self, original: &Self) -> Vec<Difference> {
        let fields: [(&'static str, &String, &String); 6] = [
            ("worker_id", &original.worker_id, &self.worker_id),
            ("Task", &original.task, &self.task),
            ("Priority", &original.priority, &self.priority),
            ("Attempts", &original.max_retries, &self.max_retries),
            ("Attempt timeout", &original.attempt_timeout, &self.attempt_timeout),
            ("Delay", &original.delay, &self.delay),
        ];
        let mut all: Vec<_> = fields
            .into_iter()
            .filter(|(_, before, after)| before.trim() != after.trim())
            .map(|(name, before, after)| Difference::Field { name, before: before.clone(), after: after.clone() })
            .collect();
        if self.payload != original.payload {
            all.push(Difference::Payload(diff::diff(&original.payload, &self.payload)));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            worker_id: "w".into(),
            task: "email".into(),
            payload_json: r#"{"a":1.10}"#.into(),
            priority: 5,
            max_retries: 3,
            attempt_timeout: Some(duration(90_500)),
            ..Job::default()
        }
    }

    #[test]
    fn what_is_not_edited_is_not_sent() {
        let original = Edit::of(&job());
        assert_eq!(original.payload, "{\n  \"a\": 1.10\n}");
        assert_eq!(original.changes(&original), Ok(JobChanges::default()));
        assert_eq!(original.differences(&original), []);
    }

    #[test]
    fn every_edit_is_a_change_and_is_told() {
        let original = Edit::of(&job());
        let edit = Edit {
            worker_id: "v".into(),
            task: String::new(),
            payload: "{\n  \"a\": 2\n}".into(),
            priority: " 1 ".into(),
            max_retries: "0".into(),
            attempt_timeout: String::new(),
            delay: "1m".into(),
        };
        let changes = edit.changes(&original).unwrap();
        assert_eq!(
            changes,
            JobChanges {
                worker_id: Some("v".into()),
                payload_json: Some("{\n  \"a\": 2\n}".into()),
                task: Some(String::new()),
                priority: Some(1),
                max_retries: Some(0),
                delay: Some(duration(60_000)),
                attempt_timeout: Some(duration(0)),
                ..JobChanges::default()
            }
        );
        let told = edit.differences(&original);
        assert_eq!(told.len(), 7);
        assert!(matches!(&told[6], Difference::Payload(lines)
            if lines.contains(&Line::Removed("  \"a\": 1.10".into())) && lines.contains(&Line::Added("  \"a\": 2".into()))));
    }

    #[test]
    fn what_cannot_be_sent_is_named_all_at_once_and_json_with_its_place() {
        let original = Edit::of(&job());
        let edit = Edit {
            payload: "{\n  \"a\": }".into(),
            priority: "high".into(),
            max_retries: "1.5".into(),
            attempt_timeout: "soon".into(),
            delay: "later".into(),
            ..original.clone()
        };
        let wrong = edit.changes(&original).unwrap_err();
        let mut fields: Vec<_> = wrong.iter().map(|(field, _)| field.as_str()).collect();
        fields.sort_unstable();
        let mut all = FIELDS[2..].to_vec();
        all.sort_unstable();
        assert_eq!(fields, all);
        let payload = &wrong.iter().find(|(field, _)| field == "changes.payload_json").unwrap().1;
        assert!(payload.starts_with("is not JSON: line 2, column 8:"), "{payload}");
    }

    #[test]
    fn a_timeout_is_written_as_it_is_read() {
        for ms in [1, 999, 90_500, 3_600_000, 31_536_000_000] {
            assert_eq!(span::parse(&span::typed(ms)), Some(ms));
        }
    }
}

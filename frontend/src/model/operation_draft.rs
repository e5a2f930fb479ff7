//! Form of a new operation: the typed values, and the spec that they make.

use jobqueue_shared::{
    filter,
    proto::v1::{JobFilter, OperationSpec, job_filter::Status, operation_spec::Kind},
    time::timestamp,
};
use serde::{Deserialize, Serialize};

use super::{draft::Complaint, filter::encode};

/// Kinds in the order of the form, by their names in the API.
pub const KINDS: [Kind; 5] = [Kind::Retry, Kind::Cancel, Kind::Delete, Kind::SetPriority, Kind::Reschedule];

/// Fields of the form by their names in the API, in the order of the page.
pub const FIELDS: [&str; 9] =
    ["kind", "filter", "priority", "run_at", "reason", "rate", "canary", "canary_stop_percent", "stop_percent"];

/// Values as typed, so that nothing is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperationDraft {
    /// Name of the kind in the API.
    pub kind: String,
    /// Text form of the filter.
    pub filter: String,
    pub priority: String,
    pub run_at: String,
    pub reason: String,
    pub rate: String,
    pub canary: String,
    pub canary_stop_percent: String,
    pub stop_percent: String,
}

impl OperationDraft {
    pub fn kind(&self) -> Kind {
        KINDS.into_iter().find(|kind| kind.as_str_name() == self.kind).unwrap_or(Kind::Retry)
    }

    /// Values that decide which jobs match: a count holds as long as they stay.
    pub fn question(&self) -> (Kind, String) {
        (self.kind(), self.filter.trim().to_owned())
    }

    /// The draft without what decides only how it is run: a count does not depend on it.
    pub fn to_count(&self) -> Self {
        let Self { kind, filter, priority, run_at, .. } = self.clone();
        Self { kind, filter, priority, run_at, ..Self::default() }
    }

    /// Builds the spec, or returns the fields that cannot be sent at all; everything else is checked by the server.
    /// `at_ms` parses a local date and time.
    pub fn spec(&self, now_ms: i64, at_ms: impl Fn(&str) -> Option<i64>) -> Result<OperationSpec, Vec<Complaint>> {
        let kind = self.kind();
        let mut wrong = vec![];
        let filter = filter::parse(&self.filter, now_ms).unwrap_or_else(|error| {
            wrong.push(("filter".to_owned(), error.to_string()));
            JobFilter::default()
        });
        let mut spec = OperationSpec { kind: kind.into(), all: !narrows(&filter), ..OperationSpec::default() };
        spec.filter = Some(filter);
        match kind {
            Kind::SetPriority => spec.priority = number("priority", &self.priority, &mut wrong),
            Kind::Reschedule => {
                let at = at_ms(&self.run_at);
                if at.is_none() {
                    wrong.push(("run_at".into(), "is no date and time".into()));
                }
                spec.run_at = at.map(timestamp);
            }
            _ => {}
        }
        if kind == Kind::SetPriority && self.priority.trim().is_empty() {
            wrong.push(("priority".into(), "is empty; it is 0 to 9".into()));
        }
        spec.rate = number("rate", &self.rate, &mut wrong).unwrap_or_default();
        if kind == Kind::Retry {
            spec.canary = number("canary", &self.canary, &mut wrong).unwrap_or_default();
            if spec.canary > 0 {
                spec.canary_stop_percent = number("canary_stop_percent", &self.canary_stop_percent, &mut wrong);
            }
            spec.stop_percent = number("stop_percent", &self.stop_percent, &mut wrong);
        }
        self.reason.trim().clone_into(&mut spec.reason);
        if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
    }
}

/// Address of the form for an operation on the jobs of a filter, given in its text form.
pub fn page(filter: &str) -> String {
    // A text that cannot be parsed is shown in the form, with what is wrong.
    let kind = filter::parse(filter, 0).map_or(Kind::Retry, |filter| likely(&filter));
    format!("/operations/new?kind={}&filter={}", kind.as_str_name(), encode(filter))
}

/// Kind that people most likely mean for jobs of these statuses.
fn likely(filter: &JobFilter) -> Kind {
    let all = |statuses: &[Status]| !filter.statuses.is_empty() && filter.statuses().all(|it| statuses.contains(&it));
    if all(&[Status::Failed, Status::Cancelled]) {
        Kind::Retry
    } else if all(&[Status::Done]) {
        Kind::Delete
    } else {
        Kind::Cancel
    }
}

/// Whether a filter has any field besides statuses.
pub fn narrows(filter: &JobFilter) -> bool {
    JobFilter { statuses: vec![], ..filter.clone() } != JobFilter::default()
}

fn number<T: std::str::FromStr>(field: &str, text: &str, wrong: &mut Vec<Complaint>) -> Option<T> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let number = text.parse().ok();
    if number.is_none() {
        wrong.push((field.to_owned(), "is no number".to_owned()));
    }
    number
}

/// Field of the form that a field of the API, such as `spec.filter.ids[3]`, belongs to.
pub fn field_of(name: &str) -> &'static str {
    let name = name.strip_prefix("spec.").unwrap_or(name);
    let first = name.split(['.', '[']).next().unwrap_or_default();
    FIELDS.into_iter().find(|field| *field == first).unwrap_or(if first == "all" { "filter" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(filter: &str) -> OperationDraft {
        let filter = filter.to_owned();
        OperationDraft { kind: "retry".into(), filter, reason: "fixed".into(), ..OperationDraft::default() }
    }

    fn fields(draft: &OperationDraft) -> Vec<String> {
        draft.spec(0, |_| None).err().unwrap_or_default().into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn a_draft_becomes_a_spec_with_only_what_its_kind_takes() {
        let draft = OperationDraft {
            canary: "10".into(),
            stop_percent: "2.5".into(),
            priority: "3".into(),
            ..retry("worker:mail")
        };
        let spec = draft.spec(0, |_| None).unwrap();
        assert_eq!((spec.kind(), spec.canary, spec.stop_percent, spec.priority), (Kind::Retry, 10, Some(2.5), None));
        assert_eq!(spec.filter.unwrap().worker_ids, ["mail"]);
        assert!(!spec.all);
        let draft = OperationDraft { kind: "set_priority".into(), ..draft };
        let spec = draft.spec(0, |_| None).unwrap();
        assert_eq!((spec.canary, spec.stop_percent, spec.priority), (0, None, Some(3)));
    }

    #[test]
    fn the_form_opens_with_the_kind_that_the_statuses_suggest() {
        for (filter, kind) in [
            ("status:failed task:email", "retry"),
            ("status:done", "delete"),
            ("status:ready,scheduled", "cancel"),
            ("", "cancel"),
            ("status:", "retry"),
        ] {
            assert!(page(filter).starts_with(&format!("/operations/new?kind={kind}&filter=")), "{filter}");
        }
        assert_eq!(page("status:failed"), "/operations/new?kind=retry&filter=status%3Afailed");
    }

    #[test]
    fn a_filter_that_excludes_nothing_is_confirmed_by_its_count() {
        assert!(retry("").spec(0, |_| None).unwrap().all);
        assert!(retry("status:failed").spec(0, |_| None).unwrap().all);
        assert!(!retry("task:email").spec(0, |_| None).unwrap().all);
    }

    #[test]
    fn a_count_does_not_mind_how_the_operation_is_run() {
        let draft = OperationDraft { rate: "fast".into(), canary: "few".into(), ..retry("task:email") };
        assert!(draft.to_count().spec(0, |_| None).is_ok());
        assert_eq!(draft.to_count().question(), draft.question());
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        assert_eq!(fields(&retry("nonsense:1")), ["filter"]);
        let draft = OperationDraft { rate: "fast".into(), canary: "few".into(), ..retry("") };
        assert_eq!(fields(&draft), ["rate", "canary"]);
        assert_eq!(fields(&OperationDraft { kind: "reschedule".into(), ..retry("") }), ["run_at"]);
        assert_eq!(fields(&OperationDraft { kind: "set_priority".into(), ..retry("") }), ["priority"]);
    }

    #[test]
    fn the_servers_complaints_reach_the_fields() {
        for (name, field) in [
            ("spec.filter.ids[3]", "filter"),
            ("spec.all", "filter"),
            ("spec.canary_stop_percent", "canary_stop_percent"),
            ("request_id", ""),
        ] {
            assert_eq!(field_of(name), field);
        }
    }
}

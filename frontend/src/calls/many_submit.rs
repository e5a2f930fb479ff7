//! Submission of many jobs, which belongs to the app: it goes on, and reports what became of each line, whatever becomes
//! of the form.

use gloo_timers::future::TimeoutFuture;
use jobqueue_shared::proto::v1::{SubmitJobRequest, SubmitJobsRequest};
use leptos::prelude::*;

use crate::{
    browser::dom,
    calls::{
        client::{self, Failure},
        operator_actions::OperatorActions,
    },
    model::{
        draft::Complaint,
        many::{
            lines::Line,
            report::{Fate, Report},
            run::{self, Run},
        },
    },
};

/// Key of a submission of many jobs, of which there is one at a time.
pub const MANY_KEY: &str = "submission of many";
/// Name in the session storage under which the last run is kept until all of it is submitted.
const KEPT: &str = "submit-run";
/// Pauses in milliseconds before a batch whose answer was lost is sent again, under the same keys.
const AGAIN_MS: [u32; 3] = [500, 2_000, 5_000];

/// Run that is under way, or that ended.
#[derive(Clone, Copy)]
pub struct ManySubmit {
    pub report: RwSignal<Option<Report>>,
    pub is_stopped: RwSignal<bool>,
    /// Wrong fields that all jobs have in common.
    pub wrong: RwSignal<Vec<Complaint>>,
    /// Text of the last lines that were all submitted.
    pub submitted: RwSignal<Option<String>>,
}

/// Next step after a batch.
enum Then {
    Next,
    End,
}

impl ManySubmit {
    pub fn provide() {
        let many = Self {
            report: RwSignal::new(None),
            is_stopped: RwSignal::new(false),
            wrong: RwSignal::new(vec![]),
            submitted: RwSignal::new(None),
        };
        provide_context(many);
        // The browser asks whether to leave, because a closed or reloaded tab ends the run.
        dom::listen("beforeunload", move |event| {
            if many.is_under_way() {
                event.prevent_default();
            }
        });
    }

    pub fn get() -> Self {
        expect_context()
    }

    fn is_under_way(self) -> bool {
        self.report.with_untracked(|report| report.as_ref().is_some_and(|report| !report.is_over))
    }

    /// Submits the lines of `text` with the options of `template`. The same lines and options, submitted again before all of them
    /// have been stored, have the same keys.
    pub fn start(self, actions: OperatorActions, template: SubmitJobRequest, lines: Vec<Line>, text: String) {
        if lines.is_empty() || actions.in_flight.is_under_way(MANY_KEY) {
            return;
        }
        let run = Run::of(dom::kept(KEPT), &template, &lines, || uuid::Uuid::new_v4().to_string());
        dom::keep(KEPT, &run);
        self.is_stopped.set(false);
        self.wrong.set(vec![]);
        self.submitted.set(None);
        self.report.set(Some(Report::of(lines.len())));
        actions.in_flight.run(vec![MANY_KEY.to_owned()], async move {
            let mut rest = lines.as_slice();
            while !rest.is_empty() && !self.is_stopped.get_untracked() {
                let (now, later) = rest.split_at(run::batch(rest));
                rest = later;
                if let Then::End = self.send(&run, &template, now.to_vec()).await {
                    break;
                }
            }
            for line in rest {
                self.add(line, Fate::NotSent);
            }
            self.end(actions, text);
        });
    }

    /// Sends a batch. What the server refuses is left out, and the others of the batch are sent again.
    async fn send(self, run: &Run, template: &SubmitJobRequest, mut batch: Vec<Line>) -> Then {
        let mut pauses = AGAIN_MS.iter();
        while !batch.is_empty() {
            let jobs = batch.iter().map(|line| run.request(template, line)).collect();
            match client::submit_jobs(SubmitJobsRequest { jobs }).await {
                Ok(answer) => {
                    let known = answer.jobs.iter().filter(|job| job.deduplicated).count();
                    self.change(|report| {
                        report.submitted += batch.len();
                        report.known += known;
                    });
                    return Then::Next;
                }
                Err(failure) if failure.is_away() => match pauses.next() {
                    Some(pause) if !self.is_stopped.get_untracked() => TimeoutFuture::new(*pause).await,
                    _ => {
                        for line in &batch {
                            self.add(line, Fate::Unknown);
                        }
                        return Then::End;
                    }
                },
                Err(failure) => {
                    if let Then::End = self.refused(&failure, &mut batch) {
                        return Then::End;
                    }
                }
            }
        }
        Then::Next
    }

    /// Takes the lines out of the batch that a refusal names. A refusal that names none is about all of them.
    fn refused(self, failure: &Failure, batch: &mut Vec<Line>) -> Then {
        let mut named = vec![];
        let mut common: Vec<Complaint> = vec![];
        for (field, text) in &failure.fields {
            match run::place(field) {
                Some((at, name @ ("payload_json" | "idempotency_key"))) => named.push((at, format!("{name} {text}"))),
                Some((_, name)) if !common.iter().any(|(known, _)| known == name) => {
                    common.push((name.to_owned(), text.clone()));
                }
                _ => {}
            }
        }
        if named.is_empty() || !common.is_empty() {
            self.wrong.set(common);
            for line in batch.iter() {
                self.add(line, Fate::Refused(failure.message.clone()));
            }
            return Then::End;
        }
        named.sort();
        named.dedup_by_key(|(at, _)| *at);
        for (at, reason) in named.into_iter().rev() {
            if at < batch.len() {
                self.add(&batch.remove(at), Fate::Refused(reason));
            }
        }
        Then::Next
    }

    fn add(self, line: &Line, fate: Fate) {
        self.change(|report| report.add(line.number, fate));
    }

    fn change(self, change: impl FnOnce(&mut Report)) {
        self.report.update(|report| {
            if let Some(report) = report {
                change(report);
            }
        });
    }

    fn end(self, actions: OperatorActions, text: String) {
        self.change(|report| report.is_over = true);
        let report = self.report.get_untracked().unwrap_or_default();
        if report.is_complete() {
            dom::keep(KEPT, &None::<Run>);
            self.submitted.set(Some(text));
            actions.toasts.good(report.summary());
        } else {
            actions.toasts.bad(report.summary());
        }
        actions.live.refresh();
    }
}

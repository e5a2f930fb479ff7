//! Search for a job or session by its id, or by the short form of one that lists show.
//!
//! No index of the storage finds an id by its end. A short id is looked up among the ids that this tab has shown, then
//! in what lists begin with, which takes three calls; beyond that, the whole id is needed.

use std::collections::{BTreeMap, BTreeSet};

use futures::join;
use jobqueue_shared::proto::v1::{
    ExplainJobRequest, GetWorkerRequest, JobView, ListFailedJobsRequest, ListJobsRequest,
};
use leptos::prelude::*;

use crate::{
    calls::client::{self, Failure},
    model::{
        id,
        id_query::IdQuery,
        number::{length, plural},
    },
};

/// Maximum number of ids that are remembered; more than a person looks at before a reload.
const REMEMBERED: usize = 10_000;
/// Number of jobs that a list is asked for, the most that it gives at once.
const NEWEST: i32 = jobqueue_shared::limits::PAGE_MAX as i32;
/// Maximum number of ids that a message names.
const NAMED: usize = 4;

/// Kind of what an id belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Job,
    Session,
}

impl Kind {
    /// Address of the page about the job or session.
    fn page(self, id: &str) -> String {
        match self {
            Self::Job => id::job_page(id),
            Self::Session => id::session_page(id),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Session => "session",
        }
    }
}

/// Ids that this tab has shown, by kind.
#[derive(Clone, Copy)]
pub struct ShownIds(StoredValue<BTreeMap<String, Kind>>);

impl ShownIds {
    pub fn provide() {
        provide_context(Self(StoredValue::new(BTreeMap::new())));
    }

    pub fn get() -> Self {
        expect_context()
    }

    pub fn add(self, id: &str, kind: Kind) {
        self.0.update_value(|all| {
            if all.len() < REMEMBERED && !all.contains_key(id) {
                all.insert(id.to_owned(), kind);
            }
        });
    }

    fn matching(self, query: &IdQuery) -> BTreeSet<(String, Kind)> {
        let fits = |all: &BTreeMap<String, Kind>| {
            all.iter().filter(|(id, _)| query.fits(id)).map(|(id, kind)| (id.clone(), *kind)).collect()
        };
        self.0.with_value(fits)
    }
}

/// Looks for the job or session; returns the address of its page, or a message for the person.
pub async fn find(query: &IdQuery, shown: ShownIds) -> Result<String, String> {
    let mut found = shown.matching(query);
    if found.is_empty() {
        found = match query {
            IdQuery::Whole(id) => whole(id).await,
            IdQuery::Part { .. } => newest(query).await,
        }
        .map_err(|failure| format!("{} was not looked up: {}", query.words(), failure.message))?;
    }
    let mut ids = found.iter();
    match (ids.next(), ids.next()) {
        (Some((id, kind)), None) => Ok(kind.page(id)),
        (None, _) => Err(nothing(query)),
        _ => Err(several(query, &found)),
    }
}

/// Looks up a whole id, of which either kind is possible.
async fn whole(id: &str) -> Result<BTreeSet<(String, Kind)>, Failure> {
    // An explanation is small, where a job may have megabytes of payload.
    let job = client::explain_job(ExplainJobRequest { job_id: id.to_owned() });
    let session = client::get_worker(GetWorkerRequest { session_id: id.to_owned() });
    let (job, session) = join!(job, session);
    let one = |kind| Ok(BTreeSet::from([(id.to_owned(), kind)]));
    match (job, session) {
        (Ok(_), _) => one(Kind::Job),
        (_, Ok(_)) => one(Kind::Session),
        (Err(job), Err(session)) => {
            let wrong = [job, session].into_iter().find(|failure| !failure.is_gone());
            wrong.map_or_else(|| Ok(BTreeSet::new()), Err)
        }
    }
}

/// Ids that fit among the newest jobs, the newest dead letters, and the sessions.
async fn newest(query: &IdQuery) -> Result<BTreeSet<(String, Kind)>, Failure> {
    let view = JobView::Basic.into();
    let jobs = client::list_jobs(ListJobsRequest { page_size: NEWEST, view, ..ListJobsRequest::default() });
    let letters =
        client::list_failed_jobs(ListFailedJobsRequest { page_size: NEWEST, view, ..ListFailedJobsRequest::default() });
    let (jobs, letters, sessions) = join!(jobs, letters, client::all_workers(String::new()));
    let jobs = jobs?.jobs.into_iter().chain(letters?.jobs).map(|job| (job.id, Kind::Job));
    let sessions = sessions?.sessions.into_iter().map(|session| (session.session_id, Kind::Session));
    Ok(jobs.chain(sessions).filter(|(id, _)| query.fits(id)).collect())
}

fn nothing(query: &IdQuery) -> String {
    let words = query.words();
    match query {
        IdQuery::Whole(_) => format!("No job and no session has the id {words}. It may have been deleted."),
        IdQuery::Part { .. } => format!(
            "No id fits {words} among those that this tab has shown, the newest {NEWEST} jobs and dead letters, and the \
             sessions. Paste the whole id: its page copies it, and in a list it is the link's title."
        ),
    }
}

fn several(query: &IdQuery, found: &BTreeSet<(String, Kind)>) -> String {
    let named: Vec<_> = found.iter().take(NAMED).map(|(id, kind)| format!("{} {id}", kind.word())).collect();
    let more = if found.len() > NAMED { ", …" } else { "" };
    let words = query.words();
    format!(
        "{words} fits {}: {}{more}. Paste the whole id.",
        plural(length(found.len()), "id", "ids"),
        named.join(", ")
    )
}

//! Sessions of workers and the jobs that they hold, as the lists and a session's page show them.

use std::collections::BTreeMap;

use jobqueue_shared::{
    limits,
    proto::v1::{GetWorkerResponse, HeldJob, ListWorkersResponse, WorkerSession, job::Status, worker_session::State},
    time::{duration_ms, timestamp_ms},
};

use super::{
    filter::Filter,
    number::{count, length, plural},
    property::{Property, text, time},
    span,
    status::{self, Look},
    text::or_dash,
};

/// Row of the list of sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionRow {
    pub id: String,
    pub worker_id: String,
    pub look: Look,
    pub running: i32,
    pub slots: i32,
    pub host: String,
    /// Heading of the host's sessions, on the first of them in a list that is grouped by host; "" = none.
    pub group: String,
    pub version: String,
    pub tasks: String,
    pub started: Option<i64>,
    pub heartbeat: Option<i64>,
    /// Explanation of the time of the last heartbeat.
    pub lease: String,
}

impl SessionRow {
    pub fn of(session: &WorkerSession) -> Self {
        let host = if session.host.is_empty() { "unknown" } else { &session.host };
        Self {
            id: session.session_id.clone(),
            worker_id: session.worker_id.clone(),
            look: status::session(session.state()),
            running: session.running,
            slots: session.slots,
            host: format!("{host}, pid {}", session.pid),
            group: String::new(),
            version: session.version.clone(),
            tasks: or_dash(&session.tasks.join(", ")),
            started: session.started_at.as_ref().map(timestamp_ms),
            heartbeat: session.last_heartbeat_at.as_ref().map(timestamp_ms),
            lease: format!("Its lease of {} is extended by each", lease(session)),
        }
    }

    pub fn all(list: &ListWorkersResponse) -> Vec<Self> {
        list.sessions.iter().map(Self::of).collect()
    }

    /// Rows of at most `most` sessions, those of one host together below a heading; the host with most sessions first.
    pub fn by_host(list: &ListWorkersResponse, most: usize) -> Vec<Self> {
        let mut hosts: BTreeMap<&str, Vec<&WorkerSession>> = BTreeMap::new();
        for session in &list.sessions {
            hosts.entry(&session.host).or_default().push(session);
        }
        let mut hosts: Vec<_> = hosts.into_iter().collect();
        hosts.sort_by_key(|(_, sessions)| std::cmp::Reverse(sessions.iter().filter(|it| is_live(it)).count()));
        let rows = hosts.iter().flat_map(|(host, sessions)| {
            let heading = heading(host, sessions);
            sessions.iter().enumerate().map(move |(at, session)| {
                let group = if at == 0 { heading.clone() } else { String::new() };
                Self { group, ..Self::of(session) }
            })
        });
        rows.take(most).collect()
    }

    /// Slots in use and slots, such as "1 of 4".
    pub fn load(&self) -> String {
        format!("{} of {}", self.running, self.slots)
    }
}

/// Heading of a host's sessions, such as "build-1: 3 live sessions, 7 of 12 slots in use".
fn heading(host: &str, sessions: &[&WorkerSession]) -> String {
    let host = if host.is_empty() { "unknown host" } else { host };
    let live: Vec<_> = sessions.iter().filter(|it| is_live(it)).collect();
    if live.is_empty() {
        return format!("{host}: none is live");
    }
    let sum = |value: fn(&WorkerSession) -> i32| live.iter().map(|it| i64::from(value(it).max(0))).sum::<i64>();
    format!(
        "{host}: {}, {} of {} slots in use",
        plural(length(live.len()), "live session", "live sessions"),
        count(sum(|it| it.running.min(it.slots))),
        count(sum(|it| it.slots))
    )
}

fn is_live(session: &WorkerSession) -> bool {
    matches!(session.state(), State::Live | State::Draining)
}

/// Number of the sessions that are connected, such as "3 live sessions".
pub fn live(list: &ListWorkersResponse) -> String {
    let live = list.sessions.iter().filter(|it| is_live(it)).count();
    plural(i32::try_from(live).unwrap_or(i32::MAX), "live session", "live sessions")
}

/// Page of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionPage {
    pub worker_id: String,
    pub look: Look,
    /// Explanation of the state, and the class of the notice that shows it; "" = an ordinary notice.
    pub explanation: String,
    pub tone: &'static str,
    pub properties: Vec<Property>,
    /// Title and summary of the list of the session's jobs.
    pub jobs_title: &'static str,
    pub tally: String,
    /// Title in place of that list when it is empty.
    pub no_jobs: &'static str,
}

impl SessionPage {
    /// Page for the server's answer; `None` when it holds no session.
    pub fn of(answer: &GetWorkerResponse) -> Option<Self> {
        let session = answer.session.as_ref()?;
        let state = session.state();
        Some(Self {
            worker_id: session.worker_id.clone(),
            look: status::session(state),
            explanation: explain(session),
            tone: match state {
                State::Lost => "bad",
                State::Expired => "warn",
                State::Unspecified | State::Live | State::Draining | State::Ended => "",
            },
            properties: properties(session),
            jobs_title: jobs_title(state),
            tally: match answer.jobs.len() {
                0 => String::new(),
                limits::HELD_SHOWN => format!("The first {}: {}", limits::HELD_SHOWN, tally(&answer.jobs)),
                _ => tally(&answer.jobs),
            },
            no_jobs: if is_over(state) { "It held no job" } else { "It holds no job" },
        })
    }

    /// Address of the list of the worker_id's jobs.
    pub fn jobs(&self) -> String {
        Filter::of_worker_id(&self.worker_id).url("/jobs")
    }
}

fn properties(session: &WorkerSession) -> Vec<Property> {
    let ms = |at: &Option<_>| at.as_ref().map(timestamp_ms);
    let process = if session.pid == 0 { String::new() } else { format!("pid {}", session.pid) };
    let slots = if is_over(session.state()) {
        session.slots.to_string()
    } else {
        format!("{} of {} in use", session.running.min(session.slots), session.slots)
    };
    vec![
        text("Host", session.host.as_str()),
        text("Process", process),
        text("Version", session.version.as_str()),
        text("Tasks", session.tasks.join(", ")),
        text("Slots", slots),
        text("Lease", lease(session)),
        time("Started", ms(&session.started_at)),
        time("Last heartbeat", ms(&session.last_heartbeat_at)),
        time(lease_end(session), ms(&session.expires_at)),
        time("Ended", ms(&session.ended_at)),
    ]
}

fn lease(session: &WorkerSession) -> String {
    span::exact(session.lease_time.as_ref().map_or(0, duration_ms))
}

/// Row of the list of a session's jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldRow {
    pub id: String,
    pub task: String,
    /// Look of the job's part in the session, and an explanation of it.
    pub part: Look,
    pub why: &'static str,
    /// Look of the job's present status.
    pub present: Look,
}

impl HeldRow {
    fn of(job: &HeldJob, state: State) -> Self {
        let (part, why) = part(job, state);
        Self { id: job.job_id.clone(), task: or_dash(&job.task), part, why, present: present(job) }
    }

    pub fn all(answer: &GetWorkerResponse) -> Vec<Self> {
        let state = answer.session.as_ref().map_or(State::Unspecified, WorkerSession::state);
        answer.jobs.iter().map(|job| Self::of(job, state)).collect()
    }
}

/// Explanation of the session's state, in a sentence or two.
fn explain(session: &WorkerSession) -> String {
    let lease = lease(session);
    match session.state() {
        State::Unspecified => String::new(),
        State::Live => format!("It is alive. Each heartbeat extends its lease by {lease}."),
        State::Draining => "It finishes what it runs and takes nothing new.".into(),
        State::Expired => {
            format!("It has been silent for longer than its lease of {lease}. What it holds is about to be taken back.")
        }
        State::Ended => "It said goodbye. What it still held went back to the queue, uncharged.".into(),
        State::Lost => {
            // A session that ends before its lease was taken over by a worker that saw its process gone.
            let how = if ended_early(session) {
                "Its process was gone, and a new worker took over from it.".to_owned()
            } else {
                format!("It was silent for longer than its lease of {lease}.")
            };
            format!(
                "{how} What it held was taken back: the jobs that it had started were charged an attempt, \
                 what it merely held was not."
            )
        }
    }
}

fn ended_early(session: &WorkerSession) -> bool {
    let time = |at: &Option<_>| at.as_ref().map(timestamp_ms);
    time(&session.ended_at).zip(time(&session.expires_at)).is_some_and(|(ended, expires)| ended < expires)
}

/// Label for the time at which the session's lease ends.
fn lease_end(session: &WorkerSession) -> &'static str {
    match is_over(session.state()) {
        false => "Lease runs out",
        true if ended_early(session) => "Lease was to end",
        true => "Lease ran until",
    }
}

/// True when the session holds nothing any more; the listed jobs are those that it held last.
fn is_over(state: State) -> bool {
    matches!(state, State::Ended | State::Lost)
}

/// Title of the session's list of jobs.
fn jobs_title(state: State) -> &'static str {
    match state {
        State::Lost => "Jobs it held when it was lost",
        State::Ended => "Jobs it held when it ended",
        State::Unspecified | State::Live | State::Draining | State::Expired => "Jobs it holds",
    }
}

/// Summary of a session's jobs, such as "3 jobs, 2 of them started".
fn tally(jobs: &[HeldJob]) -> String {
    let started = jobs.iter().filter(|job| job.started).count();
    let all = plural(length(jobs.len()), "job", "jobs");
    match started {
        0 => format!("{all}, none started"),
        _ if started == jobs.len() => format!("{all}, started"),
        _ => format!("{all}, {} of them started", count(length(started))),
    }
}

/// Look and explanation of a job's part in the session: started, or merely held.
fn part(job: &HeldJob, state: State) -> (Look, &'static str) {
    let look = |icon, word, tone| Look { icon, word, tone };
    match (job.started, state) {
        (true, State::Lost) => (look("play", "started", "failed"), "It was charged an attempt"),
        (true, State::Ended) => (look("play", "started", "pending"), "It went back uncharged"),
        (true, _) => (look("play", "started", "running"), "It has one of the session's slots"),
        (false, State::Lost | State::Ended) => (look("half", "held", "pending"), "It went back uncharged"),
        (false, _) => (look("half", "held", "pending"), "It waits for one of the session's slots"),
    }
}

/// Look of the job's present status.
fn present(job: &HeldJob) -> Look {
    match job.status() {
        Status::Unspecified => Look { icon: "trash", word: "deleted", tone: "cancelled" },
        status => status::plain(status),
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::time::{duration, timestamp};

    use super::{super::property::Value, *};

    fn session(state: State) -> WorkerSession {
        WorkerSession {
            state: state.into(),
            lease_time: Some(duration(30_000)),
            expires_at: Some(timestamp(60_000)),
            ..WorkerSession::default()
        }
    }

    fn held(started: bool, status: Status) -> HeldJob {
        HeldJob { started, status: status.into(), ..HeldJob::default() }
    }

    #[test]
    fn a_lost_session_says_how_and_what_it_cost() {
        let mut lost = session(State::Lost);
        lost.ended_at = Some(timestamp(61_000));
        assert!(explain(&lost).starts_with("It was silent for longer than its lease of 30 s. What it held"));
        lost.ended_at = Some(timestamp(59_000));
        assert!(explain(&lost).starts_with("Its process was gone, and a new worker took over from it. What it held"));
        assert_eq!(lease_end(&lost), "Lease was to end");
        lost.ended_at = Some(timestamp(61_000));
        assert_eq!((lease_end(&lost), lease_end(&session(State::Live))), ("Lease ran until", "Lease runs out"));
    }

    #[test]
    fn every_state_is_explained() {
        for state in [State::Live, State::Draining, State::Expired, State::Ended, State::Lost] {
            assert!(explain(&session(state)).ends_with('.'), "{state:?}");
        }
        assert!(is_over(State::Lost) && is_over(State::Ended) && !is_over(State::Expired));
    }

    #[test]
    fn started_and_held_are_counted_and_told_apart() {
        let both = [held(true, Status::Failed), held(false, Status::Pending), held(false, Status::Pending)];
        assert_eq!(tally(&both), "3 jobs, 1 of them started");
        assert_eq!(tally(&both[..1]), "1 job, started");
        assert_eq!(tally(&both[1..]), "2 jobs, none started");
        assert_eq!(part(&both[0], State::Lost).1, "It was charged an attempt");
        assert_eq!(part(&both[1], State::Lost).1, "It went back uncharged");
        assert_eq!(part(&both[1], State::Live).1, "It waits for one of the session's slots");
    }

    #[test]
    fn a_job_that_is_gone_is_said_to_be_deleted() {
        assert_eq!(present(&held(true, Status::Unspecified)).word, "deleted");
        assert_eq!(present(&held(true, Status::Done)).word, "done");
    }

    #[test]
    fn a_row_tells_load_and_process() {
        let mut live = WorkerSession { running: 1, slots: 4, pid: 7, ..session(State::Live) };
        let row = SessionRow::of(&live);
        assert_eq!((row.load().as_str(), row.host.as_str(), row.tasks.as_str()), ("1 of 4", "unknown, pid 7", "–"));
        assert_eq!((row.look.word, row.lease.as_str()), ("live", "Its lease of 30 s is extended by each"));
        live.host = "build-1".into();
        live.tasks = vec!["email".into(), "report".into()];
        let row = SessionRow::of(&live);
        assert_eq!((row.host.as_str(), row.tasks.as_str()), ("build-1, pid 7", "email, report"));
    }

    #[test]
    fn sessions_of_a_host_stand_together_below_its_heading() {
        let on = |host: &str, state, running| WorkerSession {
            session_id: format!("{host}{running}"),
            host: host.into(),
            running,
            slots: 4,
            ..session(state)
        };
        let sessions = vec![
            on("a", State::Live, 1),
            on("b", State::Live, 3),
            on("", State::Lost, 0),
            on("b", State::Draining, 9),
            on("b", State::Ended, 2),
        ];
        let list = ListWorkersResponse { sessions, ..ListWorkersResponse::default() };
        let rows = SessionRow::by_host(&list, 100);
        let order: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.group.as_str())).collect();
        assert_eq!(
            order,
            [
                ("b3", "b: 2 live sessions, 7 of 8 slots in use"),
                ("b9", ""),
                ("b2", ""),
                ("a1", "a: 1 live session, 1 of 4 slots in use"),
                ("0", "unknown host: none is live"),
            ]
        );
        assert_eq!(SessionRow::by_host(&list, 2).len(), 2);
    }

    #[test]
    fn only_connected_sessions_are_live() {
        let sessions = [State::Live, State::Draining, State::Expired, State::Ended, State::Lost].map(session).to_vec();
        assert_eq!(live(&ListWorkersResponse { sessions, ..ListWorkersResponse::default() }), "2 live sessions");
    }

    #[test]
    fn a_page_tells_what_the_session_holds_or_held() {
        let page = |state, jobs: usize| {
            let session = WorkerSession { running: 9, slots: 4, ..session(state) };
            let jobs = vec![held(true, Status::Running); jobs];
            SessionPage::of(&GetWorkerResponse { session: Some(session), jobs }).unwrap()
        };
        let slots = |page: &SessionPage| page.properties.iter().find(|it| it.name == "Slots").unwrap().value.clone();
        let live = page(State::Live, 1);
        assert_eq!((live.tone, live.jobs_title, live.tally.as_str()), ("", "Jobs it holds", "1 job, started"));
        assert_eq!(slots(&live), Value::Text("4 of 4 in use".into()), "more are never in use");
        let lost = page(State::Lost, 0);
        assert_eq!((lost.tone, lost.tally.as_str(), lost.no_jobs), ("bad", "", "It held no job"));
        assert_eq!(slots(&lost), Value::Text("4".into()));
        assert_eq!(page(State::Live, 500).tally, "The first 500: 500 jobs, started");
        assert_eq!(SessionPage::of(&GetWorkerResponse::default()), None);
    }

    #[test]
    fn a_held_job_is_told_by_the_state_of_its_session() {
        let of = |state| {
            let jobs = vec![held(true, Status::Failed)];
            HeldRow::all(&GetWorkerResponse { session: Some(session(state)), jobs }).remove(0)
        };
        assert_eq!((of(State::Lost).why, of(State::Lost).present.word), ("It was charged an attempt", "failed"));
        assert_eq!((of(State::Live).why, of(State::Live).task.as_str()), ("It has one of the session's slots", "–"));
    }
}

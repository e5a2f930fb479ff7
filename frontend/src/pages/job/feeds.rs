//! Feeds of a job and of its timeline. The timeline is requested every 3 s; the job itself, with a payload and a result
//! of up to megabytes, only when the timeline has changed.

use jobqueue_shared::proto::v1::{GetJobRequest, GetJobResponse, GetTimelineRequest, GetTimelineResponse};
use leptos::prelude::*;

use crate::{
    browser::dom,
    calls::client,
    feeds::live::{Feed, feed, feed_on},
    model::timeline::newest,
};

/// Age in milliseconds from which an event is in both answers when the job and its first timeline are requested
/// together. It is longer than a call can take.
const TOGETHER_MS: i64 = 10_000;

#[derive(Clone, Copy)]
pub struct JobFeeds {
    pub job: Feed<GetJobResponse>,
    pub timeline: Feed<GetTimelineResponse>,
}

pub fn job_feeds(id: String) -> JobFeeds {
    let asked = id.clone();
    let timeline = feed(move || asked.clone(), |job_id| client::get_timeline(GetTimelineRequest { job_id }));
    let changes = Memo::new(move |before: Option<&Changes>| {
        timeline.failure.with(|_| ());
        let known = timeline.data.with(Option::is_some);
        let first = before.is_none_or(|before| !before.known) && known;
        let count = before.map_or(0, |before| before.count);
        let nothing_new =
            before.is_none() || (first && !timeline.data.with(|data| data.as_ref().is_some_and(is_recent)));
        Changes { known, count: if nothing_new { count } else { count + 1 } }
    });
    let count = Memo::new(move |_| changes.with(|changes| changes.count));
    let job =
        feed_on(move || id.clone(), |job_id| client::get_job(GetJobRequest { job_id }), move || count.with(|_| ()));
    JobFeeds { job, timeline }
}

#[derive(Clone, PartialEq)]
struct Changes {
    known: bool,
    count: u64,
}

fn is_recent(timeline: &GetTimelineResponse) -> bool {
    newest(&timeline.events).is_none_or(|newest| dom::now() - newest < TOGETHER_MS)
}

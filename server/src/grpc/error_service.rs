//! ErrorService: error groups.

use std::sync::Arc;

use jobqueue_shared::{
    proto::v1::{self, error_service_server},
    time::timestamp,
};
use jobqueue_store::{ErrorGroup, ErrorGroupDetails, ErrorGroupState, ErrorWindow};
use tonic::{Request, Response, Status};

use super::convert::count;
use crate::queue::Queue;

pub(super) struct ErrorService(pub Arc<Queue>);

#[tonic::async_trait]
impl error_service_server::ErrorService for ErrorService {
    async fn list_error_groups(
        &self,
        request: Request<v1::ListErrorGroupsRequest>,
    ) -> Result<Response<v1::ListErrorGroupsResponse>, Status> {
        let found = self.0.error_groups(request.into_inner()).await?;
        Ok(Response::new(v1::ListErrorGroupsResponse {
            groups: found.page.groups.into_iter().map(group).collect(),
            next_page_token: found.next_page_token,
            total: count(found.page.total),
            window_end: Some(timestamp(window_end_ms(found.window, found.page.now_ms))),
        }))
    }

    async fn get_error_group(
        &self,
        request: Request<v1::GetErrorGroupRequest>,
    ) -> Result<Response<v1::GetErrorGroupResponse>, Status> {
        let (window, found) = self.0.error_group(request.get_ref()).await?;
        Ok(Response::new(details(found, window)))
    }

    async fn update_error_group(
        &self,
        request: Request<v1::UpdateErrorGroupRequest>,
    ) -> Result<Response<v1::UpdateErrorGroupResponse>, Status> {
        let found = self.0.update_error_group(request.into_inner()).await?;
        Ok(Response::new(v1::UpdateErrorGroupResponse { group: Some(group(found)) }))
    }
}

/// Time at which the present slot of a window ends.
fn window_end_ms(window: ErrorWindow, now_ms: i64) -> i64 {
    (now_ms.div_euclid(window.step_ms()) + 1) * window.step_ms()
}

fn state(state: ErrorGroupState) -> v1::error_group::State {
    match state {
        ErrorGroupState::Open => v1::error_group::State::Open,
        ErrorGroupState::Ignored => v1::error_group::State::Ignored,
        ErrorGroupState::Resolved => v1::error_group::State::Resolved,
        ErrorGroupState::Regressed => v1::error_group::State::Regressed,
    }
}

fn group(it: ErrorGroup) -> v1::ErrorGroup {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    v1::ErrorGroup {
        id: it.id.to_string(),
        task: it.task,
        title: it.title,
        state: state(it.state).into(),
        first_seen: Some(timestamp(it.first_seen_ms)),
        last_seen: Some(timestamp(it.last_seen_ms)),
        attempts: signed(it.attempts),
        attempts_in_window: signed(it.counts.iter().sum()),
        counts: it.counts.into_iter().map(count).collect(),
        dead_letters: count(it.dead_letters),
        worker_ids: it.worker_ids,
        more_worker_ids: it.more_worker_ids,
        note: it.note,
        link: it.link,
        state_changed_at: it.changed_at_ms.map(timestamp),
        ignored_until: it.ignored_until_ms.map(timestamp),
        ignored_attempts: it.ignored_attempts.map(signed),
    }
}

fn details(it: ErrorGroupDetails, window: ErrorWindow) -> v1::GetErrorGroupResponse {
    let worker_id = |it: jobqueue_store::ErrorGroupWorkerId| v1::ErrorGroupWorkerId {
        worker_id: it.worker_id,
        attempts: i64::try_from(it.attempts).unwrap_or(i64::MAX),
        dead_letters: count(it.dead_letters),
        last_seen: Some(timestamp(it.last_seen_ms)),
    };
    v1::GetErrorGroupResponse {
        group: Some(group(it.group)),
        died: it.died.into_iter().map(count).collect(),
        worker_ids: it.worker_ids.into_iter().map(worker_id).collect(),
        sample_error: it.sample.error,
        sample_job_id: it.sample.job_id.map(|it| it.to_string()).unwrap_or_default(),
        retrying: count(it.retrying),
        retrying_is_floor: it.retrying_is_floor,
        window_end: Some(timestamp(window_end_ms(window, it.now_ms))),
    }
}

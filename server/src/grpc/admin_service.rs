//! AdminService: operations for operators.

use std::sync::Arc;

use jobqueue_shared::proto::v1::{self, admin_service_server};
use tonic::{Request, Response, Status};

use super::convert;
use crate::queue::Queue;

pub(super) struct AdminService(pub Arc<Queue>);

#[tonic::async_trait]
impl admin_service_server::AdminService for AdminService {
    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let (sessions, next_page_token) = self.0.list_workers(request.into_inner()).await?;
        let sessions = sessions.into_iter().map(convert::session).collect();
        Ok(Response::new(v1::ListWorkersResponse { sessions, next_page_token }))
    }

    async fn get_worker(
        &self,
        request: Request<v1::GetWorkerRequest>,
    ) -> Result<Response<v1::GetWorkerResponse>, Status> {
        Ok(Response::new(convert::worker(self.0.get_worker(request.get_ref()).await?)))
    }

    async fn pause_worker_id(
        &self,
        request: Request<v1::PauseWorkerIdRequest>,
    ) -> Result<Response<v1::PauseWorkerIdResponse>, Status> {
        self.0.pause(request.into_inner()).await?;
        Ok(Response::new(v1::PauseWorkerIdResponse {}))
    }

    async fn resume_worker_id(
        &self,
        request: Request<v1::ResumeWorkerIdRequest>,
    ) -> Result<Response<v1::ResumeWorkerIdResponse>, Status> {
        self.0.resume(request.get_ref()).await?;
        Ok(Response::new(v1::ResumeWorkerIdResponse {}))
    }
}

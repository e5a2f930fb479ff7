//! OperationService: actions on all jobs that match a filter.

use std::{net::IpAddr, sync::Arc};

use jobqueue_shared::proto::v1::{self, operation_service_server};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{queue::Queue, transport::activity::Activity};

pub(super) struct OperationService(pub Arc<Queue>);

type Answer<T> = Result<Response<T>, Status>;

/// Address from which a call comes.
#[derive(Clone, Copy)]
struct Caller(IpAddr);

/// Gives a call of StartOperation the address that it comes from. Other calls do not need it.
pub(super) fn note_caller<B>(request: &mut http::Request<B>, activity: Option<&Activity>) {
    if request.uri().path().ends_with("/StartOperation")
        && let Some(peer) = activity.and_then(Activity::peer)
    {
        request.extensions_mut().insert(Caller(peer));
    }
}

#[tonic::async_trait]
impl operation_service_server::OperationService for OperationService {
    async fn start_operation(&self, request: Request<v1::StartOperationRequest>) -> Answer<v1::StartOperationResponse> {
        let caller = request.extensions().get::<Caller>().map(|it| it.0.to_string()).unwrap_or_default();
        Ok(Response::new(convert::started(self.0.start_operation(request.into_inner(), caller).await?)))
    }

    async fn get_operation(&self, request: Request<v1::GetOperationRequest>) -> Answer<v1::GetOperationResponse> {
        let (operation, refusals) = self.0.get_operation(request.get_ref()).await?;
        Ok(Response::new(v1::GetOperationResponse {
            operation: Some(convert::operation(operation)),
            refusals: refusals.into_iter().map(convert::refusal).collect(),
        }))
    }

    async fn list_operations(&self, request: Request<v1::ListOperationsRequest>) -> Answer<v1::ListOperationsResponse> {
        let (operations, next_page_token) = self.0.list_operations(request.get_ref()).await?;
        let operations = operations.into_iter().map(convert::operation).collect();
        Ok(Response::new(v1::ListOperationsResponse { operations, next_page_token }))
    }

    async fn pause_operation(&self, request: Request<v1::PauseOperationRequest>) -> Answer<v1::PauseOperationResponse> {
        let operation = self.0.pause_operation(request.get_ref()).await?;
        Ok(Response::new(v1::PauseOperationResponse { operation: Some(convert::operation(operation)) }))
    }

    async fn resume_operation(
        &self,
        request: Request<v1::ResumeOperationRequest>,
    ) -> Answer<v1::ResumeOperationResponse> {
        let operation = self.0.resume_operation(request.get_ref()).await?;
        Ok(Response::new(v1::ResumeOperationResponse { operation: Some(convert::operation(operation)) }))
    }

    async fn stop_operation(&self, request: Request<v1::StopOperationRequest>) -> Answer<v1::StopOperationResponse> {
        let operation = self.0.stop_operation(request.get_ref()).await?;
        Ok(Response::new(v1::StopOperationResponse { operation: Some(convert::operation(operation)) }))
    }
}

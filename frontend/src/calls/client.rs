//! gRPC-web client of the server: a function for each RPC that the dashboard calls, with a deadline that applies even
//! when no answer comes.

use std::{error::Error as _, time::Duration};

use futures::future::{Either, select};
use gloo_timers::future::TimeoutFuture;
use jobqueue_shared::proto::v1::{
    CancelJobRequest, CancelJobResponse, CopyJobRequest, CopyJobResponse, CountJobsRequest, CountJobsResponse,
    DeleteJobRequest, DeleteJobResponse, ExplainJobRequest, ExplainJobResponse, GetErrorGroupRequest,
    GetErrorGroupResponse, GetJobRequest, GetJobResponse, GetMetricsRequest, GetMetricsResponse, GetOperationRequest,
    GetOperationResponse, GetThroughputRequest, GetThroughputResponse, GetThroughputsRequest, GetThroughputsResponse,
    GetTimelineRequest, GetTimelineResponse, GetWorkerRequest, GetWorkerResponse, ListErrorGroupsRequest,
    ListErrorGroupsResponse, ListFailedJobsRequest, ListFailedJobsResponse, ListJobsRequest, ListJobsResponse,
    ListOperationsRequest, ListOperationsResponse, ListWorkersRequest, ListWorkersResponse, PauseOperationRequest,
    PauseOperationResponse, PauseWorkerIdRequest, PauseWorkerIdResponse, ResumeOperationRequest,
    ResumeOperationResponse, ResumeWorkerIdRequest, ResumeWorkerIdResponse, RetryJobRequest, RetryJobResponse,
    StartOperationRequest, StartOperationResponse, StopOperationRequest, StopOperationResponse, SubmitJobRequest,
    SubmitJobResponse, SubmitJobsRequest, SubmitJobsResponse, UpdateErrorGroupRequest, UpdateErrorGroupResponse,
};
use prost::{
    Message,
    bytes::{Buf as _, BufMut as _, Bytes},
};
use tonic::{
    Code, Request, Response, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};
use tonic_types::StatusExt as _;
use tonic_web_wasm_client::Client;

use crate::{
    browser::dom,
    model::{draft::Complaint, visible::visible},
};

/// Deadlines of reads and of writes. Reads are repeated anyway, so they give up early.
const READ: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(15);
/// Header with the server's time in milliseconds since 1970.
const TIME: &str = "jobqueue-time-ms";

/// Reason why a call failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub kind: Kind,
    /// Message for people: a sentence without its full stop.
    pub message: String,
    /// Invalid fields, by their names in the API.
    pub fields: Vec<Complaint>,
    /// Id of the job that is in the way, if there is one.
    pub job_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No answer, none in time, or an answer that the storage is away: the request may have been carried out.
    Away,
    NotFound,
    /// The job's state does not allow the call.
    Precondition,
    Refused,
}

impl Failure {
    /// True when the failure is about the server, and says nothing about the request.
    pub fn is_away(&self) -> bool {
        self.kind == Kind::Away
    }

    /// True when the job no longer exists, or is no longer in the state in which it was shown.
    pub fn is_gone(&self) -> bool {
        matches!(self.kind, Kind::NotFound | Kind::Precondition)
    }

    /// True when only fields of a list's filter are invalid.
    pub fn is_of_filter(&self) -> bool {
        !self.fields.is_empty() && self.fields.iter().all(|(field, _)| matches!(field.as_str(), "worker_id" | "task"))
    }

    fn away(message: &str) -> Self {
        Self { kind: Kind::Away, message: message.into(), fields: vec![], job_id: None }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        // A status that was made on this side has a source; one that the server sent has none.
        if status.source().is_some() {
            return Self::away("The server does not answer");
        }
        let kind = match status.code() {
            Code::DeadlineExceeded => return Self::away("The server did not answer in time"),
            Code::Unavailable => Kind::Away,
            Code::NotFound => Kind::NotFound,
            Code::FailedPrecondition => Kind::Precondition,
            _ => Kind::Refused,
        };
        let details = status.get_error_details();
        let fields = details.bad_request().map_or_else(Vec::new, |bad| {
            bad.field_violations.iter().map(|it| (it.field.clone(), visible(&it.description).into_owned())).collect()
        });
        let job_id = details.error_info().and_then(|info| info.metadata.get("job_id").cloned());
        let message = match status.message() {
            "" => format!("The server answered {:?}", status.code()),
            // A message may quote the text of a job or of an address.
            message => visible(message).into_owned(),
        };
        Self { kind, message, fields, job_id }
    }
}

/// Makes a call of any method. Messages are passed as bytes, so that the wasm holds this function once and not per
/// method.
async fn call(path: &'static str, limit: Duration, message: Vec<u8>) -> Result<Bytes, Failure> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    let asked = dom::ticks();
    let answer = Box::pin(async move {
        let mut grpc = Grpc::new(Client::new(dom::origin()));
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        grpc.unary(request, PathAndQuery::from_static(path), Plain).await
    });
    // The server applies the deadline, too, and answers a little before this limit.
    let patience = TimeoutFuture::new(u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).saturating_add(500));
    match select(answer, patience).await {
        Either::Left((answer, _)) => {
            let headers = answer.as_ref().map_or_else(Status::metadata, Response::metadata);
            if let Some(ms) = headers.get(TIME).and_then(|it| it.to_str().ok()).and_then(|it| it.parse().ok()) {
                dom::hear_time(ms, asked);
            }
            Ok(answer?.into_inner())
        }
        Either::Right(_) => Err(Failure::away("The server did not answer in time")),
    }
}

fn read<R: Message + Default>(answer: Bytes) -> Result<R, Failure> {
    R::decode(answer).map_err(|_| Failure::away("The server's answer cannot be read"))
}

/// Codec that passes encoded messages as they are.
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

macro_rules! calls {
    ($($path:literal $name:ident($request:ty) -> $response:ty, $limit:expr;)+) => {
        $(pub async fn $name(request: $request) -> Result<$response, Failure> {
            read(call(concat!("/jobqueue.v1.", $path), $limit, request.encode_to_vec()).await?)
        })+

        /// Path of every method, and the names of its messages.
        #[cfg(test)]
        const METHODS: &[(&str, &str, &str)] =
            &[$((concat!("/jobqueue.v1.", $path), stringify!($request), stringify!($response))),+];
    };
}

calls! {
    "JobService/SubmitJob" submit_job(SubmitJobRequest) -> SubmitJobResponse, WRITE;
    "JobService/SubmitJobs" submit_jobs(SubmitJobsRequest) -> SubmitJobsResponse, WRITE;
    "JobService/CopyJob" copy_job(CopyJobRequest) -> CopyJobResponse, WRITE;
    "JobService/GetJob" get_job(GetJobRequest) -> GetJobResponse, READ;
    "JobService/ListJobs" list_jobs(ListJobsRequest) -> ListJobsResponse, READ;
    "JobService/ListFailedJobs" list_failed_jobs(ListFailedJobsRequest) -> ListFailedJobsResponse, READ;
    "JobService/CountJobs" count_jobs(CountJobsRequest) -> CountJobsResponse, READ;
    "JobService/CancelJob" cancel_job(CancelJobRequest) -> CancelJobResponse, WRITE;
    "JobService/RetryJob" retry_job(RetryJobRequest) -> RetryJobResponse, WRITE;
    "JobService/DeleteJob" delete_job(DeleteJobRequest) -> DeleteJobResponse, WRITE;
    "JobService/GetTimeline" get_timeline(GetTimelineRequest) -> GetTimelineResponse, READ;
    "JobService/ExplainJob" explain_job(ExplainJobRequest) -> ExplainJobResponse, READ;
    "JobService/GetMetrics" get_metrics(GetMetricsRequest) -> GetMetricsResponse, READ;
    "JobService/GetThroughput" get_throughput(GetThroughputRequest) -> GetThroughputResponse, READ;
    "ErrorService/ListErrorGroups" list_error_groups(ListErrorGroupsRequest) -> ListErrorGroupsResponse, READ;
    "ErrorService/GetErrorGroup" get_error_group(GetErrorGroupRequest) -> GetErrorGroupResponse, READ;
    "ErrorService/UpdateErrorGroup" update_error_group(UpdateErrorGroupRequest) -> UpdateErrorGroupResponse, WRITE;
    "JobService/GetThroughputs" get_throughputs(GetThroughputsRequest) -> GetThroughputsResponse, READ;
    "AdminService/ListWorkers" list_workers(ListWorkersRequest) -> ListWorkersResponse, READ;
    "AdminService/GetWorker" get_worker(GetWorkerRequest) -> GetWorkerResponse, READ;
    "AdminService/PauseWorkerId" pause_worker_id(PauseWorkerIdRequest) -> PauseWorkerIdResponse, WRITE;
    "AdminService/ResumeWorkerId" resume_worker_id(ResumeWorkerIdRequest) -> ResumeWorkerIdResponse, WRITE;
    "OperationService/StartOperation" start_operation(StartOperationRequest) -> StartOperationResponse, WRITE;
    "OperationService/GetOperation" get_operation(GetOperationRequest) -> GetOperationResponse, READ;
    "OperationService/ListOperations" list_operations(ListOperationsRequest) -> ListOperationsResponse, READ;
    "OperationService/PauseOperation" pause_operation(PauseOperationRequest) -> PauseOperationResponse, WRITE;
    "OperationService/ResumeOperation" resume_operation(ResumeOperationRequest) -> ResumeOperationResponse, WRITE;
    "OperationService/StopOperation" stop_operation(StopOperationRequest) -> StopOperationResponse, WRITE;
}

/// Maximum number of pages that are read; a longer list is for programs.
const PAGES: usize = 20;

/// Sessions of a worker_id, or of every worker_id if it is "", from up to [`PAGES`] pages.
pub async fn all_workers(worker_id: String) -> Result<ListWorkersResponse, Failure> {
    let mut request = ListWorkersRequest { worker_id, ..ListWorkersRequest::default() };
    let mut all = list_workers(request.clone()).await?;
    for _ in 1..PAGES {
        if all.next_page_token.is_empty() {
            break;
        }
        request.page_token = std::mem::take(&mut all.next_page_token);
        let next = list_workers(request.clone()).await?;
        all.sessions.extend(next.sessions);
        all.next_page_token = next.next_page_token;
    }
    Ok(all)
}

/// Counts of all worker_ids, from up to [`PAGES`] pages.
pub async fn all_metrics() -> Result<GetMetricsResponse, Failure> {
    let mut all = get_metrics(GetMetricsRequest::default()).await?;
    for _ in 1..PAGES {
        if all.next_page_token.is_empty() {
            break;
        }
        let page_token = std::mem::take(&mut all.next_page_token);
        let next = get_metrics(GetMetricsRequest { page_token, ..GetMetricsRequest::default() }).await?;
        all.worker_ids.extend(next.worker_ids);
        all.next_page_token = next.next_page_token;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::proto::FILE_DESCRIPTOR_SET;
    use prost_types::FileDescriptorSet;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn every_call_is_a_method_of_the_api_with_its_own_messages() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        for (path, request, response) in METHODS {
            let method = files.iter().find_map(|file| {
                let service =
                    file.service.iter().find(|it| path.starts_with(&format!("/{}.{}/", file.package(), it.name())))?;
                service.method.iter().find(|it| path.ends_with(&format!("/{}", it.name())))
            });
            let method = method.unwrap_or_else(|| panic!("{path} is in no .proto file"));
            assert_eq!(method.input_type(), format!(".jobqueue.v1.{request}"), "{path}");
            assert_eq!(method.output_type(), format!(".jobqueue.v1.{response}"), "{path}");
        }
    }

    #[test]
    fn the_fields_that_the_server_names_are_kept() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("worker_id", "is empty");
        details.add_bad_request_violation("retry_policy.factor", "is 0.5; the least is 1");
        let failure = Failure::from(Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details));
        assert_eq!((failure.kind, failure.fields.len()), (Kind::Refused, 2));
        assert_eq!(failure.fields[1], ("retry_policy.factor".into(), "is 0.5; the least is 1".into()));
        assert!(!failure.is_away());
    }

    #[test]
    fn the_job_in_the_way_is_kept() {
        let metadata = [("job_id".to_owned(), "0192f5a6-1000-7000-8000-000000000000".to_owned())];
        let details = ErrorDetails::with_error_info("IDEMPOTENCY_KEY_REUSED", "jobqueue", metadata);
        let failure = Failure::from(Status::with_error_details(Code::AlreadyExists, "key is taken", details));
        assert_eq!(failure.job_id.as_deref(), Some("0192f5a6-1000-7000-8000-000000000000"));
    }

    #[test]
    fn silence_and_refusal_are_told_apart() {
        let broken = Status::from_error(Box::new(std::io::Error::other("connection refused")));
        assert_eq!(Failure::from(broken).kind, Kind::Away);
        assert!(Failure::from(Status::unavailable("the storage is away")).is_away());
        assert!(Failure::from(Status::not_found("no job")).is_gone());
        assert_eq!(Failure::from(Status::internal("")).message, "The server answered Internal");
    }
}

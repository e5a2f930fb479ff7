//! API contract: the JSON that a gRPC client prints keeps the names, words and types that scripts rely on.

use jobqueue_shared::proto::{
    FILE_DESCRIPTOR_SET,
    v1::{CancelJobRequest, GetJobResponse, ListFailedJobsRequest, SubmitJobRequest, SubmitJobResponse, job::Status},
};
use jobqueue_tests::api::job;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    scenarios,
};

scenarios!(a_job_prints_as_the_contract_says, every_status_is_its_lower_case_word, a_request_may_be_written_as_json,);

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// The message as a client prints it that knows only the .proto files, with their field names.
fn printed(name: &str, message: &impl Message) -> Value {
    let descriptor = pool().get_message_by_name(name).unwrap();
    let message = DynamicMessage::decode(descriptor, &*message.encode_to_vec()).unwrap();
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

async fn show(deployment: &Deployment, id: &str) -> Value {
    let found: GetJobResponse = deployment.api.get(id).await;
    printed("jobqueue.v1.GetJobResponse", &found)["job"].clone()
}

async fn a_job_prints_as_the_contract_says(deployment: &mut Deployment) {
    let payload = " {\"to\": \"ada@example.org\"} ";
    let request = SubmitJobRequest { max_retries: Some(2), ..job(WORKER_ID, payload) };
    let stored = deployment.api.jobs().submit_job(request).await.unwrap().into_inner();
    let id = stored.job_id.clone();
    assert_eq!(printed("jobqueue.v1.SubmitJobResponse", &stored), json!({ "job_id": id, "deduplicated": false }));
    let job = show(deployment, &id).await;
    let contract = json!({
        "id": id,
        "worker_id": WORKER_ID,
        "status": "pending",
        "payload_json": payload,
        "attempt_count": 0,
        "max_retries": 2,
        "last_error": "",
    });
    for (name, value) in contract.as_object().unwrap() {
        assert_eq!(&job[name], value, "{name} in {job}");
    }
    for name in ["created_at", "updated_at"] {
        let time = job[name].as_str().unwrap_or_else(|| panic!("{name} in {job}"));
        assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{time}");
    }
    let again = SubmitJobResponse { job_id: id.clone(), deduplicated: true };
    assert_eq!(printed("jobqueue.v1.SubmitJobResponse", &again)["deduplicated"], json!(true));

    // An unset max_retries means three, and a failed job shows its error.
    let mut worker = ManualWorker::register(&deployment.api).await;
    for n in 1..=2 {
        let lease_id = worker.acquire_one().await.lease_id;
        let fail = jobqueue_shared::proto::v1::settlement::Fail { error: format!("error {n}"), ..Default::default() };
        worker.settle(&lease_id, jobqueue_shared::proto::v1::settlement::Outcome::Fail(fail)).await;
    }
    let job = show(deployment, &id).await;
    assert_eq!(
        (&job["status"], &job["attempt_count"], &job["last_error"]),
        (&json!("failed"), &json!(2), &json!("error 2"))
    );
    let listed = deployment.api.jobs().list_failed_jobs(ListFailedJobsRequest::default()).await.unwrap().into_inner();
    assert_eq!(printed("jobqueue.v1.ListFailedJobsResponse", &listed)["jobs"][0]["id"], json!(id));
    let unset = deployment.api.submit(jobqueue_tests::api::job(WORKER_ID, "1")).await;
    assert_eq!(show(deployment, &unset).await["max_retries"], json!(3));
}

async fn every_status_is_its_lower_case_word(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    assert_eq!(show(deployment, &id).await["status"], json!("pending"));
    let lease_id = worker.acquire_one().await.lease_id;
    assert_eq!(show(deployment, &id).await["status"], json!("running"));
    let done = jobqueue_shared::proto::v1::settlement::Complete::default();
    worker.settle(&lease_id, jobqueue_shared::proto::v1::settlement::Outcome::Complete(done)).await;
    assert_eq!(show(deployment, &id).await["status"], json!("done"));
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.jobs().cancel_job(CancelJobRequest { job_id: id.clone(), reason: String::new() }).await.unwrap();
    assert_eq!(show(deployment, &id).await["status"], json!("cancelled"));
    let words = pool().get_enum_by_name("jobqueue.v1.Job.Status").unwrap();
    let words: Vec<_> = words.values().map(|value| value.name().to_owned()).collect();
    assert_eq!(words, ["unspecified", "pending", "running", "done", "failed", "cancelled"]);
}

async fn a_request_may_be_written_as_json(deployment: &mut Deployment) {
    let text = r#"{"worker_id": "worker-1a", "payload_json": "{\"a\":1}", "idempotency_key": "", "max_retries": 5,
                   "delay": "1.5s", "priority": 0}"#;
    let descriptor = pool().get_message_by_name("jobqueue.v1.SubmitJobRequest").unwrap();
    let mut json = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor, &mut json).unwrap();
    let request: SubmitJobRequest = message.transcode_to().unwrap();
    let id = deployment.api.submit(request).await;
    let job = deployment.api.get(&id).await.job.unwrap();
    assert_eq!((job.status(), job.max_retries, job.priority), (Status::Pending, 5, 0));
    assert_eq!(job.payload_json, "{\"a\":1}");
}

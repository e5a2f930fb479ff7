//! Answers that would be larger than clients accept come in pages, and leave nothing out.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use jobqueue_shared::{
    limits,
    proto::v1::{GetMetricsRequest, ListWorkersRequest, PauseWorkerIdRequest, RegisterSessionRequest},
};
use jobqueue_worker::Client;
use prost::Message as _;

use crate::{
    deployment::{Deployment, ManualWorker},
    scenarios,
};

scenarios!(sessions_with_very_many_tasks_come_in_pages, very_many_paused_worker_ids_come_in_pages);

async fn sessions_with_very_many_tasks_come_in_pages(deployment: &mut Deployment) {
    let tasks: Vec<String> = (0..limits::TASKS_PER_SESSION).map(|n| format!("{n:0>100}")).collect();
    let mut expected = BTreeSet::new();
    for _ in 0..60 {
        let request = RegisterSessionRequest { tasks: tasks.clone(), ..RegisterSessionRequest::default() };
        expected.insert(ManualWorker::register_as(&deployment.api, request).await.session_id);
    }
    let mut request = ListWorkersRequest::default();
    let mut found = Vec::new();
    loop {
        let page = deployment.api.admin().list_workers(request.clone()).await.unwrap().into_inner();
        assert!(page.encoded_len() < limits::REQUEST_BYTES, "{}", page.encoded_len());
        found.extend(page.sessions.into_iter().map(|session| session.session_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (60, expected));
    let other = ListWorkersRequest { worker_id: "other".to_owned(), ..request };
    let status = deployment.api.admin().list_workers(other).await.unwrap_err();
    assert!(status.message().contains("page_token"), "{status:?}");
}

async fn very_many_paused_worker_ids_come_in_pages(deployment: &mut Deployment) {
    const COUNT: usize = 3_200;
    let api = deployment.api.clone();
    let pause = |n: usize| {
        let api = api.clone();
        async move {
            let request = PauseWorkerIdRequest { worker_id: format!("w{n:04}"), reason: "r".repeat(limits::NOTE) };
            api.admin().pause_worker_id(request).await.unwrap();
        }
    };
    stream::iter((0..COUNT).map(pause)).buffer_unordered(16).collect::<()>().await;
    let mut request = GetMetricsRequest::default();
    let mut found = Vec::new();
    loop {
        let page = deployment.api.jobs().get_metrics(request.clone()).await.unwrap().into_inner();
        assert!(page.encoded_len() < limits::REQUEST_BYTES, "{}", page.encoded_len());
        found.extend(page.worker_ids.into_iter().map(|it| it.worker_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let expected: Vec<_> = (0..COUNT).map(|n| format!("w{n:04}")).collect();
    assert_eq!(found, expected);
    let client = Client::connect(format!("http://{}", deployment.server.grpc_addr())).unwrap();
    let metrics = client.metrics().await.unwrap();
    assert_eq!(metrics.worker_ids.into_iter().map(|it| it.worker_id).collect::<Vec<_>>(), expected);
}

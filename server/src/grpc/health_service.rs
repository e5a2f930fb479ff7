//! grpc.health.v1: tonic's health service, with watch streams that end when the server shuts down.

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use jobqueue_shared::proto::v1::{
    admin_service_server, error_service_server, job_service_server, operation_service_server, worker_service_server,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, HealthCheckResponse, health_server::Health},
    server::{HealthReporter, HealthService},
};

/// Names of the services whose health is reported; "" is the server as a whole.
const SERVICES: [&str; 6] = [
    "",
    job_service_server::SERVICE_NAME,
    worker_service_server::SERVICE_NAME,
    admin_service_server::SERVICE_NAME,
    operation_service_server::SERVICE_NAME,
    error_service_server::SERVICE_NAME,
];

/// Sets the status of all services, which depend on the same storage.
pub async fn set(reporter: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

pub struct Endpoint {
    inner: HealthService,
    draining: CancellationToken,
}

impl Endpoint {
    pub fn new(reporter: HealthReporter, draining: CancellationToken) -> Self {
        Self { inner: HealthService::from_health_reporter(reporter), draining }
    }
}

#[tonic::async_trait]
impl Health for Endpoint {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.inner.check(request).await
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Watches a service. The stream ends after the NOT_SERVING of a draining server; otherwise it would keep its
    /// connection open for ever.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let changes = self.inner.watch(request).await?.into_inner();
        let draining = self.draining.clone();
        let until_drained = stream::unfold((changes, draining), |(mut changes, draining)| async {
            let change = tokio::select! {
                biased;
                change = changes.next() => change?,
                () = draining.cancelled() => return None,
            };
            Some((change, (changes, draining)))
        });
        Ok(Response::new(Box::pin(until_drained)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_hears_of_the_end_and_is_let_go() {
        let (reporter, draining) = (HealthReporter::new(), CancellationToken::new());
        set(&reporter, true).await;
        let endpoint = Endpoint::new(reporter.clone(), draining.clone());
        let request = || Request::new(HealthCheckRequest { service: job_service_server::SERVICE_NAME.into() });
        let mut watch = endpoint.watch(request()).await.unwrap().into_inner();
        assert_eq!(watch.next().await.unwrap().unwrap().status, 1);
        set(&reporter, false).await;
        draining.cancel();
        assert_eq!(watch.next().await.unwrap().unwrap().status, 2);
        assert!(watch.next().await.is_none());
        assert_eq!(endpoint.check(request()).await.unwrap().into_inner().status, 2);
    }
}

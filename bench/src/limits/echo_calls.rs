//! Limit of a unary call: calls of a service that does nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use jobqueue_shared::{
    connect::connector,
    proto::v1::{SubmitJobRequest, job_service_client::JobServiceClient},
};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::{
    load::{
        child::{Child, Role},
        payload::payload,
    },
    measure::stats::{Percentiles, Times},
};

const CALLERS_PER_CONNECTION: usize = 64;

/// Measures calls per second and their times, with `callers` callers at once.
pub(crate) async fn measure(callers: usize, time: Duration) -> Result<(f64, Percentiles)> {
    let mut server = Child::start(&Role::Echo).await?;
    server.go().await?;
    let endpoint = Endpoint::from_shared(server.receive::<String>().await?)?;
    let connections = callers.div_ceil(CALLERS_PER_CONNECTION);
    let mut channels = Vec::new();
    for _ in 0..connections {
        channels.push(endpoint.connect_with_connector(connector(None)).await?);
    }
    let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut calling = JoinSet::new();
    for caller in 0..callers {
        let channel = channels[caller % connections].clone();
        calling.spawn(call(channel, Arc::clone(&count), Arc::clone(&stop)));
    }
    // The first calls warm up.
    tokio::time::sleep(time / 4).await;
    let (from, begun) = (count.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(time).await;
    let rate = (count.load(Ordering::Relaxed) - from) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut times = Times::new()?;
    while let Some(caller) = calling.join_next().await {
        times.add(&caller??);
    }
    drop(channels);
    server.finish::<String>().await?;
    Ok((rate, times.summary()))
}

async fn call(channel: Channel, count: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Result<Times> {
    let mut api = JobServiceClient::new(channel);
    let mut times = Times::new()?;
    while !stop.load(Ordering::Relaxed) {
        let payload_json = payload(0, "", 64);
        let request = SubmitJobRequest { worker_id: "echo".to_owned(), payload_json, ..SubmitJobRequest::default() };
        let called = Instant::now();
        api.submit_job(request).await?;
        times.record(called.elapsed());
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(times)
}

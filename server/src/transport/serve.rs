//! Drives connections: HTTP/1 and HTTP/2 by hyper, with a maximum age, an idle time, and a time limit for peers that do
//! not read.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use futures::StreamExt as _;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use jobqueue_shared::limits;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

use super::{
    activity::Activity,
    listen::{self, Accepted, Connection},
    tls::Tls,
};

/// Limits of an HTTP/2 connection: resets before it is closed as abusive, and bytes in flight.
const RESETS: usize = 1_024;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// Interval of HTTP/2 pings; a peer that does not answer one within [`PING_PATIENCE`] is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(15);
/// Time for the head of an HTTP/1 request, and between requests of a connection.
const HEAD: Duration = Duration::from_secs(30);
/// Time for the calls of a connection that has reached its age; a long poll takes at most half of it.
const LAST_CALLS: Duration = Duration::from_millis(2 * limits::ACQUIRE_WAIT_MS as u64);
/// Part of the age by which connections' ages differ, so that connections made together do not end together.
const JITTER: f64 = 0.25;

/// Times after which connections are closed.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Time without a call.
    pub idle: Duration,
    /// Age of the connection; calls under way may finish.
    pub age: Duration,
    /// Time in which the peer reads nothing although something was sent; takes effect after up to twice as long.
    pub unread: Duration,
}

/// Service that answers the requests of connections.
pub trait Answer: Clone + Send + Sync + 'static {
    fn answer(&self, request: Request<Incoming>, activity: &Arc<Activity>) -> impl Future<Output = Response> + Send;
}

/// Serves `listener`, with TLS if it has `tls`, until `draining` is cancelled, then lets its connections finish calls under way.
pub async fn serve(
    listener: TcpListener,
    places: Arc<Semaphore>,
    tls: Option<Arc<Tls>>,
    lifetimes: Lifetimes,
    answer: impl Answer,
    draining: CancellationToken,
) {
    let http = Arc::new(http());
    let connections = TaskTracker::new();
    {
        let mut incoming = pin!(listen::incoming(listener, places).take_until(draining.cancelled()));
        while let Some(accepted) = incoming.next().await {
            let (http, tls, answer, draining) = (Arc::clone(&http), tls.clone(), answer.clone(), draining.clone());
            connections.spawn(async move { secure(&http, accepted, tls, lifetimes, answer, &draining).await });
        }
    }
    connections.close();
    connections.wait().await;
}

fn http() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::CALLS_PER_CONNECTION as u32)
        .max_local_error_reset_streams(RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
}

/// Makes the TLS handshake of a connection, where there is TLS, and drives it.
async fn secure(
    http: &Builder<TokioExecutor>,
    (stream, place): Accepted,
    tls: Option<Arc<Tls>>,
    lifetimes: Lifetimes,
    answer: impl Answer,
    draining: &CancellationToken,
) {
    let peer = stream.peer_addr().ok().map(|addr| addr.ip());
    let Some(tls) = tls else {
        return drive(http, Connection::new(stream, peer, place), lifetimes, answer, draining).await;
    };
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        () = draining.cancelled() => return,
    };
    match accepted {
        Ok(Some(stream)) => drive(http, Connection::new(stream, peer, place), lifetimes, answer, draining).await,
        Ok(None) => info!("a client spoke plain HTTP to an address that speaks TLS"),
        Err(error) => info!(%error, "a TLS handshake failed"),
    }
}

async fn drive(
    http: &Builder<TokioExecutor>,
    connection: Connection<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    lifetimes: Lifetimes,
    answer: impl Answer,
    draining: &CancellationToken,
) {
    let activity = Arc::clone(connection.activity());
    let for_calls = Arc::clone(&activity);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (answer, activity) = (answer.clone(), Arc::clone(&for_calls));
        async move { Ok::<Response<Body>, Infallible>(answer.answer(request, &activity).await) }
    });
    let mut served = pin!(http.serve_connection(TokioIo::new(connection), service));
    let mut timer = ConnectionTimer::new(lifetimes, Instant::now());
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a connection failed");
                }
                return;
            }
            () = draining.cancelled(), if !told => {
                told = true;
                served.as_mut().graceful_shutdown();
            }
            () = sleep_until(timer.next()) => match timer.look(&activity, Instant::now()) {
                Verdict::Keep => {}
                Verdict::Finish => served.as_mut().graceful_shutdown(),
                Verdict::Cut(why) => {
                    debug!(why, "a connection is cut off");
                    return;
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// Accept no new calls, and close when the current ones have ended.
    Finish,
    Cut(&'static str),
}

/// Time limits of one connection.
#[derive(Debug)]
struct ConnectionTimer {
    lifetimes: Lifetimes,
    period: Instant,
    idle: Instant,
    /// Number of calls when `idle` was last checked.
    calls: usize,
    old: Instant,
    finishing: Option<Instant>,
}

impl ConnectionTimer {
    fn new(lifetimes: Lifetimes, now: Instant) -> Self {
        let age = lifetimes.age.mul_f64(1.0 - JITTER * rand::random::<f64>());
        Self {
            lifetimes,
            period: now + lifetimes.unread,
            idle: now + lifetimes.idle,
            calls: 0,
            old: now + age,
            finishing: None,
        }
    }

    fn next(&self) -> Instant {
        let end = self.finishing.unwrap_or_else(|| self.idle.min(self.old));
        end.min(self.period)
    }

    fn look(&mut self, activity: &Activity, now: Instant) -> Verdict {
        if now >= self.period {
            self.period = now + self.lifetimes.unread;
            if activity.next_period() {
                return Verdict::Cut("its peer does not read");
            }
        }
        if let Some(end) = self.finishing {
            return if now >= end { Verdict::Cut("its last calls take too long") } else { Verdict::Keep };
        }
        if now >= self.idle {
            let (calls, under_way) = activity.calls();
            if calls == self.calls && !under_way {
                self.finishing = Some(now + self.lifetimes.unread);
                return Verdict::Finish;
            }
            self.calls = calls;
            self.idle = now + self.lifetimes.idle;
        }
        if now >= self.old {
            self.finishing = Some(now + LAST_CALLS);
            return Verdict::Finish;
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes =
        Lifetimes { idle: Duration::from_mins(15), age: Duration::from_hours(2), unread: Duration::from_secs(30) };

    #[test]
    fn a_connection_without_calls_is_closed_and_one_with_a_call_is_kept_until_it_is_old() {
        let begun = Instant::now();
        let activity = Arc::new(Activity::default());
        let mut timer = ConnectionTimer::new(LIFETIMES, begun);
        let mut call = Some(activity.call());
        let mut finished = None;
        while finished.is_none() {
            let now = timer.next();
            if now > begun + Duration::from_mins(50) {
                call = None;
            }
            match timer.look(&activity, now) {
                Verdict::Keep => {}
                Verdict::Finish => finished = Some(now - begun),
                cut @ Verdict::Cut(_) => panic!("{cut:?}"),
            }
        }
        assert!(call.is_none());
        // Finishes at a check that finds no call under way and none since the check before.
        assert!((Duration::from_hours(1)..Duration::from_mins(80)).contains(&finished.unwrap()), "{finished:?}");
    }

    #[test]
    fn old_connections_get_time_for_their_calls_and_end_at_different_times() {
        let begun = Instant::now();
        let activity = Arc::new(Activity::default());
        let _call = activity.call();
        let ends = [0; 8].map(|_| {
            let mut timer = ConnectionTimer::new(LIFETIMES, begun);
            while timer.look(&activity, timer.next()) == Verdict::Keep {}
            let told = timer.finishing.unwrap() - LAST_CALLS - begun;
            while timer.look(&activity, timer.next()) == Verdict::Keep {}
            told
        });
        for end in ends {
            assert!((LIFETIMES.age.mul_f64(0.74)..=LIFETIMES.age).contains(&end), "{end:?}");
        }
        assert!(ends.iter().any(|end| *end != ends[0]));
    }

    #[test]
    fn a_peer_that_does_not_read_is_cut_off_within_two_periods() {
        let begun = Instant::now();
        let activity = Arc::new(Activity::default());
        let mut timer = ConnectionTimer::new(LIFETIMES, begun);
        let _unread = activity.unread();
        assert_eq!(timer.look(&activity, begun + LIFETIMES.unread), Verdict::Keep);
        assert!(matches!(timer.look(&activity, begun + 2 * LIFETIMES.unread), Verdict::Cut(_)));
    }
}

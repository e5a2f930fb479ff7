//! Proxy between a worker and a real server that loses calls and answers on request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, Response},
};
use jobqueue_tests::poll::eventually;
use prost::Message;
use tokio::{net::TcpListener, sync::watch};
use tonic::transport::{Channel, Endpoint};
use tower::{Service as _, ServiceExt as _};

#[derive(Clone)]
pub(crate) struct Proxy(Arc<Inner>);

struct Inner {
    server: Channel,
    endpoint: String,
    /// Number of answers to the next calls of a method that are lost on the way back.
    losing: Mutex<HashMap<&'static str, usize>>,
    /// Calls so far, in order: the method's name and the message.
    asked: Mutex<Vec<(String, Vec<u8>)>>,
    /// Methods that were called while the server was away.
    refused: Mutex<Vec<String>>,
    away: watch::Sender<bool>,
    holding: watch::Sender<Option<&'static str>>,
}

impl Proxy {
    pub(crate) async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self(Arc::new(Inner {
            server: Endpoint::from_shared(server.to_owned()).unwrap().connect_lazy(),
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            losing: Mutex::default(),
            asked: Mutex::default(),
            refused: Mutex::default(),
            away: watch::Sender::new(false),
            holding: watch::Sender::new(None),
        }));
        let router = Router::new().fallback(pass).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        proxy
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// Loses the answers to the next `count` calls of `method`, which the server carries out.
    pub(crate) fn lose_answers(&self, method: &'static str, count: usize) {
        self.0.losing.lock().unwrap().insert(method, count);
    }

    /// Sets whether the server is away, so that no call reaches it.
    pub(crate) fn set_away(&self, away: bool) {
        self.0.away.send_replace(away);
    }

    /// Holds back the answers to calls of `method`, which the server carries out.
    pub(crate) fn hold_answers(&self, method: Option<&'static str>) {
        self.0.holding.send_replace(method);
    }

    /// Waits until a call of `method` has found the server away.
    pub(crate) async fn has_refused(&self, method: &str) {
        eventually(method, async || self.0.refused.lock().unwrap().iter().any(|it| it == method).then_some(())).await;
    }

    /// Methods that reached the server so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.0.asked.lock().unwrap().iter().map(|(method, _)| method.clone()).collect()
    }

    /// Messages with which `method` was called so far.
    pub(crate) fn asked<T: Message + Default>(&self, method: &str) -> Vec<T> {
        let asked = self.0.asked.lock().unwrap();
        // Each message has a gRPC header of five bytes.
        asked.iter().filter(|(it, _)| it == method).map(|(_, body)| T::decode(&body[5..]).unwrap()).collect()
    }

    fn loses(&self, method: &str) -> bool {
        let mut losing = self.0.losing.lock().unwrap();
        losing.get_mut(method).is_some_and(|left| {
            let loses = *left > 0;
            *left = left.saturating_sub(1);
            loses
        })
    }
}

async fn pass(State(proxy): State<Proxy>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let method = parts.uri.path().rsplit('/').next().unwrap().to_owned();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    if *proxy.0.away.borrow() {
        proxy.0.refused.lock().unwrap().push(method);
        return unavailable();
    }
    proxy.0.asked.lock().unwrap().push((method.clone(), body.to_vec()));
    let mut server = proxy.0.server.clone();
    let request = Request::from_parts(parts, tonic::body::Body::new(Body::from(body)));
    let Ok(answer) = server.ready().await.unwrap().call(request).await else { return unavailable() };
    if proxy.loses(&method) {
        return unavailable();
    }
    let mut holding = proxy.0.holding.subscribe();
    holding.wait_for(|held| *held != Some(&*method)).await.unwrap();
    answer.map(Body::new)
}

fn unavailable() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer.headers_mut().insert("grpc-status", HeaderValue::from_static("14"));
    answer.headers_mut().insert("grpc-message", HeaderValue::from_static("lost"));
    answer
}

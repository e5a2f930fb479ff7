//! Keeps what a page shows fresh: every 3 s, one request at a time, not while the tab is hidden.

use std::future::Future;

use futures::{
    StreamExt as _,
    channel::mpsc,
    future::{AbortHandle, Abortable, select},
};
use gloo_timers::future::TimeoutFuture;
use leptos::{ev, prelude::*, task::spawn_local};

use crate::{
    api::{Failure, Kind},
    dom,
};

const EVERY_MS: u32 = 3_000;

/// Whether the server is there, the time, and whether anybody is looking.
#[derive(Clone, Copy)]
pub struct Live {
    /// The browser's clock, once a second while the tab is seen.
    pub now: RwSignal<i64>,
    /// When the last answer came; `None` before the first.
    pub heard: RwSignal<Option<i64>>,
    /// Since when the server is away, and what it said last.
    pub away: RwSignal<Option<(i64, Failure)>>,
    hidden: RwSignal<bool>,
    wanted: RwSignal<u32>,
}

impl Live {
    /// For the whole app: makes the clock tick and watches the tab.
    pub fn provide() -> Self {
        let live = Self {
            now: RwSignal::new(dom::now()),
            heard: RwSignal::new(None),
            away: RwSignal::new(None),
            hidden: RwSignal::new(dom::hidden()),
            wanted: RwSignal::new(0),
        };
        provide_context(live);
        window_event_listener(ev::online, move |_| live.refresh());
        // It bubbles from the document.
        window_event_listener(ev::Custom::<web_sys::Event>::new("visibilitychange"), move |_| {
            live.hidden.set(dom::hidden());
        });
        spawn_local(async move {
            loop {
                TimeoutFuture::new(1_000).await;
                if !live.hidden.get_untracked() {
                    live.now.set(dom::now());
                }
            }
        });
        live
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Everything that is shown is asked for again at once.
    pub fn refresh(self) {
        self.wanted.update(|n| *n = n.wrapping_add(1));
    }

    /// What an answer tells of the server.
    pub fn note<T>(self, answer: &Result<T, Failure>) {
        match answer {
            Err(failure) if failure.is_away() => {
                let since = self.away.with_untracked(|away| away.as_ref().map_or_else(dom::now, |(since, _)| *since));
                self.away.set(Some((since, failure.clone())));
            }
            _ => {
                self.heard.set(Some(dom::now()));
                if self.away.with_untracked(Option::is_some) {
                    self.away.set(None);
                    // The other parts of the page need not wait for their turn.
                    self.refresh();
                }
            }
        }
    }
}

/// What was last answered, and what is wrong since.
pub struct Feed<T: 'static> {
    /// Stays through errors; `None` before the first answer.
    pub data: RwSignal<Option<T>>,
    /// The present error, and since when.
    pub failure: RwSignal<Option<(i64, Failure)>>,
    /// An answer for other parameters is under way.
    pub busy: RwSignal<bool>,
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Feed<T> {}

/// Calls `fetch` with `key` now, when `key` changes, and then every 3 s for as long as the component lives.
pub fn feed<K, T, F>(key: impl Fn() -> K + Send + Sync + 'static, fetch: impl Fn(K) -> F + 'static) -> Feed<T>
where
    K: Clone + PartialEq + Send + Sync + 'static,
    T: PartialEq + Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + 'static,
{
    let live = Live::get();
    let feed = Feed { data: RwSignal::new(None), failure: RwSignal::new(None), busy: RwSignal::new(true) };
    let key = Memo::new(move |_| key());
    let fetch = std::rc::Rc::new(fetch);
    Effect::new(move |_| {
        let key = key.get();
        let fetch = fetch.clone();
        feed.busy.set(true);
        let (mut wake, mut woken) = mpsc::channel(0);
        Effect::new(move |before: Option<()>| {
            live.hidden.track();
            live.wanted.track();
            if before.is_some() {
                // Full: it is about to wake up already.
                let _ = wake.try_send(());
            }
        });
        let (abort, registration) = AbortHandle::new_pair();
        on_cleanup(move || abort.abort());
        let run = async move {
            loop {
                if live.hidden.get_untracked() {
                    woken.next().await;
                    continue;
                }
                let answer = fetch(key.clone()).await;
                live.note(&answer);
                feed.take(answer);
                select(TimeoutFuture::new(EVERY_MS), woken.next()).await;
            }
        };
        spawn_local(async move {
            let _ = Abortable::new(run, registration).await;
        });
    });
    feed
}

impl<T: PartialEq + Send + Sync + 'static> Feed<T> {
    fn take(self, answer: Result<T, Failure>) {
        match answer {
            Ok(data) => {
                // An unchanged answer touches nothing on the page: no lost selection, no closed details.
                if self.data.with_untracked(|old| old.as_ref() != Some(&data)) {
                    self.data.set(Some(data));
                }
                if self.failure.with_untracked(Option::is_some) {
                    self.failure.set(None);
                }
            }
            Err(failure) => {
                let since = self.failure.with_untracked(|old| old.as_ref().map_or_else(dom::now, |(since, _)| *since));
                self.failure.set(Some((since, failure)));
            }
        }
        self.busy.set(false);
    }

    /// True before the first answer, when there is nothing to show but its outline.
    pub fn is_loading(self) -> bool {
        self.data.with(Option::is_none) && self.failure.with(Option::is_none)
    }

    /// The server knows no such thing (any more).
    pub fn is_gone(self) -> bool {
        self.failure.with(|failure| failure.as_ref().is_some_and(|(_, failure)| failure.kind == Kind::NotFound))
    }

    /// What is wrong, for a page that says by itself when its thing is gone.
    pub fn trouble(self) -> Option<(i64, Failure)> {
        if self.is_gone() { None } else { self.failure.get() }
    }
}

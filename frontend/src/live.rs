//! Keeps what a page shows fresh: every 3 s, one request at a time, not while the tab is hidden.

use std::future::Future;

use futures::{
    StreamExt as _,
    channel::mpsc,
    future::{AbortHandle, Abortable, Either, pending, select},
};
use gloo_timers::future::TimeoutFuture;
use leptos::{ev, prelude::*, task::spawn_local};

use crate::{
    api::{Failure, Kind},
    dom,
    model::clock,
};

const EVERY_MS: u32 = 3_000;

/// Whether the server is there, the time, and whether anybody is looking.
#[derive(Clone, Copy)]
pub struct Live {
    /// The server's clock, once a second while the tab is seen.
    pub now: RwSignal<i64>,
    /// How far the browser's clock is ahead of the server's, where that is worth a word.
    pub skew: RwSignal<Option<i64>>,
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
            skew: RwSignal::new(None),
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
                    live.tick();
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

    fn tick(self) {
        let now = dom::now();
        self.now.set(now);
        let skew = clock::skew(dom::browser_now(), now);
        if self.skew.get_untracked() != skew {
            self.skew.set(skew);
        }
    }

    /// What an answer tells of the server.
    pub fn note<T>(self, answer: &Result<T, Failure>) {
        // The answer carries the server's time: its ages are shown by that at once.
        if (dom::now() - self.now.get_untracked()).abs() > 2_000 {
            self.tick();
        }
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
    /// Stays through errors; `None` before the first answer to the present parameters.
    pub data: RwSignal<Option<T>>,
    /// The present error, and since when.
    pub failure: RwSignal<Option<(i64, Failure)>>,
    /// The first answer to the present parameters is under way.
    pub busy: RwSignal<bool>,
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Feed<T> {}

/// Calls `fetch` with `key` now, when `key` changes, and then every 3 s for as long as the component lives. With
/// another key nothing of the last one stays: nobody acts on rows that another filter has found.
pub fn feed<K, T, F>(key: impl Fn() -> K + Send + Sync + 'static, fetch: impl Fn(K) -> F + 'static) -> Feed<T>
where
    K: Clone + PartialEq + Send + Sync + 'static,
    T: PartialEq + Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + 'static,
{
    repeated(key, fetch, None::<fn()>)
}

/// As [`feed`], for answers too large to be asked for every 3 s: again only when what `changes` reads has changed,
/// and after an error.
pub fn feed_on<K, T, F>(
    key: impl Fn() -> K + Send + Sync + 'static,
    fetch: impl Fn(K) -> F + 'static,
    changes: impl Fn() + Clone + 'static,
) -> Feed<T>
where
    K: Clone + PartialEq + Send + Sync + 'static,
    T: PartialEq + Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + 'static,
{
    repeated(key, fetch, Some(changes))
}

fn repeated<K, T, F>(
    key: impl Fn() -> K + Send + Sync + 'static,
    fetch: impl Fn(K) -> F + 'static,
    changes: Option<impl Fn() + Clone + 'static>,
) -> Feed<T>
where
    K: Clone + PartialEq + Send + Sync + 'static,
    T: PartialEq + Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + 'static,
{
    let live = Live::get();
    let feed = Feed { data: RwSignal::new(None), failure: RwSignal::new(None), busy: RwSignal::new(true) };
    let key = Memo::new(move |_| key());
    let fetch = std::rc::Rc::new(fetch);
    let timed = changes.is_none();
    Effect::new(move |before: Option<()>| {
        let key = key.get();
        let fetch = fetch.clone();
        if before.is_some() {
            feed.data.set(None);
            feed.failure.set(None);
        }
        feed.busy.set(true);
        let (mut wake, mut woken) = mpsc::channel(0);
        let changes = changes.clone();
        Effect::new(move |before: Option<()>| {
            live.hidden.track();
            live.wanted.track();
            if let Some(changes) = &changes {
                changes();
            }
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
                let again = if timed || answer.is_err() {
                    Either::Left(TimeoutFuture::new(EVERY_MS))
                } else {
                    Either::Right(pending())
                };
                feed.take(answer);
                select(again, woken.next()).await;
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
                // An unchanged answer touches nothing on the page.
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
        if self.busy.get_untracked() {
            self.busy.set(false);
        }
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

    /// The present error of a list, unless it is about a filter: the filter bar shows that at its field.
    pub fn trouble_of_list(self) -> Option<(i64, Failure)> {
        self.failure.get().filter(|(_, failure)| !failure.is_of_filter())
    }
}

//! Polling of the server: refreshes a page's data every 3 s, one request at a time, less often in a tab that nobody
//! touches, and not while it is hidden.

use std::future::Future;

use futures::{
    StreamExt as _,
    channel::mpsc,
    future::{AbortHandle, Abortable, Either, pending, select},
};
use gloo_timers::future::TimeoutFuture;
use leptos::{ev, prelude::*, task::spawn_local};

use crate::{
    browser::dom,
    calls::client::{Failure, Kind},
    model::{clock, pace},
};

pub const EVERY_MS: u32 = 3_000;

/// State that all pages share: whether the server answers, the time, and whether the tab is visible.
#[derive(Clone, Copy)]
pub struct Live {
    /// Time by the server's clock, updated once a second while the tab is visible.
    pub now: RwSignal<i64>,
    /// Milliseconds by which the browser's clock is ahead of the server's, where the difference is large enough to be
    /// shown.
    pub skew: RwSignal<Option<i64>>,
    /// Time of the last answer; `None` before the first.
    pub heard: RwSignal<Option<i64>>,
    /// Time since which the server is away, and its last failure.
    pub away: RwSignal<Option<(i64, Failure)>>,
    hidden: RwSignal<bool>,
    wanted: RwSignal<u32>,
    /// Time at which the person last did something, by [`dom::ticks`].
    touched: StoredValue<i64>,
    /// Number of feeds that are repeated.
    feeds: StoredValue<u32>,
}

impl Live {
    /// Provides the state to the whole app, makes the clock tick, and watches the tab.
    pub fn provide() -> Self {
        let live = Self {
            now: RwSignal::new(dom::now()),
            skew: RwSignal::new(None),
            heard: RwSignal::new(None),
            away: RwSignal::new(None),
            hidden: RwSignal::new(dom::hidden()),
            wanted: RwSignal::new(0),
            touched: StoredValue::new(dom::ticks()),
            feeds: StoredValue::new(0),
        };
        provide_context(live);
        for acts in ["pointermove", "pointerdown", "keydown", "wheel", "focus"] {
            dom::listen(acts, move |_| live.touch());
        }
        window_event_listener(ev::online, move |_| live.refresh());
        // `visibilitychange` bubbles from the document to the window.
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

    /// Requests everything that is shown again at once.
    pub fn refresh(self) {
        self.wanted.update(|n| *n = n.wrapping_add(1));
    }

    /// Notes that the person is there. Who comes back sees what is new at once.
    fn touch(self) {
        let now = dom::ticks();
        let before = self.touched.try_update_value(|at| std::mem::replace(at, now)).unwrap_or(now);
        if now - before >= pace::IDLE_MS {
            self.refresh();
        }
    }

    /// Milliseconds that a feed waits which wants to wait for `wanted`.
    fn pause(self, wanted: u32) -> u32 {
        pace::pause(wanted, self.feeds.get_value(), dom::ticks() - self.touched.get_value())
    }

    fn tick(self) {
        let now = dom::now();
        self.now.set(now);
        let skew = clock::skew(dom::browser_now(), now);
        if self.skew.get_untracked() != skew {
            self.skew.set(skew);
        }
    }

    /// Updates the state of the server from an answer.
    pub fn note<T>(self, answer: &Result<T, Failure>) {
        // The answer has set the server clock, by which ages are shown at once.
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
                    // The other parts of the page are refreshed now, and not only when their turn comes.
                    self.refresh();
                }
            }
        }
    }
}

/// Data that are requested again and again, and the failure of the last request.
pub struct Feed<T: 'static> {
    /// Last answer. It stays through failures; `None` before the first answer for the present key.
    pub data: RwSignal<Option<T>>,
    /// Present failure, and the time of its beginning.
    pub failure: RwSignal<Option<(i64, Failure)>>,
    /// True while the first answer for the present key is under way.
    pub busy: RwSignal<bool>,
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Feed<T> {}

/// Feed that calls `fetch` with `key` now, when `key` changes, and then every 3 s for as long as the component lives.
/// When the key changes, the old data are dropped, so that nobody acts on rows that another filter has found.
pub fn feed<K, T, F>(key: impl Fn() -> K + Send + Sync + 'static, fetch: impl Fn(K) -> F + 'static) -> Feed<T>
where
    K: Clone + PartialEq + Send + Sync + 'static,
    T: PartialEq + Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + 'static,
{
    repeated(key, fetch, None::<fn()>, |_| EVERY_MS)
}

/// Feed like [`feed`], of which `pause` says how many milliseconds after an answer the next request is made.
pub fn feed_paced<K, T, F>(
    key: impl Fn() -> K + Send + Sync + 'static,
    fetch: impl Fn(K) -> F + 'static,
    pause: fn(&T) -> u32,
) -> Feed<T>
where
    K: Clone + PartialEq + Send + Sync + 'static,
    T: PartialEq + Send + Sync + 'static,
    F: Future<Output = Result<T, Failure>> + 'static,
{
    repeated(key, fetch, None::<fn()>, pause)
}

/// Feed like [`feed`], for answers that are too large to be requested every 3 s: they are requested again only when a
/// value that `changes` reads has changed, and after a failure.
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
    repeated(key, fetch, Some(changes), |_| EVERY_MS)
}

fn repeated<K, T, F>(
    key: impl Fn() -> K + Send + Sync + 'static,
    fetch: impl Fn(K) -> F + 'static,
    changes: Option<impl Fn() + Clone + 'static>,
    pause: fn(&T) -> u32,
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
    if timed {
        live.feeds.update_value(|feeds| *feeds += 1);
        on_cleanup(move || live.feeds.update_value(|feeds| *feeds = feeds.saturating_sub(1)));
    }
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
                // A full channel means that the loop is about to run already.
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
                    Either::Left(TimeoutFuture::new(live.pause(answer.as_ref().map_or(EVERY_MS, pause))))
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
                // An unchanged answer must change nothing on the page.
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

    /// True before the first answer, when only a skeleton can be shown.
    pub fn is_loading(self) -> bool {
        self.data.with(Option::is_none) && self.failure.with(Option::is_none)
    }

    /// True when the server does not know the requested object (any more).
    pub fn is_gone(self) -> bool {
        self.failure.with(|failure| failure.as_ref().is_some_and(|(_, failure)| failure.kind == Kind::NotFound))
    }

    /// Present failure, for a page that shows by itself that its object is gone.
    pub fn trouble(self) -> Option<(i64, Failure)> {
        if self.is_gone() { None } else { self.failure.get() }
    }

    /// Present failure of a list, unless it is about a filter: the filter bar shows that at its field.
    pub fn trouble_of_list(self) -> Option<(i64, Failure)> {
        self.failure.get().filter(|(_, failure)| !failure.is_of_filter())
    }
}

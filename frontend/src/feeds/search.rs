//! Feed of a list's page that takes several calls where a filter is tested job by job, one after the other, with what was found shown
//! meanwhile.

use std::rc::Rc;

use leptos::prelude::*;

use crate::{
    calls::client::Failure,
    feeds::live::{EVERY_MS, Feed, Live, feed_paced},
    model::{
        filter::Filter,
        search::{Found, Part},
    },
};

/// Search for the jobs of a page.
#[derive(Clone, Copy)]
pub struct Search {
    pub found: Feed<Found>,
    /// True while the page may take several calls.
    pub reads_on: Memo<bool>,
    /// True from the press of Stop on, until the search is to go on.
    pub stopped: RwSignal<bool>,
    known: StoredValue<Option<Known>>,
    live: Live,
}

/// Filter, and what was found for it.
type Known = (Filter, Found);

impl Search {
    /// True when there may be more jobs that belong on the page.
    pub fn is_incomplete(self) -> Signal<bool> {
        Signal::derive(move || self.found.data.with(|found| found.as_ref().is_some_and(Found::is_incomplete)))
    }

    /// Stops the search after the call that is under way.
    pub fn stop(self) {
        self.stopped.set(true);
    }

    /// Lets a search that waits for a person go on.
    pub fn go_on(self) {
        self.stopped.set(false);
        self.known.update_value(|known| known.iter_mut().for_each(|(_, found)| found.go_on()));
        self.found.data.update(|found| found.iter_mut().for_each(Found::go_on));
        self.live.refresh();
    }
}

/// Search for the page of `filter`; `read` makes one call, for the page of the filter that it is given.
pub fn search(filter: Memo<Filter>, read: impl AsyncFn(Filter) -> Result<Part, Failure> + 'static) -> Search {
    let stopped = RwSignal::new(false);
    let known = StoredValue::new(None::<Known>);
    let read = Rc::new(read);
    let fetch = move |filter: Filter| {
        let read = read.clone();
        async move {
            let before = known.get_value().filter(|(of, _)| *of == filter).map(|(_, found)| found);
            let found = match before {
                Some(found) if found.goes_on => step(&*read, &filter, found, stopped).await?,
                Some(found) => refresh(&*read, &filter, &found).await?,
                None => {
                    stopped.set(false);
                    step(&*read, &filter, Found::of_size(filter.page_size()), stopped).await?
                }
            };
            known.set_value(Some((filter, found.clone())));
            Ok(found)
        }
    };
    let found = feed_paced(move || filter.get(), fetch, pause);
    let reads_on = Memo::new(move |_| filter.with(Filter::is_searched));
    Search { found, reads_on, stopped, known, live: Live::get() }
}

/// Milliseconds until the next call: none while the search goes on. Refreshes come the less often the more calls they
/// take, so that a page makes no more calls for a rare task than for any other.
fn pause(found: &Found) -> u32 {
    if found.goes_on { 0 } else { EVERY_MS.saturating_mul(found.calls) }
}

/// Makes the next call of a search.
async fn step(
    read: &impl AsyncFn(Filter) -> Result<Part, Failure>,
    filter: &Filter,
    mut found: Found,
    stopped: RwSignal<bool>,
) -> Result<Found, Failure> {
    let page = if found.calls == 0 { filter.page.clone() } else { found.next.clone() };
    let part = read(Filter { page, ..filter.clone() }).await?;
    found.add(part, filter.is_searched(), stopped.get_untracked());
    Ok(found)
}

/// Makes the calls of a search again, up to the place in the list where it had ended.
async fn refresh(
    read: &impl AsyncFn(Filter) -> Result<Part, Failure>,
    filter: &Filter,
    before: &Found,
) -> Result<Found, Failure> {
    let mut found = before.begin_again();
    loop {
        let page = if found.calls == 0 { filter.page.clone() } else { found.next.clone() };
        let part = read(Filter { page, ..filter.clone() }).await?;
        found.add(part, filter.is_searched(), false);
        if !found.goes_on {
            return Ok(found);
        }
    }
}

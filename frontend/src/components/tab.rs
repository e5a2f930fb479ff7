//! Title and icon of the browser's tab, which tell failures of the last minutes from afar.

use leptos::prelude::*;

use super::heading::Title;
use crate::{
    feeds::counts_feed::CountsFeed,
    model::tab::{icon, title},
};

/// Keeps the tab's title and icon up to date.
#[component]
pub fn TabTitle() -> impl IntoView {
    let words = expect_context::<Title>().words;
    let CountsFeed(counts) = CountsFeed::get();
    let failed = Memo::new(move |_| counts.data.with(|data| data.as_ref().map_or(0, |data| data.failed_lately)));
    let failing = Memo::new(move |_| failed.get() > 0);
    Effect::new(move |_| document().set_title(&title(&words.get(), failed.get())));
    Effect::new(move |before: Option<bool>| {
        let failing = failing.get();
        if failing || before.is_some_and(|before| before) {
            let link = document().query_selector("link[rel=icon]").ok().flatten();
            let _ = link.map(|link| link.set_attribute("href", &icon(failing)));
        }
        failing
    });
}

//! Trail: the list that a person came from, kept in the session storage of the tab while the person follows it.

use leptos::prelude::*;
use leptos_router::hooks::use_location;

use crate::{
    browser::dom,
    model::trail::{Place, Trail},
};

/// Name in the session storage.
const KEPT: &str = "trail";

/// The trail on which the person is, and that of the list that is shown.
#[derive(Clone, Copy)]
pub struct Trails {
    followed: RwSignal<Option<Trail>>,
    shown: StoredValue<Option<Trail>>,
}

impl Trails {
    pub fn provide() {
        provide_context(Self { followed: RwSignal::new(dom::kept(KEPT)), shown: StoredValue::new(None) });
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Notes the ids of a list, whose pages have this path, as long as the list is shown. To be called by its page.
    pub fn note(self, name: &'static str, path: &'static str, ids: Memo<Vec<String>>) {
        let location = use_location();
        Effect::new(move |_| {
            let (ids, pathname, search) = (ids.get(), location.pathname.get(), location.search.get());
            if pathname == path {
                let trail = Trail { address: address(pathname, &search), name: name.to_owned(), ids };
                self.shown.set_value(Some(trail));
            }
        });
    }

    pub fn place(self, job_id: &str) -> Option<Place> {
        self.followed.with(|trail| trail.as_ref()?.place(job_id))
    }

    /// Address and name of the list of the trail that leads to this job.
    pub fn list(self, job_id: &str) -> Option<(String, String)> {
        self.followed.with(|trail| {
            let trail = trail.as_ref().filter(|trail| trail.place(job_id).is_some())?;
            Some((trail.address.clone(), trail.name.clone()))
        })
    }

    fn moved(self, from: &str, to: &str) {
        let starts =
            self.shown.try_update_value(Option::take).flatten().filter(|it| it.address == from && it.leads(from, to));
        let stays = || self.followed.get_untracked().filter(|trail| trail.leads(from, to));
        let trail = starts.or_else(stays);
        dom::keep(KEPT, &trail);
        self.followed.set(trail);
    }
}

fn address(path: String, search: &str) -> String {
    path + if search.is_empty() { "" } else { "?" } + search
}

/// Follows the person from page to page.
#[component]
pub fn TrailWatch() -> impl IntoView {
    let trails = Trails::get();
    let location = use_location();
    let address = Memo::new(move |_| address(location.pathname.get(), &location.search.get()));
    Effect::new(move |before: Option<String>| {
        let now = address.get();
        if let Some(before) = before.filter(|before| *before != now) {
            trails.moved(&before, &now);
        }
        now
    });
}

//! Saved views of this browser, shared by its tabs.

use leptos::{ev, prelude::*};

use crate::{
    browser::dom,
    model::commands::views::{self, View},
};

/// Name in the local storage.
const STORED: &str = "views";

/// Views that the person has saved.
#[derive(Clone, Copy)]
pub struct SavedViews(pub RwSignal<Vec<View>>);

impl SavedViews {
    pub fn provide() {
        let views = Self(RwSignal::new(stored()));
        // Sent when another tab has changed the storage; without a key, it has been cleared.
        window_event_listener(ev::storage, move |event| {
            if event.key().is_none_or(|key| key == STORED) {
                views.0.set(stored());
            }
        });
        provide_context(views);
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Saves an address under a name; false when the browser does not keep it.
    pub fn save(self, name: &str, address: &str) -> bool {
        self.0.update(|all| *all = views::add(all, name, address));
        self.store()
    }

    pub fn remove(self, name: &str) {
        self.0.update(|all| *all = views::remove(all, name));
        self.store();
    }

    fn store(self) -> bool {
        let text = self.0.with_untracked(|all| serde_json::to_string(all).unwrap_or_default());
        dom::local_storage().is_some_and(|storage| storage.set_item(STORED, &text).is_ok())
    }
}

fn stored() -> Vec<View> {
    let text = dom::local_storage().and_then(|storage| storage.get_item(STORED).ok().flatten());
    text.map(|text| views::read(&text)).unwrap_or_default()
}

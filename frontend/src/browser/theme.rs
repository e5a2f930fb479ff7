//! Light or dark theme: the system's choice until the person makes one, in this tab or in another. The colours are in
//! base.css.

use leptos::{ev, prelude::*};

use crate::{browser::dom, components::icon::Icon};

const KEY: &str = "theme";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Theme {
    System,
    Light,
    Dark,
}

impl Theme {
    fn stored() -> Self {
        let word = dom::local_storage().and_then(|storage| storage.get_item(KEY).ok().flatten());
        match word.as_deref() {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::System,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    fn icon(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "sun",
            Self::Dark => "moon",
        }
    }

    /// Theme after this one. The system's is followed by its opposite, so that the first press has a visible effect.
    fn next(self, system_is_dark: bool) -> Self {
        match (self, system_is_dark) {
            (Self::System, true) | (Self::Dark, false) => Self::Light,
            (Self::System, false) | (Self::Light, true) => Self::Dark,
            (Self::Light, false) | (Self::Dark, true) => Self::System,
        }
    }

    fn show(self) {
        let root = document().document_element();
        if self == Self::System {
            root.and_then(|root| root.remove_attribute("data-theme").ok());
        } else {
            root.and_then(|root| root.set_attribute("data-theme", self.word()).ok());
        }
    }

    fn store(self) {
        let storage = dom::local_storage();
        if self == Self::System {
            storage.and_then(|storage| storage.remove_item(KEY).ok());
        } else {
            storage.and_then(|storage| storage.set_item(KEY, self.word()).ok());
        }
    }
}

/// Button that steps through the system's theme, its opposite, and a fixed choice of what the system's theme was.
#[component]
pub fn ThemeButton() -> impl IntoView {
    let theme = RwSignal::new(Theme::stored());
    // Sent when another tab has changed the storage; without a key, it has been cleared.
    window_event_listener(ev::storage, move |event| {
        if event.key().is_none_or(|key| key == KEY) {
            Theme::stored().show();
            theme.set(Theme::stored());
        }
    });
    let press = move |_| {
        let dark = window().match_media("(prefers-color-scheme: dark)").ok().flatten().is_some_and(|it| it.matches());
        let next = theme.get_untracked().next(dark);
        next.show();
        next.store();
        theme.set(next);
    };
    let label = move || format!("Theme: {}", theme.get().word());
    view! {
        <button type="button" class="button quiet square" aria-label=label title=label aria-keyshortcuts="t" on:click=press>
            {move || view! { <Icon name=theme.get().icon() /> }}
        </button>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_button_reaches_every_theme_and_shows_at_once() {
        for dark in [false, true] {
            let first = Theme::System.next(dark);
            assert!((first == Theme::Light) == dark);
            assert!(first.next(dark).next(dark) == Theme::System);
        }
    }
}

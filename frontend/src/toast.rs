//! Toasts: short messages about what was done, at the edge of the page and read out by screen readers.

use gloo_timers::future::TimeoutFuture;
use leptos::{prelude::*, task::spawn_local};

use crate::components::{bulk_panel::BulkPanel, icon::Icon};

const SHOWN_MS: u32 = 8_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    /// Failure, whose toast stays until it is closed.
    Bad,
}

#[derive(Clone)]
struct Toast {
    id: u32,
    tone: Tone,
    text: String,
}

#[derive(Clone, Copy)]
pub struct Toasts {
    all: RwSignal<Vec<Toast>>,
    next: StoredValue<u32>,
}

impl Toasts {
    pub fn provide() -> Self {
        let toasts = Self { all: RwSignal::new(vec![]), next: StoredValue::new(0) };
        provide_context(toasts);
        toasts
    }

    pub fn get() -> Self {
        expect_context()
    }

    pub fn good(self, text: impl Into<String>) {
        let id = self.add(Tone::Good, text.into());
        spawn_local(async move {
            TimeoutFuture::new(SHOWN_MS).await;
            self.close(id);
        });
    }

    pub fn bad(self, text: impl Into<String>) {
        self.add(Tone::Bad, text.into());
    }

    fn add(self, tone: Tone, text: String) -> u32 {
        let id = self.next.get_value();
        self.next.set_value(id.wrapping_add(1));
        self.all.update(|all| {
            // More than four toasts hide the page and are not read.
            if all.len() >= 4 {
                all.remove(0);
            }
            all.push(Toast { id, tone, text });
        });
        id
    }

    fn close(self, id: u32) {
        self.all.update(|all| all.retain(|toast| toast.id != id));
    }
}

/// List of the toasts, at the edge of the page, with the progress of a retry of many jobs above them.
#[component]
pub fn ToastList() -> impl IntoView {
    let toasts = Toasts::get();
    view! {
        <div class="toasts">
            <BulkPanel />
            <div class="toast-list" role="status" aria-live="polite">
            <For each=move || toasts.all.get() key=|toast| toast.id let:toast>
                <div class=if toast.tone == Tone::Bad { "toast bad" } else { "toast" }>
                    <Icon name=if toast.tone == Tone::Bad { "warning" } else { "check" } />
                    <p>{toast.text}</p>
                    <button
                        type="button"
                        class="button quiet square"
                        aria-label="Close message"
                        on:click=move |_| toasts.close(toast.id)
                    >
                        <Icon name="close" />
                    </button>
                </div>
            </For>
            </div>
        </div>
    }
}

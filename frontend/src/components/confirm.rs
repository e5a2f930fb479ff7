//! Confirmation dialog, of which there is only one: asks before something is destroyed, or done to many jobs.
//!
//! A native modal `<dialog>` keeps the focus inside and returns it when it closes.

use std::sync::Arc;

use leptos::{ev::SubmitEvent, html, prelude::*};
use leptos_router::hooks::use_location;

/// Question of the dialog. It owns everything that it needs, because the row or page that asked may be gone when the
/// person answers.
#[derive(Clone)]
pub struct Question {
    /// Title, such as "Delete this job?".
    pub title: String,
    /// Description of what will happen.
    pub text: String,
    /// Label of the button, such as "Delete job".
    pub action: String,
    pub destroys: bool,
    /// Label of a text input that goes with the answer; "" = no input.
    pub input: &'static str,
    /// Called with the text of the input. Must capture no signal and no callback of a component.
    pub then: Arc<dyn Fn(String) + Send + Sync>,
}

#[derive(Clone, Copy)]
pub struct Confirm(RwSignal<Option<Question>>);

impl Confirm {
    pub fn provide() {
        provide_context(Self(RwSignal::new(None)));
    }

    pub fn get() -> Self {
        expect_context()
    }

    pub fn ask(self, question: Question) {
        self.0.set(Some(question));
    }
}

#[component]
pub fn ConfirmDialog() -> impl IntoView {
    let Confirm(question) = Confirm::get();
    let dialog = NodeRef::<html::Dialog>::new();
    let input = NodeRef::<html::Input>::new();
    Effect::new(move |_| {
        let Some(dialog) = dialog.get() else { return };
        if question.with(Option::is_some) && !dialog.open() {
            let _ = dialog.show_modal();
        }
    });
    let close = move || dialog.get_untracked().into_iter().for_each(|dialog| dialog.close());
    // Navigation closes the dialog, because its question is about the previous page.
    let at = use_location();
    Effect::new(move |before: Option<()>| {
        at.pathname.with(|_| ());
        at.search.with(|_| ());
        if before.is_some() {
            close();
        }
    });
    let act = move |event: SubmitEvent| {
        event.prevent_default();
        let text = input.get_untracked().map(|input| input.value()).unwrap_or_default();
        // The dialog is closed first, so that the focus is back before the page changes.
        close();
        // `take` leaves no question for a second press.
        if let Some(question) = question.try_update(Option::take).flatten() {
            (question.then)(text.trim().to_owned());
        }
    };
    view! {
        <dialog
            class="dialog"
            node_ref=dialog
            aria-labelledby="dialog-title"
            aria-describedby="dialog-text"
            on:close=move |_| question.set(None)
        >
            {move || {
                question
                    .get()
                    .map(|question| {
                        view! {
                            <form on:submit=act>
                                <h2 id="dialog-title">{question.title}</h2>
                                <p id="dialog-text">{question.text}</p>
                                {(!question.input.is_empty())
                                    .then(|| {
                                        view! {
                                            <div class="field">
                                                <label for="dialog-input">{question.input}</label>
                                                <input
                                                    id="dialog-input"
                                                    class="input"
                                                    maxlength="1024"
                                                    autocomplete="off"
                                                    node_ref=input
                                                />
                                            </div>
                                        }
                                    })}
                                <div class="dialog-actions">
                                    <button type="button" class="button" on:click=move |_| close()>
                                        "Keep as it is"
                                    </button>
                                    <button
                                        type="submit"
                                        class=if question.destroys { "button danger" } else { "button primary" }
                                    >
                                        {question.action}
                                    </button>
                                </div>
                            </form>
                        }
                    })
            }}
        </dialog>
    }
}

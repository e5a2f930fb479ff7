//! Note and link of an error group, which people edit.

use jobqueue_shared::proto::v1::UpdateErrorGroupRequest;
use leptos::{ev::SubmitEvent, prelude::*};

use super::actions::group_key;
use crate::{
    calls::{client, operator_actions::OperatorActions},
    components::icon::Icon,
    model::error_group::GroupPage,
};

/// Texts of the form, and whether a person has changed them since they were read or saved.
#[derive(Clone, Copy)]
struct Draft {
    note: RwSignal<String>,
    link: RwSignal<String>,
    changed: RwSignal<bool>,
    /// Fault of the link, as the server found it.
    fault: RwSignal<String>,
}

#[component]
pub(super) fn Remarks(id: String, group: Memo<GroupPage>) -> impl IntoView {
    let draft = Draft {
        note: RwSignal::new(String::new()),
        link: RwSignal::new(String::new()),
        changed: RwSignal::new(false),
        fault: RwSignal::new(String::new()),
    };
    let stored = Memo::new(move |_| group.with(|group| (group.note.clone(), group.link.clone())));
    // Others' changes appear, unless something was typed here that would be lost.
    Effect::new(move |_| {
        let (note, link) = stored.get();
        if !draft.changed.get_untracked() {
            draft.note.set(note);
            draft.link.set(link);
        }
    });
    let actions = OperatorActions::get();
    let key = group_key(&id);
    let busy = actions.in_flight.busy(key.clone());
    let save = move |event: SubmitEvent| {
        event.prevent_default();
        let request = UpdateErrorGroupRequest {
            id: id.clone(),
            note: Some(draft.note.get_untracked()),
            link: Some(draft.link.get_untracked().trim().to_owned()),
            ..UpdateErrorGroupRequest::default()
        };
        actions.in_flight.run(vec![key.clone()], async move {
            match client::update_error_group(request).await {
                Ok(_) => {
                    // The page may be gone meanwhile.
                    let _ = draft.changed.try_set(false);
                    let _ = draft.fault.try_set(String::new());
                    actions.toasts.good("The note is saved");
                }
                Err(failure) => {
                    let fault = failure
                        .fields
                        .first()
                        .map_or(failure.message.clone(), |(field, text)| format!("{field} {text}"));
                    let _ = draft.fault.try_set(fault.clone());
                    actions.toasts.bad(fault);
                }
            }
            actions.live.refresh();
        });
    };
    let typed = move |signal: RwSignal<String>| {
        move |event: leptos::ev::Event| {
            signal.set(event_target_value(&event));
            draft.changed.set(true);
        }
    };
    let link = Memo::new(move |_| stored.with(|(_, link)| link.clone()));
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"Note"</h2>
                {move || {
                    let href = Some(link.get()).filter(|it| it.starts_with("http://") || it.starts_with("https://"))?;
                    Some(
                        view! {
                            <a class="push cut" href=href.clone() title=href.clone() target="_blank" rel="noopener noreferrer">
                                {href.clone()}
                            </a>
                        },
                    )
                }}
            </header>
            <form class="card-body form remarks" on:submit=save>
                <div class="field">
                    <label for="group-note">"Note"</label>
                    <textarea
                        id="group-note"
                        class="input"
                        rows="3"
                        maxlength="1024"
                        prop:value=draft.note
                        on:input=typed(draft.note)
                    ></textarea>
                </div>
                <div class="field">
                    <label for="group-link">"Link"</label>
                    <input
                        id="group-link"
                        class="input"
                        inputmode="url"
                        maxlength="2000"
                        placeholder="https://"
                        autocomplete="off"
                        aria-invalid=move || (!draft.fault.with(String::is_empty)).then_some("true")
                        aria-describedby="group-link-error"
                        prop:value=draft.link
                        on:input=typed(draft.link)
                    />
                    <p class="error" id="group-link-error" role="alert">
                        {move || {
                            let fault = Some(draft.fault.get()).filter(|it| !it.is_empty())?;
                            Some(view! { <Icon name="warning" />{fault} })
                        }}
                    </p>
                </div>
                <div class="form-actions">
                    <button
                        type="submit"
                        class="button"
                        aria-busy=move || busy.get().to_string()
                    >
                        {move || if busy.get() { "Saving…" } else { "Save note" }}
                    </button>
                    <Show when=move || draft.changed.get()>
                        <span class="muted">"not saved yet"</span>
                    </Show>
                </div>
            </form>
        </section>
    }
}

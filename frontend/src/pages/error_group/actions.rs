//! Buttons of an error group: retry all its dead letters, resolve, ignore, reopen.

use jobqueue_shared::proto::v1::{UpdateErrorGroupRequest, error_group::State};
use leptos::prelude::*;
use leptos_router::components::A;

use crate::{
    browser::dom,
    calls::{client, operator_actions::OperatorActions},
    components::{action::ActionButton, icon::Icon},
    model::{
        error_group::{GroupPage, IGNORE_FOR, decide, ignore},
        number::count,
        operation_draft,
    },
};

/// Key of the calls that change a group.
pub(super) fn group_key(id: &str) -> String {
    format!("error group {id}")
}

pub(super) fn update(actions: OperatorActions, request: UpdateErrorGroupRequest, done: &str) {
    actions.start(group_key(&request.id), client::update_error_group(request), done.to_owned());
}

#[component]
pub(super) fn Actions(id: String, group: Memo<GroupPage>) -> impl IntoView {
    let actions = OperatorActions::get();
    let busy = actions.in_flight.busy(group_key(&id));
    let choice = RwSignal::new(IGNORE_FOR[0].0.to_owned());
    let is_settled = Memo::new(move |_| group.with(GroupPage::is_settled));
    let is_resolved = Memo::new(move |_| group.with(|group| group.state == State::Resolved));
    let (settled, ignored) = (id.clone(), id.clone());
    // One button, so that it keeps the focus as the state changes.
    let settle = move || {
        let (state, done) = if is_settled.get_untracked() {
            (State::Open, "The group is open")
        } else {
            (State::Resolved, "The group is resolved")
        };
        update(actions, decide(settled.clone(), state), done);
    };
    let ignore = move || {
        update(actions, ignore(ignored.clone(), &choice.get_untracked(), dom::now()), "The group is ignored");
    };
    view! {
        <div class="actions error-actions">
            <RetryAll id group />
            <ActionButton
                class="button"
                icon=Signal::derive(move || if is_settled.get() { "return" } else { "check" })
                word=Signal::derive(move || if is_settled.get() { "Reopen" } else { "Resolve" }.to_owned())
                busy_word="Under way…"
                busy
                press=settle
            />
            <Show when=move || !is_resolved.get()>
                <span class="ignore">
                    <ActionButton
                        class="button"
                        icon="prohibit"
                        word="Ignore"
                        busy_word="Under way…"
                        busy
                        press=ignore.clone()
                    />
                    <select
                        class="input"
                        aria-label="Ignore for how long"
                        prop:value=move || choice.get()
                        on:change=move |event| choice.set(event_target_value(&event))
                    >
                        {IGNORE_FOR
                            .map(|(value, words)| {
                                view! {
                                    <option value=value selected=move || choice.get() == value>
                                        {words}
                                    </option>
                                }
                            })
                            .into_iter()
                            .collect_view()}
                    </select>
                </span>
            </Show>
        </div>
    }
}

/// Link to the form of an operation that retries all dead letters of the group.
#[component]
fn RetryAll(id: String, group: Memo<GroupPage>) -> impl IntoView {
    let letters = Memo::new(move |_| group.with(|group| group.dead_letters));
    let href = operation_draft::page(&format!("status:failed group:{id}"));
    view! {
        <Show when=move || letters.get() != 0>
            <A href=href.clone() attr:class="button primary">
                <Icon name="retry" />
                {move || format!("Retry all {}…", count(letters.get()))}
            </A>
        </Show>
    }
}

//! Filter bar of the lists. Its state is in the URL, so that a reload or a shared link shows the same list.

use leptos::{ev::SubmitEvent, prelude::*};
use leptos_router::{
    NavigateOptions,
    hooks::{use_navigate, use_query_map},
};

use crate::{calls::client::Failure, components::icon::Icon, model::filter::Filter};

/// Filter in the URL of the page.
pub fn from_url() -> Memo<Filter> {
    let query = use_query_map();
    Memo::new(move |_| query.with(|query| Filter::read(|name| query.get(name))))
}

#[component]
pub fn FilterBar(
    path: &'static str,
    filter: Memo<Filter>,
    /// Failure of the list's last call; its field violations are shown at the fields.
    #[prop(into)]
    failure: Signal<Option<(i64, Failure)>>,
    #[prop(default = true)] with_task: bool,
) -> impl IntoView {
    let navigate = use_navigate();
    // Another filter starts at its first page.
    let go = Callback::new(move |filter: Filter| {
        navigate(&Filter { page: String::new(), ..filter }.url(path), NavigateOptions::default());
    });
    let wrong = move |field: &'static str| {
        Memo::new(move |_| {
            failure.with(|failure| {
                let (_, failure) = failure.as_ref()?;
                failure.fields.iter().find(|(name, _)| name == field).map(|(_, text)| text.clone())
            })
        })
    };
    let text = move |id: &'static str,
                     field: &'static str,
                     label: &'static str,
                     list: Option<&'static str>,
                     get: fn(&mut Filter) -> &mut String| {
        let wrong = wrong(field);
        let error_id = format!("{id}-error");
        view! {
            <div class="field">
                <label for=id>{label}</label>
                <input
                    id=id
                    aria-invalid=move || wrong.with(Option::is_some).then_some("true")
                    aria-describedby=error_id.clone()
                    class="input"
                    list=list
                    placeholder="All"
                    autocomplete="off"
                    spellcheck="false"
                    prop:value=move || get(&mut filter.get()).clone()
                    on:change=move |event| {
                        let mut filter = filter.get_untracked();
                        event_target_value(&event).trim().clone_into(get(&mut filter));
                        go.run(filter);
                    }
                />
                <p class="error" id=error_id.clone() role="alert">
                    {move || wrong.get().map(|text| view! { <Icon name="warning" />{text} })}
                </p>
            </div>
        }
    };
    view! {
        <form class="filters" on:submit=|event: SubmitEvent| event.prevent_default()>
            {text("filter-worker", "worker_id", "worker_id", Some("worker-ids"), |filter| &mut filter.worker_id)}
            {with_task.then(|| text("filter-task", "task", "Task", None, |filter| &mut filter.task))}
            <Show when=move || filter.get().is_set()>
                <button type="button" class="button" on:click=move |_| go.run(Filter::default())>
                    <Icon name="close" />
                    "Clear filters"
                </button>
            </Show>
        </form>
    }
}

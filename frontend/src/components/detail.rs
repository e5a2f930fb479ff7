//! Frame of a page about one job or session: the way back to the list, the id, and the states of its data.

use leptos::prelude::*;
use leptos_router::components::A;

use super::{atoms::CopyButton, heading::Heading, notice::Trouble};
use crate::feeds::live::Feed;

/// Page about one object. The children are shown once the object is known, and stay when it is gone.
#[component]
pub fn Detail<T>(
    /// Address and name of the list that the object is in.
    back: (&'static str, &'static str),
    id: String,
    /// Label of the button that copies the id.
    copy: &'static str,
    answer: Feed<T>,
    /// Whether the object is known.
    #[prop(into)]
    there: Signal<bool>,
    /// Notice when the server does not know the object (any more).
    #[prop(into)]
    gone: ViewFn,
    /// Buttons beside the id, for an object that is known and not gone.
    #[prop(optional, into)]
    actions: ViewFn,
    children: ChildrenFn,
) -> impl IntoView
where
    T: PartialEq + Send + Sync + 'static,
{
    let is_gone = Memo::new(move |_| answer.is_gone());
    let trouble = Signal::derive(move || answer.trouble());
    let (href, name) = back;
    let copied = id.clone();
    let (actions, gone) = (StoredValue::new(actions), StoredValue::new(gone));
    view! {
        <p class="crumb">
            <A href=href>{name}</A>
        </p>
        <div class="page-head">
            <Heading title=id mono=true />
            <CopyButton text=Callback::new(move |()| copied.clone()) label=copy />
            <Show when=move || there.get() && !is_gone.get()>{actions.with_value(ViewFn::run)}</Show>
        </div>
        <Show when=move || is_gone.get()>{gone.with_value(ViewFn::run)}</Show>
        <Trouble failure=trouble has_data=there />
        <Show when=move || answer.is_loading()>
            <div class="card">
                <div class="card-body"><span class="bone tall"></span></div>
            </div>
        </Show>
        <Show when=move || there.get()>{children()}</Show>
    }
}

//! Frame of a page about one job or session: the way back to the list, the id, and the states of its data.

use leptos::prelude::*;
use leptos_router::components::A;

use super::{
    atoms::CopyButton,
    heading::{Heading, Name},
    notice::Trouble,
};
use crate::feeds::live::Feed;

/// Page about one object. The children are shown once the object is known, and stay when it is gone.
#[component]
pub fn Detail<T>(
    /// Address and name of the list that the object is in.
    #[prop(into)]
    back: Signal<(String, String)>,
    /// Links beside the way back, such as those to the neighbours in the list.
    #[prop(optional, into)]
    beside: ViewFn,
    /// Name of the object that has the id.
    #[prop(default = None)]
    name: Option<Name>,
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
    let list = Memo::new(move |_| back.get());
    let copied = id.clone();
    let (actions, gone, beside) = (StoredValue::new(actions), StoredValue::new(gone), StoredValue::new(beside));
    view! {
        <p class="crumb">
            <A href=move || list.get().0>{move || list.get().1}</A>
            {beside.with_value(ViewFn::run)}
        </p>
        <div class="page-head">
            <Heading title=id mono=true name />
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

//! Submit page, and the drawer with the same form.

pub mod drawer;
mod fields;
mod form;
mod many;
mod outcome;
mod recent;

use leptos::prelude::*;

use self::form::SubmitForm;
use crate::components::heading::Heading;

#[component]
pub fn Submit() -> impl IntoView {
    view! {
        <div class="page-head">
            <Heading title="Submit" />
        </div>
        <SubmitForm />
    }
}

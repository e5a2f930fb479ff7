//! Form field: a labelled control with help and error texts below it, both tied to it for screen readers.

use leptos::prelude::*;

use super::icon::Icon;
use crate::model::draft::Complaint;

/// Errors of the form, by the API's field names.
#[derive(Clone, Copy)]
pub struct Complaints(pub RwSignal<Vec<Complaint>>);

impl Complaints {
    pub fn of(self, name: &str) -> Option<String> {
        let own: Vec<_> =
            self.0.with(|all| all.iter().filter(|(field, _)| field == name).map(|(_, text)| text.clone()).collect());
        (!own.is_empty()).then(|| own.join("; "))
    }
}

/// Id of a field's control.
pub fn control_id(name: &str) -> String {
    format!("field-{}", name.replace('.', "-"))
}

/// Field: a label above, and help and error texts below, a control.
#[component]
pub fn Field(
    name: &'static str,
    label: &'static str,
    #[prop(optional)] help: &'static str,
    #[prop(optional)] wide: bool,
    children: Children,
) -> impl IntoView {
    let complaints = expect_context::<Complaints>();
    let id = control_id(name);
    let error_id = format!("{id}-error");
    view! {
        <div class="field" class:wide=wide class:wrong=move || complaints.of(name).is_some()>
            <label for=id.clone()>{label}</label>
            {children()}
            {(!help.is_empty()).then(|| view! { <p class="help" id=format!("{id}-help")>{help}</p> })}
            <p class="error" id=error_id>
                {move || complaints.of(name).map(|text| view! { <Icon name="warning" />{text} })}
            </p>
        </div>
    }
}

/// Field with a one-line text input.
#[component]
pub fn TextField(
    name: &'static str,
    label: &'static str,
    #[prop(optional)] help: &'static str,
    #[prop(optional)] placeholder: &'static str,
    #[prop(optional)] list: &'static str,
    #[prop(default = "text")] kind: &'static str,
    #[prop(optional)] numeric: bool,
    #[prop(into)] value: Signal<String>,
    set: Callback<String>,
) -> impl IntoView {
    let complaints = expect_context::<Complaints>();
    view! {
        <Field name label help>
            <input
                id=control_id(name)
                class="input"
                type=kind
                inputmode=numeric.then_some("decimal")
                list=(!list.is_empty()).then_some(list)
                placeholder=placeholder
                autocomplete="off"
                spellcheck="false"
                aria-invalid=move || complaints.of(name).map(|_| "true")
                aria-describedby=described_by(name, !help.is_empty())
                prop:value=value
                on:input=move |event| set.run(event_target_value(&event))
            />
        </Field>
    }
}

/// Ids of the elements that describe a control.
pub fn described_by(name: &str, help: bool) -> String {
    let id = control_id(name);
    if help { format!("{id}-error {id}-help") } else { format!("{id}-error") }
}

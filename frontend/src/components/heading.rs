//! Heading of a page, its only h1: names the page to the frame and takes the focus on navigation.

use leptos::{html, prelude::*};
use web_sys::FocusOptions;

use super::job_text::JobText;
use crate::model::visible::isolated;

/// Title of the current page for the top bar and the tab, and whether a first page has been shown already.
#[derive(Clone, Copy)]
pub struct Title {
    pub words: RwSignal<String>,
    moved: StoredValue<bool>,
}

impl Title {
    pub fn provide() -> Self {
        let title = Self { words: RwSignal::new(String::new()), moved: StoredValue::new(false) };
        provide_context(title);
        title
    }
}

/// Name of a job, whose id is the title of its page: its task, which may be "", and its worker_id.
#[derive(Clone, Copy)]
pub struct Name {
    pub task: Memo<String>,
    pub worker_id: Memo<String>,
}

#[component]
pub fn Heading(
    #[prop(into)] title: String,
    /// True when the title is an id rather than words.
    #[prop(optional)]
    mono: bool,
    /// Name of the object that has the id. Once it is known, it stands first, and the id is small.
    #[prop(default = None)]
    name: Option<Name>,
) -> impl IntoView {
    let shown = expect_context::<Title>();
    let h1 = NodeRef::<html::H1>::new();
    // An id comes from the address, and may be any text.
    shown.words.set(isolated(&title));
    Effect::new(move |_| {
        let Some(h1) = h1.get() else { return };
        // When the app is first opened, the focus belongs to the browser.
        if shown.moved.get_value() {
            // Where the page is scrolled to is decided elsewhere.
            let options = FocusOptions::new();
            options.set_prevent_scroll(true);
            let _ = h1.focus_with_options(&options);
        }
        shown.moved.set_value(true);
    });
    let Some(Name { task, worker_id }) = name else {
        return view! { <h1 tabindex="-1" class:mono=mono node_ref=h1><JobText text=title /></h1> }.into_any();
    };
    let known = Memo::new(move |_| !worker_id.with(String::is_empty));
    Effect::new(move |_| {
        if known.get() {
            let what = task.with(|task| if task.is_empty() { "job".to_owned() } else { isolated(task) });
            shown.words.set(format!("{what} for {}", worker_id.with(|it| isolated(it))));
        }
    });
    let what = Signal::derive(move || task.with(|task| if task.is_empty() { "Job".to_owned() } else { task.clone() }));
    view! {
        <h1 tabindex="-1" class="named" node_ref=h1>
            <Show when=move || known.get()>
                <span>
                    <JobText text=what />
                    <span class="for">" for "</span>
                    <JobText text=worker_id />
                </span>
                " "
            </Show>
            <span class="mono" class:id=move || known.get()>
                <JobText text=title.clone() />
            </span>
        </h1>
    }
    .into_any()
}

//! List in a table, with its states: loading, failed, empty, and a page at a time. Pages give columns, rows and texts.

use leptos::prelude::*;

use super::{
    notice::Trouble,
    pager::Pager,
    table::{Skeleton, Turning},
};
use crate::{
    calls::client::Failure,
    feeds::{
        live::Feed,
        rows::{Rows, rows},
    },
    model::filter::Filter,
};

/// Maximum number of grey rows while a list loads: about as many as fill a high screen.
const GREY_ROWS: usize = 50;

/// Items of a list, each a row that changes in place, and the state of the call that fetches them.
pub struct List<T: Send + Sync + 'static> {
    rows: Rows<T>,
    state: State,
}

impl<T: Send + Sync + 'static> Clone for List<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + Sync + 'static> Copy for List<T> {}

/// State of a list, whatever its items are.
#[derive(Clone, Copy)]
struct State {
    keys: Memo<Vec<String>>,
    is_loading: Memo<bool>,
    has_data: Memo<bool>,
    /// True while the first answer for the present filter and page is under way.
    busy: RwSignal<bool>,
    /// Failure that the list shows; `None` when the page shows it elsewhere.
    trouble: Option<Signal<Option<(i64, Failure)>>>,
    /// Token of the next page; "" = this is the last page.
    next: Memo<String>,
}

impl<T: Clone + Default + PartialEq + Send + Sync + 'static> List<T> {
    /// List of the items in a feed's answers, each identified by its key.
    pub fn of<R>(feed: Feed<R>, items: fn(&R) -> Vec<T>, key: fn(&T) -> String) -> Self
    where
        R: PartialEq + Send + Sync + 'static,
    {
        let mut list = Self::part(feed, items, key);
        list.state.is_loading = Memo::new(move |_| feed.is_loading());
        list.state.trouble = Some(Signal::derive(move || feed.trouble_of_list()));
        list
    }

    /// List like that of [`Self::of`], of which the answer is a page; `next` is the token of the next one.
    pub fn paged<R>(feed: Feed<R>, items: fn(&R) -> Vec<T>, key: fn(&T) -> String, next: fn(&R) -> &String) -> Self
    where
        R: PartialEq + Send + Sync + 'static,
    {
        let mut list = Self::of(feed, items, key);
        list.state.next = Memo::new(move |before: Option<&String>| {
            // While another page loads, the buttons stay as they are.
            if feed.is_loading() {
                return before.cloned().unwrap_or_default();
            }
            feed.data.with(|data| data.as_ref().map(|data| next(data).clone())).unwrap_or_default()
        });
        list
    }

    /// List in a feed's answers of which the page shows other parts, and failures, elsewhere. It is loading until it
    /// has data.
    pub fn part<R>(feed: Feed<R>, items: impl Fn(&R) -> Vec<T> + Send + Sync + 'static, key: fn(&T) -> String) -> Self
    where
        R: PartialEq + Send + Sync + 'static,
    {
        let rows = rows(move || feed.data.with(|data| data.as_ref().map(&items)).unwrap_or_default(), key);
        let has_data = Memo::new(move |_| feed.data.with(Option::is_some));
        let state = State {
            keys: rows.keys,
            is_loading: Memo::new(move |_| !has_data.get()),
            has_data,
            busy: feed.busy,
            trouble: None,
            next: Memo::new(|_| String::new()),
        };
        Self { rows, state }
    }

    /// Keys of the rows, in the order of the list.
    pub fn keys(self) -> Memo<Vec<String>> {
        self.state.keys
    }
}

/// Column of a table: its heading, and how its cells are aligned.
#[derive(Clone, Copy)]
pub enum Column {
    Text(&'static str),
    Number(&'static str),
    /// Column of texts that need more room than a narrow table has beside its other cells, where they lie below them.
    Below(&'static str),
    /// Column of controls, whose heading only screen readers read.
    Controls(&'static str),
}

/// Table of a list, or what stands in its place.
#[component]
pub fn Listing<T, R>(
    list: List<T>,
    columns: &'static [Column],
    /// Heading of a first column, that of check boxes.
    #[prop(optional, into)]
    select: Option<ViewFn>,
    /// View of a row, from its key and its item: one or two elements `tr`.
    row: R,
    /// Notice in place of the table when the list is empty.
    #[prop(into)]
    empty: ViewFn,
    /// Number of grey rows before the first answer.
    grey: usize,
    /// Classes of the table.
    #[prop(default = "table cards")]
    class: &'static str,
    /// Classes of the element that scrolls the table sideways where it is too narrow.
    #[prop(default = "card scroll-x")]
    frame: &'static str,
    /// Path and filter of the list's pages, if it has pages.
    #[prop(default = None)]
    pages: Option<(&'static str, Memo<Filter>)>,
) -> impl IntoView
where
    T: Clone + Default + PartialEq + Send + Sync + 'static,
    R: Fn(String, Memo<T>) -> AnyView + Send + Sync + 'static,
{
    let rows = list.rows;
    let row = Callback::new(move |key: String| row(key.clone(), rows.row(key)));
    let parts = Parts { columns, select, row, empty, grey, class, frame, pages };
    listing(list.state, parts)
}

/// Properties of a [`Listing`], whatever its items are.
struct Parts {
    columns: &'static [Column],
    select: Option<ViewFn>,
    row: Callback<String, AnyView>,
    empty: ViewFn,
    grey: usize,
    class: &'static str,
    frame: &'static str,
    pages: Option<(&'static str, Memo<Filter>)>,
}

/// View of a list. The wasm holds it once, and not for each kind of items.
fn listing(list: State, parts: Parts) -> AnyView {
    let State { keys, is_loading, has_data, busy, trouble, next } = list;
    let Parts { columns, select, row, empty, grey, class, frame, pages } = parts;
    let is_empty = Memo::new(move |_| keys.with(Vec::is_empty));
    // While another page loads, there are as many grey rows as the last page had: nothing moves under the pointer.
    let grey = Memo::new(move |before: Option<&usize>| {
        let rows = if is_loading.get() { before.copied().unwrap_or(grey) } else { keys.with(Vec::len) };
        rows.clamp(1, GREY_ROWS)
    });
    let turning = Turning::get();
    let width = columns.len() + usize::from(select.is_some());
    let below = columns.iter().filter(|column| matches!(column, Column::Below(_))).count();
    let (select, empty) = (StoredValue::new(select), StoredValue::new(empty));
    view! {
        {trouble.map(|failure| view! { <Trouble failure has_data /> })}
        <Show when=move || is_loading.get() || !is_empty.get()>
            <div class=frame class:settling=move || turning.is_under_way()>
                <table class=class aria-busy=move || busy.get().to_string()>
                    <thead>
                        <tr>
                            {select.with_value(|select| select.as_ref().map(ViewFn::run))}
                            {columns.iter().copied().map(heading).collect_view()}
                        </tr>
                    </thead>
                    <tbody>
                        <Show when=move || is_loading.get()>
                            <Skeleton columns=width below rows=grey />
                        </Show>
                        <For each=move || keys.get() key=Clone::clone let:key>
                            {row.run(key)}
                        </For>
                    </tbody>
                </table>
            </div>
        </Show>
        <Show when=move || has_data.get() && is_empty.get()>{empty.with_value(ViewFn::run)}</Show>
        {pages.map(|(path, filter)| view! { <Pager path filter next busy /> })}
    }
    .into_any()
}

fn heading(column: Column) -> impl IntoView {
    match column {
        Column::Text(name) => view! { <th scope="col">{name}</th> }.into_any(),
        Column::Number(name) => view! { <th scope="col" class="num">{name}</th> }.into_any(),
        Column::Below(name) => view! { <th scope="col" class="below">{name}</th> }.into_any(),
        Column::Controls(name) => view! { <th scope="col"><span class="unseen">{name}</span></th> }.into_any(),
    }
}

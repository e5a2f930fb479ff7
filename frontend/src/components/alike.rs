//! Line that leads from a dead letter to the others with the same error.

use jobqueue_shared::proto::v1::GetErrorGroupRequest;
use leptos::prelude::*;
use leptos_router::components::A;

use crate::{
    calls::client,
    feeds::live::feed_on,
    model::{error_group::group_page, number::plural},
};

#[component]
pub fn Alike(
    /// Id of the error group.
    group: String,
) -> impl IntoView {
    let href = group_page(&group);
    // Asked once, and again after an action: the number is a hint of what is behind the link.
    let answer = feed_on(
        || (),
        move |()| client::get_error_group(GetErrorGroupRequest { id: group.clone(), ..Default::default() }),
        || (),
    );
    let words = move || {
        let letters = answer.data.with(|data| Some(data.as_ref()?.group.as_ref()?.dead_letters))?;
        Some(match letters {
            ..=1 => "The only dead letter like this; see its error group".to_owned(),
            letters => format!("{} like this; see their error group", plural(letters, "dead letter", "dead letters")),
        })
    };
    view! {
        <Show when=move || answer.data.with(Option::is_some)>
            <p class="alike">
                <A href=href.clone()>{words}</A>
            </p>
        </Show>
    }
}

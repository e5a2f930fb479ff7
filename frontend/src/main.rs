//! Dashboard of jobqueue, which runs in the browser.
//!
//! Modules in reading order: [`app`] is the shell and the routes; [`client`] calls the server; [`live`] keeps a page
//! fresh; [`model`] turns the answers into what is shown, without a browser; `pages` arrange `components` that show it.

#![expect(unreachable_pub, reason = "a binary exports nothing; pub here means: for the other modules")]

mod app;
mod bulk_retry;
mod client;
mod components;
mod counts_feed;
mod dom;
mod history;
mod id_search;
mod in_flight;
mod live;
mod model;
mod operator_actions;
mod pages;
mod rows;
mod search;
mod theme;
mod toast;

fn main() {
    std::panic::set_hook(Box::new(|panic| dom::crashed(&panic.to_string())));
    leptos::mount::mount_to_body(app::App);
    dom::started();
}

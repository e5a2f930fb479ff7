//! Dashboard of jobqueue, which runs in the browser.
//!
//! Modules in reading order: [`app`] is the shell and the routes; [`calls`] call the server; [`feeds`] keep a page fresh;
//! [`model`] turns the answers into what is shown, without a browser; `pages` arrange `components` that show it;
//! [`browser`] wraps what the browser offers.

#![expect(unreachable_pub, reason = "a binary exports nothing; pub here means: for the other modules")]

mod app;
mod browser;
mod calls;
mod components;
mod feeds;
mod model;
mod pages;
mod toast;

use browser::dom;

fn main() {
    std::panic::set_hook(Box::new(|panic| dom::crashed(&panic.to_string())));
    leptos::mount::mount_to_body(app::App);
    dom::started();
}

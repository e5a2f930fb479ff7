//! Calls by which a person changes something: each reports its outcome in a toast, on whatever page the person is by
//! then, and refreshes what is shown.

use std::future::Future;

use crate::{
    calls::{client::Failure, in_flight::InFlight},
    feeds::live::Live,
    toast::Toasts,
};

#[derive(Clone, Copy)]
pub struct OperatorActions {
    pub toasts: Toasts,
    pub live: Live,
    pub in_flight: InFlight,
}

impl OperatorActions {
    pub fn get() -> Self {
        Self { toasts: Toasts::get(), live: Live::get(), in_flight: InFlight::get() }
    }

    /// Makes a call, unless one with this key is under way; `done` is the text of its success. `call` must not capture
    /// anything that belongs to a component.
    pub fn start<T>(self, key: String, call: impl Future<Output = Result<T, Failure>> + 'static, done: String) {
        self.in_flight.run(vec![key], async move {
            match call.await {
                Ok(_) => self.toasts.good(done),
                Err(failure) => self.toasts.bad(failure.message),
            }
            self.live.refresh();
        });
    }
}

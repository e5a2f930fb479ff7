//! Root component: what all pages share, and the routes.

use leptos::{ev::MouseEvent, prelude::*};
use leptos_router::{
    components::{FlatRoutes, Route, Router},
    path,
};

use crate::{
    browser::{
        dom,
        history::{self, Address},
        trail::{TrailWatch, Trails},
        views::SavedViews,
        zone,
    },
    calls::{bulk_retry::BulkRetry, id_search::ShownIds, in_flight::InFlight, many_submit::ManySubmit},
    components::{
        commands::{
            keys::{KeyDialog, KeyState},
            palette::{Palette, PaletteDialog},
        },
        confirm::{Confirm, ConfirmDialog},
        heading::Title,
        notice::{AwayBanner, SkewBanner},
        shell::{Rail, TopBar, WorkerIdList},
        tab::TabTitle,
        table::{Turning, keep_still},
    },
    feeds::{counts_feed::CountsFeed, live::Live},
    pages::{
        dead_letters::DeadLetters,
        error_group::ErrorGroupPage,
        errors::Errors,
        job::JobPage,
        jobs::Jobs,
        not_found::NotFound,
        operations::{NewOperation, OperationPage, Operations},
        overview::Overview,
        queue::QueuePage,
        queues::Queues,
        submit::{
            Submit,
            drawer::{Drawer, SubmitDrawer},
        },
        worker::WorkerPage,
        workers::Workers,
    },
    toast::{ToastList, Toasts},
};

#[component]
pub fn App() -> impl IntoView {
    Live::provide();
    Toasts::provide();
    Title::provide();
    Confirm::provide();
    KeyState::provide();
    Palette::provide();
    SavedViews::provide();
    InFlight::provide();
    ShownIds::provide();
    BulkRetry::provide();
    ManySubmit::provide();
    SubmitDrawer::provide();
    Trails::provide();
    zone::provide();
    Turning::provide();
    CountsFeed::provide();
    history::keep_positions();
    // Handled here, because the router would take the link for a navigation and leave the focus where it is.
    let skip = |click: MouseEvent| {
        click.prevent_default();
        dom::focus("content");
    };
    view! {
        <Router>
            <Address />
            <TrailWatch />
            <a class="skip" href="#content" on:click=skip>"Skip to content"</a>
            <div class="frame">
                <Rail />
                <div class="stage">
                    <TopBar />
                    <AwayBanner />
                    <SkewBanner />
                    <main id="content" class="content" tabindex="-1" on:mousedown=|press| keep_still(&press)>
                        <FlatRoutes fallback=NotFound>
                            <Route path=path!("/") view=Overview />
                            <Route path=path!("/jobs") view=Jobs />
                            <Route path=path!("/jobs/:id") view=JobPage />
                            <Route path=path!("/errors") view=Errors />
                            <Route path=path!("/errors/:id") view=ErrorGroupPage />
                            <Route path=path!("/dead-letters") view=DeadLetters />
                            <Route path=path!("/queues") view=Queues />
                            <Route path=path!("/queues/:id") view=QueuePage />
                            <Route path=path!("/workers") view=Workers />
                            <Route path=path!("/workers/:id") view=WorkerPage />
                            <Route path=path!("/operations") view=Operations />
                            <Route path=path!("/operations/new") view=NewOperation />
                            <Route path=path!("/operations/:id") view=OperationPage />
                            <Route path=path!("/submit") view=Submit />
                        </FlatRoutes>
                    </main>
                </div>
            </div>
            <WorkerIdList />
            <ToastList />
            <Drawer />
            <ConfirmDialog />
            <KeyDialog />
            <TabTitle />
            <PaletteDialog />
        </Router>
    }
}

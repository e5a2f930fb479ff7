//! Chart of an error group: bars of failed attempts, with the new dead letters among them, a value by pointer and arrow
//! keys, and the same numbers as a table.

use leptos::{ev, html, prelude::*};

use super::icon::Icon;
use crate::{
    browser::dom,
    model::{
        chart::{Frame, label_room, ticks},
        error_group::Slot,
        number::count,
    },
};

const HEIGHT: f64 = 180.0;

#[component]
pub fn ErrorChart(
    #[prop(into)] slots: Signal<Vec<Slot>>,
    /// Buttons that choose the window.
    children: Children,
) -> impl IntoView {
    let table = RwSignal::new(false);
    view! {
        <section class="card chart-card">
            <header class="card-head">
                <h2>"Failed attempts"</h2>
                <span class="muted">"red: those that made a dead letter"</span>
                <div class="card-actions">
                    {children()}
                    <button
                        type="button"
                        class="button quiet"
                        aria-pressed=move || table.get().to_string()
                        on:click=move |_| table.update(|shown| *shown = !*shown)
                    >
                        <Icon name="table" />
                        "Show as table"
                    </button>
                </div>
            </header>
            <Show when=move || table.get() fallback=move || view! { <Plot slots /> }>
                <SlotTable slots />
            </Show>
        </section>
    }
}

#[component]
fn Plot(slots: Signal<Vec<Slot>>) -> impl IntoView {
    let plot = NodeRef::<html::Div>::new();
    let width = RwSignal::new(640.0);
    Effect::new(move |_| {
        let plot = plot.get()?;
        Some(dom::WidthWatch::start(&plot, move |now| {
            // The chart may be gone meanwhile.
            let _ = width.try_set(now.max(240.0));
        }))
    });
    let number = Memo::new(move |_| slots.with(Vec::len));
    let scale = Memo::new(move |_| ticks(slots.with(|all| all.iter().map(|it| it.attempts).max().unwrap_or_default())));
    let frame = Memo::new(move |_| {
        let left = scale.with(|scale| label_room(scale));
        Frame { left, right: width.get() - 16.0, top: 12.0, bottom: HEIGHT - 28.0 }
    });
    // Index of the slot under the pointer. Without one, the last slot is told.
    let at = RwSignal::new(None::<usize>);
    let shown = Memo::new(move |_| at.get().unwrap_or(usize::MAX).min(number.get().saturating_sub(1)));
    let point = move |event: ev::PointerEvent| {
        if let Some(plot) = plot.get_untracked() {
            let x = f64::from(event.client_x()) - plot.get_bounding_client_rect().left();
            let frame = frame.get_untracked();
            let share = (x - frame.left) / (frame.right - frame.left).max(1.0);
            let last = number.get_untracked().saturating_sub(1);
            at.set(Some(((share * number.get_untracked() as f64).max(0.0) as usize).min(last)));
        }
    };
    let press = move |event: ev::KeyboardEvent| {
        let (now, last) = (shown.get_untracked(), number.get_untracked().saturating_sub(1));
        let to = match event.key().as_str() {
            "ArrowLeft" | "ArrowDown" => now.saturating_sub(1),
            "ArrowRight" | "ArrowUp" => (now + 1).min(last),
            "PageUp" => (now + 10).min(last),
            "PageDown" => now.saturating_sub(10),
            "Home" => 0,
            "End" => last,
            "Escape" => return at.set(None),
            _ => return,
        };
        event.prevent_default();
        at.set(Some(to));
    };
    let words = Memo::new(move |_| {
        slots.with(|all| all.get(shown.get()).map(|slot| slot.sentence(&dom::local_time(slot.at)))).unwrap_or_default()
    });
    view! {
        <div
            class="plot bars"
            node_ref=plot
            tabindex="0"
            role="slider"
            aria-label="Failed attempts by time"
            aria-orientation="horizontal"
            aria-valuemin="0"
            aria-valuemax=move || number.get().saturating_sub(1)
            aria-valuenow=move || shown.get()
            aria-valuetext=words
            on:pointermove=point
            on:pointerdown=point
            on:pointerleave=move |_| at.set(None)
            on:blur=move |_| at.set(None)
            on:keydown=press
        >
            <svg
                width=move || width.get()
                height=HEIGHT
                viewBox=move || format!("0 0 {} {HEIGHT}", width.get())
                aria-hidden="true"
            >
                {move || axes(frame.get(), &scale.get(), &slots.get())}
                {move || bars(frame.get(), scale.with(|ticks| ticks.last().copied().unwrap_or(1)), &slots.get(), at.get())}
            </svg>
            {move || {
                let slot = slots.with(|all| all.get(at.get()?).copied())?;
                let left = shown.get() * 2 > number.get();
                Some(
                    view! {
                        <div class="readout" class:left=left aria-hidden="true">
                            <div class="muted">{dom::local_time(slot.at)}</div>
                            <div class="readout-row retrying"><span>"failed attempts"</span><b>{count(slot.attempts)}</b></div>
                            <div class="readout-row failed"><span>"new dead letters"</span><b>{count(slot.died)}</b></div>
                        </div>
                    },
                )
            }}
        </div>
    }
}

fn axes(frame: Frame, scale: &[i32], slots: &[Slot]) -> impl IntoView + use<> {
    let top = scale.last().copied().unwrap_or(1);
    let levels = scale
        .iter()
        .map(|&value| {
            let y = frame.y(value, top);
            view! {
                <line class="grid" x1=frame.left x2=frame.right y1=y y2=y />
                <text class="tick" x=frame.left - 8.0 y=y + 4.0 text-anchor="end">
                    {count(value)}
                </text>
            }
        })
        .collect_view();
    // A week is labelled by its days, everything else by its times.
    let (every, words): (usize, fn(i64) -> String) = match slots.len() {
        168 => (48, |at| dom::local_time(at).chars().take(10).collect()),
        24 => (6, dom::local_clock),
        _ => (15, dom::local_clock),
    };
    let step = (frame.right - frame.left) / slots.len().max(1) as f64;
    let times = slots
        .iter()
        .enumerate()
        .step_by(every)
        .map(|(n, slot)| {
            let x = frame.left + n as f64 * step;
            view! { <text class="tick" x=x y=frame.bottom + 20.0 text-anchor="start">{words(slot.at)}</text> }
        })
        .collect_view();
    view! { <g>{levels} {times}</g> }
}

fn bars(frame: Frame, top: i32, slots: &[Slot], at: Option<usize>) -> impl IntoView + use<> {
    let step = (frame.right - frame.left) / slots.len().max(1) as f64;
    let bar = |n: usize, value: i32, tone: &'static str| {
        let y = frame.y(value, top).min(frame.bottom - 1.5);
        let (x, wide) = (frame.left + n as f64 * step, (step - 1.0).max(1.0));
        (value > 0).then(|| view! { <rect class=tone x=x y=y width=wide height=frame.bottom - y /> })
    };
    let drawn = slots
        .iter()
        .enumerate()
        .map(|(n, slot)| view! { {bar(n, slot.attempts, "bar retrying")} {bar(n, slot.died, "bar failed")} })
        .collect_view();
    let cross = at.map(|n| {
        let x = frame.left + (n as f64 + 0.5) * step;
        view! { <line class="cross" x1=x x2=x y1=frame.top y2=frame.bottom /> }
    });
    view! { <g>{drawn} {cross}</g> }
}

#[component]
fn SlotTable(slots: Signal<Vec<Slot>>) -> impl IntoView {
    let row = |slot: Slot| {
        view! {
            <tr>
                <th scope="row">{dom::local_time(slot.at)}</th>
                <td class="num">{count(slot.attempts)}</td>
                <td class="num">{count(slot.died)}</td>
            </tr>
        }
    };
    view! {
        <div class="scroll" tabindex="0" role="region" aria-label="Failed attempts by time">
            <table class="table">
                <thead>
                    <tr>
                        <th scope="col">"From"</th>
                        <th scope="col" class="num">"Failed attempts"</th>
                        <th scope="col" class="num">"New dead letters"</th>
                    </tr>
                </thead>
                <tbody>{move || slots.get().into_iter().rev().map(row).collect_view()}</tbody>
            </table>
        </div>
    }
}

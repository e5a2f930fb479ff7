//! Throughput chart of the last hour or day: lines with their names at their ends, a crosshair, and the same numbers as a
//! table.

use jobqueue_shared::proto::v1::GetThroughputResponse;
use leptos::{ev, html, prelude::*};

use super::icon::Icon;
use crate::{
    browser::dom,
    calls::client,
    feeds::live::{Feed, feed},
    model::{
        chart::{Frame, label_room, spread, ticks},
        number,
        throughput::{Minute, SERIES, Span, finished, most},
    },
};

const HEIGHT: f64 = 220.0;

/// Feed of the throughput of one worker_id or, if it is "", of all, for the span that the person has chosen.
pub fn throughput_of(worker_id: String, span: RwSignal<Span>) -> Feed<GetThroughputResponse> {
    feed(move || span.get(), move |span| client::get_throughput(span.request(worker_id.clone())))
}

#[component]
pub fn Throughput(#[prop(into)] minutes: Signal<Vec<Minute>>, span: RwSignal<Span>) -> impl IntoView {
    let table = RwSignal::new(false);
    let choice = |choice: Span| {
        view! {
            <button
                type="button"
                class="button quiet"
                aria-pressed=move || (span.get() == choice).to_string()
                on:click=move |_| span.set(choice)
            >
                {choice.word()}
            </button>
        }
    };
    view! {
        <section class="card chart-card">
            <header class="card-head">
                <h2>"Throughput"</h2>
                <span class="muted">{move || span.get().note()}</span>
                <div class="card-actions">
                    <div class="choice-group" role="group" aria-label="Time shown">
                        {Span::ALL.into_iter().map(choice).collect_view()}
                    </div>
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
            <Show when=move || table.get() fallback=move || view! { <Plot minutes span /> }>
                <MinuteTable minutes span />
            </Show>
        </section>
    }
}

#[component]
fn Plot(minutes: Signal<Vec<Minute>>, span: RwSignal<Span>) -> impl IntoView {
    let plot = NodeRef::<html::Div>::new();
    let width = RwSignal::new(640.0);
    // The width changes with the window, but also when style sheets or a scroll bar come.
    Effect::new(move |_| {
        let plot = plot.get()?;
        Some(dom::WidthWatch::start(&plot, move |now| {
            // The chart may be gone meanwhile.
            let _ = width.try_set(now.max(240.0));
        }))
    });

    let count = Memo::new(move |_| minutes.with(Vec::len));
    let scale = Memo::new(move |_| ticks(minutes.with(|all| most(all))));
    let frame = Memo::new(move |_| {
        let left = scale.with(|scale| label_room(scale));
        Frame { left, right: width.get() - 84.0, top: 12.0, bottom: HEIGHT - 28.0 }
    });
    let top = Memo::new(move |_| scale.with(|ticks| ticks.last().copied().unwrap_or(1)));
    // Index of the minute under the pointer. Without one, the last minute is shown.
    let at = RwSignal::new(None::<usize>);
    let shown = Memo::new(move |_| at.get().unwrap_or(usize::MAX).min(count.get().saturating_sub(1)));

    let point = move |event: ev::PointerEvent| {
        if let Some(plot) = plot.get_untracked() {
            let x = f64::from(event.client_x()) - plot.get_bounding_client_rect().left();
            at.set(Some(frame.get_untracked().nearest(x, count.get_untracked())));
        }
    };
    let press = move |event: ev::KeyboardEvent| {
        let (now, last) = (shown.get_untracked(), count.get_untracked().saturating_sub(1));
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
        minutes.with(|all| all.get(shown.get()).map(|it| it.sentence(&clock(it)))).unwrap_or_default()
    });

    view! {
        <div
            class="plot"
            node_ref=plot
            tabindex="0"
            role="slider"
            aria-label=move || span.get().label()
            aria-orientation="horizontal"
            aria-valuemin="0"
            aria-valuemax=move || count.get().saturating_sub(1)
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
                <defs>
                    <pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
                        <line class="hatch" x1="0" x2="0" y1="0" y2="6" />
                    </pattern>
                </defs>
                {move || axes(frame.get(), &scale.get(), &minutes.get(), span.get().tick())}
                {move || lines(frame.get(), top.get(), &minutes.get())}
                {move || {
                    let minute = minutes.with(|all| all.get(at.get()?).copied())?;
                    Some(crosshair(frame.get(), top.get(), shown.get(), count.get(), &minute))
                }}
            </svg>
            {move || {
                let minute = minutes.with(|all| all.get(at.get()?).copied())?;
                let left = frame.get().x(shown.get(), count.get()) > width.get() / 2.0;
                Some(view! { <Readout minute left /> })
            }}
        </div>
    }
}

fn axes(frame: Frame, scale: &[i32], minutes: &[Minute], tick: usize) -> impl IntoView + use<> {
    let top = scale.last().copied().unwrap_or(1);
    let levels = scale
        .iter()
        .map(|&value| {
            let y = frame.y(value, top);
            view! {
                <line class="grid" x1=frame.left x2=frame.right y1=y y2=y />
                <text class="tick" x=frame.left - 8.0 y=y + 4.0 text-anchor="end">
                    {number::count(value)}
                </text>
            }
        })
        .collect_view();
    // A narrow chart has room for three times, a wide one for five.
    let every = if frame.right - frame.left < 360.0 { 2 * tick } else { tick };
    let last = minutes.len().saturating_sub(1);
    let times = minutes
        .iter()
        .enumerate()
        .filter(|(at, _)| (last - at).is_multiple_of(every))
        .map(|(at, minute)| {
            let x = frame.x(at, minutes.len());
            view! { <text class="tick" x=x y=frame.bottom + 20.0 text-anchor="middle">{clock(minute)}</text> }
        })
        .collect_view();
    view! { <g>{levels} {times}</g> }
}

fn lines(frame: Frame, top: i32, minutes: &[Minute]) -> impl IntoView + use<> {
    let points = minutes.len();
    let (over, present) = (finished(minutes), minutes.last().filter(|minute| minute.so_far));
    let values: Vec<Vec<i32>> = SERIES.iter().map(|series| over.iter().map(series.value).collect()).collect();
    let ends: Vec<f64> = values.iter().map(|all| frame.y(all.last().copied().unwrap_or(0), top)).collect();
    let ends = spread(&ends, 16.0, frame.top, frame.bottom);
    let drawn = SERIES
        .iter()
        .zip(&values)
        .zip(ends)
        .map(|((series, values), end)| {
            view! {
                <g class=format!("series {}", series.tone)>
                    {(series.name == "done").then(|| view! { <path class="area" d=frame.area(values, points, top) /> })}
                    <path class="line" d=frame.line(values, points, top) />
                    <text x=frame.right + 10.0 y=end + 4.0>
                        {series.name}
                    </text>
                </g>
            }
        })
        .collect_view();
    // The width of the minute that is not over, from the last one that is.
    let unfinished = present.filter(|_| !over.is_empty()).map(|minute| {
        let left = frame.x(points.saturating_sub(2), points);
        let marks = SERIES
            .iter()
            .map(|series| {
                let y = frame.y((series.value)(minute), top);
                view! { <circle class=format!("so-far {}", series.tone) cx=frame.right cy=y r="2.5" /> }
            })
            .collect_view();
        view! {
            <rect class="unfinished" fill="url(#hatch)" x=left y=frame.top width=frame.right - left height=frame.bottom - frame.top />
            {marks}
        }
    });
    view! { <g>{unfinished} {drawn}</g> }
}

fn crosshair(frame: Frame, top: i32, at: usize, count: usize, minute: &Minute) -> impl IntoView + use<> {
    let x = frame.x(at, count);
    let dots = SERIES
        .iter()
        .map(|series| {
            let y = frame.y((series.value)(minute), top);
            view! { <circle class=format!("dot {}", series.tone) cx=x cy=y r="3.5" /> }
        })
        .collect_view();
    view! {
        <g>
            <line class="cross" x1=x x2=x y1=frame.top y2=frame.bottom />
            {dots}
        </g>
    }
}

/// Values at the crosshair, on the side where they do not cover it.
#[component]
fn Readout(minute: Minute, left: bool) -> impl IntoView {
    let rows = SERIES
        .iter()
        .map(|series| {
            let value = number::count((series.value)(&minute));
            view! { <div class=format!("readout-row {}", series.tone)><span>{series.name}</span><b>{value}</b></div> }
        })
        .collect_view();
    view! {
        <div class="readout" class:left=left aria-hidden="true">
            <div class="muted">{minute.name(&clock(&minute))}</div>
            {rows}
        </div>
    }
}

#[component]
fn MinuteTable(minutes: Signal<Vec<Minute>>, span: RwSignal<Span>) -> impl IntoView {
    let row = |minute: Minute| {
        let cells = SERIES.iter().map(|series| view! { <td class="num">{number::count((series.value)(&minute))}</td> });
        view! { <tr><th scope="row">{minute.name(&clock(&minute))}</th>{cells.collect_view()}</tr> }
    };
    view! {
        <div class="scroll" tabindex="0" role="region" aria-label=move || span.get().label()>
            <table class="table">
                <thead>
                    <tr>
                        <th scope="col">"From"</th>
                        {SERIES.iter().map(|it| view! { <th scope="col" class="num">{it.name}</th> }).collect_view()}
                    </tr>
                </thead>
                <tbody>{move || minutes.get().into_iter().rev().map(row).collect_view()}</tbody>
            </table>
        </div>
    }
}

fn clock(minute: &Minute) -> String {
    minute.at.map(dom::local_clock).unwrap_or_default()
}

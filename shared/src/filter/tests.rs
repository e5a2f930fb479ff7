//! Tests of the text form as a whole.

use proptest::{collection::vec, option, prelude::*};
use prost_types::Timestamp;

use super::*;
use crate::{
    limits,
    proto::v1::{IntRange, PayloadMatch, TimeRange, dead_letter::Reason, job_filter::Status},
    sub_state::SubState,
    time::timestamp,
};

const NOW: i64 = 1_795_946_400_000;
const HOUR: i64 = 3_600_000;

fn parsed(text: &str) -> JobFilter {
    parse(text, NOW).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn created(text: &str) -> (Option<i64>, Option<i64>) {
    let range = parsed(&format!("created:{text}")).created.unwrap();
    (range.from.as_ref().map(crate::time::timestamp_ms), range.before.as_ref().map(crate::time::timestamp_ms))
}

#[test]
fn a_filter_is_read_term_by_term() {
    let id = "01996a3c-0000-7000-8000-000000000001";
    let filter = parsed(&format!(
        " task:email,sms  status:failed,ready worker:mail worker_id:\"a b\" attempts:>=2 priority:0..3 age:<2h \
          payload.customer.id:42 error:\"timed out\" reason:permanent group:3f2a91c04be7d508 session:{id} origin:{id} id:{id} "
    ));
    let expected = JobFilter {
        worker_ids: vec!["a b".into(), "mail".into()],
        tasks: vec!["email".into(), "sms".into()],
        statuses: vec![Status::Ready.into(), Status::Failed.into()],
        created: Some(TimeRange { from: Some(timestamp(NOW - 2 * HOUR)), before: None }),
        attempts: Some(IntRange { min: Some(2), max: None }),
        priority: Some(IntRange { min: Some(0), max: Some(3) }),
        failure_reasons: vec![Reason::Permanent.into()],
        error_group: "3f2a91c04be7d508".into(),
        error_contains: "timed out".into(),
        session_id: id.into(),
        origin: id.into(),
        ids: vec![id.into()],
        payload: vec![PayloadMatch { path: "customer.id".into(), value: "42".into() }],
        ..JobFilter::default()
    };
    assert_eq!(filter, expected);
    assert_eq!(parsed(""), JobFilter::default());
    assert_eq!(parsed(&id.to_uppercase()).ids, [id], "a bare id");
    assert_eq!(parsed("status:pending").statuses, SubState::PENDING.map(|it| i32::from(Status::from(it))));
    assert_eq!(parsed("task:\"\"").tasks, [""], "jobs without a task");
    assert_eq!(
        parsed(r#"payload."a b\\.c":"x,y""#).payload[0],
        PayloadMatch { path: r"a b\.c".into(), value: "x,y".into() }
    );
}

#[test]
fn ranges_of_time_mean_what_they_look_like() {
    let day = 1_795_910_400_000; // 2026-11-29
    assert_eq!(created("2026-11-29..2026-11-30"), (Some(day), Some(day + 48 * HOUR)), "both days are part of it");
    assert_eq!(created("2026-11-29"), (Some(day), Some(day + 24 * HOUR)));
    assert_eq!(created("2026-11-29.."), (Some(day), None));
    assert_eq!(created("..2026-11-29"), (None, Some(day + 24 * HOUR)));
    assert_eq!(created("<2026-11-29"), (None, Some(day)));
    assert_eq!(created("<=2026-11-29"), (None, Some(day + 24 * HOUR)));
    assert_eq!(created(">2026-11-29"), (Some(day + 24 * HOUR), None));
    assert_eq!(created(">=2026-11-29"), (Some(day), None));
    assert_eq!(created("2026-11-29T01:00..2026-11-29T02:00Z"), (Some(day + HOUR), Some(day + 2 * HOUR)));
    assert_eq!(created("<2h"), (Some(NOW - 2 * HOUR), None), "younger than two hours");
    assert_eq!(created(">2h"), (None, Some(NOW - 2 * HOUR)), "older than two hours");
    assert_eq!(created("1h..2h"), (Some(NOW - 2 * HOUR), Some(NOW - HOUR)));
    let due = parsed("run_at:<1h").run_at.unwrap();
    assert_eq!((due.from, due.before), (None, Some(timestamp(NOW + HOUR))), "due within the hour");
}

#[test]
fn ranges_of_numbers_mean_what_they_look_like() {
    let attempts = |text: &str| {
        let range = parsed(&format!("attempts:{text}")).attempts.unwrap();
        (range.min, range.max)
    };
    assert_eq!(attempts("3"), (Some(3), Some(3)));
    assert_eq!(attempts("<3"), (None, Some(2)));
    assert_eq!(attempts("<=3"), (None, Some(3)));
    assert_eq!(attempts(">3"), (Some(4), None));
    assert_eq!(attempts("3.."), (Some(3), None));
    assert_eq!(attempts("..3"), (None, Some(3)));
}

#[test]
fn an_error_names_its_place_and_what_was_expected() {
    for (text, at, expected) in [
        ("nonsense", 0, "error:nonsense"),
        ("task:a timed out", 7, "error:timed"),
        ("a:b", 0, "keys are status:"),
        ("task:", 5, "task:email"),
        ("task:a,", 7, "expected a value"),
        ("status:faild", 7, "expected a status: pending, ready"),
        ("status:done,x", 12, "expected a status"),
        ("reason:bad", 7, "attempts_exhausted"),
        ("attempts:many", 9, "such as 3"),
        ("attempts:3..1", 0, "3 is more than 1"),
        ("attempts:<0", 9, "nothing is below 0"),
        ("priority:1 priority:2", 11, "given twice"),
        ("age:2h", 4, "such as <2h"),
        ("age:<2026-11-29", 4, "expected an age"),
        ("age:<2h created:>3h", 8, "given twice"),
        ("created:yesterday", 8, "2026-11-29"),
        ("created:2026-11-29T08:00", 8, "expected a range"),
        ("created:2026-11-30..2026-11-01", 0, "is empty"),
        ("id:0199", 3, "expected a whole id"),
        ("session:x", 8, "expected a whole id"),
        ("error:\"timed", 6, "closing quote"),
        ("error:a,b", 7, "in quotes"),
        ("error:\"a\"b", 9, "after the closing quote"),
        ("error:a\"b", 7, "around the whole value"),
        (r#"error:"\x""#, 7, "after a backslash"),
        (r#"error:"\u{d800}""#, 7, "code point"),
        ("payload.:1", 0, "must not be empty"),
        ("payload.\"a\"1", 12, "expected a colon"),
        ("ä:b", 0, "is no key"),
        ("task:ä äh", 7, "äh is no job id"),
    ] {
        let error = parse(text, NOW).expect_err(text);
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.message.contains(expected), "{text}: {error}");
    }
    let long = format!("task:a task:{}", "x".repeat(limits::TASK + 1));
    let error = parse(&long, NOW).unwrap_err();
    assert_eq!(error.to_string(), "position 8: is 101 bytes; the limit is 100");
    assert!(parse(&"x".repeat(limits::FILTER_FORM + 1), NOW).unwrap_err().message.contains("32768"));
}

#[test]
fn every_key_has_an_example_that_parses() {
    for help in KEYS {
        assert_eq!(Key::find(help.word.trim_end_matches(':')), Some(help.key));
        assert_eq!(help.key.help(), help);
        assert!(help.example.starts_with(help.word));
        assert_ne!(parsed(help.example), JobFilter::default());
    }
}

#[test]
fn the_examples_of_the_documentation_parse() {
    let document = include_str!("../../../docs/filters.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    // The first column of a table holds examples, each between backticks.
    let examples: Vec<_> =
        rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2)).collect();
    assert!(examples.len() >= 30, "{examples:?}");
    for example in examples {
        assert_ne!(parsed(example), JobFilter::default(), "{example}");
    }
    for help in KEYS {
        assert!(document.contains(&format!("`{}", help.word)), "{} is missing", help.word);
    }
}

#[test]
fn a_wrong_field_is_named_with_its_place() {
    let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let filter = JobFilter {
        worker_ids: vec!["a".into(), String::new()],
        tasks: vec!["x".repeat(101), "a\nb".into()],
        statuses: vec![0, 99],
        created: Some(TimeRange::default()),
        finished: Some(TimeRange { from: time(5), before: time(5) }),
        run_at: Some(TimeRange { from: Some(Timestamp { seconds: 0, nanos: -1 }), before: time(i64::MAX) }),
        priority: Some(IntRange::default()),
        attempts: Some(IntRange { min: Some(-1), max: Some(-2) }),
        failure_reasons: vec![1, 0],
        error_group: "3F2A91C04BE7D508".into(),
        error_contains: "x".repeat(1_025),
        session_id: "s".into(),
        origin: "o".into(),
        ids: vec!["x".into()],
        payload: vec![PayloadMatch { path: String::new(), value: "x".repeat(1_025) }],
    };
    let fields: Vec<_> = check(&filter, 500).into_iter().map(|it| it.field).collect();
    assert_eq!(
        fields,
        [
            "worker_ids[1]",
            "tasks[0]",
            "tasks[1]",
            "statuses[0]",
            "statuses[1]",
            "created",
            "finished",
            "run_at.from",
            "run_at.before",
            "priority",
            "attempts.min",
            "attempts.max",
            "attempts",
            "failure_reasons[1]",
            "error_group",
            "error_contains",
            "session_id",
            "origin",
            "ids[0]",
            "payload[0].path",
            "payload[0].value",
        ]
    );
    let many = JobFilter {
        worker_ids: vec!["w".into(); 101],
        tasks: vec!["t".into(); 101],
        ids: vec![String::new(); 501],
        payload: vec![PayloadMatch { path: "a".into(), value: String::new() }; 9],
        ..JobFilter::default()
    };
    let said: Vec<_> = check(&many, 1).into_iter().map(|it| format!("{} {}", it.field, it.description)).collect();
    assert_eq!(
        said,
        [
            "worker_ids has 101 values; the limit is 100",
            "tasks has 101 values; the limit is 100",
            "ids has 501 values; the limit is 1",
            "ids[0] is no UUID",
            "payload has 9 values; the limit is 8",
        ]
    );
}

fn time_range() -> impl Strategy<Value = TimeRange> {
    let second = -62_135_596_800_i64..253_402_300_799;
    (option::of((second.clone(), 0..1_000_000_000_i32)), option::of((second, 0..1_000_000_000_i32))).prop_filter_map(
        "no range",
        |ends| {
            let time = |(seconds, nanos)| Timestamp { seconds, nanos };
            let (from, before) = match ends {
                (Some(a), Some(b)) if a == b => return None,
                (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
                (None, None) => return None,
                ends => ends,
            };
            Some(TimeRange { from: from.map(time), before: before.map(time) })
        },
    )
}

fn int_range() -> impl Strategy<Value = IntRange> {
    (option::of(0..=i32::MAX), option::of(0..=i32::MAX)).prop_filter_map("no range", |ends| match ends {
        (None, None) => None,
        (Some(a), Some(b)) => Some(IntRange { min: Some(a.min(b)), max: Some(a.max(b)) }),
        (min, max) => Some(IntRange { min, max }),
    })
}

fn id() -> impl Strategy<Value = String> {
    any::<u128>().prop_map(|it| uuid::Uuid::from_u128(it).to_string())
}

fn name(shortest: usize) -> impl Strategy<Value = String> {
    vec(any::<char>().prop_filter("control", |it| !it.is_control()), shortest..20)
        .prop_map(|it| limits::cut(&it.into_iter().collect::<String>(), limits::TASK).to_owned())
}

prop_compose! {
    fn filter()(
        worker_ids in vec(name(1), 0..4), tasks in vec(name(0), 0..4), statuses in vec(1..=8_i32, 0..9),
        created in option::of(time_range()), finished in option::of(time_range()), run_at in option::of(time_range()),
        priority in option::of(int_range()), attempts in option::of(int_range()),
        failure_reasons in vec(1..=4_i32, 0..3), error_contains in "\\PC{0,20}|[\n\t\r\\\\\", \0a]{0,9}",
        session_id in option::of(id()), origin in option::of(id()), ids in vec(id(), 0..3), error_group in "([0-9a-f]{16})?",
        payload in vec((".{1,20}|[ .\\\\:\"]{1,9}", "(?s).{0,20}"), 0..3),
    ) -> JobFilter {
        let payload = payload.into_iter().map(|(path, value)| PayloadMatch { path, value }).collect();
        JobFilter {
            worker_ids, tasks, statuses, created, finished, run_at, priority, attempts, failure_reasons,
            error_group, error_contains, session_id: session_id.unwrap_or_default(), origin: origin.unwrap_or_default(), ids, payload,
        }
    }
}

proptest! {
    #[test]
    fn a_printed_filter_is_read_back_as_an_equal_one(filter in filter()) {
        prop_assert_eq!(check(&filter, limits::FILTER_IDS), []);
        let text = print(&filter);
        let mut expected = filter;
        normalise(&mut expected);
        prop_assert_eq!(parse(&text, NOW).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?, expected);
    }

    #[test]
    fn terms_cover_the_text_but_for_spaces(text in "([a-z]{1,5}:(\"[a-z ]{0,5}\"|[a-z,]{0,5})  ?){0,5}") {
        let terms = terms(&text).unwrap();
        let rest: String = {
            let mut rest = text.clone();
            for term in terms.iter().rev() {
                rest.replace_range(term.span.clone(), "");
            }
            rest
        };
        prop_assert!(rest.chars().all(char::is_whitespace));
    }

    #[test]
    fn no_text_panics(text in ".{0,60}|[a-z:\",.<>=\\\\{}0-9 é]{0,60}") {
        if let Err(error) = parse(&text, NOW) {
            prop_assert!(error.at <= text.chars().count());
        }
    }
}

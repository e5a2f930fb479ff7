//! A filter in its text form, as the search field and the state tabs of a list edit it.

use jobqueue_shared::{
    filter::{KEYS, ParseError, parse, quoted, terms},
    proto::v1::{CountJobsResponse, JobFilter, job_filter::Status},
    sub_state::SubState,
};

use super::number::count;

/// Maximum number of suggestions: more than fit on a screen help nobody.
const SUGGESTED: usize = 12;

/// Terms of a text, each as it is written; a text that is not understood is one.
pub fn chips(text: &str) -> Vec<String> {
    match terms(text) {
        Ok(terms) => terms.into_iter().map(|term| text[term.span].to_owned()).collect(),
        Err(_) => vec![text.to_owned()],
    }
}

/// Text without its term at this place.
pub fn without(text: &str, at: usize) -> String {
    let mut chips = chips(text);
    if at < chips.len() {
        chips.remove(at);
    }
    chips.join(" ")
}

/// Text with more terms behind it.
pub fn with(text: &str, more: &str) -> String {
    [text.trim(), more.trim()].into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Text with this status instead of any other; "" = all statuses.
pub fn with_status(text: &str, word: &str) -> String {
    let kept: Vec<_> = chips(text).into_iter().filter(|chip| !chip.starts_with("status:")).collect();
    let status = if word.is_empty() { String::new() } else { format!("status:{word}") };
    with(&status, &kept.join(" "))
}

/// Error of what was typed behind `text`, as a sentence; `None` if both together are a filter. Positions count in what
/// was typed.
pub fn error(text: &str, typed: &str, now: i64) -> Option<String> {
    let said = |error: ParseError| error.to_string();
    match parse(typed, now) {
        Err(error) => Some(said(error)),
        Ok(_) => parse(&with(text, typed), now).err().map(|error| error.message),
    }
}

/// Filter of a text, without its statuses, for the counts of all of them; `None` if it is not understood.
pub fn beside_status(text: &str, now: i64) -> Option<JobFilter> {
    parse(text, now).ok().map(|filter| JobFilter { statuses: vec![], ..filter })
}

/// State tab: the status in the text form, and its name for people. "" = all.
pub const TABS: [(&str, &str); 9] = [
    ("", "All"),
    ("ready", "Ready"),
    ("scheduled", "Scheduled"),
    ("retrying", "Retrying"),
    ("no_handler", "No handler"),
    ("running", "Running"),
    ("done", "Done"),
    ("failed", "Failed"),
    ("cancelled", "Cancelled"),
];

/// Tab of a text; `None` if it names several statuses.
pub fn tab(text: &str) -> Option<&'static str> {
    let statuses = parse(text, 0).ok()?.statuses;
    match statuses.as_slice() {
        [] => Some(""),
        [status] => SubState::from_status(Status::try_from(*status).ok()?).map(SubState::word),
        _ => None,
    }
}

/// Numbers of [`TABS`], in their order: "1,234", or "1,234+" where there may be more.
pub fn tab_counts(answer: &CountJobsResponse) -> [String; 9] {
    let words = |number: i64, at_least: bool| format!("{}{}", count(number), if at_least { "+" } else { "" });
    TABS.map(|(word, _)| {
        let mut number = 0_i64;
        let mut at_least = false;
        for it in answer.statuses.iter().filter(|it| word.is_empty() || it.status().as_str_name() == word) {
            number += i64::from(it.count);
            at_least |= it.at_least;
        }
        words(number, at_least)
    })
}

/// Time by which the ages in a page's filter are counted, and the server's token. All pages of a list count from one
/// time, because a token belongs to its filter.
pub fn page(token: &str, now: i64) -> (i64, &str) {
    match token.split_once('.') {
        Some((at, token)) => (at.parse().unwrap_or(now), token),
        None => (now, token),
    }
}

/// Token of a page with the time by which its filter counts; "" = there is no such page.
pub fn page_token(at: i64, token: &str) -> String {
    if token.is_empty() { String::new() } else { format!("{at}.{token}") }
}

/// A suggestion for what is being typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestion {
    /// The typed text with the suggestion taken.
    pub text: String,
    /// Text that the suggestion adds, and its meaning.
    pub word: String,
    pub help: &'static str,
    /// True for a whole term; false where a value is still to be typed.
    pub whole: bool,
}

/// Values that this page knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub worker_ids: Vec<String>,
    pub tasks: Vec<String>,
}

/// Suggestions for the last term of what was typed: keys, and values of a key.
pub fn suggestions(typed: &str, known: &Known) -> Vec<Suggestion> {
    let start = typed.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let (before, term) = typed.split_at(start);
    let Some((key, values)) = term.split_once(':') else {
        let keys = KEYS.iter().filter(|it| it.word.starts_with(term));
        let suggestion = |it: &jobqueue_shared::filter::KeyHelp| Suggestion {
            text: format!("{before}{}", it.word),
            word: it.word.to_owned(),
            help: it.help,
            whole: false,
        };
        return keys.map(suggestion).collect();
    };
    let last = values.rfind(',').map_or(0, |at| at + 1);
    let (others, value) = values.split_at(last);
    let words: Vec<(String, &'static str)> = match key {
        "status" => {
            let all = [("pending", "waits, for whatever reason")].into_iter();
            let kinds = TABS.into_iter().skip(1).map(|(word, _)| (word, ""));
            all.chain(kinds).map(|(word, help)| (word.to_owned(), help)).collect()
        }
        "worker" | "worker_id" => known.worker_ids.iter().map(|it| (quoted(it), "")).collect(),
        "task" => known.tasks.iter().map(|it| (quoted(it), "")).collect(),
        "reason" => fixed(&[
            ("attempts_exhausted", "no attempts left"),
            ("permanent", "the handler said so"),
            ("worker_lost", ""),
            ("timed_out", ""),
        ]),
        "age" | "created" | "finished" => fixed(&[
            ("<1h", "within the last hour"),
            ("<24h", "within a day"),
            ("<7d", "within a week"),
            (">1d", "before"),
        ]),
        "run_at" => fixed(&[("<1h", "due within an hour"), (">1d", "due later than in a day")]),
        "attempts" => fixed(&[("0", "none used"), (">=2", "two or more")]),
        "priority" => fixed(&[("0", "first"), ("0..3", ""), (">=6", "")]),
        _ => vec![],
    };
    let fits = |word: &str| word.contains(value) && (word != value || value.is_empty());
    let suggestion = |(word, help): (String, &'static str)| Suggestion {
        text: format!("{before}{key}:{others}{word}"),
        word,
        help,
        whole: true,
    };
    words.into_iter().filter(|(word, _)| fits(word)).take(SUGGESTED).map(suggestion).collect()
}

fn fixed(words: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    words.iter().map(|(word, help)| ((*word).to_owned(), *help)).collect()
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::proto::v1::count_jobs_response::StatusCount;

    use super::*;

    #[test]
    fn a_text_is_edited_term_by_term() {
        let text = "status:failed  task:\"a b\" error:x";
        assert_eq!(chips(text), ["status:failed", "task:\"a b\"", "error:x"]);
        assert_eq!(without(text, 1), "status:failed error:x");
        assert_eq!(with_status(text, "done"), "status:done task:\"a b\" error:x");
        assert_eq!(with_status(text, ""), "task:\"a b\" error:x");
        assert_eq!(with("", " task:a "), "task:a");
        assert_eq!(chips("task:\"a"), ["task:\"a"], "what is not understood stays");
    }

    #[test]
    fn an_error_counts_in_what_was_typed() {
        assert_eq!(error("task:a", "status:done", 0), None);
        assert!(error("task:a", "status:x", 0).unwrap().starts_with("position 8: expected a status"));
        assert!(error("attempts:1", "attempts:2", 0).unwrap().contains("given twice"));
    }

    #[test]
    fn the_tab_is_that_of_the_only_status() {
        assert_eq!(tab("task:a"), Some(""));
        assert_eq!(tab("status:no_handler"), Some("no_handler"));
        assert_eq!((tab("status:pending"), tab("status:done,failed"), tab("x:y")), (None, None, None));
        for (word, _) in TABS {
            assert_eq!(tab(&with_status("task:a", word)), Some(word));
        }
    }

    #[test]
    fn tabs_count_their_status_and_all() {
        let of = |status: Status, count, at_least| StatusCount { status: status.into(), count, at_least };
        let statuses = vec![of(Status::Ready, 1_200, false), of(Status::Done, 5_000, true)];
        let counts = tab_counts(&CountJobsResponse { statuses, ..CountJobsResponse::default() });
        assert_eq!((counts[0].as_str(), counts[1].as_str(), counts[6].as_str()), ("6,200+", "1,200", "5,000+"));
        assert_eq!(counts[2], "0");
    }

    #[test]
    fn a_page_keeps_the_time_of_its_list() {
        assert_eq!(page("", 7), (7, ""));
        assert_eq!(page(&page_token(5, "abc_-"), 7), (5, "abc_-"));
        assert_eq!((page_token(5, "").as_str(), page("abc", 7)), ("", (7, "abc")));
    }

    #[test]
    fn suggestions_continue_what_was_typed() {
        let known = Known { worker_ids: vec!["mail".into(), "a b".into()], tasks: vec!["email".into()] };
        let texts = |typed: &str| suggestions(typed, &known).into_iter().map(|it| it.text).collect::<Vec<_>>();
        assert_eq!(texts("task:email st"), ["task:email status:"]);
        assert_eq!(texts("").len(), KEYS.len());
        assert_eq!(texts("worker:"), ["worker:mail", "worker:\"a b\""]);
        assert_eq!(texts("worker:x,ma"), ["worker:x,mail"]);
        assert_eq!(texts("task:em"), ["task:email"]);
        assert_eq!(texts("status:no"), ["status:no_handler"]);
        assert!(texts("status:no_handler").is_empty(), "nothing is left to type");
        assert!(texts("error:x").is_empty());
        for key in KEYS {
            for it in suggestions(key.word, &known) {
                assert!(!it.whole || parse(&it.text, 0).is_ok(), "{it:?}");
            }
        }
    }
}

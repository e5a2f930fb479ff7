//! Entries of the palette, and which of them a typed text means.

/// Maximum number of entries that are offered at once.
const OFFERED: usize = 12;

/// Group of entries, in the order in which equal ones are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Id,
    Action,
    Page,
    View,
    Queue,
}

impl Group {
    pub fn word(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Action => "action",
            Self::Page => "page",
            Self::View => "saved view",
            Self::Queue => "queue",
        }
    }
}

/// Effect of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Opens an address.
    Open(String),
    /// Presses a control of the page, by its place among those that were found.
    Press(usize),
    /// Looks up the id in the text.
    LookUp,
    /// Shows all keys.
    Keys,
}

/// Entry of the palette.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub group: Group,
    pub words: String,
    pub target: Target,
}

/// Entries that fit the text, the best first; without a text, the first ones of all but the queues.
pub fn offered(entries: &[Entry], text: &str) -> Vec<Entry> {
    if text.trim().is_empty() {
        let first = entries.iter().filter(|entry| entry.group != Group::Queue);
        return first.take(OFFERED).cloned().collect();
    }
    let mut found: Vec<_> = entries.iter().filter_map(|entry| Some((fit(&entry.words, text)?, entry))).collect();
    found
        .sort_by(|(a_fit, a), (b_fit, b)| b_fit.cmp(a_fit).then_with(|| (a.group, &a.words).cmp(&(b.group, &b.words))));
    found.into_iter().take(OFFERED).map(|(_, entry)| entry.clone()).collect()
}

/// How well `words` fit the typed `text`: each of its words must be in them, in any case, as a whole or letter by
/// letter in order. More is better; `None` = not at all.
pub fn fit(words: &str, text: &str) -> Option<i32> {
    let words: Vec<char> = words.to_lowercase().chars().collect();
    let mut sum = 0;
    for part in text.split_whitespace() {
        let part: Vec<char> = part.to_lowercase().chars().collect();
        sum += contained(&words, &part).or_else(|| scattered(&words, &part))?;
    }
    // Of equal ones, the shorter fits better.
    Some(sum * 100 - i32::try_from(words.len().min(99)).unwrap_or(99))
}

/// Fit of a part that is in the words as it is: best at their beginning, well at that of a word.
fn contained(words: &[char], part: &[char]) -> Option<i32> {
    let at = |at: usize| match at {
        0 => 100,
        _ if !words[at - 1].is_alphanumeric() => 80,
        _ => 50,
    };
    words.windows(part.len().max(1)).enumerate().filter(|(_, window)| *window == part).map(|(place, _)| at(place)).max()
}

/// Fit of a part whose letters are in the words in order: the worse the more lies between them.
fn scattered(words: &[char], part: &[char]) -> Option<i32> {
    let (first, rest) = part.split_first()?;
    let mut at = words.iter().position(|letter| letter == first)?;
    let mut between = 0;
    for letter in rest {
        let step = words[at + 1..].iter().position(|it| it == letter)?;
        between += step;
        at += step + 1;
    }
    Some(40 - i32::try_from(between.min(39)).unwrap_or(39))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(group: Group, words: &str) -> Entry {
        Entry { group, words: words.into(), target: Target::Open(format!("/{words}")) }
    }

    fn words(entries: &[Entry], text: &str) -> Vec<String> {
        offered(entries, text).into_iter().map(|entry| entry.words).collect()
    }

    #[test]
    fn what_begins_as_typed_comes_before_what_contains_it() {
        let all = [
            entry(Group::Queue, "email"),
            entry(Group::Queue, "bulk-mail"),
            entry(Group::Queue, "mail-eu"),
            entry(Group::Queue, "mail"),
            entry(Group::Queue, "metrics-all"),
            entry(Group::Queue, "report"),
        ];
        assert_eq!(words(&all, "MAIL"), ["mail", "mail-eu", "bulk-mail", "email"]);
        assert_eq!(words(&all, "mtall"), ["metrics-all"], "letters in order");
        assert_eq!(words(&all, "eu mail"), ["mail-eu"], "words in any order");
        assert_eq!(words(&all, "liam"), Vec::<String>::new());
    }

    #[test]
    fn without_a_text_queues_are_left_out_and_few_are_offered() {
        let mut all = vec![entry(Group::Page, "Overview"), entry(Group::Action, "Retry job")];
        all.extend((0..1_000).map(|n| entry(Group::Queue, &format!("queue {n}"))));
        assert_eq!(words(&all, " "), ["Overview", "Retry job"]);
        assert_eq!(words(&all, "queue").len(), OFFERED);
    }

    #[test]
    fn an_action_comes_before_a_queue_that_fits_as_well() {
        let all = [entry(Group::Queue, "retry job"), entry(Group::Action, "Retry job")];
        assert_eq!(offered(&all, "retry")[0].group, Group::Action);
    }

    proptest! {
        #[test]
        fn what_fits_has_all_letters_in_order(text in "[a-c ]{0,6}", words in "[a-d -]{0,12}") {
            let fits = fit(&words, &text).is_some();
            let in_order = text.split_whitespace().all(|part| {
                let mut letters = words.chars();
                part.chars().all(|wanted| letters.any(|letter| letter == wanted))
            });
            prop_assert_eq!(fits, in_order);
        }

        #[test]
        fn a_text_fits_itself_best(text in "\\PC{1,20}", other in "\\PC{0,20}") {
            prop_assume!(!text.trim().is_empty() && text.split_whitespace().count() == 1);
            let (own, others) = (fit(text.trim(), &text), fit(&other, &text));
            prop_assert!(own.is_some() && own >= others.filter(|_| other.to_lowercase().chars().count() >= text.trim().to_lowercase().chars().count()), "{:?} {:?}", own, others);
        }
    }
}

//! Keys of the dashboard: what a person has pressed, one after the other, and what that asks for.

use super::places::PLACES;

/// Milliseconds after `g` within which the second key has to follow.
const SECOND_MS: i64 = 1_500;

/// Command of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Opens the page at this address.
    Go(&'static str),
    /// Presses the control of the page that names this key.
    Press(char),
    /// Moves the focus to the next row, or the one before.
    Next,
    Previous,
    /// Selects the row with the focus.
    Select,
    /// Shows all keys.
    Help,
}

/// Keys whose sequence is not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Time of the press of `g`.
    second_of: Option<i64>,
}

impl Keys {
    /// Command that the press of `key` completes. `now` is any clock in milliseconds.
    pub fn press(&mut self, key: &str, now: i64) -> Option<Command> {
        let follows = self.second_of.take().is_some_and(|at| (0..=SECOND_MS).contains(&(now - at)));
        if follows {
            let place = PLACES.iter().find(|place| place.key.is_some_and(|it| key.chars().eq([it])))?;
            return Some(Command::Go(place.href));
        }
        match key {
            "g" => {
                self.second_of = Some(now);
                None
            }
            "?" => Some(Command::Help),
            "j" => Some(Command::Next),
            "k" => Some(Command::Previous),
            "x" => Some(Command::Select),
            "/" => Some(Command::Press('/')),
            "n" => Some(Command::Press('n')),
            "r" => Some(Command::Press('r')),
            "t" => Some(Command::Press('t')),
            _ => None,
        }
    }
}

/// Keys and what they do, in groups, for the dialog that shows them.
pub fn help() -> Vec<(&'static str, Vec<(String, &'static str)>)> {
    let one = |key: &str, words| (key.to_owned(), words);
    let pages = PLACES.iter().filter_map(|place| place.key.map(|key| (format!("g {key}"), place.word)));
    vec![
        (
            "Everywhere",
            vec![
                one("Ctrl K", "Go to a page, a queue or an id, or do something"),
                one("/", "Search"),
                one("n", "Submit a job"),
                one("t", "Change the theme"),
                one("?", "Show these keys"),
                one("Esc", "Close"),
            ],
        ),
        ("Pages", pages.collect()),
        (
            "In a list",
            vec![
                one("j", "Next row"),
                one("k", "Row before"),
                one("Enter", "Open the row"),
                one("x", "Select the row"),
            ],
        ),
        ("On the page of a job", vec![one("r", "Retry the job")]),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_opened_by_two_keys_that_follow_each_other() {
        for (second, href) in [("o", "/"), ("j", "/jobs"), ("e", "/errors"), ("q", "/queues"), ("p", "/operations")] {
            let mut keys = Keys::default();
            assert_eq!(keys.press("g", 0), None);
            assert_eq!(keys.press(second, SECOND_MS), Some(Command::Go(href)));
            assert_eq!(keys, Keys::default());
        }
    }

    #[test]
    fn a_second_key_that_comes_late_stands_alone() {
        let mut keys = Keys::default();
        keys.press("g", 0);
        assert_eq!(keys.press("j", SECOND_MS + 1), Some(Command::Next));
        keys.press("g", 0);
        assert_eq!(keys.press("z", 1), None, "nothing is there");
        assert_eq!(keys.press("j", 2), Some(Command::Next), "and the sequence is over");
        keys.press("g", 0);
        keys.press("g", 1);
        assert_eq!(keys.press("o", 2), None, "the second g was no page");
    }

    #[test]
    fn single_keys_do_what_the_dialog_says() {
        let mut known: Vec<_> = help().into_iter().flat_map(|(_, keys)| keys).map(|(key, _)| key).collect();
        known.retain(|key| key.chars().count() == 1);
        assert_eq!(known.len(), 8, "{known:?}");
        for key in known {
            assert!(Keys::default().press(&key, 0).is_some(), "{key}");
        }
        assert_eq!(Keys::default().press("Enter", 0), None, "the browser opens the link that has the focus");
    }

    proptest! {
        #[test]
        fn any_keys_can_be_pressed(presses in proptest::collection::vec((".{0,3}|g|[a-z]", any::<i32>()), 0..20)) {
            let mut keys = Keys::default();
            for (key, now) in presses {
                keys.press(&key, now.into());
            }
        }
    }
}

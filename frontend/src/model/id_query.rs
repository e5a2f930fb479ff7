//! Text of the search field: an id, or a part of one as lists show it.

use super::id;

/// Minimum number of digits of a part without the other end: so many tell apart the ids on a screen.
const PART: usize = 6;

/// Id that a person looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdQuery {
    Whole(String),
    /// Beginning and end of an id without hyphens, in lower case. Of a part that may be either, both are that part.
    Part {
        begin: String,
        end: String,
        /// True when the id has both ends, false when it has one of them.
        both: bool,
    },
}

impl IdQuery {
    /// Finds an id, or else a part of one, in `text`.
    pub fn find(text: &str) -> Option<Self> {
        if let Some(id) = id::find(text) {
            return Some(Self::Whole(id));
        }
        let text = text.replace("...", "…").to_ascii_lowercase();
        let is_part = |c: char| c.is_ascii_hexdigit() || c == '-' || c == '…';
        let words = || text.split(|c| !is_part(c)).map(|word| word.replace('-', ""));
        let both = words().find_map(|word| {
            let (begin, end) = word.split_once('…')?;
            let fits = |part: &str, least: usize| part.len() >= least && !part.contains('…');
            (fits(begin, 4) && fits(end, 4)).then(|| Self::Part { begin: begin.into(), end: end.into(), both: true })
        });
        // A press on a word of a short id selects one of its ends.
        both.or_else(|| {
            let part = |word: String| word.trim_matches('…').to_owned();
            let part = words().map(part).find(|word| word.len() >= PART && !word.contains('…'))?;
            Some(Self::Part { begin: part.clone(), end: part, both: false })
        })
    }

    /// True when `id` is the one, or one of those, that are looked for.
    pub fn fits(&self, id: &str) -> bool {
        match self {
            Self::Whole(whole) => whole == id,
            Self::Part { begin, end, both } => {
                let digits = id.replace('-', "");
                let (begins, ends) = (digits.starts_with(begin.as_str()), digits.ends_with(end.as_str()));
                if *both { begins && ends } else { begins || ends }
            }
        }
    }

    /// The id or part as it was understood, for messages.
    pub fn words(&self) -> String {
        match self {
            Self::Whole(id) => id.clone(),
            Self::Part { begin, end, both: true } => format!("{begin}…{end}"),
            Self::Part { begin, .. } => begin.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0192f5a6-1000-7000-8000-0000003f2a91";

    #[test]
    fn short_ids_are_found_as_lists_show_them_and_as_people_type_them() {
        for text in [
            "0192f5a6…3f2a91",
            " 0192F5A6...3f2a91\n",
            "job 0192f5a6…3f2a91 failed",
            "3f2a91",
            "0192f5a6",
            "0192f5a6-1000",
        ] {
            let query = IdQuery::find(text).unwrap();
            assert!(query.fits(ID), "{text}: {query:?}");
            assert!(!query.fits("0192f5a7-1000-7000-8000-0000003f2a92"), "{text}");
        }
        let both = IdQuery::find("0192f5a6…3f2a91").unwrap();
        assert_eq!(both.words(), "0192f5a6…3f2a91");
        assert!(!both.fits("0192f5a6-1000-7000-8000-0000003f2a92"));
        assert_eq!(IdQuery::find(ID), Some(IdQuery::Whole(ID.into())));
    }

    #[test]
    fn other_text_holds_no_id() {
        for text in ["", "no id", "email", "3f2a9", "…", "12…34", "a…b…c"] {
            assert_eq!(IdQuery::find(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_short_form_of_an_id_finds_it(n: u128) {
            let id = uuid::Uuid::from_u128(n).to_string();
            prop_assert!(IdQuery::find(&id::short(&id)).unwrap().fits(&id));
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,60}") {
            if let Some(query) = IdQuery::find(&text) {
                prop_assert!(!query.words().is_empty());
            }
        }
    }
}

//! Filter of a list, which is kept in the query of its URL.

use jobqueue_shared::{filter::quoted, limits, state::State};

/// Numbers of jobs on a page that a person can choose.
pub const SIZES: [u32; 4] = [50, 100, 200, 500];

/// Filter and page of a list; "" = all, or the first page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Text form of a filter, as docs/filters.md describes it.
    pub q: String,
    pub worker_id: String,
    pub status: String,
    pub task: String,
    /// Number of jobs on a page; "" = the default.
    pub size: String,
    pub page: String,
}

impl Filter {
    /// Filter for one worker_id.
    pub fn of_worker_id(worker_id: &str) -> Self {
        Self { worker_id: worker_id.to_owned(), ..Self::default() }
    }

    /// Filter for one task.
    pub fn of_task(task: &str) -> Self {
        Self { task: task.to_owned(), ..Self::default() }
    }

    /// Reads the filter from query parameters, which `get` looks up. An unknown status counts as none.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name| get(name).unwrap_or_default();
        let status = text("status");
        Self {
            q: text("q"),
            worker_id: text("worker_id"),
            status: if State::ALL.iter().any(|state| state.word() == status) { status } else { String::new() },
            task: text("task"),
            size: text("size"),
            page: text("page"),
        }
    }

    /// URL of `path` with the values that are set, such as `/jobs?status=failed`.
    pub fn url(&self, path: &str) -> String {
        let mut url = path.to_owned();
        let mut mark = '?';
        let parts = [
            ("q", &self.q),
            ("worker_id", &self.worker_id),
            ("status", &self.status),
            ("task", &self.task),
            ("size", &self.size),
            ("page", &self.page),
        ];
        for (name, value) in parts {
            if !value.is_empty() {
                url.push(mark);
                url.push_str(name);
                url.push('=');
                url.push_str(&encode(value));
                mark = '&';
            }
        }
        url
    }

    /// Number of jobs on a page.
    pub fn page_size(&self) -> u32 {
        self.size.parse().ok().filter(|size| SIZES.contains(size)).unwrap_or(limits::PAGE_DEFAULT)
    }

    /// Conditions in their text form, those of the other parameters included.
    pub fn text(&self) -> String {
        let mut terms = Vec::new();
        for (key, value) in [("status", &self.status), ("worker", &self.worker_id), ("task", &self.task)] {
            if !value.is_empty() {
                terms.push(format!("{key}:{}", quoted(value)));
            }
        }
        terms.extend(Some(self.q.trim().to_owned()).filter(|q| !q.is_empty()));
        terms.join(" ")
    }

    /// Same page size with other conditions, from the first page on.
    pub fn with_text(&self, text: &str) -> Self {
        Self { q: text.to_owned(), size: self.size.clone(), ..Self::default() }
    }

    /// True when a page of the list may take several calls: the server tests job by job.
    pub fn is_searched(&self) -> bool {
        !(self.task.is_empty() && self.q.is_empty())
    }

    /// True when the filter excludes anything.
    pub fn is_set(&self) -> bool {
        !(self.q.is_empty() && self.worker_id.is_empty() && self.status.is_empty() && self.task.is_empty())
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    out
}

/// Decodes what [`encode`] has written.
#[cfg(test)]
pub fn decode(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
            &tail[2..]
        } else {
            bytes.push(*first);
            tail
        };
    }
    String::from_utf8(bytes).unwrap()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_set_is_in_the_url() {
        let filter = Filter { worker_id: "büro & 1".into(), status: "failed".into(), ..Filter::default() };
        assert_eq!(filter.url("/jobs"), "/jobs?worker_id=b%C3%BCro%20%26%201&status=failed");
        assert_eq!(Filter::default().url("/jobs"), "/jobs");
        assert_eq!(filter.text(), "status:failed worker:\"büro & 1\"");
        assert!(filter.is_set() && !Filter { page: "x".into(), ..Filter::default() }.is_set());
    }

    #[test]
    fn a_page_has_one_of_few_sizes() {
        let of = |size: &str| Filter { size: size.into(), ..Filter::default() }.page_size();
        assert_eq!([of(""), of("500"), of("51"), of("x")], [50, 500, 50, 50]);
        let filter = Filter { size: "100".into(), page: "p".into(), task: "t".into(), ..Filter::default() };
        assert_eq!(filter.with_text("task:u").url("/jobs"), "/jobs?q=task%3Au&size=100");
    }

    #[test]
    fn unknown_statuses_are_none() {
        let filter = Filter::read(|name| (name == "status").then(|| "nonsense".into()));
        assert_eq!(filter, Filter::default());
    }

    proptest! {
        #[test]
        fn filters_survive_the_url(worker_id in ".{0,20}", task in ".{0,20}", page in "[A-Za-z0-9_=-]{0,20}", q in ".{0,20}", at in 0_usize..6) {
            let status = State::ALL.get(at).map_or("", |state| state.word()).to_owned();
            let filter = Filter { q, worker_id, status, task, size: String::new(), page };
            let url = filter.url("/jobs");
            let query = url.split_once('?').map_or("", |(_, query)| query);
            let pairs: Vec<(&str, String)> =
                query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k, decode(v))).collect();
            let back = Filter::read(|name| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| v.clone()));
            prop_assert_eq!(back, filter);
        }
    }
}

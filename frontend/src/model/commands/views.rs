//! Saved views: addresses of lists under names that a person has given them.

use serde::{Deserialize, Serialize};

/// Maximum number of views; more are no help to find one.
const MOST: usize = 30;
/// Maximum length of a name in characters.
const NAME: usize = 60;

/// Address of a list, and its name.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct View {
    pub name: String,
    pub address: String,
}

/// Adds a view at the end, in place of one with the same name; of too many, the oldest is forgotten. A view without a
/// name has that of its address.
pub fn add(views: &[View], name: &str, address: &str) -> Vec<View> {
    let name = if name.trim().is_empty() { address } else { name.trim() };
    let name: String = name.chars().take(NAME).collect();
    let mut all = remove(views, &name);
    all.push(View { name, address: address.to_owned() });
    all.drain(..all.len().saturating_sub(MOST));
    all
}

pub fn remove(views: &[View], name: &str) -> Vec<View> {
    views.iter().filter(|view| view.name != name).cloned().collect()
}

/// Views in a stored text; none when it cannot be read. An address leads to a page of the dashboard and nowhere else.
pub fn read(text: &str) -> Vec<View> {
    let mut views: Vec<View> = serde_json::from_str(text).unwrap_or_default();
    views.retain(|view| {
        view.address.starts_with('/') && !view.address.starts_with("//") && !view.address.contains('\\')
    });
    views
}

/// Address without the place in the list: a view begins with the first page.
pub fn address(path: &str, search: &str) -> String {
    let parts: Vec<&str> = search
        .trim_start_matches('?')
        .split('&')
        .filter(|part| !part.is_empty() && !part.starts_with("page="))
        .collect();
    if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once_and_the_oldest_views_are_forgotten() {
        let one = add(&[], " failed mail ", "/jobs?status=failed");
        assert_eq!(one, [View { name: "failed mail".into(), address: "/jobs?status=failed".into() }]);
        let changed = add(&one, "failed mail", "/jobs?task=mail");
        assert_eq!((changed.len(), changed[0].address.as_str()), (1, "/jobs?task=mail"));
        assert_eq!(add(&one, "", "/jobs")[1].name, "/jobs");
        let many = (0..40).fold(one, |views, n| add(&views, &n.to_string(), "/jobs"));
        assert_eq!((many.len(), many[0].name.as_str(), many[29].name.as_str()), (30, "10", "39"));
        assert_eq!(remove(&many, "39").len(), 29);
    }

    #[test]
    fn what_is_stored_is_read_back_and_leads_nowhere_else() {
        let views = add(&[], "büro", "/jobs?worker_id=b%C3%BCro");
        assert_eq!(read(&serde_json::to_string(&views).unwrap()), views);
        for text in ["", "no JSON", r#"[{"name":"x"}]"#, r#"[{"name":"x","address":"https://example.org"}]"#] {
            assert_eq!(read(text), [], "{text}");
        }
        assert_eq!(read(r#"[{"name":"x","address":"//example.org"},{"name":"y","address":"/\\example.org"}]"#), []);
    }

    #[test]
    fn a_view_begins_with_the_first_page() {
        assert_eq!(address("/jobs", "?status=failed&page=abc&task=mail"), "/jobs?status=failed&task=mail");
        assert_eq!(address("/jobs", "page=abc"), "/jobs");
        assert_eq!(address("/jobs", ""), "/jobs");
    }
}

//! Title and icon of the browser's tab.

use super::{filter::encode, number::count};

const ICON: &str = include_str!("../../icons/favicon.svg");
/// Mark on the icon while jobs fail: a red dot with a white edge.
const MARK: &str =
    r##"<circle cx="24" cy="24" r="8" fill="#fff"/><circle cx="24" cy="24" r="6" fill="#D92D20"/></svg>"##;

/// Title of a page, which begins with the number of jobs that failed within the last minutes.
pub fn title(page: &str, failed: i32) -> String {
    let title = if page.is_empty() { "jobqueue".to_owned() } else { format!("{page} · jobqueue") };
    if failed > 0 { format!("({} failed) {title}", count(failed)) } else { title }
}

/// Address of the icon, which is marked while jobs fail.
pub fn icon(failing: bool) -> String {
    let icon = if failing { ICON.trim_end().replace("</svg>", MARK) } else { ICON.to_owned() };
    format!("data:image/svg+xml,{}", encode(&icon))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_tells_failures_first() {
        assert_eq!(title("Jobs", 0), "Jobs · jobqueue");
        assert_eq!(title("Jobs", 1_340), "(1,340 failed) Jobs · jobqueue");
        assert_eq!(title("", 0), "jobqueue");
    }

    #[test]
    fn the_icon_is_marked_while_jobs_fail() {
        let (calm, failing) = (icon(false), icon(true));
        assert!(calm.starts_with("data:image/svg+xml,%3Csvg") && failing.trim_end().ends_with("%3C%2Fsvg%3E"));
        assert!(failing.contains("%23D92D20") && !calm.contains("%23D92D20"));
    }
}

//! Ids of jobs and sessions: shortened for tables, as addresses of their pages, and found in pasted text.

use uuid::Uuid;

/// Short form of an id: `0192f5a6…3f2a91`. It shows both ends, because ids of one minute begin alike.
pub fn short(id: &str) -> String {
    if id.len() == 36 && id.is_ascii() { format!("{}…{}", &id[..8], &id[30..]) } else { id.to_owned() }
}

/// Address of a job's page.
pub fn job_page(id: &str) -> String {
    format!("/jobs/{id}")
}

/// Address of a session's page.
pub fn session_page(id: &str) -> String {
    format!("/workers/{id}")
}

/// First id in `text`, which may be an id alone, a link, or a line of a log.
pub fn find(text: &str) -> Option<String> {
    text.split(|c: char| !c.is_ascii_hexdigit() && c != '-')
        .filter(|word| word.len() == 36 || word.len() == 32)
        .find_map(|word| Uuid::try_parse(word).ok())
        .map(|id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192f5a6-1000-7000-8000-0000003f2a91";

    #[test]
    fn ids_are_found_in_what_surrounds_them() {
        for text in [
            ID.to_owned(),
            format!("  {ID}\n"),
            format!("http://localhost:8080/jobs/{ID}?x=1"),
            format!("{{\"job_id\": \"{ID}\", \"deduplicated\": false}}"),
            ID.to_uppercase(),
            ID.replace('-', ""),
        ] {
            assert_eq!(find(&text).as_deref(), Some(ID), "{text}");
        }
        for text in ["", "email", "0192f5a6", &ID[1..], "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"] {
            assert_eq!(find(text), None, "{text}");
        }
    }

    #[test]
    fn short_ids_show_both_ends() {
        assert_eq!(short(ID), "0192f5a6…3f2a91");
        assert_eq!(short("x"), "x");
    }

    #[test]
    fn jobs_and_sessions_have_pages() {
        assert_eq!((job_page(ID), session_page(ID)), (format!("/jobs/{ID}"), format!("/workers/{ID}")));
    }
}

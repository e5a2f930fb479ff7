//! Title and fingerprint of errors.

use sha2::{Digest as _, Sha256};

use super::normalise::blank;
use crate::types::ErrorGroupId;

/// Title of errors without any text.
const NO_TEXT: &str = "no error text";
/// Maximum number of lines of an error's head.
const HEAD_LINES: usize = 3;
/// Maximum number of causes that are part of a title.
const CAUSES: usize = 2;
/// Maximum number of bytes of a line that counts. What follows is data rather than the kind of error.
const LINE_BYTES: usize = 500;
/// Maximum size of a title, in bytes.
const TITLE_BYTES: usize = 400;
/// First line of a traceback of Python.
const TRACEBACK: &str = "Traceback (most recent call last)";
const CAUSE: &str = "Caused by:";

/// Group of an error, and the group's title: the error's kind without what varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouped {
    pub id: ErrorGroupId,
    pub title: String,
}

/// Determines the group of an error of a task.
///
/// Of the error's lines these count: the first one; if it ends with a colon, the next, up to three lines ("thread
/// panicked at main.rs:1:2:" and the message); and the first two causes ("Caused by:" of Rust and Java). Of a traceback
/// of Python only its last line without an indent counts, which names the exception. Lines of a stack do not: they
/// change with every release of the program, and one cause is reached in many ways.
pub fn group(task: &str, error: &str) -> Grouped {
    let mut title = String::new();
    for line in counted(error) {
        if !title.is_empty() {
            title.push(' ');
        }
        blank(jobqueue_shared::limits::cut(line.trim(), LINE_BYTES), &mut title);
    }
    let mut title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    if title.is_empty() {
        NO_TEXT.clone_into(&mut title);
    }
    title.truncate(jobqueue_shared::limits::cut(&title, TITLE_BYTES).len());
    let mut hash = Sha256::new();
    // The length ends the task: no task with a part of the title is another task.
    hash.update((task.len() as u64).to_be_bytes());
    hash.update(task);
    hash.update(&title);
    let digest = hash.finalize();
    let number =
        i64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]]);
    let id = ErrorGroupId(if number == ErrorGroupId::OTHER.0 { 1 } else { number });
    Grouped { id, title }
}

/// Lines of an error that its group depends on.
fn counted(error: &str) -> Vec<&str> {
    let filled = |line: &&str| !line.trim().is_empty();
    let mut lines = error.lines().filter(filled);
    let Some(first) = lines.next() else { return Vec::new() };
    if first.trim_start().starts_with(TRACEBACK)
        && let Some(exception) = error
            .lines()
            .filter(filled)
            .rfind(|line| !line.starts_with(char::is_whitespace) && !line.starts_with(TRACEBACK))
    {
        return vec![exception];
    }
    let mut counted = vec![first];
    while counted.len() < HEAD_LINES
        && counted.last().is_some_and(|last| last.trim_end().ends_with(':'))
        && let Some(next) = lines.next()
    {
        counted.push(next);
    }
    let head_has_cause = counted.iter().any(|line| line.trim_start().starts_with(CAUSE));
    let mut causes = if head_has_cause { CAUSES } else { 0 };
    while causes < CAUSES
        && let Some(line) = lines.next()
    {
        let Some(cause) = line.trim_start().strip_prefix(CAUSE) else { continue };
        counted.push(line);
        if cause.trim().is_empty()
            && let Some(next) = lines.next()
        {
            counted.push(next);
        }
        causes += 1;
    }
    counted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn title(error: &str) -> String {
        group("t", error).title
    }

    #[test]
    fn what_varies_is_blanked() {
        for (error, expected) in [
            ("timeout after 17 ms", "timeout after # ms"),
            ("no user 'anna' in \"eu-1\"", "no user '…' in \"…\""),
            ("can't open it, don't ask", "can't open it, don't ask"),
            ("job 0193a4e0-1111-7222-8333-444455556666 is gone", "job <id> is gone"),
            ("session-0193a4e0-1111-7222-8333-444455556666: late", "session-<id>: late"),
            ("commit deadbeef12 not found", "commit <id> not found"),
            ("added a facade", "added a facade"),
            ("segfault at 0x7ffe12a0", "segfault at <address>"),
            ("connect to 10.0.0.7:5432: refused", "connect to <address>: refused"),
            ("connect to [2001:db8::1]: refused", "connect to [<address>]: refused"),
            ("no mailbox anna@example.org.", "no mailbox <address>."),
            ("std::io::Error: gone", "std::io::Error: gone"),
            ("open /tmp/abcXyz/in.csv: no such file", "open /tmp/…/in.csv: no such file"),
            ("open /home/anna/a.txt: denied", "open /home/…/a.txt: denied"),
            ("open C:\\Users\\anna\\a.txt", "open C:\\Users\\…\\a.txt"),
            ("open /data/2026/11/30.csv", "open /data/#/#/#.csv"),
            ("GET https://api.example.org/users/17?x=2", "GET https://api.example.org/users/#?x=#"),
            ("HTTP 404 in 12 ms", "HTTP 404 in # ms"),
            ("status: 503", "status: 503"),
            ("exit code 137", "exit code 137"),
            ("code 1234567", "code #"),
            ("SMTP 550 5.1.1 no such mailbox", "SMTP 550 #.#.# no such mailbox"),
            ("worker7 lost", "worker# lost"),
            ("a\tb  c", "a b c"),
            ("", "no error text"),
            (" \n\n", "no error text"),
        ] {
            assert_eq!(title(error), expected, "{error:?}");
        }
    }

    #[test]
    fn the_lines_that_name_the_kind_count_and_a_stack_does_not() {
        for (error, expected) in [
            ("refused\n  at main.rs:3\n  at lib.rs:9", "refused"),
            ("\n\nrefused", "refused"),
            (
                "thread 'main' panicked at src/main.rs:3:5:\nno rows\nnote: run",
                "thread '…' panicked at src/main.rs:#:#: no rows",
            ),
            (
                "Traceback (most recent call last):\n  File \"a.py\", line 3\n    f()\nValueError: bad 7\n",
                "ValueError: bad #",
            ),
            ("cannot send\n\nCaused by:\n    0: refused\n    1: os", "cannot send Caused by: #: refused"),
            (
                "java.lang.RuntimeException: failed\n\tat A.b(A.java:1)\nCaused by: java.net.ConnectException: refused",
                "java.lang.RuntimeException: failed Caused by: java.net.ConnectException: refused",
            ),
        ] {
            assert_eq!(title(error), expected, "{error:?}");
        }
        assert_ne!(
            group("t", "cannot send\n\nCaused by:\n  refused").id,
            group("t", "cannot send\n\nCaused by:\n  late").id
        );
    }

    #[test]
    fn tasks_have_groups_of_their_own() {
        assert_ne!(group("a", "refused").id, group("b", "refused").id);
        assert_ne!(group("a", "b").id, group("ab", "").id);
        assert_ne!(group("", "timeout").id, group("", "refused").id);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_titles_are_short_lines(task in ".{0,20}", error in "(?s).{0,600}") {
            let found = group(&task, &error);
            prop_assert!(!found.title.is_empty() && found.title.len() <= TITLE_BYTES);
            prop_assert!(!found.title.contains(char::is_control), "{:?}", found.title);
            prop_assert_eq!(group(&task, &error), found);
        }

        #[test]
        fn errors_that_differ_in_what_varies_are_one_group(
            words in "[a-z]{1,7} [a-z]{1,7}", a: [u32; 4], b: [u32; 4], ids: [u128; 2], quoted in "[a-zA-Z0-9 ]{0,30}",
        ) {
            let error = |numbers: [u32; 4], id: u128, quoted: &str| {
                let (id, ip) = (uuid::Uuid::from_u128(id), std::net::Ipv4Addr::from(numbers[0]));
                format!("{words}: row {} of job {id} at {ip}:{} \"{quoted}\" /data/{}/x\n at {}", numbers[1],
                        numbers[2] % 65_536, numbers[3], numbers[0])
            };
            prop_assert_eq!(group("t", &error(a, ids[0], &quoted)), group("t", &error(b, ids[1], "x")));
        }

        #[test]
        fn a_title_is_its_own_title(error in "[a-z0-9 :.'\"/]{1,100}") {
            let once = title(&error);
            prop_assert_eq!(title(&once), once);
        }

        #[test]
        fn only_a_number_after_a_word_of_its_kind_is_kept(error in "[b-z]{2,6} [0-9]{1,9} [b-z]{2,6}") {
            prop_assume!(!super::super::normalise::names_kind(error.split(' ').next().unwrap()));
            prop_assert!(!title(&error).contains(|it: char| it.is_ascii_digit()));
        }
    }
}

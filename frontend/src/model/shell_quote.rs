//! Commands to copy into a POSIX shell, in which every word that comes from data is quoted.

/// Quotes `text` as one word of a POSIX shell. A text of harmless characters stays as it is. NUL, which a word cannot
/// hold, is left out.
pub fn quote(text: &str) -> String {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.,/:=@%+".contains(&byte);
    if !text.is_empty() && text.bytes().all(harmless) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

/// Command that starts a worker which runs every job with the built-in demonstration. `server` is the origin of this
/// page, which answers gRPC, too.
pub fn start_worker(worker_id: &str, server: &str) -> String {
    // With the `=`, a name that begins with a dash is not taken for an option.
    let worker_id = quote(&format!("--worker-id={worker_id}"));
    format!("jobqueue-worker {worker_id} {} --simulate", quote(&format!("--server={server}")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// Words into which sh splits a line.
    fn words(line: &str) -> Vec<String> {
        let script = format!(r#"words() {{ for word in "$@"; do printf '%s\0' "$word"; done; }}; words {line}"#);
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn what_a_shell_would_run_is_a_word() {
        for text in [
            "",
            "mail",
            "it's",
            "x$(touch pwned)",
            "`id`",
            "a b",
            "a\nb",
            "*",
            "~",
            "-n",
            "--",
            "#",
            "!!",
            "\\",
            "\"",
            "'",
            "$HOME",
            "a;b",
            "büro & söhne",
            "\u{202e}",
        ] {
            assert_eq!(words(&quote(text)), [text], "{text:?}");
        }
        assert_eq!(quote("worker-1a"), "worker-1a");
    }

    #[test]
    fn a_worker_is_started_with_its_name_whatever_it_is() {
        for name in ["mail", "x$(touch pwned)", "-h", "it's; exit"] {
            let line = start_worker(name, "http://127.0.0.1:8080");
            let given: Vec<String> = words(line.strip_prefix("jobqueue-worker ").unwrap());
            assert_eq!(given, [&format!("--worker-id={name}"), "--server=http://127.0.0.1:8080", "--simulate"]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sh_reads_back_what_was_quoted(text in "\\PC*|[ -~\n\t]*") {
            prop_assert_eq!(words(&quote(&text)), [text]);
        }
    }
}

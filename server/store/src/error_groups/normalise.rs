//! Blanks what varies in a line of an error: quoted parts, ids, addresses, numbers, variable parts of paths.

/// Stands for a number.
const NUMBER: &str = "#";
/// Stands for a UUID or a hexadecimal id.
const ID: &str = "<id>";
/// Stands for an address of the network or of the memory, or of a mailbox.
const ADDRESS: &str = "<address>";
/// Stands for a quoted part, and for a name in a path that differs by machine or run.
const BLANK: &str = "…";

/// Words before a number that names the kind of an error and is kept: HTTP 404 and HTTP 503 have different causes.
const KIND_WORDS: [&str; 8] = ["http", "smtp", "status", "code", "errno", "sqlstate", "signal", "exit"];
/// Maximum number of digits of a number that is kept.
const KIND_DIGITS: usize = 5;
/// Minimum length of a word of hexadecimal digits that counts as an id. Shorter ones are words such as "added".
const HEX_ID: usize = 8;
/// Folders whose entries differ by machine, user or run.
const VARIABLE_FOLDERS: [&str; 5] = ["tmp", "home", "Users", "proc", "containers"];

/// Appends `line` to `out` with its variable parts blanked.
pub(super) fn blank(line: &str, out: &mut String) {
    let mut rest = line;
    let mut before: Option<char> = None;
    let mut kind = false;
    while let Some(first) = rest.chars().next() {
        if let Some((quoted, close)) = quoted(rest, before) {
            out.push(first);
            out.push_str(BLANK);
            out.push(close);
            before = Some(close);
            kind = false;
            rest = &rest[quoted..];
            continue;
        }
        let word = &rest[..rest.find(|it| !is_word(it)).unwrap_or(rest.len())];
        // A full stop or colon at the end belongs to the sentence.
        let word = word.trim_end_matches(['.', ':', '-', '+', '@', '/']);
        if word.is_empty() {
            // Between a kind's word and its number: "status: 503", "code=5".
            kind &= matches!(first, ' ' | '=' | '(' | ':');
            out.push(if first.is_control() { ' ' } else { first });
            before = Some(first);
            rest = &rest[first.len_utf8()..];
        } else {
            push_word(word, kind, out);
            kind = names_kind(word);
            before = word.chars().next_back();
            rest = &rest[word.len()..];
        }
    }
}

/// Whether a number after `word` names the kind of an error.
pub(super) fn names_kind(word: &str) -> bool {
    KIND_WORDS.iter().any(|it| word.eq_ignore_ascii_case(it))
}

/// Characters of words, names in paths, addresses and numbers.
fn is_word(it: char) -> bool {
    it.is_alphanumeric() || matches!(it, '.' | ':' | '-' | '_' | '+' | '@' | '/' | '\\' | '%' | '~' | '#' | '…')
}

/// Characters beside which an apostrophe is a part of a word, and those of the texts that stand for words.
fn is_inner(it: char) -> bool {
    it.is_alphanumeric() || matches!(it, '#' | '<' | '>' | '…')
}

/// Length of the quoted part at the beginning of `text`, and its closing quote. An apostrophe within a word opens none.
fn quoted(text: &str, before: Option<char>) -> Option<(usize, char)> {
    let open = text.chars().next()?;
    let close = match open {
        '"' | '\'' | '`' => open,
        '“' => '”',
        '‘' => '’',
        '«' => '»',
        _ => return None,
    };
    if before.is_some_and(is_inner) {
        return None;
    }
    let inner = &text[open.len_utf8()..];
    let mut escaped = false;
    for (at, it) in inner.char_indices() {
        let after = inner[at + it.len_utf8()..].chars().next();
        if it == close && !escaped && !(close == '\'' && after.is_some_and(is_inner)) {
            return Some((open.len_utf8() + at + it.len_utf8(), close));
        }
        escaped = it == '\\' && !escaped;
    }
    None
}

fn push_word(word: &str, kind: bool, out: &mut String) {
    if kind && word.len() <= KIND_DIGITS && word.bytes().all(|it| it.is_ascii_digit()) {
        out.push_str(word);
    } else if let Some((scheme, rest)) = word.split_once("://").filter(|(scheme, _)| !scheme.is_empty()) {
        push_path(scheme, out);
        out.push_str("://");
        push_path(rest, out);
    } else {
        push_path(word, out);
    }
}

/// Appends a word, name by name if it is a path.
fn push_path(path: &str, out: &mut String) {
    let mut folder = "";
    let mut rest = path;
    loop {
        let end = rest.find(['/', '\\']);
        let name = &rest[..end.unwrap_or(rest.len())];
        if !name.is_empty() && VARIABLE_FOLDERS.contains(&folder) {
            out.push_str(BLANK);
        } else {
            push_name(name, out);
        }
        let Some(end) = end else { return };
        out.push_str(&rest[end..=end]);
        folder = name;
        rest = &rest[end + 1..];
    }
}

fn push_name(name: &str, out: &mut String) {
    if is_address(name) {
        out.push_str(ADDRESS);
        return;
    }
    // An id may be a part of a name: "job-0193…", "session:4f2a…".
    let mut rest = name;
    while !rest.is_empty() {
        if let Some(length) = uuid(rest).filter(|_| !ends_alphanumeric(&name[..name.len() - rest.len()])) {
            out.push_str(ID);
            rest = &rest[length..];
            continue;
        }
        let end = rest.find(|it: char| !it.is_ascii_alphanumeric()).unwrap_or(rest.len());
        if end == 0 {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        push_run(&rest[..end], out);
        rest = &rest[end..];
    }
}

fn ends_alphanumeric(text: &str) -> bool {
    text.chars().next_back().is_some_and(char::is_alphanumeric)
}

/// Length of the UUID at the beginning of `text`.
fn uuid(text: &str) -> Option<usize> {
    const LENGTH: usize = 36;
    let head = text.get(..LENGTH)?;
    let ends = !text[LENGTH..].starts_with(|it: char| it.is_alphanumeric());
    let shape = head
        .bytes()
        .enumerate()
        .all(|(at, it)| if matches!(at, 8 | 13 | 18 | 23) { it == b'-' } else { it.is_ascii_hexdigit() });
    (ends && shape).then_some(LENGTH)
}

/// Appends a run of ASCII letters and digits.
fn push_run(run: &str, out: &mut String) {
    let digits = run.bytes().any(|it| it.is_ascii_digit());
    if !digits {
        out.push_str(run);
        return;
    }
    let hex = run.strip_prefix("0x").or_else(|| run.strip_prefix("0X"));
    if hex.is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_hexdigit())) {
        out.push_str(ADDRESS);
        return;
    }
    let letters = run.bytes().any(|it| it.is_ascii_alphabetic());
    // Ids of other alphabets: long, with letters and digits mixed.
    let mixed = run.len() >= 20 && letters;
    if mixed || letters && run.len() >= HEX_ID && run.bytes().all(|it| it.is_ascii_hexdigit()) {
        out.push_str(ID);
        return;
    }
    let mut in_number = false;
    for it in run.chars() {
        if it.is_ascii_digit() {
            if !in_number {
                out.push_str(NUMBER);
            }
            in_number = true;
        } else {
            out.push(it);
            in_number = false;
        }
    }
}

/// Whether a word is an IPv4 or IPv6 address, with a port or without, or the address of a mailbox.
fn is_address(word: &str) -> bool {
    let host = match word.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|it| it.is_ascii_digit()) => host,
        _ => word,
    };
    let ip = host.parse::<std::net::IpAddr>();
    // "::" alone is the separator of names.
    let ip = ip.is_ok_and(|it| it.is_ipv4() || host.bytes().filter(|it| *it == b':').count() >= 2 && host.len() > 2);
    let mailbox = word.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && host.contains('.') && !host.contains('@') && !host.starts_with('.')
    });
    ip || mailbox
}

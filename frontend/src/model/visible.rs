//! Text that comes from jobs, workers or addresses, made safe to show: control and direction characters become visible
//! symbols, and text that reads from right to left is isolated from the sentence around it.

use std::borrow::Cow;

/// First strong isolate and pop directional isolate: what is between them does not change the order outside.
const ISOLATE: char = '\u{2068}';
const END_OF_ISOLATE: char = '\u{2069}';

/// Names of the control characters of ASCII. Unicode has pictures of them, which few fonts have.
const CONTROLS: [&str; 32] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI", "DLE",
    "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
];

/// Text with every control and direction character replaced by a symbol: `⟨ESC⟩`, or `⟨U+202E⟩` for a character without
/// a short name. Tabs and line ends stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // A line may end with CR and LF.
            '\r' if chars.peek() == Some(&'\n') => {}
            _ if !is_hidden(c) => out.push(c),
            '\u{7f}' => out.push_str("⟨DEL⟩"),
            _ => {
                let code = u32::from(c);
                let name =
                    CONTROLS.get(code as usize).map_or_else(|| format!("U+{code:04X}"), |name| (*name).to_owned());
                out.extend(["⟨", &name, "⟩"]);
            }
        }
    }
    Cow::Owned(out)
}

/// Text as a part of a sentence that is a plain string, such as a toast, a label or the title of the tab: [`visible`],
/// and isolated if it holds letters that are written from right to left.
pub fn isolated(text: &str) -> String {
    let text = visible(text);
    if text.contains(is_right_to_left) { format!("{ISOLATE}{text}{END_OF_ISOLATE}") } else { text.into_owned() }
}

/// Sentence of the server in which the texts of `parts` stand in quotes or after a colon, each isolated.
pub fn sentence(sentence: &str, parts: &[&str]) -> String {
    let mut parts: Vec<&str> = parts.iter().copied().filter(|part| part.contains(is_right_to_left)).collect();
    // Of two parts that begin alike the longer one is meant.
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    let mut out = String::with_capacity(sentence.len() + 16);
    let mut rest = sentence;
    let mut plain = 0;
    while let Some(first) = rest[plain..].chars().next() {
        if let Some(part) = parts.iter().find(|part| rest[plain..].starts_with(**part)) {
            out.push_str(&visible(&rest[..plain]));
            out.push_str(&isolated(part));
            rest = &rest[plain + part.len()..];
            plain = 0;
        } else {
            plain += first.len_utf8();
        }
    }
    out.push_str(&visible(rest));
    out
}

/// True for characters that show nothing themselves but change what is read around them. Joiners (U+200C, U+200D) are
/// none of them: words of several scripts, and emoji, need them.
fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\t' && c != '\n')
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// True for letters of the scripts that are written from right to left.
fn is_right_to_left(c: char) -> bool {
    matches!(c,
        '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}' | '\u{10800}'..='\u{10fff}'
        | '\u{1e800}'..='\u{1efff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hidden_characters_are_shown_as_symbols() {
        for (text, shown) in [
            ("gnp\u{202e}evil.exe", "gnp⟨U+202E⟩evil.exe"),
            ("a\u{1b}[31mred\u{7}", "a⟨ESC⟩[31mred⟨BEL⟩"),
            ("\0\u{7f}\u{9b}", "⟨NUL⟩⟨DEL⟩⟨U+009B⟩"),
            ("one\r\ntwo\rthree\tfour\n", "one\ntwo⟨CR⟩three\tfour\n"),
            ("\u{2066}x\u{2069}\u{200b}\u{feff}\u{e0041}", "⟨U+2066⟩x⟨U+2069⟩⟨U+200B⟩⟨U+FEFF⟩⟨U+E0041⟩"),
            ("plain – Größe 👩\u{200d}🔧", "plain – Größe 👩\u{200d}🔧"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn only_text_from_right_to_left_is_isolated() {
        assert_eq!(isolated("mail"), "mail");
        assert_eq!(isolated("\u{202e}mail"), "⟨U+202E⟩mail");
        assert_eq!(isolated("שלום"), "\u{2068}שלום\u{2069}");
    }

    #[test]
    fn parts_of_a_sentence_are_isolated_one_by_one() {
        let text = "\"שלום\" has been paused for 3 min: עד\u{202e} מחר.";
        assert_eq!(
            sentence(text, &["שלום", "של", "עד\u{202e} מחר", "", "mail"]),
            "\"\u{2068}שלום\u{2069}\" has been paused for 3 min: \u{2068}עד⟨U+202E⟩ מחר\u{2069}."
        );
        assert_eq!(sentence("\"mail\" is paused\u{7}.", &["mail"]), "\"mail\" is paused⟨BEL⟩.");
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left_and_nothing_visible_is_lost(text in ".{0,60}") {
            let shown = visible(&text);
            prop_assert!(!shown.contains(is_hidden));
            let kept: String = text.chars().filter(|c| !is_hidden(*c)).collect();
            let mut rest = shown.chars();
            prop_assert!(kept.chars().all(|c| rest.any(|it| it == c)));
            prop_assert_eq!(visible(&shown), &*shown);
        }
    }
}

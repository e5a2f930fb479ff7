//! Durations in milliseconds: formatted for people, and parsed from what they type.

const UNITS: [(&str, i64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)];

/// Duration in one unit: "820 ms", "12 s", "3 min", "2 h", "5 d".
pub fn coarse(ms: i64) -> String {
    let ms = ms.max(0);
    UNITS
        .iter()
        .find(|(_, unit)| ms >= *unit)
        .map_or_else(|| format!("{ms} ms"), |(word, unit)| format!("{} {word}", ms / unit))
}

/// Duration in two units where the second is not zero: "3 min 4 s"; with tenths between one and ten seconds: "1.2 s".
pub fn exact(ms: i64) -> String {
    let ms = ms.max(0);
    if (1_000..10_000).contains(&ms) {
        return match ms / 100 % 10 {
            0 => format!("{} s", ms / 1_000),
            tenths => format!("{}.{tenths} s", ms / 1_000),
        };
    }
    let Some(at) = UNITS.iter().position(|(_, unit)| ms >= *unit) else { return format!("{ms} ms") };
    let (word, unit) = UNITS[at];
    let first = format!("{} {word}", ms / unit);
    match UNITS.get(at + 1) {
        Some((next, size)) if ms % unit / size > 0 => format!("{first} {} {next}", ms % unit / size),
        _ => first,
    }
}

/// Duration in units that [`parse`] reads back without loss: "1h 30m", "90500ms".
pub fn typed(ms: i64) -> String {
    if ms % 1_000 != 0 {
        return format!("{ms}ms");
    }
    let parts = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let mut rest = ms;
    let mut words = vec![];
    for (unit, size) in parts {
        if rest >= size {
            words.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if words.is_empty() { "0s".to_owned() } else { words.join(" ") }
}

/// Parses "30s", "1h 30m", "2.5 min", "500ms"; a number without a unit counts seconds. `None` when the text is not a
/// duration.
pub fn parse(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = match rest[..letters].to_ascii_lowercase().as_str() {
            "ms" => 1.0,
            "" | "s" | "sec" | "second" | "seconds" => 1e3,
            "m" | "min" | "minute" | "minutes" => 6e4,
            "h" | "hour" | "hours" => 3.6e6,
            "d" | "day" | "days" => 8.64e7,
            _ => return None,
        };
        total += number * unit;
        rest = rest[letters..].trim_start();
    }
    // Larger values are refused; the server's limit of a year is far below.
    (total.is_finite() && total < 1e15).then_some(total.round() as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_type() {
        for (text, ms) in [
            ("30s", 30_000),
            ("90", 90_000),
            (" 1h 30m ", 5_400_000),
            ("1h30min", 5_400_000),
            ("2.5 min", 150_000),
            ("500ms", 500),
            ("1 day", 86_400_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
        for text in ["", "soon", "5x", "-1s", "1.2.3s", "s", "1e9d", "99999999999999999999d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn writes_two_units_at_most() {
        for (ms, text) in [
            (-5, "0 ms"),
            (820, "820 ms"),
            (1_000, "1 s"),
            (1_240, "1.2 s"),
            (12_900, "12 s"),
            (60_000, "1 min"),
            (184_000, "3 min 4 s"),
            (7_500_000, "2 h 5 min"),
            (86_400_000, "1 d"),
            (31_536_000_000, "365 d"),
        ] {
            assert_eq!(exact(ms), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read_back(ms in 0_i64..100_000_000_000) {
            let back = parse(&exact(ms)).unwrap();
            prop_assert!(back <= ms && ms - back < 3_600_000, "{} {}", exact(ms), back);
            prop_assert!(parse(&coarse(ms)).unwrap() <= ms);
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,40}") {
            if let Some(ms) = parse(&text) {
                prop_assert!(ms >= 0);
            }
        }
    }
}

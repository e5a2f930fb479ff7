//! Counts and sizes, formatted for people.

/// Count with separated thousands: `1204` → "1,204".
pub fn count(n: impl Into<i64>) -> String {
    let n: i64 = n.into();
    let digits = n.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if n < 0 {
        text.push('−');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Length of a list as a number that the functions here take.
pub fn length(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Count with its noun: "1 job", "2 jobs".
pub fn plural(n: impl Into<i64>, one: &str, many: &str) -> String {
    let n: i64 = n.into();
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// Size in its unit: "310 bytes", "1.5 KiB", "2 MiB".
pub fn bytes(n: usize) -> String {
    match n {
        1 => "1 byte".into(),
        0..1_024 => format!("{n} bytes"),
        1_024..1_048_576 => scaled(n, 1_024, "KiB"),
        _ => scaled(n, 1_048_576, "MiB"),
    }
}

fn scaled(n: usize, unit: usize, word: &str) -> String {
    let tenths = n * 10 / unit;
    if tenths.is_multiple_of(10) || tenths >= 1_000 {
        format!("{} {word}", tenths / 10)
    } else {
        format!("{}.{} {word}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567"), (-12_345, "−12,345")] {
            assert_eq!(count(n), text);
        }
        assert_eq!(plural(1, "job", "jobs"), "1 job");
        assert_eq!(plural(0, "job", "jobs"), "0 jobs");
    }

    #[test]
    fn sizes_are_cut_to_a_tenth() {
        for (n, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1_023, "1023 bytes"),
            (1_024, "1 KiB"),
            (1_600, "1.5 KiB"),
            (262_144, "256 KiB"),
            (1_048_576, "1 MiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }
}

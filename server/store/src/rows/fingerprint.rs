//! Fingerprint of errors, by which dead letters are grouped.

use sha2::{Digest as _, Sha256};

/// Fingerprint of an error's first line. Errors that differ only in their numbers have the same one, so that dead
/// letters can be grouped by cause.
pub(crate) fn fingerprint(error: &str) -> i64 {
    let mut hash = Sha256::new();
    let mut in_number = false;
    for character in error.lines().next().unwrap_or_default().chars() {
        let digit = character.is_ascii_digit();
        if digit && in_number {
            continue;
        }
        in_number = digit;
        let mut buffer = [0; 4];
        hash.update(if digit { "#" } else { &*character.encode_utf8(&mut buffer) });
    }
    let digest = hash.finalize();
    i64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_share_a_fingerprint() {
        assert_eq!(fingerprint("timeout after 17 ms"), fingerprint("timeout after 4 ms\nmore"));
        assert_ne!(fingerprint("timeout"), fingerprint("refused"));
    }
}

//! Difference of two texts by lines.

/// Maximum product of the numbers of lines that are compared; larger texts count as replaced.
const COMPARED: usize = 1_000_000;
/// Number of equal lines that are kept before and after a change.
const AROUND: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Same(String),
    Removed(String),
    Added(String),
    /// Number of equal lines that are left out.
    Skipped(usize),
}

/// Lines of both texts in order; of equal lines only those beside a change.
pub fn diff(before: &str, after: &str) -> Vec<Line> {
    shorten(all(before, after))
}

fn all(before: &str, after: &str) -> Vec<Line> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = |lines: &[&str]| lines.len() - start;
    let end =
        old.iter().rev().zip(new.iter().rev()).take(rest(&old).min(rest(&new))).take_while(|(a, b)| a == b).count();
    let same = |line: &&str| Line::Same((*line).to_owned());
    let mut lines: Vec<_> = old[..start].iter().map(same).collect();
    between(&old[start..old.len() - end], &new[start..new.len() - end], &mut lines);
    lines.extend(old[old.len() - end..].iter().map(same));
    lines
}

/// Lines of texts that begin and end differently, by their longest common subsequence.
fn between(old: &[&str], new: &[&str], lines: &mut Vec<Line>) {
    let removed = |line: &&str| Line::Removed((*line).to_owned());
    let added = |line: &&str| Line::Added((*line).to_owned());
    if old.len() * new.len() > COMPARED {
        lines.extend(old.iter().map(removed));
        lines.extend(new.iter().map(added));
        return;
    }
    // common[a][b]: number of lines that old[a..] and new[b..] have in common.
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            common[a * width + b] = if old[a] == new[b] {
                common[(a + 1) * width + b + 1] + 1
            } else {
                common[(a + 1) * width + b].max(common[a * width + b + 1])
            };
        }
    }
    let (mut a, mut b) = (0, 0);
    while a < old.len() && b < new.len() {
        if old[a] == new[b] {
            lines.push(Line::Same(old[a].to_owned()));
            (a, b) = (a + 1, b + 1);
        } else if common[(a + 1) * width + b] >= common[a * width + b + 1] {
            lines.push(removed(&old[a]));
            a += 1;
        } else {
            lines.push(added(&new[b]));
            b += 1;
        }
    }
    lines.extend(old[a..].iter().map(removed));
    lines.extend(new[b..].iter().map(added));
}

fn shorten(lines: Vec<Line>) -> Vec<Line> {
    let is_same = |line: &Line| matches!(line, Line::Same(_));
    let mut near = vec![false; lines.len()];
    for at in (0..lines.len()).filter(|at| !is_same(&lines[*at])) {
        near[at.saturating_sub(AROUND)..(at + AROUND + 1).min(lines.len())].fill(true);
    }
    let mut short: Vec<Line> = Vec::new();
    for (line, near) in lines.into_iter().zip(near) {
        match short.last_mut() {
            _ if near => short.push(line),
            Some(Line::Skipped(n)) => *n += 1,
            _ => short.push(Line::Skipped(1)),
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(before: &str, after: &str) -> Vec<String> {
        let line = |line| match line {
            Line::Same(text) => format!(" {text}"),
            Line::Removed(text) => format!("-{text}"),
            Line::Added(text) => format!("+{text}"),
            Line::Skipped(n) => format!("…{n}"),
        };
        diff(before, after).into_iter().map(line).collect()
    }

    #[test]
    fn changes_stand_between_the_lines_around_them() {
        assert_eq!(shown("a\nb\nc\nd\ne\nf", "a\nb\nc\nD\ne\nf"), ["…1", " b", " c", "-d", "+D", " e", " f"]);
        assert_eq!(shown("a\nb", "a\nx\nb"), [" a", "+x", " b"]);
        assert_eq!(shown("a", "a"), ["…1"]);
        assert_eq!(shown("", "a"), ["+a"]);
    }

    #[test]
    fn very_long_texts_count_as_replaced() {
        let text = |mark: char| (0..1_100).map(|n| format!("{mark}{n}")).collect::<Vec<_>>().join("\n");
        assert_eq!(diff(&text('a'), &text('b')).len(), 2_200);
    }

    proptest! {
        #[test]
        fn both_texts_can_be_read_out_of_it(before in "([abc]\n){0,12}", after in "([abc]\n){0,12}") {
            let lines = all(&before, &after);
            let old: String = lines.iter().filter_map(|line| match line {
                Line::Same(text) | Line::Removed(text) => Some(format!("{text}\n")),
                _ => None,
            }).collect();
            let new: String = lines.iter().filter_map(|line| match line {
                Line::Same(text) | Line::Added(text) => Some(format!("{text}\n")),
                _ => None,
            }).collect();
            prop_assert_eq!(old, before);
            prop_assert_eq!(new, after);
            let (count, short) = (lines.len(), shorten(lines));
            let shown: usize = short.iter().map(|line| if let Line::Skipped(n) = line { *n } else { 1 }).sum();
            prop_assert_eq!(shown, count);
        }
    }
}

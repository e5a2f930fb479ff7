//! Geometry of a line chart: scales, ticks, paths, and labels that do not collide.

use super::number::count;

/// Rectangle of the plot, in pixels from the top left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Frame {
    /// X coordinate of point `at` of `points`.
    pub fn x(&self, at: usize, points: usize) -> f64 {
        let steps = points.saturating_sub(1).max(1) as f64;
        self.left + (self.right - self.left) * at as f64 / steps
    }

    /// Y coordinate of `value`, where `max` is at the top.
    pub fn y(&self, value: i32, max: i32) -> f64 {
        self.bottom - (self.bottom - self.top) * f64::from(value.max(0)) / f64::from(max.max(1))
    }

    /// Index of the point nearest to `x`.
    pub fn nearest(&self, x: f64, points: usize) -> usize {
        let last = points.saturating_sub(1);
        let share = (x - self.left) / (self.right - self.left).max(1.0);
        ((share * last as f64).round().max(0.0) as usize).min(last)
    }

    /// SVG path through `values`, the first ones of `points`.
    pub fn line(&self, values: &[i32], points: usize, max: i32) -> String {
        let point = |(at, &value): (usize, &i32)| {
            let command = if at == 0 { 'M' } else { 'L' };
            format!("{command}{:.1} {:.1}", self.x(at, points), self.y(value, max))
        };
        values.iter().enumerate().map(point).collect()
    }

    /// SVG path around the area between `values`, the first ones of `points`, and the axis.
    pub fn area(&self, values: &[i32], points: usize, max: i32) -> String {
        if values.is_empty() {
            return String::new();
        }
        let end = self.x(values.len() - 1, points);
        format!("{}L{end:.1} {:.1}L{:.1} {:.1}Z", self.line(values, points, max), self.bottom, self.left, self.bottom)
    }
}

/// Ticks of an axis: whole, round values from 0 to at least `max`, in about four steps.
pub fn ticks(max: i32) -> Vec<i32> {
    let max = i64::from(max.clamp(1, 1_000_000_000));
    let mut size = 1;
    let step = 'found: loop {
        for factor in [1, 2, 5] {
            if size * factor * 4 >= max {
                break 'found size * factor;
            }
        }
        size *= 10;
    };
    let steps = (max + step - 1) / step;
    (0..=steps).map(|at| (at * step) as i32).collect()
}

/// Width in pixels that the labels of an axis with these ticks need, with their distance from the axis: digits of the
/// labels' 12 px are up to 7 px wide.
pub fn label_room(ticks: &[i32]) -> f64 {
    let longest = ticks.iter().map(|&tick| count(tick).len()).max().unwrap_or(0);
    (longest as f64 * 7.0 + 12.0).max(40.0)
}

/// Moves labels apart to a distance of `gap`, within `top` and `bottom`, and keeps their order by height.
pub fn spread(ys: &[f64], gap: f64, top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ys.len()).collect();
    order.sort_by(|&a, &b| ys[a].total_cmp(&ys[b]));
    let mut placed = ys.to_vec();
    let mut floor = top;
    for &at in &order {
        placed[at] = placed[at].max(floor);
        floor = placed[at] + gap;
    }
    let mut ceiling = bottom;
    for &at in order.iter().rev() {
        placed[at] = placed[at].min(ceiling);
        ceiling = placed[at] - gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: Frame = Frame { left: 40.0, right: 640.0, top: 10.0, bottom: 210.0 };

    #[test]
    fn ticks_are_few_and_round() {
        for (max, all) in [
            (0, vec![0, 1]),
            (3, vec![0, 1, 2, 3]),
            (7, vec![0, 2, 4, 6, 8]),
            (100, vec![0, 50, 100]),
            (101, vec![0, 50, 100, 150]),
        ] {
            assert_eq!(ticks(max), all, "{max}");
        }
    }

    #[test]
    fn labels_have_room_beside_the_axis() {
        for (most, pixels) in [(800, 40.0), (1_234_567, 75.0)] {
            assert!((label_room(&ticks(most)) - pixels).abs() < 0.1, "{most}");
        }
    }

    #[test]
    fn paths_go_through_their_points() {
        assert_eq!(FRAME.line(&[0, 10, 5], 3, 10), "M40.0 210.0L340.0 10.0L640.0 110.0");
        assert_eq!(FRAME.line(&[0, 10], 3, 10), "M40.0 210.0L340.0 10.0", "the last point is left out");
        assert_eq!(FRAME.area(&[0, 10], 2, 10), "M40.0 210.0L640.0 10.0L640.0 210.0L40.0 210.0Z");
        assert_eq!(FRAME.area(&[], 3, 10), "");
    }

    proptest! {
        #[test]
        fn ticks_reach_the_top(max in 0_i32..=i32::MAX) {
            let all = ticks(max);
            prop_assert!((2..=6).contains(&all.len()), "{all:?}");
            prop_assert!(i64::from(*all.last().unwrap()) >= i64::from(max).min(1_000_000_000));
        }

        #[test]
        fn the_nearest_point_is_the_one_pointed_at(points in 1_usize..200, at in 0_usize..200) {
            let at = at % points;
            prop_assert_eq!(FRAME.nearest(FRAME.x(at, points), points), at);
            prop_assert!(FRAME.nearest(-1e9, points) == 0 && FRAME.nearest(1e9, points) == points - 1);
        }

        #[test]
        fn labels_keep_their_distance(ys in proptest::collection::vec(0.0_f64..200.0, 1..5)) {
            let mut placed = spread(&ys, 16.0, 0.0, 200.0);
            placed.sort_by(f64::total_cmp);
            prop_assert!(placed.windows(2).all(|pair| pair[1] - pair[0] > 15.9), "{placed:?}");
            prop_assert!(placed[0] >= 0.0 && *placed.last().unwrap() <= 200.0);
        }
    }
}

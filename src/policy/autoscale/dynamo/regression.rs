//! How long a pass takes: a plane over prompt tokens and KV tokens, fitted to samples.

use std::collections::BTreeMap;

/// A pass that was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Prompt tokens computed, and KV tokens of requests that decode.
    pub x: [f64; 2],
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Seconds of a pass: a base and so much for each prompt token and each KV token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plane {
    base: f64,
    slopes: [f64; 2],
}

impl Plane {
    /// Seconds of a pass; above zero.
    pub fn pass_s(&self, prefill_tokens: f64, kv_tokens: f64) -> f64 {
        let [prefill, kv] = self.slopes;
        (self.base + prefill * prefill_tokens + kv * kv_tokens).max(1e-6)
    }
}

/// At most so many passes, spread over what was seen: where there are too many, the oldest of the
/// fullest bucket goes, of equals the one with the least tokens.
#[derive(Clone, Debug)]
pub struct Regression {
    most: usize,
    least: usize,
    buckets_per_axis: usize,
    /// In the order in which they were seen.
    seen: Vec<Seen>,
    low: [f64; 2],
    high: [f64; 2],
}

impl Regression {
    /// Keeps at most `most` passes in `buckets` buckets, a square number, and needs `least`.
    pub fn new(most: u32, least: u32, buckets: u32) -> Self {
        Self {
            most: most as usize,
            least: least as usize,
            buckets_per_axis: buckets.isqrt() as usize,
            seen: Vec::new(),
            low: [f64::INFINITY; 2],
            high: [f64::NEG_INFINITY; 2],
        }
    }

    /// Takes in a pass; one without a length tells nothing.
    pub fn add(&mut self, seen: Seen) {
        if seen.seconds == 0.0 {
            return;
        }
        for axis in 0..2 {
            self.low[axis] = self.low[axis].min(seen.x[axis]);
            self.high[axis] = self.high[axis].max(seen.x[axis]);
        }
        self.seen.push(seen);
        if self.seen.len() > self.most {
            let mut counts = BTreeMap::new();
            for seen in &self.seen {
                *counts.entry(self.bucket(seen)).or_insert(0_usize) += 1;
            }
            let most = counts.values().max().copied().unwrap_or(0);
            let fullest = counts.into_iter().find(|(_, count)| *count == most);
            let in_it = |seen: &Seen| Some(self.bucket(seen)) == fullest.map(|(bucket, _)| bucket);
            if let Some(oldest) = self.seen.iter().position(in_it) {
                self.seen.remove(oldest);
            }
        }
    }

    fn bucket(&self, seen: &Seen) -> [usize; 2] {
        [0, 1].map(|axis| {
            let width = self.high[axis] - self.low[axis];
            if width <= 0.0 {
                return 0;
            }
            let share = (seen.x[axis] - self.low[axis]) / width;
            ((share * self.buckets_per_axis as f64) as usize).min(self.buckets_per_axis - 1)
        })
    }

    /// The plane closest to the passes, the flattest of several, without a slope for KV tokens
    /// where it would fall. `None` with too few, and where more prompt tokens would take less time.
    pub fn fit(&self) -> Option<Plane> {
        if self.seen.len() < self.least.max(1) {
            return None;
        }
        let n = self.seen.len() as f64;
        let mean_of = |value: &dyn Fn(&Seen) -> f64| self.seen.iter().map(value).sum::<f64>() / n;
        let mean = [0, 1].map(|axis| mean_of(&|seen| seen.x[axis]));
        let seconds = mean_of(&|seen| seen.seconds);
        let by = |seen: &Seen, axis: usize| seen.x[axis] - mean[axis];
        let xx = mean_of(&|seen| by(seen, 0) * by(seen, 0));
        let xy = mean_of(&|seen| by(seen, 0) * by(seen, 1));
        let yy = mean_of(&|seen| by(seen, 1) * by(seen, 1));
        let to = [0, 1].map(|axis| mean_of(&|seen| by(seen, axis) * (seen.seconds - seconds)));
        let slopes = flattest([xx, xy, yy], to);
        // Prompt tokens that cost nothing are not to fail by rounding. What KV tokens cost is
        // little, and less than nothing only by chance: the latency models here know requests.
        if slopes[0] * (self.high[0] - self.low[0]) < -1e-9 * seconds {
            return None;
        }
        let slopes = slopes.map(|slope| slope.max(0.0));
        let base = seconds - slopes[0] * mean[0] - slopes[1] * mean[1];
        Some(Plane { base, slopes })
    }
}

/// Solves `[a b; b c] x = to` with the shortest `x` of several, by the matrix's own directions.
fn flattest([a, b, c]: [f64; 3], to: [f64; 2]) -> [f64; 2] {
    let half = (a - c) / 2.0;
    let radius = half.hypot(b);
    let middle = f64::midpoint(a, c);
    let large = middle + radius;
    if large <= 0.0 {
        return [0.0, 0.0];
    }
    let small = (a * c - b * b) / large;
    // The direction of the larger one, from whichever row is not empty.
    let direction = if half >= 0.0 { [half + radius, b] } else { [b, radius - half] };
    let length = direction[0].hypot(direction[1]);
    let along = if length > 0.0 { direction.map(|x| x / length) } else { [1.0, 0.0] };
    let across = [-along[1], along[0]];
    let share = |way: [f64; 2], value: f64| (way[0] * to[0] + way[1] * to[1]) / value;
    let first = share(along, large);
    let second = if small > large * 1e-13 { share(across, small) } else { 0.0 };
    [0, 1].map(|axis| first * along[axis] + second * across[axis])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(prefill: f64, kv: f64, seconds: f64) -> Seen {
        Seen { x: [prefill, kv], seconds }
    }

    /// 10 ms, 20 us for a prompt token, 0.1 us for a KV token.
    fn true_s(prefill: f64, kv: f64) -> f64 {
        0.01 + 20e-6 * prefill + 0.1e-6 * kv
    }

    fn fitted(points: &[(f64, f64)]) -> Option<Plane> {
        let mut regression = Regression::new(64, 5, 16);
        for &(prefill, kv) in points {
            regression.add(seen(prefill, kv, true_s(prefill, kv)));
        }
        regression.fit()
    }

    #[test]
    fn a_plane_is_found_again() {
        let points = [(0.0, 0.0), (2048.0, 0.0), (0.0, 2e5), (512.0, 1e5), (1024.0, 4e4)];
        let plane = fitted(&points).expect("five passes");
        for (prefill, kv) in [(100.0, 3e5), (4096.0, 7.0)] {
            let (value, expected) = (plane.pass_s(prefill, kv), true_s(prefill, kv));
            assert!((value - expected).abs() < 1e-9, "{value} {expected}");
        }
        assert_eq!(fitted(&points[..4]), None, "too few");
    }

    #[test]
    fn what_never_varied_has_no_slope() {
        let plane = fitted(&[(0.0, 1e3), (0.0, 2e3), (0.0, 3e3), (0.0, 4e3), (0.0, 5e3)]);
        let plane = plane.expect("five passes");
        assert!((plane.pass_s(9e9, 2e3) - true_s(0.0, 2e3)).abs() < 1e-9, "{plane:?}");
        let same = fitted(&[(7.0, 7.0); 6]).expect("six passes");
        assert!((same.pass_s(1.0, 1e6) - true_s(7.0, 7.0)).abs() < 1e-12, "{same:?}");
    }

    #[test]
    fn along_a_line_the_flattest_plane_is_taken() {
        // Two axes that grow alike share the slope.
        let mut regression = Regression::new(64, 3, 16);
        for at in [1.0, 2.0, 3.0] {
            regression.add(seen(at, at, at));
        }
        let plane = regression.fit().expect("three passes");
        assert!(plane.slopes.iter().all(|slope| (slope - 0.5).abs() < 1e-9), "{plane:?}");
    }

    #[test]
    fn more_tokens_in_less_time_is_no_model() {
        let mut regression = Regression::new(64, 3, 16);
        for (tokens, seconds) in [(0.0, 0.3), (10.0, 0.2), (20.0, 0.1)] {
            regression.add(seen(tokens, 0.0, seconds));
        }
        assert_eq!(regression.fit(), None);
    }

    #[test]
    fn kv_tokens_cost_nothing_where_they_would_save_time() {
        let mut regression = Regression::new(64, 3, 16);
        for (kv, seconds) in [(0.0, 0.012), (1e5, 0.011), (2e5, 0.010)] {
            regression.add(seen(0.0, kv, seconds));
        }
        let plane = regression.fit().expect("three passes");
        assert!((plane.pass_s(0.0, 5e5) - 0.011).abs() < 1e-12, "{plane:?}");
    }

    #[test]
    fn tokens_may_cost_nothing() {
        let mut regression = Regression::new(64, 3, 16);
        for x in [[0.0, 0.0], [0.0, 2.7e5], [2048.0, 1e5], [700.0, 3e4], [11.0, 1.7e5]] {
            regression.add(seen(x[0], x[1], 0.01 + 17e-6 * x[0]));
        }
        let plane = regression.fit().expect("five passes");
        assert!(plane.slopes[1] < 1e-15, "{plane:?}");
    }

    #[test]
    fn what_is_seen_often_does_not_push_out_what_is_seen_seldom() {
        let mut regression = Regression::new(8, 5, 16);
        for corner in [(0.0, 0.0), (2048.0, 0.0), (0.0, 1e5), (2048.0, 1e5)] {
            regression.add(seen(corner.0, corner.1, true_s(corner.0, corner.1)));
        }
        for turn in 0..100 {
            regression.add(seen(100.0, 5e4 + f64::from(turn), 0.02));
        }
        assert_eq!(regression.seen.len(), 8);
        assert!(regression.seen[..4].iter().all(|seen| seen.x[1] == 0.0 || seen.x[1] == 1e5));
        assert_eq!(regression.seen[7].x[1], 5e4 + 99.0, "the last one stays");
        assert_eq!(regression.seen[4].x[1], 5e4 + 96.0, "the oldest go");
        regression.add(seen(100.0, 5e4, 0.0));
        assert_eq!(regression.seen.len(), 8, "an idle engine tells nothing");
    }
}

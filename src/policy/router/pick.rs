//! Who is taken of those that were scored.

use crate::base::Rng;
use crate::policy::view::ClusterView;

/// The best open instance, ties to the lowest index.
pub fn first_best(scores: &[f64], cluster: &ClusterView) -> usize {
    let (mut best, mut best_score) = (0, -1.0);
    for (instance, &score) in scores.iter().enumerate() {
        if score > best_score && cluster.is_open(instance) {
            (best, best_score) = (instance, score);
        }
    }
    best
}

/// The best open instance; among equals one draw decides, and none is made without.
#[expect(clippy::float_cmp, reason = "only what is equal to the last bit is a tie")]
pub fn any_best(scores: &[f64], cluster: &ClusterView, rng: &mut Rng) -> usize {
    let first = first_best(scores, cluster);
    let mut equals = cluster.open_instances().filter(|&at| scores[at] == scores[first]);
    let count = equals.clone().count() as u64;
    let turn = if count > 1 { rng.below(count) } else { 0 };
    equals.nth(turn as usize).unwrap_or(first)
}

/// An open instance by chance, in proportion to its score: the largest of `U^(1 / score)`, one
/// draw for each score above 0 (A-Res). Where all are 0, one draw takes any.
pub fn weighted_random(scores: &[f64], cluster: &ClusterView, rng: &mut Rng) -> usize {
    let (mut best, mut best_key) = (None, -1.0);
    for at in cluster.open_instances().filter(|&at| scores[at] > 0.0) {
        let key = rng.uniform_positive().powf(1.0 / scores[at]);
        if key > best_key {
            (best, best_key) = (Some(at), key);
        }
    }
    best.unwrap_or_else(|| any(cluster, rng))
}

/// Any open instance.
pub fn any(cluster: &ClusterView, rng: &mut Rng) -> usize {
    let count = cluster.open_instances().count() as u64;
    let turn = rng.below(count.max(1)) as usize;
    cluster.open_instances().nth(turn).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::router::fixture::Fixture;

    fn shares(pick: impl Fn(&ClusterView, &mut Rng) -> usize, fixture: &Fixture) -> [f64; 4] {
        let (mut rng, mut times) = (Fixture::rng(), [0_u32; 4]);
        for _ in 0..40_000 {
            times[pick(&fixture.cluster(), &mut rng)] += 1;
        }
        times.map(|times| f64::from(times) / 40_000.0)
    }

    fn near(shares: [f64; 4], expected: [f64; 4]) {
        let close = shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01);
        assert!(close, "{shares:?}, not {expected:?}");
    }

    #[test]
    fn a_weighted_draw_is_in_proportion_to_scores() {
        let mut fixture = Fixture::of(&[0; 4]);
        let draw = |cluster: &ClusterView, rng: &mut Rng| {
            weighted_random(&[0.2, 0.6, 0.0, 0.2], cluster, rng)
        };
        near(shares(draw, &fixture), [0.2, 0.6, 0.0, 0.2]);
        fixture.close(1);
        near(shares(draw, &fixture), [0.5, 0.0, 0.0, 0.5]);
        let zeros = |cluster: &ClusterView, rng: &mut Rng| weighted_random(&[0.0; 4], cluster, rng);
        near(shares(zeros, &fixture), [1.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0]);
    }

    #[test]
    fn equals_are_drawn_from_uniformly_and_a_sole_best_without_a_draw() {
        let fixture = Fixture::of(&[0; 4]);
        let tied =
            |cluster: &ClusterView, rng: &mut Rng| any_best(&[0.5, 0.1, 0.5, 0.0], cluster, rng);
        near(shares(tied, &fixture), [0.5, 0.0, 0.5, 0.0]);
        let mut rng = Fixture::rng();
        assert_eq!(any_best(&[0.5, 0.1, 0.6, 0.0], &fixture.cluster(), &mut rng), 2);
        assert_eq!(rng, Fixture::rng());
    }

    #[test]
    fn keys_of_a_weighted_draw_are_roots_of_uniform_numbers() {
        let (mut rng, mut again) = (Fixture::rng(), Fixture::rng());
        let scores = [0.25, 0.5, 0.0, 1.0];
        let chosen = weighted_random(&scores, &Fixture::of(&[0; 4]).cluster(), &mut rng);
        let draws = [(); 3].map(|()| again.uniform_positive());
        let keys = [draws[0].powi(4), draws[1].powi(2), 0.0, draws[2]];
        let most = keys.iter().copied().fold(0.0, f64::max);
        assert_eq!(keys[chosen].to_bits(), most.to_bits(), "{keys:?}");
        assert_eq!(rng, again);
    }
}

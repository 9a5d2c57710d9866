//! `best-policy.yaml`: the winner, ready to be applied.

use std::fmt::Write as _;

use super::cost::cost_lines;
use super::number::{figure, usd};
use super::study::StudyReport;

impl StudyReport<'_> {
    /// The winner as a complete policy bundle under a header that says where it comes from;
    /// `None` without a winner.
    pub fn best_policy(&self) -> Option<String> {
        let winner = self.winner()?;
        let tree = self.tree(&winner.candidate)?;
        Some(tree.to_yaml(&self.policy_header()?))
    }

    fn policy_header(&self) -> Option<String> {
        let winner = self.winner()?;
        let winning = self.state.winning()?;
        let bundle = self.bundle(&winner.candidate)?;
        let mut header = format!(
            "The winner of study `{}`: trial {}, {} per hour.\n\n",
            self.space.name,
            winner.index,
            usd(bundle.cost_per_hour())
        );
        for line in cost_lines(&bundle) {
            let _ = writeln!(header, "{line}");
        }
        let seeds: Vec<u64> = winning.runs.iter().map(|run| run.seed).collect();
        if let (Some(first), Some(last)) = (seeds.first(), seeds.last()) {
            let _ = writeln!(header, "\nOn {} fresh seeds ({first} to {last}):", seeds.len());
        }
        for (constraint, score) in self.space.constraints.iter().zip(&winning.score.constraints) {
            let name = constraint.metric.as_str();
            let show = |value: Option<f64>| value.map_or("-".to_owned(), |v| figure(name, v));
            let _ = writeln!(
                header,
                "  {constraint}: {}, 95 % interval {} to {}",
                show(score.estimate),
                show(score.low),
                show(score.high)
            );
        }
        let _ = writeln!(header, "\nTo try it: blis-opt run best-policy.yaml --rate R");
        Some(header)
    }
}

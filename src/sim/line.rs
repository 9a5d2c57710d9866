//! Lines that a run must not cross, and when it has crossed one whatever comes.
//!
//! What has been counted of a measured request is never taken back, and no more than a known
//! number of requests can be measured. So many latencies above a limit that they are a quantile's
//! share of all that can ever be counted keep that quantile above it; so many lost requests that
//! they are too large a share of all that can ever be asked keep that share too large.

use crate::base::{Distribution, SimTime, Span};
use crate::sim::collect::Latencies;
use crate::workload::Trace;

/// A line that the figures of a run must not cross.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Index of the SLO class that is looked at; `None`: all.
    pub class: Option<u8>,
    /// What must not be.
    pub crossing: Crossing,
}

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crossing {
    /// The quantile of `level`, in [0, 1], of a latency is above a limit.
    Quantile {
        /// Of which latency.
        of: Latency,
        /// Which quantile.
        level: f64,
        /// The limit.
        above: Span,
    },
    /// More than this share of the measured requests is lost.
    Share {
        /// In which way.
        of: Loss,
        /// The limit; at least 0.
        above: f64,
    },
}

/// A latency whose quantiles are figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// Arrival to first token.
    Ttft,
    /// Time per output token after the first.
    Tpot,
    /// Arrival to last token.
    E2e,
}

/// How a request is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is not answered in full within the targets of its class.
    OutsideTargets,
    /// It ends without an answer.
    Unanswered,
}

/// A run that was stopped, since it had crossed a line whatever came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crossed {
    /// Which one, of the lines that were given.
    pub line: usize,
    /// The share of its requests that had arrived, in [0, 1].
    pub arrived: f64,
}

/// The lines of a run with the most requests that each can ever count.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines<'a> {
    given: &'a [Line],
    most: Vec<u64>,
    /// From one look to the next.
    pub every: Span,
}

/// Looks at the lines in the measured window.
const LOOKS: u64 = 64;
/// Quantiles of many values are those of bins, which are within 1/1,000 of them: a limit counts as
/// crossed when it is by one part in so many.
const BIN_ERROR: u64 = 200;

impl<'a> Lines<'a> {
    /// The lines of a run of `trace` that is measured from `warm_up` on; none where requests come
    /// that the trace does not list.
    pub fn of(lines: &'a [Line], trace: &Trace, warm_up: SimTime) -> Self {
        if lines.is_empty() || !trace.users.is_empty() {
            return Self::default();
        }
        let most = |line: &Line| {
            let in_class =
                |client: usize| line.class.is_none_or(|class| trace.clients[client].class == class);
            let each = trace.arrival.iter().zip(&trace.client);
            // What waits for an answer arrives at `NEVER`, and may be measured.
            let counts = each.filter(|(at, client)| **at >= warm_up && in_class(client.index()));
            counts.count() as u64
        };
        let most = lines.iter().map(most).collect();
        let every = Span::from_ps((trace.end.since(warm_up).as_ps() / LOOKS).max(1));
        Self { given: lines, most, every }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The first line that is crossed whatever comes, after what `all` requests and those of
    /// `classes` told so far.
    pub fn crossed(&self, all: &Latencies, classes: &[Latencies]) -> Option<usize> {
        let mut each = self.given.iter().zip(&self.most);
        each.position(|(line, &most)| {
            let told = line.class.map_or(all, |class| &classes[usize::from(class)]);
            line.crossing.is_certain(told, most)
        })
    }
}

impl Crossing {
    /// Whether it is certain after what was `told` of at most `most` requests.
    fn is_certain(&self, told: &Latencies, most: u64) -> bool {
        match *self {
            Self::Quantile { of, level, above } => {
                let values = match of {
                    Latency::Ttft => &told.ttft,
                    Latency::Tpot => &told.tpot,
                    Latency::E2e => &told.e2e,
                };
                let ps = above.as_ps();
                let above = Span::from_ps(ps.saturating_add(ps / BIN_ERROR));
                is_quantile_above(values, level, above, most)
            }
            Self::Share { of, above } => {
                let counts = &told.measured;
                let errors = counts.rejected
                    + counts.dropped
                    + counts.timed_out
                    + counts.failed
                    + counts.expired;
                let lost = match of {
                    Loss::OutsideTargets => counts.completed - told.within_slo + errors,
                    Loss::Unanswered => errors,
                };
                // One more than needed: no rounding of a share makes up for a request.
                lost as f64 > above * most as f64 + 1.0
            }
        }
    }
}

/// Whether the quantile at `level` is above `above` once up to `most` values are there, these
/// among them.
///
/// The quantile of `n` values lies between those of rank `floor(level (n - 1))` and the next; it is
/// above where that rank is among the `beyond` highest: `n - floor(level (n - 1)) <= beyond`. The
/// left side never falls when `n` grows.
fn is_quantile_above(values: &Distribution, level: f64, above: Span, most: u64) -> bool {
    let beyond = values.count_above(above);
    let rank = (level * most.saturating_sub(1) as f64) as u64;
    beyond > most - rank
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_values_to_come_bring_a_quantile_back(
            first in prop::collection::vec(0..100_u64, 0..300),
            rest in prop::collection::vec(0..100_u64, 0..300),
            level in prop::sample::select(vec![0.0, 0.5, 0.9, 0.95, 0.99, 1.0]),
            above in 0..100_u64,
            more in 0..50_u64,
        ) {
            let mut values = Distribution::default();
            let milliseconds = |ms: u64| Span::from_us(ms * 1000);
            for &ms in &first {
                values.add(milliseconds(ms), 1);
            }
            let most = (first.len() + rest.len()) as u64 + more;
            let certain = is_quantile_above(&values, level, milliseconds(above), most);
            for &ms in &rest {
                values.add(milliseconds(ms), 1);
            }
            if certain {
                let [quantile] = values.quantiles_ms([level]);
                prop_assert!(quantile > above as f64, "{quantile} <= {above}");
            }
        }
    }

    #[test]
    fn a_quantile_is_certain_one_value_after_it_must_be() {
        let mut values = Distribution::default();
        let (limit, late) = (Span::from_us(10), Span::from_us(11));
        let mut needed = 0;
        while !is_quantile_above(&values, 0.99, limit, 1000) {
            values.add(late, 1);
            needed += 1;
        }
        assert_eq!(needed, 12, "of 1,000 values 11 are at or behind the rank of 0.99");
        assert!(!is_quantile_above(&values, 0.99, late, 1000));
        assert!(!is_quantile_above(&Distribution::default(), 0.99, limit, 0));
    }
}

//! The order of a wait queue, as one number per request.
//!
//! Priorities that grow with age at one rate keep their order for ever, so that a rank computed
//! once, when the request arrives, sorts the queue as a new sort at each step would.

use crate::base::SimTime;
use crate::policy::{Priority, Scheduler};
use std::cmp::Ordering;

/// Ranks requests for a scheduler: the smallest rank is served first.
#[derive(Clone, Debug)]
pub struct Ranking {
    scheduler: Scheduler,
    priority: ClassPriority,
}

#[derive(Clone, Debug)]
enum ClassPriority {
    Constant,
    Age,
    InvertedAge,
    Class(Vec<f64>),
    Deadline(Vec<Option<crate::base::Span>>),
}

impl Ranking {
    /// The ranking of a bundle's scheduler and priority for the classes of a workload.
    pub fn new(scheduler: Scheduler, priority: &Priority, classes: &[String]) -> Self {
        let priority = match priority {
            Priority::Constant => ClassPriority::Constant,
            Priority::Age => ClassPriority::Age,
            Priority::InvertedAge => ClassPriority::InvertedAge,
            Priority::SloClass(table) => ClassPriority::Class(
                classes.iter().map(|class| find(table, class).unwrap_or(0.0)).collect(),
            ),
            Priority::SloDeadline(table) => {
                ClassPriority::Deadline(classes.iter().map(|class| find(table, class)).collect())
            }
        };
        Self { scheduler, priority }
    }

    /// Whether the queue is served as it was queued.
    pub fn is_fcfs(&self) -> bool {
        self.scheduler == Scheduler::Fcfs
    }

    /// The rank of a request; ties are served by arrival, then by id as text.
    pub fn rank(&self, arrival: SimTime, class: u8, input: u32) -> u64 {
        match self.scheduler {
            Scheduler::Fcfs => 0,
            Scheduler::Sjf => u64::from(input),
            Scheduler::PriorityFcfs => self.urgency(arrival, class),
            Scheduler::ReversePriority => !self.urgency(arrival, class),
        }
    }

    /// Smaller is more urgent.
    fn urgency(&self, arrival: SimTime, class: u8) -> u64 {
        match &self.priority {
            ClassPriority::Constant => 0,
            ClassPriority::Age => arrival.as_ps(),
            ClassPriority::InvertedAge => !arrival.as_ps(),
            ClassPriority::Class(values) => descending(values[usize::from(class)]),
            ClassPriority::Deadline(targets) => targets[usize::from(class)]
                .map_or(u64::MAX, |target| arrival.as_ps().saturating_add(target.as_ps())),
        }
    }
}

fn find<T: Copy>(table: &[(String, T)], class: &str) -> Option<T> {
    table.iter().find(|(name, _)| name == class).map(|&(_, value)| value)
}

/// Maps numbers to integers in descending order.
fn descending(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    let ascending = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    !ascending
}

/// Compares two ids as the text of their decimal digits: 10 comes before 2.
pub fn compare_as_text(a: u32, b: u32) -> Ordering {
    let digits = |id: u32| id.checked_ilog10().map_or(1, |log| log + 1);
    let (a_digits, b_digits) = (digits(a), digits(b));
    let widest = a_digits.max(b_digits);
    let padded = |id: u32, digits: u32| u64::from(id) * 10u64.pow(widest - digits);
    padded(a, a_digits).cmp(&padded(b, b_digits)).then(a_digits.cmp(&b_digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_compare_as_text() {
        for a in (0..1200).step_by(7) {
            for b in (0..1200).step_by(11) {
                assert_eq!(compare_as_text(a, b), a.to_string().cmp(&b.to_string()), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_higher_class_priority_ranks_first() {
        let values = [-2.5, -1.0, 0.0, 1e-9, 3.0, 1e9];
        assert!(values.windows(2).all(|pair| descending(pair[0]) > descending(pair[1])));
        assert_eq!(descending(0.0), descending(-0.0));
    }

    #[test]
    fn age_serves_the_oldest_first_and_inverted_age_the_newest() {
        let at = SimTime::from_us;
        let age = Ranking::new(Scheduler::PriorityFcfs, &Priority::Age, &[]);
        assert!(age.rank(at(1), 0, 9) < age.rank(at(2), 0, 1));
        let inverted = Ranking::new(Scheduler::PriorityFcfs, &Priority::InvertedAge, &[]);
        assert!(inverted.rank(at(1), 0, 9) > inverted.rank(at(2), 0, 1));
        let reverse = Ranking::new(Scheduler::ReversePriority, &Priority::Age, &[]);
        assert!(reverse.rank(at(1), 0, 9) > reverse.rank(at(2), 0, 1));
    }
}

//! What a fleet under stress does less of, as `sim/admission.md` has it.

use crate::config::{Bounds, Fields};

/// Requests that wait, as a limit.
const WAITING_MAX: u32 = 1_000_000_000;
/// Answer tokens.
const TOKENS_MAX: u32 = 1 << 20;
/// Instances.
const INSTANCES_MAX: u32 = 100_000;

/// What a fleet under stress does less of; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Degradation {
    /// Shorter answers.
    pub cap_output: Option<CapOutput>,
    /// The share of an instance's KV blocks in use above which it throws requests out of its
    /// batch; in (0, 1).
    pub preempt_above: Option<f64>,
    /// Nobody of low priority.
    pub shed: Option<Shed>,
    /// Nobody is sent to an instance while fewer than this are in rotation; at least 1.
    pub min_healthy: Option<u32>,
}

/// Shorter answers while many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapOutput {
    /// The number waiting above which answers are cut.
    pub above_waiting: u32,
    /// The answer tokens that a request may then have; at least 1.
    pub max_output_tokens: u32,
}

/// Requests of low priority are refused while many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// The number waiting above which they are refused.
    pub above_waiting: u32,
    /// The least priority that is let in.
    pub min_priority: i32,
}

impl Degradation {
    /// Whether it ever does anything.
    pub fn is_active(&self) -> bool {
        *self != Self::default()
    }

    /// Whether it looks at what waits.
    pub fn needs_gauges(&self) -> bool {
        self.cap_output.is_some() || self.shed.is_some()
    }
}

/// Reads `degradation`; each of its parts is off unless it is there.
pub(super) fn read_degradation(bundle: &mut Fields) -> Degradation {
    let Some(mut fields) = bundle.fields("degradation") else { return Degradation::default() };
    let cap_output = fields.fields("cap_output").map(|mut cap| {
        let above = cap.u32("above_waiting", 0..=WAITING_MAX);
        let tokens = cap.u32("max_output_tokens", 1..=TOKENS_MAX);
        cap.finish();
        let above_waiting = above.unwrap_or(100);
        CapOutput { above_waiting, max_output_tokens: tokens.unwrap_or(512) }
    });
    let preempt_above = fields.fields("preempt").map(|mut preempt| {
        let bounds = Bounds::between(0.01, 1.0);
        let above = preempt.f64("above_kv_utilization", bounds).unwrap_or(0.95);
        preempt.finish();
        above
    });
    let shed = fields.fields("shed").map(|mut shed| {
        let above = shed.u32("above_waiting", 0..=WAITING_MAX);
        let priority = super::admission::read_priority_number(&mut shed, "min_priority");
        shed.finish();
        Shed { above_waiting: above.unwrap_or(100), min_priority: priority.unwrap_or(0) }
    });
    let min_healthy = fields.fields("queue").map(|mut queue| {
        let least = queue.u32("min_healthy", 1..=INSTANCES_MAX).unwrap_or(1);
        queue.finish();
        least
    });
    fields.finish();
    Degradation { cap_output, preempt_above, shed, min_healthy }
}

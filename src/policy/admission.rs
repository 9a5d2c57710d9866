//! Who is let in.

use crate::base::SimTime;
use crate::policy::Admission;
use crate::policy::view::{ClusterView, RequestView};

/// Decides whether a request is let in.
/// Must depend only on its arguments and its own state.
pub trait AdmissionPolicy {
    /// Whether `request` is let in at `now`; calls come in order of time.
    fn admit(&mut self, now: SimTime, request: &RequestView, cluster: &ClusterView) -> bool;
}

/// The policy that a bundle names.
pub fn admission_policy(admission: &Admission) -> Box<dyn AdmissionPolicy> {
    match *admission {
        Admission::AlwaysAdmit => Box::new(Always(true)),
        Admission::RejectAll => Box::new(Always(false)),
        Admission::TokenBucket { capacity, refill_rate } => {
            Box::new(TokenBucket { capacity, refill_rate, tokens: capacity, last: SimTime::ZERO })
        }
    }
}

struct Always(bool);

impl AdmissionPolicy for Always {
    fn admit(&mut self, _: SimTime, _: &RequestView, _: &ClusterView) -> bool {
        self.0
    }
}

/// Starts full; a request costs its prompt's tokens.
struct TokenBucket {
    capacity: f64,
    refill_rate: f64,
    tokens: f64,
    last: SimTime,
}

impl AdmissionPolicy for TokenBucket {
    fn admit(&mut self, now: SimTime, request: &RequestView, _: &ClusterView) -> bool {
        let elapsed_us = now.since(self.last).as_us();
        if elapsed_us > 0 {
            let refilled = self.tokens + elapsed_us as f64 * self.refill_rate / 1e6;
            self.tokens = refilled.min(self.capacity);
            self.last = now;
        }
        let cost = f64::from(request.input);
        if self.tokens < cost {
            return false;
        }
        self.tokens -= cost;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ClientId;
    use crate::policy::load::Load;

    fn request(input: u32) -> RequestView {
        RequestView {
            id: 0,
            client: ClientId(0),
            class: 0,
            arrival: SimTime::ZERO,
            input,
            prompt_blocks: 0,
            chain: crate::workload::NO_CHAIN,
            chain_blocks: 0,
        }
    }

    #[test]
    fn a_bucket_refills_with_time_up_to_its_capacity() {
        let bundle = Admission::TokenBucket { capacity: 100.0, refill_rate: 10.0 };
        let mut bucket = admission_policy(&bundle);
        let chains = crate::policy::view::ChainBlocks::default();
        let cluster = ClusterView {
            load: &Load::default(),
            kv_utilization: &[],
            chains: &chains,
            open: None,
            seen: &crate::policy::view::Seen::default(),
        };
        let mut admit = |s: u64, input| {
            bucket.admit(SimTime::from_us(s * 1_000_000), &request(input), &cluster)
        };
        assert!(admit(0, 100));
        assert!(!admit(1, 11));
        assert!(admit(1, 10));
        assert!(!admit(1000, 101));
        assert!(admit(1000, 100));
    }
}

//! A fleet as a router sees it, for tests.

use crate::base::{ClientId, Rng, SimTime, Span, Stream};
use crate::latency::Blackbox;
use crate::policy::load::Load;
use crate::policy::router::{Router, router};
use crate::policy::view::{ChainBlocks, ClusterView, RequestView, Seen};
use crate::policy::{
    Admission, Batching, PolicyBundle, Pool, Priority, Routing, Scheduler, Signals,
};
use crate::workload::NO_CHAIN;

pub struct Fixture {
    pub load: Load,
    pub kv_utilization: Vec<f64>,
    pub open: Option<Vec<bool>>,
    pub seen: Seen,
    pub chains: ChainBlocks,
}

impl Fixture {
    pub fn of(load: &[u32]) -> Self {
        let mut seen = Seen::default();
        seen.reset(load.len());
        Self {
            load: Load::from(load),
            kv_utilization: vec![0.0; load.len()],
            open: None,
            seen,
            chains: ChainBlocks::default(),
        }
    }

    pub fn cluster(&self) -> ClusterView<'_> {
        ClusterView {
            load: &self.load,
            kv_utilization: &self.kv_utilization,
            chains: &self.chains,
            open: self.open.as_deref(),
            seen: &self.seen,
        }
    }

    pub fn close(&mut self, instance: usize) {
        self.load.set_open(instance, false);
        self.open.get_or_insert_with(|| vec![true; self.load.len()])[instance] = false;
    }

    pub fn bundle(&self, routing: Routing) -> PolicyBundle {
        let latency = Blackbox { alpha: [0.0; 3], beta: [1000.0, 0.0, 0.0] };
        PolicyBundle {
            pools: vec![Pool::bare(self.load.len() as u32, 100, latency)],
            admission: Admission::AlwaysAdmit,
            admission_latency: Span::ZERO,
            routing,
            routing_latency: Span::ZERO,
            signals: Signals {
                kv_utilization_refresh: Span::ZERO,
                metrics_fetch_interval: Span::ZERO,
                prefix_index_blocks: 100,
            },
            priority: Priority::Constant,
            scheduler: Scheduler::Fcfs,
            batching: Batching { max_running: 256, max_tokens: 2048, long_prefill_threshold: 0 },
            block_size: 16,
            gateway: crate::policy::Gateway::default(),
            autoscaling: None,
        }
    }

    pub fn router(&self, routing: Routing) -> Box<dyn Router> {
        router(&self.bundle(routing), 1)
    }

    pub fn request() -> RequestView {
        RequestView {
            id: 0,
            client: ClientId(0),
            class: 0,
            arrival: SimTime::ZERO,
            input: 10,
            prompt_blocks: 0,
            chain: NO_CHAIN,
            chain_blocks: 0,
        }
    }

    pub fn rng() -> Rng {
        Rng::new(1, Stream::RouterTies, 0)
    }
}

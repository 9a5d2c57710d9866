//! The figures of promises and of a fleet that changes.

use super::fleet::{aftermaths, bills, clairvoyant, scaling, slo_attainment_min, total_usd};
use super::metric::{Figures, Metric, higher, lower};
use crate::policy::PolicyBundle;
use crate::sim::outcome::Counts;
use crate::sim::{FleetOutcome, Outcome};

/// Figures of promises, clients, money and scaling. Those of the whole run say so; the others are
/// of the measured window.
pub const FLEET_METRICS: [Metric; 24] = [
    higher("goodput_rps", "measured requests within their SLO per second of the window"),
    higher("slo_attainment", "share of measured requests answered within their class's targets"),
    higher("slo_attainment_min", "the same in the worst interval of the timeline that had any"),
    lower("error_rate", "share of measured requests that ended without an answer"),
    lower("timed_out_ratio", "share of measured requests given up by their clients"),
    lower("failed_ratio", "share of measured requests lost with an instance for good"),
    lower("retries_per_request", "attempts after the first per request, whole run"),
    lower("wasted_tokens", "tokens computed for attempts lost or given up, whole run"),
    lower("cost_total", "US dollars of a fleet that changes, whole run"),
    lower("cost_per_thousand_within_slo", "US dollars per 1,000 requests within their SLO"),
    lower("gpu_hours", "GPU-hours paid for by a fleet that changes, whole run"),
    lower("instances_max", "the most instances paid for at once, summed over pools, whole run"),
    lower("scale_events_per_hour", "orders to scale that were carried out, per hour, whole run"),
    lower("scale_ups", "orders that added instances, whole run"),
    lower("scale_downs", "orders that removed instances, whole run"),
    lower("reversals", "orders against the one before in their pool within 10 min, whole run"),
    lower("recovery_s_max", "longest time after a fault, in s, with under 95 % within SLO"),
    lower("below_needed_s", "seconds in which fewer instances were ready than arrivals needed"),
    lower("cost_over_clairvoyant", "bill over that of the fewest instances that would have done"),
    // Of any fleet; of one that changes, what was paid for or ready on average.
    lower("instances", "instances of the fleet; where it changes, ready on average"),
    lower("gpus", "GPUs of the fleet; where it changes, paid for on average"),
    lower("cost_per_hour", "US dollars per hour of the fleet; where it changes, on average"),
    lower("cost_per_million_tokens", "US dollars per million prompt and answer tokens"),
    lower("cost_per_million_output_tokens", "US dollars per million answer tokens"),
];

impl Figures {
    /// What was promised and kept, from `counts` with `within_slo` of them.
    pub(super) fn set_promises(&mut self, prefix: &str, counts: &Counts, within_slo: u64) {
        let injected = counts.injected as f64;
        let lost = counts.timed_out + counts.failed + counts.expired;
        let errors = counts.rejected + counts.dropped + lost;
        // 0/0 is NaN, which `set` leaves out.
        let ratios = [
            ("slo_attainment", within_slo),
            ("error_rate", errors),
            ("timed_out_ratio", counts.timed_out),
            ("failed_ratio", counts.failed),
        ];
        for (name, count) in ratios {
            self.set(&format!("{prefix}{name}"), count as f64 / injected);
        }
    }

    /// What it cost, and what the fleet was on average.
    pub(super) fn set_costs(&mut self, outcome: &Outcome, bundle: &PolicyBundle) {
        let mean = match &outcome.fleet {
            None => MeanFleet::fixed(bundle),
            Some(fleet) => MeanFleet::changing(fleet, bundle, outcome.window_s),
        };
        let goodput = outcome.within_slo as f64 / outcome.window_s;
        let cost = mean.cost_per_hour;
        let per_million = |tokens_per_s: f64| cost / (tokens_per_s * 3600.0) * 1e6;
        self.set("goodput_rps", goodput);
        self.set("instances", mean.instances);
        self.set("gpus", mean.gpus);
        self.set("cost_per_hour", cost);
        self.set("cost_per_million_tokens", per_million(outcome.total_tokens_per_s));
        self.set("cost_per_million_output_tokens", per_million(outcome.output_tokens_per_s));
        self.set("cost_per_thousand_within_slo", cost / (goodput * 3600.0) * 1e3);
    }

    /// What a fleet did over the whole run. One that cannot change is never scaled, and nobody
    /// tries again there: these are zero, not unknown.
    pub(super) fn set_fleet(
        &mut self,
        outcome: &Outcome,
        bundle: &PolicyBundle,
        capacities: &[Option<f64>],
    ) {
        let still = FleetOutcome::default();
        let fleet = outcome.fleet.as_ref().unwrap_or(&still);
        let orders = scaling(fleet);
        self.set("scale_ups", orders.ups as f64);
        self.set("scale_downs", orders.downs as f64);
        self.set("reversals", orders.reversals as f64);
        self.set("wasted_tokens", fleet.wasted_tokens as f64);
        self.set("retries_per_request", fleet.retries as f64 / outcome.counts.injected as f64);
        if outcome.fleet.is_none() {
            self.set("scale_events_per_hour", 0.0);
            self.set("instances_max", f64::from(bundle.instances()));
            return;
        }
        let hours = fleet.end.as_secs() / 3600.0;
        self.set("scale_events_per_hour", (orders.ups + orders.downs) as f64 / hours);
        let most = fleet.pools.iter().map(|pool| f64::from(pool.most));
        self.set("instances_max", most.sum());
        let bills = bills(fleet, bundle);
        self.set("gpu_hours", bills.iter().map(|bill| bill.gpu_hours).sum());
        self.set("cost_total", total_usd(fleet, bundle));
        self.set_timeline(fleet, bundle, capacities);
    }

    /// What only a timeline tells.
    fn set_timeline(
        &mut self,
        fleet: &FleetOutcome,
        bundle: &PolicyBundle,
        capacities: &[Option<f64>],
    ) {
        if let Some(worst) = slo_attainment_min(fleet) {
            self.set("slo_attainment_min", worst);
        }
        let recoveries = aftermaths(fleet).into_iter().filter_map(|aftermath| aftermath.recovery);
        if let Some(longest) = recoveries.max() {
            self.set("recovery_s_max", longest.as_secs());
        }
        if let Some(ideal) = clairvoyant(fleet, bundle, capacities) {
            self.set("below_needed_s", ideal.below_needed_s);
            self.set("cost_over_clairvoyant", total_usd(fleet, bundle) / ideal.usd);
        }
    }
}

/// A fleet on average over the measured window.
struct MeanFleet {
    instances: f64,
    gpus: f64,
    cost_per_hour: f64,
}

impl MeanFleet {
    fn fixed(bundle: &PolicyBundle) -> Self {
        let gpus = bundle
            .pools
            .iter()
            .map(|pool| f64::from(pool.instances) * f64::from(pool.gpus_per_instance));
        Self {
            instances: f64::from(bundle.instances()),
            gpus: gpus.sum(),
            cost_per_hour: bundle.cost_per_hour(),
        }
    }

    fn changing(fleet: &FleetOutcome, bundle: &PolicyBundle, window_s: f64) -> Self {
        let mean = |ps: u128| ps as f64 / 1e12 / window_s;
        let pools = || fleet.pools.iter().zip(&bundle.pools);
        let paid = pools().map(|(paid, pool)| (mean(paid.paid_in_window_ps), pool));
        let (mut gpus, mut cost_per_hour) = (0.0, 0.0);
        for (instances, pool) in paid {
            gpus += instances * f64::from(pool.gpus_per_instance);
            cost_per_hour += instances * pool.instance_cost_per_hour();
        }
        let ready = pools().map(|(paid, _)| mean(paid.ready_in_window_ps));
        Self { instances: ready.sum(), gpus, cost_per_hour }
    }
}

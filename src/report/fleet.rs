//! What a fleet that changes cost: its bill, and how far that is from the least possible.

use std::fmt::Write as _;

use super::estimate::Estimate;
use super::events::{events_section, fault_lines};
use super::number::{count, decimal, duration, figure, percent, rate, usd};
use super::run::RunReport;
use super::table::Table;
use super::timeline::timeline_section;
use crate::search::fleet::{PoolBill, bills, clairvoyant};
use crate::sim::FleetOutcome;

impl RunReport {
    /// What the fleet of the first seed did, and what the fleets of all seeds cost; empty where
    /// nothing could change.
    pub(super) fn fleet_section(&self) -> String {
        let Some(first) = &self.outcomes[0].fleet else { return String::new() };
        let mut text = timeline_section(first, &self.bundle);
        text.push_str(&events_section(first, &self.bundle));
        let faults = fault_lines(first);
        if !faults.is_empty() {
            text.push('\n');
        }
        for line in faults {
            let _ = writeln!(text, "  {:<12}{line}", "fault");
        }
        if self.seeds.len() > 1 && !text.is_empty() {
            text = format!("\n  of seed {}, the first:\n{text}", self.seeds[0]);
        }
        text.push_str(&self.bill_section());
        text
    }

    /// A figure of the changing fleets over the seeds.
    fn fleet_estimate(&self, figure: impl Fn(&FleetOutcome) -> f64) -> Estimate {
        self.estimate(|outcome| outcome.fleet.as_ref().map_or(f64::NAN, &figure))
    }

    fn bill_section(&self) -> String {
        let mut table = Table::new([
            "bill, whole run",
            "launches",
            "most at once",
            "instance-hours",
            "GPU-hours",
            "$/h",
            "$",
        ]);
        let sum = |part: fn(&PoolBill) -> f64| {
            let of = move |fleet: &FleetOutcome| -> f64 {
                bills(fleet, &self.bundle).iter().map(part).sum()
            };
            self.fleet_estimate(of)
        };
        let hours = |fleet: &FleetOutcome| fleet.end.as_secs() / 3600.0;
        for (index, pool) in self.bundle.pools.iter().enumerate() {
            let bill = |part: fn(&PoolBill) -> f64| {
                self.fleet_estimate(|fleet| part(&bills(fleet, &self.bundle)[index]))
            };
            let number = |part: &dyn Fn(&FleetOutcome) -> f64| {
                let mean = self.fleet_estimate(part).mean;
                decimal(mean, usize::from(mean.fract() != 0.0))
            };
            let per_hour =
                self.fleet_estimate(|fleet| bills(fleet, &self.bundle)[index].usd / hours(fleet));
            table.row([
                pool.name.clone(),
                number(&|fleet| f64::from(fleet.pools[index].launches)),
                number(&|fleet| f64::from(fleet.pools[index].most)),
                bill(|bill| bill.instance_hours).show(|value| decimal(value, 2)),
                bill(|bill| bill.gpu_hours).show(|value| decimal(value, 2)),
                per_hour.show(usd),
                bill(|bill| bill.usd).show(usd),
            ]);
        }
        if self.bundle.pools.len() > 1 {
            let usd_of = |fleet: &FleetOutcome| -> f64 {
                bills(fleet, &self.bundle).iter().map(|bill| bill.usd).sum()
            };
            table.row([
                "total".to_owned(),
                String::new(),
                String::new(),
                sum(|bill| bill.instance_hours).show(|value| decimal(value, 2)),
                sum(|bill| bill.gpu_hours).show(|value| decimal(value, 2)),
                self.fleet_estimate(|fleet| usd_of(fleet) / hours(fleet)).show(usd),
                sum(|bill| bill.usd).show(usd),
            ]);
        }
        format!("\n{}{}", table.to_text(), self.clairvoyant_lines())
    }

    /// What one instance carries, and what the fewest instances would have cost.
    fn clairvoyant_lines(&self) -> String {
        let mut text = String::new();
        for (pool, capacity) in self.bundle.pools.iter().zip(&self.capacities) {
            let name = &pool.name;
            let _ = match capacity {
                Some(rps) => {
                    let rps = rate(*rps);
                    writeln!(text, "  one {name} instance carries {rps} requests/s within the SLO")
                }
                None => {
                    writeln!(text, "  no {name} instance keeps 99 % within the SLO at any rate")
                }
            };
        }
        let (Some(ratio), Some(below)) =
            (self.figure("cost_over_clairvoyant"), self.figure("below_needed_s"))
        else {
            return text;
        };
        let ideal = self.fleet_estimate(|fleet| {
            clairvoyant(fleet, &self.bundle, &self.capacities).map_or(f64::NAN, |ideal| ideal.usd)
        });
        let _ = writeln!(
            text,
            "  this fleet cost {} times the fewest instances that could have carried each \
             interval, {}\n  with fewer instances ready than the arrivals needed: {} in all",
            ratio.show(|value| decimal(value, 2)),
            ideal.show(usd),
            below.show(duration)
        );
        text
    }

    /// Promises kept, for a fleet that changes.
    pub(super) fn promises_line(&self) -> String {
        let Some((kept, goodput)) = self.figure("slo_attainment").zip(self.figure("goodput_rps"))
        else {
            return String::new();
        };
        let cost = self.figure("cost_per_thousand_within_slo");
        let cost = cost.map_or(String::new(), |cost| {
            let name = "cost_per_thousand_within_slo";
            format!(", {} per 1,000 of them", cost.show(|value| figure(name, value)))
        });
        let kept = kept.show(percent);
        format!("{kept} of measured requests, {} requests/s{cost}", goodput.show(rate))
    }

    /// Attempts after a client's first and what was computed in vain; empty without any.
    pub(super) fn retries_line(&self) -> String {
        let fleets = || self.outcomes.iter().filter_map(|outcome| outcome.fleet.as_ref());
        let retries: u64 = fleets().map(|fleet| fleet.retries).sum();
        let wasted: u64 = fleets().map(|fleet| fleet.wasted_tokens).sum();
        if retries + wasted == 0 {
            return String::new();
        }
        let injected: u64 = self.outcomes.iter().map(|outcome| outcome.counts.injected).sum();
        format!(
            "{}, {} per request; {} tokens computed in vain",
            count(retries),
            decimal(retries as f64 / injected as f64, 4),
            count(wasted)
        )
    }
}

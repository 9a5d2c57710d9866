//! Where a scenario is played: the fleet's pools and zones, and the run's end and peak.

use super::space::{Domain, SearchSpace};
use crate::base::{SimTime, Span};
use crate::config::Market;
use crate::policy::{PolicyBundle, Pool};
use crate::scenario::{FleetNames, Scenario, Setting};
use crate::workload::{Burst, WorkloadSpec};

/// A timeline that is not asked for has about so many intervals.
const INTERVALS: f64 = 96.0;
/// Lengths of intervals that people can read, in seconds.
const PLEASANT: [u32; 18] =
    [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];

/// The parts of `bundle` that a scenario can name.
pub fn fleet_names(bundle: &PolicyBundle) -> FleetNames {
    FleetNames {
        pools: bundle.pools.iter().map(|pool| pool.name.clone()).collect(),
        zones: zones(&bundle.pools),
        has_spot: bundle.pools.iter().any(|pool| pool.market == Market::Spot),
    }
}

/// The run of `workload`, whose arrivals end at `end`, on `pools`. A search takes the largest
/// pools of its space, so that the same faults strike all candidates.
pub fn setting(pools: &[Pool], workload: &WorkloadSpec, end: Span) -> Setting {
    Setting {
        peak: SimTime::ZERO + workload.peak_time(end),
        end: SimTime::ZERO + end,
        pools: pools.iter().map(|pool| (pool.max_instances, pool.gpus_per_instance)).collect(),
        zones: zones(pools),
    }
}

/// The pools of `bundle` with as many places as any candidate of `space` may have, so that the same
/// faults strike all of them.
pub fn largest(bundle: &PolicyBundle, space: &SearchSpace) -> Vec<Pool> {
    let mut pools = bundle.pools.clone();
    for pool in &mut pools {
        let prefix = format!("pools.{}.", pool.name);
        for knob in space.knobs.iter().filter(|knob| knob.path.starts_with(&prefix)) {
            if let (true, Domain::Int { high, .. }) =
                (knob.path.ends_with("instances"), &knob.domain)
            {
                pool.max_instances = pool.max_instances.max(*high as u32);
            }
        }
    }
    pools
}

/// An interval that people can read, of which a run that ends at `end` has about a hundred.
pub fn pleasant_interval(end: Span) -> Span {
    let wanted = end.as_secs() / INTERVALS;
    let pleasant = PLEASANT.into_iter().find(|&seconds| f64::from(seconds) >= wanted);
    Span::from_secs(f64::from(pleasant.unwrap_or(86_400)))
}

/// `workload` with the burst of `scenario`.
///
/// # Errors
/// A sentence where a burst cannot be laid over this workload.
pub fn with_burst(
    workload: WorkloadSpec,
    scenario: &Scenario,
    run: &Setting,
) -> Result<WorkloadSpec, String> {
    let Some(surge) = scenario.burst else { return Ok(workload) };
    let at = surge.at.in_run(run).since(SimTime::ZERO);
    workload.with_burst(Burst { at, duration: surge.lasting, factor: surge.factor })
}

/// The zones of all pools, each once, in order of first mention.
fn zones(pools: &[Pool]) -> Vec<String> {
    let mut zones: Vec<String> = Vec::new();
    for zone in pools.iter().flat_map(|pool| &pool.zones) {
        if !zones.contains(zone) {
            zones.push(zone.clone());
        }
    }
    zones
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Moment, Surge};
    use crate::search::simulated::tests::bundle;
    use crate::workload::RateMode;

    #[test]
    fn zones_of_several_pools_are_named_once() {
        let mut bundle = bundle(3, 2.0);
        let mut second = bundle.pools[0].clone();
        second.zones = vec!["zone-b".to_owned(), "zone-a".to_owned()];
        second.market = Market::Spot;
        second.max_instances = 9;
        bundle.pools.push(second);
        let names = fleet_names(&bundle);
        assert_eq!(names.zones, ["zone-a", "zone-b"]);
        assert!(names.has_spot);
        let workload = WorkloadSpec::rate_mode(RateMode::default());
        let run = setting(&bundle.pools, &workload, Span::from_secs(600.0));
        assert_eq!(run.pools, [(3, 2), (9, 2)]);
        assert_eq!(run.peak, SimTime::from_secs(300.0));
    }

    #[test]
    fn a_burst_begins_at_the_moment_it_names() {
        let workload = WorkloadSpec::rate_mode(RateMode { rate: 10.0, ..RateMode::default() });
        let run = setting(&bundle(3, 2.0).pools, &workload, Span::from_secs(1000.0));
        let lasting = Span::from_secs(100.0);
        let burst = Some(Surge { at: Moment::Share(0.2), lasting, factor: 3.0 });
        let scenario = Scenario { burst, ..Scenario::default() };
        let loaded = with_burst(workload, &scenario, &run).expect("it has a rate");
        assert_eq!(loaded.peak_time(Span::from_secs(1000.0)).as_secs().round(), 250.0);
        assert!((loaded.offered_rate() - 30.0).abs() < 1e-3);
    }
}

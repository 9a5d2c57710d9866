//! Draws what strikes by chance.

use super::conditions::{Conditions, Fault, Strike, Victim};
use super::spec::{Crashes, Reclaims, Scenario, Setting};
use crate::base::stats::ln_gamma;
use crate::base::{Delay, Rng, SimTime, Span, Stream};

/// What a stream of faults is for; part of its index.
const CRASHES: u64 = 1;
const RECLAIMS: u64 = 2;
/// Two of one kind never strike one place, or one zone, closer together than this.
const GAP_MIN_S: f64 = 1e-6;

impl Scenario {
    /// What befalls a fleet in `run` under `seed`: declared faults at their times, and those by
    /// chance at times that depend on the seed, their cause and their place or zone alone, so that
    /// more places, zones or causes move no other fault. In order of time; at one instant declared
    /// ones first.
    pub fn conditions(&self, seed: u64, run: &Setting) -> Conditions {
        let declared = self
            .faults
            .iter()
            .map(|fault| Fault { at: fault.at.in_run(run), strike: fault.strike.clone() });
        let mut faults: Vec<Fault> = declared.collect();
        if let Some(crashes) = &self.crashes {
            for (pool, &(places, gpus)) in run.pools.iter().enumerate() {
                for place in 0..places {
                    crashes.strike(seed, (pool as u32, place), gpus, run.end, &mut faults);
                }
            }
        }
        if let Some(reclaims) = &self.reclaims {
            for zone in &run.zones {
                reclaims.strike(seed, zone, run.end, &mut faults);
            }
        }
        faults.sort_by_key(|fault| fault.at);
        Conditions {
            seed,
            faults,
            recovery: self.recovery.clone(),
            clients: self.clients,
            cold_start: self.cold_start,
        }
    }

    /// About how many faults by chance there are in `run`.
    pub fn faults_expected(&self, run: &Setting) -> f64 {
        let seconds = run.end.as_secs();
        let crashes = self.crashes.as_ref().map_or(0.0, |crashes| {
            let places = run.pools.iter();
            let each =
                |&(places, gpus): &(u32, u32)| f64::from(places) * seconds / crashes.mean_s(gpus);
            places.map(each).sum()
        });
        let reclaims = self.reclaims.as_ref().map_or(0.0, |reclaims| {
            run.zones.len() as f64 * seconds / reclaims.every.mean().as_secs()
        });
        crashes + reclaims
    }
}

impl Crashes {
    /// Mean seconds until the first of `gpus` GPUs fails: a minimum of Weibull times is one again.
    fn mean_s(&self, gpus: u32) -> f64 {
        self.mtbf_gpu_hours * 3600.0 * f64::from(gpus).powf(-1.0 / self.shape)
    }

    /// Strikes one place until `end`.
    fn strike(
        &self,
        seed: u64,
        (pool, place): (u32, u32),
        gpus: u32,
        end: SimTime,
        faults: &mut Vec<Fault>,
    ) {
        let index = CRASHES << 56 | u64::from(pool) << 32 | u64::from(place);
        let mut rng = Rng::new(seed, Stream::Faults, index);
        let scale = self.mean_s(gpus) / ln_gamma(1.0 + 1.0 / self.shape).exp();
        let mut now = 0.0;
        loop {
            now += (scale * rng.exponential().powf(1.0 / self.shape)).max(GAP_MIN_S);
            let is_repaired = rng.uniform() < self.repair_share;
            if now >= end.as_secs() {
                return;
            }
            let repair = is_repaired.then(|| self.repair.clone());
            let victim = Victim::Place { pool, place };
            let strike = Strike::Crash { victim, in_flight: self.in_flight, repair };
            faults.push(Fault { at: SimTime::from_secs(now), strike });
        }
    }
}

impl Reclaims {
    /// Strikes one zone until `end`.
    fn strike(&self, seed: u64, zone: &str, end: SimTime, faults: &mut Vec<Fault>) {
        let index = RECLAIMS << 56 | name_hash(zone) >> 8;
        let mut rng = Rng::new(seed, Stream::Faults, index);
        let mut now = 0.0;
        loop {
            now += self.every.draw(&mut rng).as_secs().max(GAP_MIN_S);
            let lasting = self.lasting.draw(&mut rng);
            if now >= end.as_secs() {
                return;
            }
            let zone = Some(zone.to_owned());
            let (share, notice) = (self.share, self.notice);
            let strike = Strike::Reclaim { zone, share, notice, lasting };
            faults.push(Fault { at: SimTime::from_secs(now), strike });
        }
    }
}

/// FNV-1a: a zone keeps its times whatever other zones there are.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Whether `delay` is long enough on average to be the time between faults.
pub(super) fn lets_time_pass(delay: &Delay) -> bool {
    delay.mean() >= Span::from_us(60_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::conditions::InFlight;
    use crate::scenario::spec::{Declared, Moment};
    use proptest::prelude::*;

    const HOUR_S: f64 = 3600.0;

    fn crashes(mtbf_gpu_hours: f64, shape: f64) -> Crashes {
        Crashes {
            mtbf_gpu_hours,
            shape,
            repair_share: 0.25,
            repair: Delay::Constant(Span::from_secs(HOUR_S)),
            in_flight: InFlight::Lost,
        }
    }

    fn reclaims(every_s: f64) -> Reclaims {
        Reclaims {
            every: Delay::Weibull { mean: Span::from_secs(every_s), shape: 1.0 },
            share: 0.6,
            notice: Span::from_secs(120.0),
            lasting: Delay::LogNormal {
                mean: Span::from_secs(2400.0),
                std_dev: Span::from_secs(1800.0),
            },
        }
    }

    fn run(hours: f64, pools: &[(u32, u32)], zones: &[&str]) -> Setting {
        Setting {
            peak: SimTime::from_secs(hours * HOUR_S / 2.0),
            end: SimTime::from_secs(hours * HOUR_S),
            pools: pools.to_vec(),
            zones: zones.iter().map(ToString::to_string).collect(),
        }
    }

    fn scenario(crashes: Option<Crashes>, reclaims: Option<Reclaims>) -> Scenario {
        Scenario { crashes, reclaims, ..Scenario::default() }
    }

    fn place_of(fault: &Fault) -> Option<(u32, u32)> {
        match fault.strike {
            Strike::Crash { victim: Victim::Place { pool, place }, .. } => Some((pool, place)),
            _ => None,
        }
    }

    #[test]
    fn crashes_come_at_their_rate() {
        for shape in [0.7, 1.0, 2.0] {
            let faults = scenario(Some(crashes(100.0, shape)), None);
            let setting = run(1000.0, &[(50, 1), (50, 4)], &[]);
            let faults = faults.conditions(3, &setting).faults;
            let of_pool = |wanted: u32| {
                faults.iter().filter(|f| place_of(f).is_some_and(|at| at.0 == wanted)).count()
            };
            // A renewal process with the mean M has T/M + (c^2 - 1)/2 events by time T.
            let moment = |k: f64| ln_gamma(1.0 + k / shape).exp();
            let variation = moment(2.0) / moment(1.0).powi(2) - 1.0;
            for (pool, gpus) in [(0, 1.0_f64), (1, 4.0)] {
                let mean = 100.0 * gpus.powf(-1.0 / shape);
                let wanted = 50.0 * (1000.0 / mean + (variation - 1.0) / 2.0);
                let sigma = (50.0 * 1000.0 / mean * variation).sqrt();
                let found = of_pool(pool) as f64;
                assert!((found - wanted).abs() < 4.0 * sigma, "{shape}: {found} for {wanted}");
            }
            let repaired =
                |fault: &&Fault| matches!(fault.strike, Strike::Crash { repair: Some(_), .. });
            let share = faults.iter().filter(repaired).count() as f64 / faults.len() as f64;
            assert!((share - 0.25).abs() < 0.05, "{share}");
        }
    }

    #[test]
    fn hardware_as_published_hardly_ever_fails_in_a_day() {
        let day = run(24.0, &[(12, 2)], &[]);
        let published = scenario(Some(crashes(50_677.0, 1.0)), None);
        assert!((published.faults_expected(&day) - 24.0 * 24.0 / 50_677.0).abs() < 1e-9);
        let with_any = |seed| !published.conditions(seed, &day).faults.is_empty();
        let days = (0..2000).filter(|seed| with_any(*seed)).count();
        assert!((8..40).contains(&days), "{days} of 2000 days, about 23 expected");
    }

    #[test]
    fn reclaims_come_at_their_rate_in_each_zone() {
        let storm = scenario(None, Some(reclaims(6.0 * HOUR_S)));
        let setting = run(1200.0, &[(4, 1)], &["zone-a", "zone-b"]);
        assert!((storm.faults_expected(&setting) - 400.0).abs() < 1e-9);
        let faults = storm.conditions(5, &setting).faults;
        for wanted in ["zone-a", "zone-b"] {
            let zones = faults.iter().map(|fault| match &fault.strike {
                Strike::Reclaim { zone, .. } => zone.as_deref(),
                _ => None,
            });
            let count = zones.filter(|zone| *zone == Some(wanted)).count();
            assert!((144..256).contains(&count), "{count} in {wanted}");
        }
    }

    #[test]
    fn declared_faults_are_sorted_in_and_come_first() {
        let slow = |at, factor| Declared {
            at,
            strike: Strike::Slow {
                victim: Victim::Serving(0),
                factor,
                lasting: Span::from_secs(60.0),
            },
        };
        let faults = vec![slow(Moment::Share(0.75), 2.0), slow(Moment::Peak, 3.0)];
        let scenario = Scenario { faults, ..scenario(None, Some(reclaims(HOUR_S))) };
        let found = scenario.conditions(1, &run(8.0, &[], &["a"])).faults;
        assert!(found.is_sorted_by_key(|fault| fault.at));
        let slow: Vec<f64> = found
            .iter()
            .filter(|fault| matches!(fault.strike, Strike::Slow { .. }))
            .map(|fault| fault.at.as_secs() / HOUR_S)
            .collect();
        assert_eq!(slow, [4.0, 6.0]);
    }

    proptest! {
        #[test]
        fn more_places_zones_and_causes_move_no_fault(
            seed: u64,
            places in 1_u32..20,
            more in 1_u32..20,
            gpus in 1_u32..9,
            shape in 0.3..3.0_f64,
        ) {
            let few = run(500.0, &[(places, gpus)], &["zone-b"]);
            let many =
                run(500.0, &[(places + more, gpus), (more, 1)], &["zone-a", "zone-b"]);
            let crashes = crashes(200.0, shape);
            let alone = scenario(Some(crashes.clone()), None).conditions(seed, &few);
            let again = scenario(Some(crashes.clone()), None).conditions(seed, &few);
            prop_assert_eq!(&alone, &again);
            let both = scenario(Some(crashes), Some(reclaims(9.0 * HOUR_S)));
            let whole = both.conditions(seed, &many);
            let kept: Vec<&Fault> = whole
                .faults
                .iter()
                .filter(|f| place_of(f).is_some_and(|(pool, place)| pool == 0 && place < places))
                .collect();
            prop_assert_eq!(kept, alone.faults.iter().collect::<Vec<_>>());
            let in_b = |conditions: &Conditions| -> Vec<Fault> {
                let is_b = |fault: &&Fault| {
                    matches!(&fault.strike, Strike::Reclaim { zone: Some(z), .. } if z == "zone-b")
                };
                conditions.faults.iter().filter(is_b).cloned().collect()
            };
            prop_assert_eq!(in_b(&whole), in_b(&both.conditions(seed, &few)));
            prop_assert!(whole.faults.is_sorted_by_key(|fault| fault.at));
            prop_assert!(whole.faults.iter().all(|fault| fault.at <= many.end));
        }
    }
}

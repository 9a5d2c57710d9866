//! A burst that a scenario lays over a workload.

use std::sync::Arc;

use super::profile::Burst;
use super::replay::{Replay, SCALE_MAX};
use super::spec::{ClientSpec, WorkloadSpec};

impl WorkloadSpec {
    /// The same workload with a burst: the rates of all open clients, spikes and windows included,
    /// and the recorded requests of a trace, are multiplied while it lasts. Copies of recorded
    /// requests come up to 30 s beside them, before and behind the burst too. Users of closed
    /// loops come as fast as they are answered and stay as they are.
    ///
    /// # Errors
    /// Where nothing could be multiplied, or a trace would be multiplied too far: a sentence.
    pub fn with_burst(&self, burst: Burst) -> Result<Self, String> {
        let open = |client: &ClientSpec| client.closed_loop.is_none();
        if self.replay.is_none() && !self.clients.iter().any(open) {
            return Err("users of closed loops have no rate that a burst could multiply".into());
        }
        let mut spec = self.clone();
        for client in spec.clients.iter_mut().filter(|client| open(client)) {
            let mut profile = client.profile.as_deref().cloned().unwrap_or_default();
            profile.bursts.push(burst);
            client.profile = Some(Arc::new(profile));
        }
        if let Some(replay) = &mut spec.replay {
            let burst = Some(burst);
            let multiplied = Replay { burst, ..Replay::clone(replay) };
            if multiplied.scale_max() > SCALE_MAX {
                let times = multiplied.scale_max();
                return Err(format!(
                    "a recorded rate is multiplied {SCALE_MAX} times at most, \
                                    not {times}"
                ));
            }
            *replay = Arc::new(multiplied);
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SimTime, Span};
    use crate::config::{Defaults, Problems, parse};
    use crate::workload::{ClosedLoop, Limits, RateMode, Trace, generate};

    const BURST: Burst =
        Burst { at: Span::from_us(100_000_000), duration: Span::from_us(50_000_000), factor: 3.0 };

    fn arrivals(spec: &WorkloadSpec) -> [usize; 3] {
        let limits = Limits { duration: Some(Span::from_secs(250.0)), max_requests: None };
        let trace: Trace = generate(spec, 7, limits);
        let between = |from: f64, to: f64| {
            let inside = |at: &&SimTime| (from..to).contains(&at.as_secs());
            trace.arrival.iter().filter(inside).count()
        };
        [between(0.0, 100.0), between(100.0, 150.0), between(150.0, 250.0)]
    }

    fn near(found: [usize; 3], wanted: [f64; 3]) {
        for (found, wanted) in found.into_iter().zip(wanted) {
            let off = (found as f64 - wanted).abs();
            assert!(off < 4.0 * wanted.sqrt(), "{found} for {wanted}");
        }
    }

    #[test]
    fn the_rate_is_multiplied_while_it_lasts_and_comes_back() {
        let spec = WorkloadSpec::rate_mode(RateMode { rate: 20.0, ..RateMode::default() });
        near(arrivals(&spec.with_burst(BURST).expect("a rate")), [2000.0, 3000.0, 2000.0]);
        let lull = Burst { factor: 0.25, ..BURST };
        near(arrivals(&spec.with_burst(lull).expect("a rate")), [2000.0, 250.0, 2000.0]);
    }

    /// A trace of 10 requests per second, as evenly as a file has it.
    fn recorded(scale: f64) -> WorkloadSpec {
        let text = format!("trace: {{file: x.csv, format: csv, rate_scale: {scale}}}\n");
        let mut problems = Problems::new();
        let node = parse("x.yaml", &text, &mut problems).expect("valid YAML");
        let open = |_: &str| {
            let rows = (0..2500).map(|row| format!("{:.1},100,10\n", f64::from(row) / 10.0));
            let text: String = std::iter::once("arrival_s,input_tokens,output_tokens\n".to_owned())
                .chain(rows)
                .collect();
            Ok(Box::new(std::io::Cursor::new(text)) as Box<dyn std::io::Read>)
        };
        let read = WorkloadSpec::read_with(&node, Defaults::embedded(), &open, &mut problems);
        read.unwrap_or_else(|| panic!("{}", problems.render(false)))
    }

    #[test]
    fn recorded_requests_are_multiplied_too() {
        let spec = recorded(1.0);
        assert_eq!(arrivals(&spec), [1000, 500, 1000]);
        let burst = spec.with_burst(BURST).expect("not too far");
        let [before, during, after] = arrivals(&burst);
        assert_eq!(before + during + after, 2500 + 2 * 500, "two copies of each");
        assert!(during > 1150, "{during}: some copies lie beside it");
        let thinned = recorded(0.5).with_burst(Burst { factor: 2.0, ..BURST });
        near(arrivals(&thinned.expect("not too far")), [500.0, 500.0, 500.0]);
        let peak = burst.peak_time(Span::from_secs(250.0)).as_secs();
        assert!((100.0..=150.0).contains(&peak), "{peak}");
    }

    #[test]
    fn what_has_no_rate_and_what_goes_too_far_is_refused() {
        assert!(recorded(500.0).with_burst(BURST).is_err());
        let mut users = WorkloadSpec::rate_mode(RateMode::default());
        users.clients[0].closed_loop = Some(ClosedLoop { users: 3, think_time: Span::ZERO });
        assert!(users.with_burst(BURST).is_err());
    }
}

//! The same requests at a steady rate: what the capacity of an instance is measured with.

use std::sync::Arc;

use crate::base::{Rng, Span, Stream};

use super::arrivals::Arrivals;
use super::replay::{Replay, Row};
use super::spec::{ClientSpec, Prompt, Sessions, WindowOwn, WorkloadSpec};
use super::starts::NEVER_US;
use super::trace::{Chain, NO_CHAIN};

/// Of more kinds of requests than these only so many are drawn, each as often as its share says.
const KINDS_MAX: usize = 4096;
/// Stretches, evenly spaced, that stand for a recorded trace.
const STRETCHES: usize = 8;
/// The longest session that a steady state waits for.
const SETTLING_MAX: Span = Span::from_us(3_600_000_000);

/// A client, or what it is like in one of its windows.
#[derive(Clone, Copy)]
struct Kind<'a> {
    client: &'a ClientSpec,
    own: Option<&'a WindowOwn>,
    /// Mean requests per second over the whole workload.
    rate: f64,
}

impl WorkloadSpec {
    /// The same kinds of requests as this workload makes over its whole time, each as often as
    /// there, at `requests_per_s` (above 0, all rounds of sessions counted) on average.
    ///
    /// Clients keep lengths, prefixes and sessions, and come as a Poisson process without windows
    /// and curves; users of closed loops and clients with a single session become open clients,
    /// and nobody is pinned to an instance. Of a recorded trace some stretches are replayed up to
    /// `duration`, evenly spaced and begun where `seed` says: neighbours stay neighbours, since
    /// they may share tokens, and only their arrivals are drawn anew. A trace shorter than that
    /// is repeated with other tokens.
    #[must_use]
    pub fn steady(&self, requests_per_s: f64, seed: u64, duration: Span) -> Self {
        let kinds = self.kinds();
        let asked: f64 = kinds.iter().map(|kind| kind.rate).sum();
        let recorded = self.replay.as_ref().map_or(0.0, |r| r.offered().requests_per_s_mean);
        let scale = requests_per_s / (asked + recorded);
        let clients: Vec<ClientSpec> =
            kinds.iter().map(|kind| kind.client(scale)).filter(|c| c.rate_fraction > 0.0).collect();
        let replay = self.replay.as_ref().filter(|replay| !replay.is_empty());
        Self {
            aggregate_rate: clients.iter().map(|client| client.rate_fraction).sum(),
            horizon: Some(duration),
            num_requests: None,
            seed: None,
            clients,
            replay: replay.map(|r| Arc::new(r.steady(recorded * scale, seed, duration))),
            files: Vec::new(),
            targets: self.targets.clone(),
        }
    }

    /// How long a session of it lasts at most, answers left out, and never more than an hour:
    /// before that a steady rate of sessions is not yet a steady rate of requests.
    pub fn settling(&self) -> Span {
        let clients = self.clients.iter().filter_map(|client| client.sessions);
        let clients = clients
            .map(|sessions| sessions.think_time.times(u64::from(sessions.max_rounds) - 1))
            .max();
        let recorded = self.replay.as_ref().map(|replay| replay.settling());
        clients.max(recorded).unwrap_or(Span::ZERO).min(SETTLING_MAX)
    }

    fn kinds(&self) -> Vec<Kind<'_>> {
        let extent = self.extent();
        let mut kinds = Vec::new();
        for (client, nominal) in self.clients.iter().zip(self.client_rates()) {
            if let Some(rate) = client.answered_rate() {
                kinds.push(Kind { client, own: None, rate });
                continue;
            }
            let full = client.rounds() * 1e6 / client.arrivals.mean_gap_us(nominal);
            let mut plain = 0.0;
            for window in &client.windows {
                let rate = full * client.window_factor(window, extent);
                match window.own.as_deref() {
                    Some(own) => kinds.push(Kind { client, own: Some(own), rate }),
                    None => plain += rate,
                }
            }
            if client.windows.is_empty() {
                plain = full * client.mean_factor(extent);
            }
            if plain > 0.0 {
                kinds.push(Kind { client, own: None, rate: plain });
            }
        }
        drawn(kinds)
    }
}

/// At most [`KINDS_MAX`] of `kinds`, one at each of so many evenly spaced shares of the whole.
fn drawn(kinds: Vec<Kind<'_>>) -> Vec<Kind<'_>> {
    if kinds.len() <= KINDS_MAX {
        return kinds;
    }
    let step = kinds.iter().map(|kind| kind.rate).sum::<f64>() / KINDS_MAX as f64;
    let (mut chosen, mut passed, mut taken) = (Vec::with_capacity(KINDS_MAX), 0.0, 0.0);
    for kind in kinds {
        passed += kind.rate;
        let shares = (passed / step + 0.5).floor();
        if shares > taken {
            chosen.push(Kind { rate: step * (shares - taken), ..kind });
            taken = shares;
        }
    }
    chosen
}

impl Kind<'_> {
    /// The kind as a client whose fraction is its sessions (or requests) per second.
    fn client(&self, scale: f64) -> ClientSpec {
        let Self { client, own, rate } = *self;
        let prompt = own.and_then(|own| own.prompt.clone()).map(Prompt::Text);
        let output = own.and_then(|own| own.output.clone());
        ClientSpec {
            name: client.name.clone(),
            tenant: client.tenant.clone(),
            slo_class: client.slo_class.clone(),
            rate_fraction: rate * scale / client.rounds(),
            arrivals: Arrivals::Poisson,
            prompt: prompt.unwrap_or_else(|| client.prompt.clone()),
            output: output.unwrap_or_else(|| client.output.clone()),
            prefix: client.prefix.clone(),
            windows: Vec::new(),
            profile: None,
            sessions: client.sessions.map(|sessions| Sessions { single: false, ..sessions }),
            closed_loop: None,
            pinned_instance: None,
        }
    }
}

impl Replay {
    /// Stretches of it at `requests_per_s` until `duration`; see [`WorkloadSpec::steady`].
    fn steady(&self, requests_per_s: f64, seed: u64, duration: Span) -> Self {
        let firsts: Vec<usize> =
            (0..self.rows.len()).filter(|&at| self.rows[at].us != NEVER_US).collect();
        let mean_gap_us = 1e6 * self.rows.len() as f64 / firsts.len() as f64 / requests_per_s;
        let mut rng = Rng::new(seed, Stream::Resampling, 0);
        let (mut times, mut now) = (Vec::new(), mean_gap_us * rng.exponential());
        while now < duration.as_us() as f64 {
            times.push(now as u64);
            now += mean_gap_us * rng.exponential();
        }
        let begin = rng.below(firsts.len() as u64) as usize;
        let length = times.len().div_ceil(STRETCHES).max(1);
        let (mut rows, mut used) = (Vec::new(), vec![0_u32; firsts.len()]);
        for (at, us) in times.into_iter().enumerate() {
            let stretch = at / length * firsts.len() / STRETCHES;
            let unit = (begin + stretch + at % length) % firsts.len();
            self.copy_session(firsts[unit], us, used[unit], &mut rows);
            used[unit] += 1;
        }
        let copies = used.into_iter().max().unwrap_or(0).max(1);
        Self {
            rows: rows.into(),
            chains: self.copied_chains(copies),
            clients: self.clients.clone(),
            scale: 1.0,
            burst: None,
            end: duration,
            fnv1a: self.fnv1a,
        }
    }

    /// Appends the session (or request) of the row `first` as its copy number `copy`, at `us`.
    fn copy_session(&self, first: usize, us: u64, copy: u32, rows: &mut Vec<Row>) {
        let rounds = self.rows[first + 1..].iter().take_while(|row| row.us == NEVER_US);
        let first = Row { us, ..self.rows[first] };
        rows.extend(std::iter::once(&first).chain(rounds).map(|row| match row.chain {
            NO_CHAIN => *row,
            chain => Row { chain: chain + copy * self.chains.len() as u32, ..*row },
        }));
    }

    fn copied_chains(&self, copies: u32) -> Vec<Chain> {
        let count = self.chains.len() as u32;
        let copy = |copy: u32| {
            self.chains.iter().map(move |chain| match chain.parent {
                NO_CHAIN => *chain,
                parent => Chain { parent: parent + copy * count, ..*chain },
            })
        };
        (0..copies).flat_map(copy).collect()
    }

    /// The longest session, answers left out.
    fn settling(&self) -> Span {
        let (mut longest, mut lasting) = (Span::ZERO, Span::ZERO);
        for row in self.rows.iter() {
            let think_time = self.clients[row.client as usize].think_time;
            lasting = if row.us == NEVER_US { lasting + think_time } else { Span::ZERO };
            longest = longest.max(lasting);
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::profile::{Diurnal, Profile};
    use crate::workload::replay::ReplayClient;
    use crate::workload::{ClosedLoop, Lengths, Limits, RateMode, Trace, Window, generate};

    fn hours(hours: u64) -> Span {
        Span::from_us(hours * 3_600_000_000)
    }

    fn trace(spec: &WorkloadSpec, seconds: f64) -> Trace {
        let limits = Limits { duration: Some(Span::from_secs(seconds)), max_requests: None };
        generate(spec, 3, limits)
    }

    /// A client of constant lengths.
    fn client(rate_fraction: f64, prompt: f64) -> ClientSpec {
        let prompt = Prompt::Text(Lengths::Constant(prompt));
        ClientSpec { rate_fraction, prompt, ..ClientSpec::default() }
    }

    fn with_own_prompt(start: Span, end: Span, rate: f64, tokens: f64) -> Window {
        let prompt = Some(Lengths::Constant(tokens));
        let own = Some(Arc::new(WindowOwn { prompt, ..WindowOwn::default() }));
        Window { rate, own, ..Window::new(start, end) }
    }

    #[test]
    fn a_moving_rate_becomes_steady() {
        let mut spec = WorkloadSpec::rate_mode(RateMode { rate: 300.0, ..RateMode::default() });
        let diurnal = Diurnal { peak: hours(14), peak_to_trough: 9.0, period: hours(24) };
        spec.clients[0].profile =
            Some(Arc::new(Profile { diurnal: Some(diurnal), ..Profile::default() }));
        let steady = spec.steady(20.0, 1, Span::from_secs(1000.0));
        assert!((steady.offered().requests_per_s - 20.0).abs() < 1e-2);
        let arrivals = trace(&steady, 1000.0).len() as f64;
        assert!((arrivals - 20_000.0).abs() < 600.0, "{arrivals}");
    }

    #[test]
    fn windows_count_by_what_they_bring() {
        let mut moving = client(1.0, 10.0);
        // Three hours at 1 with 100 tokens, one hour at 3 with 500: half of the requests each.
        moving.windows = vec![
            with_own_prompt(hours(0), hours(3), 1.0, 100.0),
            with_own_prompt(hours(3), hours(4), 3.0, 500.0),
        ];
        let spec =
            WorkloadSpec { aggregate_rate: 2.0, clients: vec![moving], ..WorkloadSpec::default() };
        let steady = trace(&spec.steady(50.0, 1, Span::from_secs(200.0)), 200.0);
        let long = steady.input.iter().filter(|&&tokens| tokens == 500).count() as f64;
        assert!(steady.input.iter().all(|tokens| [100, 500].contains(tokens)));
        assert!((long / steady.len() as f64 - 0.5).abs() < 0.02, "{long} of {}", steady.len());
    }

    #[test]
    fn rounds_of_sessions_count_as_requests() {
        let mut talker = client(1.0, 10.0);
        let think_time = Span::from_secs(7.0);
        talker.sessions = Some(Sessions {
            max_rounds: 5,
            think_time,
            growth: crate::workload::Growth::None,
            pacing: crate::workload::Pacing::Closed,
            single: false,
        });
        let clients = vec![talker, client(3.0, 20.0)];
        let spec = WorkloadSpec { aggregate_rate: 4.0, clients, ..WorkloadSpec::default() };
        assert_eq!(spec.settling(), Span::from_secs(28.0));
        let steady = spec.steady(16.0, 1, Span::from_secs(60.0));
        // Of eight requests five are rounds of sessions: ten a second in two sessions.
        let fractions: Vec<f64> = steady.clients.iter().map(|c| c.rate_fraction).collect();
        assert!((fractions[0] - 2.0).abs() < 1e-3 && (fractions[1] - 6.0).abs() < 1e-3);
    }

    #[test]
    fn users_of_a_closed_loop_become_an_open_client() {
        let mut users = client(0.0, 10.0);
        users.closed_loop = Some(ClosedLoop { users: 8, think_time: Span::from_secs(2.0) });
        users.pinned_instance = Some(3);
        let spec = WorkloadSpec { clients: vec![users], ..WorkloadSpec::default() };
        let steady = spec.steady(5.0, 1, Span::from_secs(60.0));
        assert_eq!(steady.clients[0].closed_loop, None);
        assert_eq!(steady.clients[0].pinned_instance, None);
        assert!((steady.offered().requests_per_s - 5.0).abs() < 1e-2);
    }

    #[test]
    fn many_kinds_are_drawn_by_their_shares() {
        let clients: Vec<ClientSpec> =
            (0..3 * KINDS_MAX).map(|index| client(1.0 + (index % 7) as f64, 10.0)).collect();
        let kind = |client| Kind { client, own: None, rate: client.rate_fraction };
        let chosen = drawn(clients.iter().map(kind).collect());
        assert!(chosen.len() <= KINDS_MAX && chosen.len() > KINDS_MAX / 2);
        let (all, drawn) = (
            clients.iter().map(|client| client.rate_fraction).sum::<f64>(),
            chosen.iter().map(|kind| kind.rate).sum::<f64>(),
        );
        assert!((drawn / all - 1.0).abs() < 1e-3, "{drawn} {all}");
    }

    /// 80 requests a minute apart; each two share a chain, and each fourth has a second round.
    fn recorded() -> Replay {
        let mut rows = Vec::new();
        for at in 0..80_u32 {
            let (us, chain) = (u64::from(at) * 60_000_000, at / 2);
            let row = Row { us, input: 100 + at, output: 5, client: 0, chain, shared: 50 };
            rows.push(row);
            if at % 4 == 3 {
                rows.push(Row { us: NEVER_US, ..row });
            }
        }
        let client = ReplayClient {
            name: "someone".to_owned(),
            tenant: "default".to_owned(),
            class: "default".to_owned(),
            think_time: Span::from_secs(3.0),
        };
        Replay {
            rows: rows.into(),
            chains: vec![Chain { parent: NO_CHAIN, start: 0 }; 40],
            clients: vec![client],
            scale: 1.0,
            burst: None,
            end: hours(2),
            fnv1a: 0,
        }
    }

    #[test]
    fn stretches_of_a_recorded_trace_come_at_the_wished_rate() {
        let spec = WorkloadSpec { replay: Some(Arc::new(recorded())), ..WorkloadSpec::default() };
        assert_eq!(spec.settling(), Span::from_secs(3.0));
        let steady = trace(&spec.steady(2.0, 1, Span::from_secs(400.0)), 400.0);
        assert!((steady.len() as f64 - 800.0).abs() < 100.0, "{}", steady.len());
        let follow_ups = steady.arrival.iter().filter(|&&at| at == crate::base::SimTime::NEVER);
        let share = follow_ups.count() as f64 / steady.len() as f64;
        assert!((share - 0.2).abs() < 0.03, "{share}");
        let again = trace(&spec.steady(2.0, 1, Span::from_secs(400.0)), 400.0);
        assert_eq!(again, steady);
        assert_ne!(trace(&spec.steady(2.0, 2, Span::from_secs(400.0)), 400.0), steady);
    }

    #[test]
    fn a_repeated_trace_shares_no_tokens_with_itself() {
        let spec = WorkloadSpec { replay: Some(Arc::new(recorded())), ..WorkloadSpec::default() };
        let steady = trace(&spec.steady(2.0, 1, Span::from_secs(400.0)), 400.0);
        let mut seen: Vec<(u32, u32)> = steady
            .chain
            .iter()
            .zip(&steady.input)
            .zip(&steady.arrival)
            .filter(|(_, at)| **at != crate::base::SimTime::NEVER)
            .map(|((&chain, &input), _)| (chain, input))
            .collect();
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "the same prompt came twice on one chain");
    }
}

//! What a workload asks of a fleet, before anything is simulated.

use crate::base::{Rng, Span, Stream};

use super::spec::{ARRIVAL_MAX, ClientSpec, ClosedLoop, Growth, Window, WorkloadSpec};

/// Draws per distribution behind [`WorkloadSpec::offered`], shared among the clients.
const PROFILE_DRAWS: usize = 1 << 22;
/// Evaluations of rates behind the peak of curves, shared among the clients.
const PEAK_POINTS: usize = 1 << 21;
/// Rates that differ by less than this part of them are the same.
const ALIKE: f64 = 1e-9;
/// Over what the mean is taken where neither the workload nor its curves end.
const DAY: Span = Span::from_us(86_400_000_000);

/// What a workload asks of a fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offered {
    /// Requests per second, all rounds of sessions counted, at the time when all clients
    /// together ask for most.
    pub requests_per_s: f64,
    /// The same on average up to the horizon; without one, over the longest period or to the end
    /// of the last window, point or spike.
    pub requests_per_s_mean: f64,
    /// Mean prompt tokens per request, prefix and conversation included.
    pub input_tokens_mean: f64,
    /// Mean answer tokens per request.
    pub output_tokens_mean: f64,
}

/// An open client for this purpose: requests per second where its factor is 1.
struct Load<'a> {
    client: &'a ClientSpec,
    rate: f64,
}

impl<'a> Load<'a> {
    /// Of an open client with `rate` arrivals per second.
    fn of(client: &'a ClientSpec, rate: f64) -> Self {
        Self { client, rate: client.rounds() * 1e6 / client.arrivals.mean_gap_us(rate) }
    }
}

/// A stretch of time.
type Stretch = (Span, Span);

impl WorkloadSpec {
    /// What this workload asks of a fleet. Mean lengths come from draws with a fixed seed (a
    /// relative error of about 1 %, more under heavy tails); mean rates are exact to the
    /// microsecond of a gap, and so are peaks where rates move in steps; the peak of curves is
    /// looked for at their corners and at some thousand points between them, that of a recorded
    /// trace among its minutes. A user of a closed loop, and a client with a single session,
    /// count as one request per think time, per second where that is shorter.
    pub fn offered(&self) -> Offered {
        let draws = (PROFILE_DRAWS / self.clients.len().max(1)).clamp(256, 1 << 16) as u32;
        let (mut requests, mut input, mut output) = (0.0, 0.0, 0.0);
        let (mut steady, mut loads) = (0.0, Vec::new());
        let extent = self.extent();
        for (index, (client, rate)) in self.clients.iter().zip(self.client_rates()).enumerate() {
            let mut rng = Rng::new(0, Stream::Lengths, index as u64);
            let (prompt_mean, answer_mean) = client.session_means(&mut rng, draws);
            let mean = if let Some(rate) = client.answered_rate() {
                steady += rate;
                rate
            } else {
                let load = Load::of(client, rate);
                let mean = load.rate * client.mean_factor(extent);
                loads.push(load);
                mean
            };
            requests += mean;
            input += mean * prompt_mean;
            output += mean * answer_mean;
        }
        let mut peak = steady + peak(&loads, extent).0;
        if let Some(replay) = &self.replay {
            let recorded = replay.offered();
            let mean = recorded.requests_per_s_mean;
            peak += recorded.requests_per_s;
            requests += mean;
            input += mean * recorded.input_tokens_mean;
            output += mean * recorded.output_tokens_mean;
        }
        // Nobody may come at all before the horizon.
        let all = if requests > 0.0 { requests } else { 1.0 };
        Offered {
            requests_per_s: peak,
            requests_per_s_mean: requests,
            input_tokens_mean: input / all,
            output_tokens_mean: output / all,
        }
    }

    /// Requests per second offered at most, all rounds of sessions counted.
    pub fn offered_rate(&self) -> f64 {
        self.offered().requests_per_s
    }

    /// When most is offered before `end`: the middle of the stretch in which the rate of all
    /// clients together is highest (the first of several), or of the busiest minute of a recorded
    /// trace where that asks for more. Of a load that never moves, the middle of the whole.
    pub fn peak_time(&self, end: Span) -> Span {
        let rates = self.clients.iter().zip(self.client_rates());
        let open = rates.filter(|(client, _)| client.answered_rate().is_none());
        let loads: Vec<Load> = open.map(|(client, rate)| Load::of(client, rate)).collect();
        let (rate, (from, to)) = peak(&loads, end);
        let middle = Span::from_us(from.as_us().midpoint(to.as_us()));
        let recorded = self.replay.as_ref().map(|replay| replay.peak(end));
        recorded.filter(|(recorded, _)| *recorded > rate).map_or(middle, |(_, at)| at)
    }

    /// Over what means are taken.
    pub(super) fn extent(&self) -> Span {
        let ends = self.clients.iter().flat_map(|client| {
            let windows = client.windows.last().map(|window| window.end);
            [windows, client.profile.as_ref().map(|profile| profile.extent())]
        });
        let extent = ends.flatten().max().filter(|extent| *extent > Span::ZERO);
        self.horizon.or(extent).unwrap_or(DAY).min(ARRIVAL_MAX)
    }
}

impl ClientSpec {
    /// Requests per second of a client whose next request waits for an answer.
    pub(super) fn answered_rate(&self) -> Option<f64> {
        let per_user = |think: Span| 1.0 / think.as_secs().max(1.0);
        if let Some(ClosedLoop { users, think_time }) = self.closed_loop {
            return Some(f64::from(users) * per_user(think_time));
        }
        let single = self.sessions.filter(|sessions| sessions.single);
        single.map(|sessions| per_user(sessions.think_time))
    }

    /// Requests per arrival.
    pub(super) fn rounds(&self) -> f64 {
        self.sessions.map_or(1.0, |sessions| f64::from(sessions.max_rounds))
    }

    /// Mean prompt and answer tokens of a request.
    fn session_means(&self, rng: &mut Rng, draws: u32) -> (f64, f64) {
        let prefix = self.prefix.as_ref().map_or(0.0, |prefix| f64::from(prefix.length));
        let new = self.prompt.mean(rng, draws);
        let answer = self.output.mean(rng, draws);
        let conversation = match self.sessions.map(|sessions| sessions.growth) {
            Some(Growth::Accumulate) => (self.rounds() - 1.0) / 2.0 * (new + answer),
            Some(Growth::None) | None => 0.0,
        };
        (prefix + new + conversation, answer)
    }

    /// The mean multiple of the nominal rate from the start to `end`.
    pub(super) fn mean_factor(&self, end: Span) -> f64 {
        if self.windows.is_empty() {
            return self.part(Span::ZERO, end) / end.as_secs();
        }
        self.windows.iter().map(|window| self.window_factor(window, end)).sum()
    }

    /// What `window`, one of its own, contributes to the mean multiple up to `end`.
    pub(super) fn window_factor(&self, window: &Window, end: Span) -> f64 {
        window.rate * self.part(window.start.min(end), window.end.min(end)) / end.as_secs()
    }

    /// Seconds from `start` to `end`, each counted by the factor of the curve.
    fn part(&self, start: Span, end: Span) -> f64 {
        let until = |time: Span| match &self.profile {
            Some(profile) if time > Span::ZERO => profile.mean(time) * time.as_secs(),
            _ => time.as_secs(),
        };
        until(end) - until(start)
    }

    /// The multiple of the nominal rate at `time`.
    fn factor(&self, time: Span) -> f64 {
        let curve = self.profile.as_ref().map_or(1.0, |profile| profile.factor(time));
        if self.windows.is_empty() {
            return curve;
        }
        let next = self.windows.partition_point(|window| window.start <= time);
        let window = next.checked_sub(1).map(|at| &self.windows[at]);
        window.filter(|window| time < window.end).map_or(0.0, |window| curve * window.rate)
    }
}

/// The highest rate of all `loads` together before `end`, and the first stretch with it.
fn peak(loads: &[Load], end: Span) -> (f64, Stretch) {
    let (curves, steps): (Vec<&Load>, Vec<&Load>) =
        loads.iter().partition(|load| load.client.profile.is_some());
    if curves.is_empty() {
        return steps_peak(&steps, end);
    }
    let points = (PEAK_POINTS / loads.len()).clamp(64, 4096) as u64;
    let even = (0..points).map(|i| Span::from_us(end.as_us() / points * i));
    let starts = loads.iter().flat_map(|load| load.client.windows.iter().map(|w| w.start));
    let mut times: Vec<Span> = even.chain(starts.filter(|start| *start < end)).collect();
    let mut known: Vec<&super::Profile> = Vec::new();
    for profile in curves.iter().filter_map(|load| load.client.profile.as_deref()) {
        if !known.contains(&profile) {
            known.push(profile);
            let corners = profile.corners(end);
            let before = corners.iter().map(|at| at.as_us().saturating_sub(1));
            times.extend(before.map(Span::from_us));
            times.extend(&corners);
            times.push(Span::from_us(end.as_us().saturating_sub(1)));
        }
    }
    times.sort_unstable();
    times.dedup();
    // Too many corners for too many clients: a part of them will do.
    let stride = (times.len() * loads.len() / (8 * PEAK_POINTS)).max(1);
    let sum = |time: Span| loads.iter().map(|load| load.rate * load.client.factor(time)).sum();
    let rates: Vec<(Span, f64)> = times.into_iter().step_by(stride).map(|t| (t, sum(t))).collect();
    let peak = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let is_high = |(_, rate): &&(Span, f64)| *rate >= peak * (1.0 - ALIKE);
    let mut high = rates.iter().skip_while(|point| !is_high(point)).take_while(is_high);
    let from = high.next().map_or(Span::ZERO, |(time, _)| *time);
    (peak, (from, high.last().map_or(from, |(time, _)| *time)))
}

/// The highest sum of rates that move in steps, and the first stretch with it; at one instant ends
/// come before starts.
fn steps_peak(loads: &[&Load], end: Span) -> (f64, Stretch) {
    let mut edges: Vec<(Span, f64)> = Vec::new();
    for load in loads {
        if load.client.windows.is_empty() {
            edges.push((Span::ZERO, load.rate));
        }
        for window in &load.client.windows {
            edges.push((window.start, load.rate * window.rate));
            edges.push((window.end, -load.rate * window.rate));
        }
    }
    edges.retain(|(time, _)| *time < end);
    edges.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (mut now, mut peak) = (0.0_f64, 0.0_f64);
    let (mut stretch, mut is_high) = ((Span::ZERO, end), true);
    for (time, change) in edges {
        if is_high && change < 0.0 {
            (stretch.1, is_high) = (time, false);
        }
        now += change;
        if now > peak * (1.0 + ALIKE) {
            (stretch, is_high) = ((time, end), true);
        }
        peak = peak.max(now);
    }
    (peak, stretch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::RateMode;
    use crate::workload::profile::{Diurnal, Point, Profile, Spike, Surge};
    use std::sync::Arc;

    fn hours(hours: u64) -> Span {
        Span::from_us(hours * 3_600_000_000)
    }

    fn with(profile: Profile) -> WorkloadSpec {
        let mut spec = WorkloadSpec::rate_mode(RateMode { rate: 10.0, ..RateMode::default() });
        spec.clients[0].profile = Some(Arc::new(profile));
        spec
    }

    fn near(offered: Offered, peak: f64, mean: f64) {
        let Offered { requests_per_s, requests_per_s_mean, .. } = offered;
        assert!((requests_per_s / peak - 1.0).abs() < 1e-4, "peak {requests_per_s} {peak}");
        assert!((requests_per_s_mean / mean - 1.0).abs() < 1e-4, "mean {requests_per_s_mean}");
    }

    #[test]
    fn the_mean_of_a_daily_wave_is_the_rate() {
        let diurnal = Diurnal { peak: hours(14), peak_to_trough: 4.0, period: hours(24) };
        let spec = with(Profile { diurnal: Some(diurnal), ..Profile::default() });
        near(spec.offered(), 16.0, 10.0);
        let morning = WorkloadSpec { horizon: Some(hours(2)), ..spec };
        assert!(morning.offered().requests_per_s_mean < 4.3);
    }

    #[test]
    fn points_and_spikes_scale_the_rate() {
        let point = |at, factor| Point { at: hours(at), factor };
        let spike = Spike { at: hours(1), duration: hours(1), surge: Surge::Times(3.0) };
        let ramp = Profile { points: vec![point(0, 0.0), point(4, 2.0)], ..Profile::default() };
        near(with(ramp.clone()).offered(), 20.0, 10.0);
        let spec = with(Profile { spikes: vec![spike], ..ramp });
        // The spike adds twice the mean of the second hour, 0.75, over a quarter of the time.
        near(spec.offered(), 30.0, 10.0 * (1.0 + 2.0 * 0.75 / 4.0));
    }

    #[test]
    fn windows_count_by_their_part_of_the_time() {
        let mut spec = with(Profile::default());
        spec.clients[0].profile = None;
        let busy = Window { rate: 3.0, ..Window::new(hours(3), hours(4)) };
        spec.clients[0].windows = vec![Window::new(hours(0), hours(2)), busy];
        near(spec.offered(), 30.0, 10.0 * 5.0 / 4.0);
    }

    #[test]
    fn the_peak_is_the_middle_of_the_highest_stretch() {
        let spike = Spike { at: hours(3), duration: hours(2), surge: Surge::Times(2.0) };
        let spiked = with(Profile { spikes: vec![spike], ..Profile::default() });
        let near = |found: Span, hours_: f64| {
            let found = found.as_secs() / 3600.0;
            assert!((found - hours_).abs() < 1e-3, "{found} h, not {hours_} h");
        };
        near(spiked.peak_time(hours(24)), 4.0);
        near(spiked.peak_time(hours(2)), 1.0);
        let diurnal = Diurnal { peak: hours(14), peak_to_trough: 4.0, period: hours(24) };
        let wave = with(Profile { diurnal: Some(diurnal), ..Profile::default() });
        let found = wave.peak_time(hours(48)).as_secs() / 3600.0;
        assert!((found - 14.0).abs() < 0.02, "{found}");

        let mut windows = with(Profile::default());
        windows.clients[0].profile = None;
        near(windows.peak_time(hours(8)), 4.0);
        let busy = |from, to, rate| Window { rate, ..Window::new(hours(from), hours(to)) };
        windows.clients[0].windows = vec![busy(0, 2, 1.0), busy(2, 3, 3.0), busy(5, 9, 3.0)];
        near(windows.peak_time(hours(24)), 2.5);
        near(windows.peak_time(hours(1)), 0.5);
    }

    #[test]
    fn users_of_a_closed_loop_count_by_their_think_time() {
        let mut spec = with(Profile::default());
        let think_time = Span::from_secs(2.0);
        spec.clients[0].closed_loop = Some(ClosedLoop { users: 8, think_time });
        near(spec.offered(), 4.0, 4.0);
    }
}

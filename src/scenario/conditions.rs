//! What befalls a fleet in one run.

use crate::base::{Delay, Rng, SimTime, Span, Stream};

/// What befalls a fleet in one run, with all that is drawn by chance decided or seeded.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// Seeds delays, jitter and whom a reclaim takes.
    pub seed: u64,
    /// In order of time.
    pub faults: Vec<Fault>,
    /// What follows from a crash.
    pub recovery: Recovery,
    /// How clients bear errors and waiting.
    pub clients: Conduct,
    /// Whether the fleet's first instances are launched at the start instead of being ready.
    pub cold_start: bool,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// When.
    pub at: SimTime,
    /// What.
    pub strike: Strike,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Strike {
    /// An instance stops: one of its GPUs, its process or its host.
    Crash {
        /// Which.
        victim: Victim,
        /// What becomes of its requests.
        in_flight: InFlight,
        /// Until it serves again, from when the crash was noticed; `None`: a restart.
        repair: Option<Delay>,
    },
    /// A zone is gone with all its instances; nothing can be launched there meanwhile.
    ZoneOutage {
        /// Its name.
        zone: String,
        /// For how long.
        lasting: Span,
    },
    /// Spot instances are taken away; none can be launched there meanwhile.
    Reclaim {
        /// The zone; `None`: all.
        zone: Option<String>,
        /// The probability of an instance to be taken, in [0, 1].
        share: f64,
        /// From the notice to the end.
        notice: Span,
        /// For how long there is no spot capacity.
        lasting: Span,
    },
    /// An instance gets slow.
    Slow {
        /// Which.
        victim: Victim,
        /// By how much its steps take longer; at least 1.
        factor: f64,
        /// For how long.
        lasting: Span,
    },
    /// Nothing can be launched.
    NoCapacity {
        /// The pool by name; `None`: all.
        pool: Option<String>,
        /// The zone; `None`: all.
        zone: Option<String>,
        /// For how long.
        lasting: Span,
    },
}

/// Whom a strike hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Of the instances that serve at the time, in the order of their indexes, the one of this
    /// number, counted around: there is one unless none serves.
    Serving(u32),
    /// The instance in this place of the pool of that position; nobody where the place is empty.
    Place {
        /// The pool's position in the bundle.
        pool: u32,
        /// The place in the pool.
        place: u32,
    },
}

/// What becomes of the requests on an instance that crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InFlight {
    /// Nothing moves from the crash on; when it is noticed all of them fail.
    #[default]
    Lost,
    /// When it is noticed, those that wait go back to the router, and those in the batch are
    /// finished before the instance restarts.
    Finished,
}

/// What follows from a crash.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// From the crash until it is noticed; the router goes on sending meanwhile.
    pub detection: Delay,
    /// From then until the instance serves again.
    pub restart: Delay,
}

/// How clients bear errors and waiting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conduct {
    /// How they try again; `None`: they do not.
    pub retry: Option<Retry>,
    /// How long they wait for a whole answer, from each attempt on; `None`: for ever.
    pub timeout: Option<Span>,
}

/// How clients try again after an error that may pass: turned away (429), lost with an instance
/// (503, reset), timed out (504).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Attempts after the first.
    pub attempts: u8,
    /// Before the first of them; each further wait is twice as long.
    pub base: Span,
    /// The longest wait, before jitter.
    pub cap: Span,
    /// How much waits differ: a wait is multiplied by a number in [1 - jitter, 1 + jitter].
    pub jitter: f64,
}

impl Retry {
    /// The strategy of `scalability-and-reliability.md`.
    pub const STANDARD: Self = Self {
        attempts: 3,
        base: Span::from_us(100_000),
        cap: Span::from_us(5_000_000),
        jitter: 0.1,
    };

    /// The wait before attempt `attempt + 1` of request `id`; the first attempt is 0.
    pub fn wait(&self, seed: u64, id: u32, attempt: u8) -> Span {
        let doubled = self.base.times(1 << attempt.min(40)).min(self.cap);
        let mut rng = Rng::new(seed, Stream::Retries, u64::from(id) << 8 | u64::from(attempt));
        let jitter = 1.0 + self.jitter * (2.0 * rng.uniform() - 1.0);
        Span::from_secs(doubled.as_secs() * jitter)
    }
}

impl Default for Recovery {
    /// Noticed within 5 s, restarted in 30 to 90 s, as `scalability-and-reliability.md` has it.
    fn default() -> Self {
        let seconds = |s: u64| Span::from_us(s * 1_000_000);
        Self {
            detection: Delay::Uniform { low: Span::ZERO, high: seconds(5) },
            restart: Delay::Uniform { low: seconds(30), high: seconds(90) },
        }
    }
}

impl Conditions {
    /// Nothing goes wrong, and nobody tries again or gives up.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            faults: Vec::new(),
            recovery: Recovery::default(),
            clients: Conduct { retry: None, timeout: None },
            cold_start: false,
        }
    }

    /// Whether nothing differs from a fleet that just runs.
    pub fn is_calm(&self) -> bool {
        let Conduct { retry, timeout } = self.clients;
        self.faults.is_empty() && retry.is_none() && timeout.is_none() && !self.cold_start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_with_jitter() {
        let waits: Vec<f64> =
            (0..8).map(|attempt| Retry::STANDARD.wait(7, 3, attempt).as_secs()).collect();
        for (wait, plain) in waits.iter().zip([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]) {
            assert!((wait / plain - 1.0).abs() <= 0.1, "{wait} for {plain}");
        }
        let steady = Retry { jitter: 0.0, ..Retry::STANDARD };
        assert_eq!(steady.wait(7, 3, 2), Span::from_us(400_000));
    }

    #[test]
    fn calm_is_calm() {
        assert!(Conditions::calm(1).is_calm());
        assert!(!Conditions { cold_start: true, ..Conditions::calm(1) }.is_calm());
    }
}

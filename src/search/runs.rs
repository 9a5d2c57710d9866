//! How long a run lasts.

use crate::base::{SimTime, Span};
use crate::policy::{Batching, Pool};
use crate::sim::RunOptions;

/// Which part of a workload is simulated, and which part of that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLength {
    /// Requests that arrive before are not measured.
    pub warm_up: Span,
    /// Arrivals end after this long; `None`: the workload ends by itself.
    pub duration: Option<Span>,
    /// The run is cut here; `None`: it goes on until the fleet is idle.
    pub horizon: Option<Span>,
}

/// What a search space may say about its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunWishes {
    /// Left out at the start.
    pub warm_up: Option<Span>,
    /// When arrivals end.
    pub duration: Option<Span>,
    /// When the run is cut.
    pub horizon: Option<Span>,
}

/// What a workload offers, as far as the length of a run depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// Mean prompt tokens.
    pub input_tokens_mean: f64,
    /// Mean answer tokens.
    pub output_tokens_mean: f64,
    /// How long its arrivals take, where the workload counts its requests or has an end.
    pub arrivals: Option<Span>,
}

/// How long a fleet that changes is looked at where nothing says it.
const HOUR: Span = Span::from_us(3_600_000_000);

/// The wishes for a run, completed where the fleet `changes`: it is looked at for an hour, and from
/// an hour on it is measured whole, since there is no steady state to wait for.
pub fn fleet_wishes(wishes: &RunWishes, offer: &Offer, changes: bool) -> RunWishes {
    if !changes {
        return *wishes;
    }
    let duration = wishes.duration.or_else(|| offer.arrivals.is_none().then_some(HOUR));
    let whole = duration.or(offer.arrivals).is_some_and(|end| end >= HOUR);
    let warm_up = wishes.warm_up.or(whole.then_some(Span::ZERO));
    RunWishes { warm_up, duration, horizon: wishes.horizon }
}

/// How long a request stays in an instance whose batch is full, in seconds: the work of one
/// request, times the requests that share the instance.
///
/// A step of a full batch costs `beta0` once for all; a request takes part in one step per answer
/// token and about one for its prompt.
pub fn residence_s(pool: &Pool, batching: &Batching, offer: &Offer) -> f64 {
    let [step, prefill, decode] = pool.latency.beta;
    let batch = f64::from(batching.max_running);
    let steps = offer.output_tokens_mean + 1.0;
    let own = offer.input_tokens_mean * prefill + offer.output_tokens_mean * decode;
    batch * (own + step * steps / batch) / 1e6
}

/// How long the runs of a study last, where the space does not say.
///
/// From the template's pool and never from a candidate, so that all candidates meet the same
/// trace. The warm-up is two residence times and at least 10 s: long enough for a batch to fill
/// and turn over. Eight more residence times and at least 40 s of arrivals are measured; then
/// nothing arrives and the run drains. A workload with an end of its own is taken whole, and
/// its warm-up is at most a third of its arrivals.
pub fn run_length(
    wishes: &RunWishes,
    pool: &Pool,
    batching: &Batching,
    offer: &Offer,
) -> RunLength {
    let residence = residence_s(pool, batching, offer);
    let third = |arrivals: Span| Span::from_secs(arrivals.as_secs() / 3.0);
    let warm_up = wishes.warm_up.unwrap_or_else(|| match wishes.duration.or(offer.arrivals) {
        Some(arrivals) => Span::from_secs(2.0 * residence).min(third(arrivals)),
        None => Span::from_secs((2.0 * residence).max(10.0)),
    });
    let duration = wishes.duration.or_else(|| match offer.arrivals {
        Some(_) => None,
        None => Some(warm_up + Span::from_secs((8.0 * residence).max(40.0))),
    });
    RunLength { warm_up, duration, horizon: wishes.horizon }
}

impl RunLength {
    /// The options of a run of this length that keeps no records.
    pub fn options(&self) -> RunOptions {
        RunOptions {
            warm_up: SimTime::ZERO + self.warm_up,
            horizon: self.horizon.map_or(SimTime::NEVER, |horizon| SimTime::ZERO + horizon),
            keep_requests: false,
            keep_steps: false,
            timeline: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::simulated::tests::bundle;

    const TUTORIAL: Offer =
        Offer { input_tokens_mean: 512.0, output_tokens_mean: 512.0, arrivals: None };

    fn length(wishes: RunWishes, offer: &Offer) -> RunLength {
        let bundle = bundle(13, 3.5);
        run_length(&wishes, &bundle.pools[0], &bundle.batching, offer)
    }

    #[test]
    fn the_residence_time_of_the_tutorial_fits_its_known_capacity() {
        let bundle = bundle(13, 3.5);
        let residence = residence_s(&bundle.pools[0], &bundle.batching, &TUTORIAL);
        // 256 requests per residence time is the capacity of an instance: 41 requests/s.
        assert!((256.0 / residence - 41.0).abs() < 0.5, "{residence}");
    }

    #[test]
    fn a_run_measures_eight_residence_times_after_two_of_warm_up() {
        let length = length(RunWishes::default(), &TUTORIAL);
        assert!((length.warm_up.as_secs() - 12.5).abs() < 0.2);
        let duration = length.duration.expect("the workload never ends by itself");
        assert!((duration.as_secs() - 62.4).abs() < 1.0);
        assert_eq!(length.options().horizon, SimTime::NEVER);
    }

    #[test]
    fn a_workload_with_an_end_is_taken_whole_with_a_short_warm_up() {
        let offer = Offer { arrivals: Some(Span::from_secs(30.0)), ..TUTORIAL };
        let length = length(RunWishes::default(), &offer);
        assert_eq!((length.warm_up, length.duration), (Span::from_secs(10.0), None));
    }

    #[test]
    fn what_the_space_says_is_kept() {
        let span = Span::from_secs;
        let wishes = RunWishes {
            warm_up: Some(span(1.0)),
            duration: Some(span(5.0)),
            horizon: Some(span(9.0)),
        };
        let length = length(wishes, &TUTORIAL);
        assert_eq!((length.warm_up, length.duration), (span(1.0), Some(span(5.0))));
        assert_eq!(length.options().horizon.as_us(), 9_000_000);
    }
}

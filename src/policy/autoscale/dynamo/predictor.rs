//! What comes next in a series, one value after the other.

use super::arima;

/// How the next value is predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// It is the last one.
    Constant,
    /// Autoregression on differences, see `arima`.
    Arima,
    /// A level and its trend.
    Kalman(Noise),
}

/// Variances of a local linear trend; above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// By which the level moves from value to value.
    pub q_level: f64,
    /// By which the trend moves.
    pub q_trend: f64,
    /// Of what is observed about the level.
    pub r: f64,
}

/// Values that ARIMA needs.
const ARIMA_MIN: usize = 5;

/// A level and its trend, as far as values so far tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kalman {
    noise: Noise,
    level: f64,
    trend: f64,
    /// Covariance of both: of the level, of level and trend, of the trend.
    spread: [f64; 3],
}

impl Kalman {
    /// Begins at the first value, without a trend.
    pub fn new(noise: Noise, first: f64) -> Self {
        Self { noise, level: first, trend: 0.0, spread: [1000.0, 0.0, 1000.0] }
    }

    /// The next value.
    pub fn next(&self) -> f64 {
        self.level + self.trend
    }

    /// Takes in the next value.
    pub fn observe(&mut self, value: f64) {
        let [level, both, trend] = self.spread;
        let Noise { q_level, q_trend, r } = self.noise;
        let [level, both, trend] =
            [level + 2.0 * both + trend + q_level, both + trend, trend + q_trend];
        let (gain, gain_trend) = (level / (level + r), both / (level + r));
        let miss = value - self.next();
        self.level = self.next() + gain * miss;
        self.trend += gain_trend * miss;
        self.spread = [(1.0 - gain) * level, (1.0 - gain) * both, trend - gain_trend * both];
    }
}

/// Predicts a series as the planner does: it begins with the first value that is not zero, and
/// what is no number counts as zero.
#[derive(Clone, Debug)]
pub struct Predictor {
    method: Method,
    log1p: bool,
    values: Vec<f64>,
    kalman: Option<Kalman>,
}

impl Predictor {
    /// Without values; `log1p`: predicts the logarithm of one more.
    pub fn new(method: Method, log1p: bool) -> Self {
        Self { method, log1p, values: Vec::new(), kalman: None }
    }

    /// Takes in the next value.
    pub fn add(&mut self, value: f64) {
        let value = if value.is_finite() { value } else { 0.0 };
        if value == 0.0 && self.values.is_empty() {
            return;
        }
        self.values.push(value);
        if let Method::Kalman(noise) = self.method {
            let value = if self.log1p { value.max(0.0).ln_1p() } else { value };
            match &mut self.kalman {
                Some(kalman) => kalman.observe(value),
                None => self.kalman = Some(Kalman::new(noise, value)),
            }
        }
    }

    /// The next value; zero before the first.
    pub fn next(&self) -> f64 {
        let last = self.values.last().copied().unwrap_or(0.0);
        match (self.method, &self.kalman) {
            (Method::Kalman(_), Some(kalman)) if self.log1p => kalman.next().exp_m1().max(0.0),
            (Method::Kalman(_), Some(kalman)) => kalman.next(),
            (Method::Arima, _) if self.values.len() >= ARIMA_MIN => self.arima(),
            _ => last,
        }
    }

    /// What collapses to a mean or a walk is predicted by its logarithms, as spikes are.
    fn arima(&self) -> f64 {
        if self.values.windows(2).all(|pair| pair[0].to_bits() == pair[1].to_bits()) {
            return self.values[0];
        }
        if !self.log1p {
            let forecast = arima::forecast(&self.values);
            if forecast.p > 0 {
                return forecast.next.max(0.0);
            }
        }
        let logs: Vec<f64> = self.values.iter().map(|value| value.max(0.0).ln_1p()).collect();
        arima::forecast(&logs).next.exp_m1().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: Noise = Noise { q_level: 1.0, q_trend: 0.1, r: 10.0 };

    fn after(method: Method, log1p: bool, values: &[f64]) -> f64 {
        let mut predictor = Predictor::new(method, log1p);
        for &value in values {
            predictor.add(value);
        }
        predictor.next()
    }

    #[test]
    fn constant_is_the_last_value() {
        assert_eq!(after(Method::Constant, false, &[3.0, 7.0]), 7.0);
        assert_eq!(after(Method::Constant, false, &[]), 0.0);
        assert_eq!(after(Method::Constant, false, &[7.0, f64::NAN]), 0.0);
    }

    #[test]
    fn a_kalman_step_computed_by_hand() {
        // The spread of 1000 each becomes 2001, 1000 and 1000.1; 12 misses 10 by 2. The level
        // gains 2 * 2001 / 2011, the trend 2 * 1000 / 2011.
        let mut kalman = Kalman::new(NOISE, 10.0);
        assert_eq!(kalman.next(), 10.0);
        kalman.observe(12.0);
        assert!((kalman.level - 11.990_054_7).abs() < 1e-7, "{kalman:?}");
        assert!((kalman.trend - 0.994_530_1).abs() < 1e-7, "{kalman:?}");
        assert!((kalman.next() - 12.984_584_8).abs() < 1e-7);
        let expected = [10.0 / 2011.0 * 2001.0, 10.0 / 2011.0 * 1000.0, 1000.1 - 1e6 / 2011.0];
        for (value, expected) in kalman.spread.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-9, "{kalman:?}");
        }
    }

    #[test]
    fn kalman_follows_a_line_and_smooths_a_spike() {
        let line: Vec<f64> = (0..40).map(|at| 100.0 + 5.0 * f64::from(at)).collect();
        let next = after(Method::Kalman(NOISE), false, &line);
        assert!((next - 300.0).abs() < 0.1, "{next}");
        let mut spike = vec![100.0; 20];
        spike.push(200.0);
        let next = after(Method::Kalman(NOISE), false, &spike);
        assert!((110.0..200.0).contains(&next), "{next}");
    }

    #[test]
    fn the_idle_time_before_the_first_request_tells_nothing() {
        for method in [Method::Constant, Method::Arima, Method::Kalman(NOISE)] {
            let idle = after(method, false, &[0.0, 0.0, 0.0, 8.0, 9.0, 7.0, 8.0, 9.0, 8.0]);
            assert_eq!(idle, after(method, false, &[8.0, 9.0, 7.0, 8.0, 9.0, 8.0]));
        }
    }

    #[test]
    fn arima_waits_for_five_values_and_knows_what_does_not_change() {
        assert_eq!(after(Method::Arima, false, &[1.0, 2.0, 3.0, 4.0]), 4.0);
        assert_eq!(after(Method::Arima, false, &[6.0; 9]), 6.0);
    }

    #[test]
    fn logarithms_give_no_negative_numbers_and_follow_what_doubles() {
        let doubling: Vec<f64> = (0..12).map(|at| 2.0_f64.powi(at) - 1.0).collect();
        let next = after(Method::Arima, true, &doubling);
        assert!((next - 4095.0).abs() < 1.0, "{next}");
        let falling = after(Method::Kalman(NOISE), true, &[1000.0, 10.0, 1.0, 0.0, 0.0]);
        assert!(falling >= 0.0, "{falling}");
    }
}

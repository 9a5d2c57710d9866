//! Autoregression on differences: what the ARIMA predictor is here.
//!
//! The planner lets `pmdarima` choose among ARIMA(p, d, q) by AIC and fits by maximum likelihood.
//! Here there are no moving-average terms: d in 0..=2 is the least for which the KPSS test of a
//! level does not reject at 5 %, and p in 0..=3 has the least AIC among fits by least squares over
//! the same values. Forecasts differ from `pmdarima`'s where it would take a q above zero.

/// The critical value of the KPSS test of a level at 5 %.
const KPSS_5_PERCENT: f64 = 0.463;
const D_MAX: usize = 2;
const P_MAX: usize = 3;

/// A fitted model and what it says about the next value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Values before that a value depends on.
    pub p: usize,
    /// How often differences were taken.
    pub d: usize,
    /// The next value.
    pub next: f64,
}

/// Fits `series` of at least 5 values, which are not all the same.
pub fn forecast(series: &[f64]) -> Forecast {
    // Least squares of numbers near 1 lose no digits.
    let scale = series.iter().fold(0.0_f64, |most, value| most.max(value.abs())).max(1e-300);
    let mut levels = vec![series.iter().map(|value| value / scale).collect::<Vec<f64>>()];
    while levels.len() <= D_MAX && !is_level(&levels[levels.len() - 1]) {
        let last = &levels[levels.len() - 1];
        let differences: Vec<f64> = last.windows(2).map(|pair| pair[1] - pair[0]).collect();
        levels.push(differences);
    }
    let d = levels.len() - 1;
    let (p, step) = autoregress(&levels[d], d < D_MAX);
    let last_of = |level: &Vec<f64>| level[level.len() - 1];
    let next = step + levels[..d].iter().map(last_of).sum::<f64>();
    Forecast { p, d, next: next * scale }
}

/// Whether the KPSS test does not reject that `series` wanders about a level.
fn is_level(series: &[f64]) -> bool {
    let n = series.len() as f64;
    let mean = series.iter().sum::<f64>() / n;
    let rest: Vec<f64> = series.iter().map(|value| value - mean).collect();
    let (mut sum, mut squares) = (0.0, 0.0);
    for value in &rest {
        sum += value;
        squares += sum * sum;
    }
    let lags = (4.0 * (n / 100.0).powf(0.25)) as usize;
    let covariance =
        |lag: usize| rest.iter().zip(&rest[lag.min(rest.len())..]).map(|(a, b)| a * b).sum::<f64>();
    let weighed = |lag: usize| (1.0 - lag as f64 / (lags as f64 + 1.0)) * covariance(lag);
    let variance = (covariance(0) + 2.0 * (1..=lags).map(weighed).sum::<f64>()) / n;
    // What hardly varies needs no differences.
    variance <= 1e-18 || squares / (n * n) / variance <= KPSS_5_PERCENT
}

/// The order of least AIC, and the next value.
fn autoregress(series: &[f64], with_mean: bool) -> (usize, f64) {
    let longest = P_MAX.min(series.len().saturating_sub(2) / 3);
    let known = (series.len() - longest) as f64;
    let mean = series.iter().sum::<f64>() / series.len() as f64;
    let total: f64 = series.iter().map(|value| (value - mean) * (value - mean)).sum();
    // What is explained but for rounding is explained.
    let least = (1e-12 * total / known).max(1e-300);
    let mut best = (0, if with_mean { mean } else { 0.0 }, f64::INFINITY);
    for p in 0..=longest {
        let row = |at: usize| {
            let before = series[at - p..at].iter().rev().copied();
            with_mean.then_some(1.0).into_iter().chain(before).collect::<Vec<f64>>()
        };
        let rows: Vec<Vec<f64>> = (longest..series.len()).map(row).collect();
        let Some(weights) = least_squares(&rows, &series[longest..]) else { continue };
        let value = |row: &[f64]| row.iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>();
        let misses = rows.iter().zip(&series[longest..]).map(|(row, y)| y - value(row));
        let error = (misses.map(|miss| miss * miss).sum::<f64>() / known).max(least);
        let aic = known * error.ln() + 2.0 * (weights.len() as f64 + 1.0);
        if aic < best.2 {
            best = (p, value(&row(series.len())), aic);
        }
    }
    (best.0, best.1)
}

/// The weights that bring `rows` closest to `values`; `None` where many do.
fn least_squares(rows: &[Vec<f64>], values: &[f64]) -> Option<Vec<f64>> {
    let width = rows.first()?.len();
    let mut table = vec![vec![0.0; width + 1]; width];
    for (row, value) in rows.iter().zip(values) {
        for at in 0..width {
            for other in 0..width {
                table[at][other] += row[at] * row[other];
            }
            table[at][width] += row[at] * value;
        }
    }
    for at in 0..width {
        let size = |row: &usize| table[*row][at].abs();
        let pivot = (at..width).max_by(|a, b| size(a).total_cmp(&size(b)))?;
        table.swap(at, pivot);
        if table[at][at].abs() < 1e-10 {
            return None;
        }
        let pivot = table[at].clone();
        for (index, row) in table.iter_mut().enumerate() {
            let factor = if index == at { 0.0 } else { row[at] / pivot[at] };
            for (value, of_pivot) in row.iter_mut().zip(&pivot) {
                *value -= factor * of_pivot;
            }
        }
    }
    Some((0..width).map(|at| table[at][width] / table[at][at]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 1e-6 * expected.abs().max(1.0)
    }

    #[test]
    fn least_squares_of_a_line_computed_by_hand() {
        // y = 1, 3, 4 at x = 0, 1, 2: slope 1.5, intercept 8/3 - 1.5.
        let rows: Vec<Vec<f64>> = (0..3).map(|x| vec![1.0, f64::from(x)]).collect();
        let weights = least_squares(&rows, &[1.0, 3.0, 4.0]).expect("one");
        assert!(close(weights[0], 8.0 / 3.0 - 1.5) && close(weights[1], 1.5), "{weights:?}");
        assert_eq!(least_squares(&[vec![1.0, 1.0]], &[1.0]), None);
    }

    #[test]
    fn a_series_about_a_level_is_no_trend() {
        let around = [10.0, 12.0, 9.0, 11.0, 8.0, 12.0, 10.0, 9.0, 11.0, 10.0];
        assert!(is_level(&around));
        assert!(!is_level(&(0..20).map(f64::from).collect::<Vec<_>>()));
        assert!(is_level(&[3.0; 9]));
    }

    #[test]
    fn the_kpss_statistic_computed_by_hand() {
        // About the mean 2: -2, -1, 0, 1, 2; sums -2, -3, -3, -2, 0 with squares 26. One lag:
        // (10 + 2 * 0.5 * 4) / 5 = 2.8. 26 / 25 / 2.8 = 0.371.
        assert!(is_level(&[0.0, 1.0, 2.0, 3.0, 4.0]), "0.371 is below 0.463");
        // Twelve in a line: sums with squares 2073.5, two lags: (143 + 2 * (2/3 * 107.25 + 1/3 *
        // 72.5)) / 12 = 27.86; 2073.5 / 144 / 27.86 = 0.517.
        assert!(!is_level(&(0..12).map(f64::from).collect::<Vec<_>>()));
    }

    #[test]
    fn a_value_that_halves_towards_a_level_goes_on_so() {
        // x' = 50 + x / 2 from 20: 60, 80, 90, 95 ...; it nears 100.
        let mut series = vec![20.0];
        for at in 0..7 {
            series.push(50.0 + series[at] / 2.0);
        }
        let (p, next) = autoregress(&series, true);
        assert_eq!(p, 1);
        assert!(close(next, 50.0 + series[7] / 2.0), "{next}");
    }

    #[test]
    fn a_line_goes_on() {
        let line: Vec<f64> = (0..20).map(|at| 100.0 + 7.0 * f64::from(at)).collect();
        let forecast = forecast(&line);
        assert_eq!((forecast.p, forecast.d), (0, 1));
        assert!(close(forecast.next, 240.0), "{forecast:?}");
    }

    #[test]
    fn a_parabola_goes_on_by_second_differences() {
        let parabola: Vec<f64> = (0..30).map(|at| f64::from(at * at)).collect();
        let forecast = forecast(&parabola);
        assert_eq!(forecast.d, 2);
        assert!(close(forecast.next, 900.0), "{forecast:?}");
    }
}

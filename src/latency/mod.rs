//! How long a step takes.

/// The longest step or delay, 30 days in microseconds: what is slower never ends as far as a run
/// is concerned, and the clock cannot overflow.
const LONGEST_US: u64 = 30 * 86_400 * 1_000_000;

/// The blackbox latency model: three coefficients for what happens around the engine and three
/// for a step of it, in microseconds, fitted per (model, GPU, tensor parallelism).
///
/// - waiting to be queued: `trunc(alpha0 + alpha1 * input_tokens)`
/// - a step: `trunc(beta0 + beta1 * prefill_tokens + beta2 * decode_tokens)`
/// - each token's output processing, reported but never on the clock: `trunc(alpha2)`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blackbox {
    /// alpha0, alpha1, alpha2 in microseconds (alpha1 per token).
    pub alpha: [f64; 3],
    /// beta0, beta1, beta2 in microseconds (beta1 and beta2 per token).
    pub beta: [f64; 3],
}

impl Blackbox {
    /// Microseconds from routing until a prompt of `input` tokens joins the wait queue.
    pub fn queueing_us(&self, input: u32) -> u64 {
        ((self.alpha[0] + self.alpha[1] * f64::from(input)) as u64).min(LONGEST_US)
    }

    /// Microseconds of a step that computes `prefill` prompt tokens and `decode` answer tokens.
    pub fn step_us(&self, prefill: u64, decode: u64) -> u64 {
        let mut step = 0.0;
        step += self.beta[0];
        step += self.beta[1] * prefill as f64;
        step += self.beta[2] * decode as f64;
        (step as u64).min(LONGEST_US)
    }

    /// Microseconds added to each reported token.
    pub fn output_us(&self) -> u64 {
        (self.alpha[2] as u64).min(LONGEST_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_numbers_of_one_request() {
        let model = Blackbox { alpha: [1601.35, 3.51, 1805.54], beta: [6910.42, 17.67, 2.84] };
        assert_eq!(model.queueing_us(100), 1952);
        assert_eq!(model.step_us(100, 0), 8677);
        assert_eq!(model.step_us(0, 1), 6913);
        assert_eq!(model.output_us(), 1805);
    }
}

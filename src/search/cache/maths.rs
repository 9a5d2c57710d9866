//! What the mathematics library of this machine answers.

/// Questions to each function.
const QUESTIONS: u32 = 64;

/// Tells `told` what the functions that a simulation uses answer at some points: those that no
/// standard rounds for everybody.
pub(super) fn answers(mut told: impl FnMut(f64)) {
    let one: [fn(f64) -> f64; 12] = [
        f64::ln,
        f64::exp,
        f64::ln_1p,
        f64::exp_m1,
        f64::log2,
        f64::log10,
        f64::cbrt,
        f64::sin,
        f64::cos,
        f64::tan,
        f64::tanh,
        f64::exp2,
    ];
    let two: [fn(f64, f64) -> f64; 2] = [f64::powf, f64::hypot];
    for question in 0..QUESTIONS {
        // The compiler must not answer in the place of the machine.
        let x = std::hint::black_box(0.07 + 0.37 * f64::from(question));
        for function in one {
            told(function(x));
        }
        for function in two {
            told(function(x, 1.7 - 0.1 * x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_a_number_of_its_own() {
        let mut all = Vec::new();
        answers(|answer| all.push(answer));
        assert_eq!(all.len(), 64 * 14);
        assert!(all.iter().all(|answer| answer.is_finite()));
        all.sort_by(f64::total_cmp);
        all.dedup();
        assert!(all.len() > 60 * 14, "{} are distinct", all.len());
    }
}

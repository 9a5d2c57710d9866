//! Numbers as people read them.

/// Up to `digits` decimals with thousands separators: `25600.04` gives `25,600.04`.
///
/// A value that is not finite gives `-`.
pub fn decimal(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let text = format!("{value:.digits$}");
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) if rest.bytes().any(|b| b.is_ascii_digit() && b != b'0') => ("-", rest),
        Some(rest) => ("", rest),
        None => ("", text.as_str()),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let grouped = group(whole);
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

/// A count with thousands separators.
pub fn count(value: u64) -> String {
    group(&value.to_string())
}

/// Milliseconds with as many decimals as are of use: two below 100, one below 1,000, else none.
pub fn ms(value: f64) -> String {
    decimal(value, milliseconds_digits(value))
}

/// How many decimals of `value` milliseconds are of use.
pub fn milliseconds_digits(value: f64) -> usize {
    match value.abs() {
        small if small < 100.0 => 2,
        middle if middle < 1000.0 => 1,
        _ => 0,
    }
}

/// US dollars with cents: `$76.70`.
pub fn usd(value: f64) -> String {
    format!("${}", decimal(value, 2))
}

/// A figure called `name` in the unit of its name: dollars for costs, milliseconds, counts whole,
/// anything else with four decimals at most.
pub fn figure(name: &str, value: f64) -> String {
    let plain = name.rsplit_once('.').map_or(name, |(_, plain)| plain);
    match plain {
        // A million tokens cost cents, where two decimals would hide every difference.
        cost if cost.starts_with("cost_per_million") => format!("${}", decimal(value, 4)),
        "cost_per_thousand_within_slo" => format!("${}", decimal(value, 4)),
        cost if cost.starts_with("cost_per_") || cost == "cost_total" => usd(value),
        latency if latency.ends_with("_ms") => ms(value),
        // Whole in a fleet that stands still.
        "instances" | "gpus" if value.fract() != 0.0 => decimal(value, 2),
        "instances" | "gpus" | "preemptions" | "wasted_tokens" => decimal(value, 0),
        "instances_max" | "scale_ups" | "scale_downs" | "reversals" if value.fract() == 0.0 => {
            decimal(value, 0)
        }
        seconds if seconds.ends_with("_s") && !seconds.ends_with("_per_s") => decimal(value, 1),
        "recovery_s_max" => decimal(value, 1),
        requests if requests.ends_with("_requests") => decimal(value, 0),
        rate if rate.ends_with("_per_s") => decimal(value, 0),
        per_second if per_second.ends_with("_rps") => rate(value),
        _ => decimal(value, 4),
    }
}

/// Something per second: two decimals, four below 1.
pub fn rate(value: f64) -> String {
    decimal(value, rate_digits(value))
}

/// How many decimals of `value` per second are of use.
pub fn rate_digits(value: f64) -> usize {
    if value.abs() < 1.0 { 4 } else { 2 }
}

/// A share in [0, 1] as a percentage with two decimals.
pub fn percent(share: f64) -> String {
    format!("{} %", decimal(share * 100.0, 2))
}

/// A length of time in seconds, as hours, minutes and seconds: `1 h 02 min`, `3 min 05 s`, `7 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// The shortest text that reads back as `value`, without an exponent for everyday sizes; empty
/// for what is not finite. For files that programs read.
pub fn exact(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { String::new() }
}

/// `one instance`, `2 instances`: a count and its word.
pub fn plural(number: usize, word: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {word}{ending}")
}

fn group(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(decimal(25600.04, 2), "25,600.04");
        assert_eq!(decimal(-1234.0, 0), "-1,234");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000_000), "1,000,000");
    }

    #[test]
    fn zero_has_no_sign_and_nan_is_a_dash() {
        assert_eq!(decimal(-0.001, 2), "0.00");
        assert_eq!(decimal(f64::NAN, 2), "-");
    }

    #[test]
    fn milliseconds_keep_about_four_digits() {
        assert_eq!(ms(39.0), "39.00");
        assert_eq!(ms(499.96), "500.0");
        assert_eq!(ms(19_400.4), "19,400");
    }

    #[test]
    fn durations_name_their_units() {
        assert_eq!(duration(7.2), "7 s");
        assert_eq!(duration(185.0), "3 min 05 s");
        assert_eq!(duration(3725.0), "1 h 02 min");
    }
}

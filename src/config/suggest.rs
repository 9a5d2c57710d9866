//! The name that was probably meant.

/// How alike two names must be (Jaro-Winkler, 0 to 1) before one is suggested for the other.
const ALIKE: f64 = 0.75;
/// More candidates than this are counted but not listed.
const SHOWN: usize = 12;

/// The candidate most like `name`, where one is alike enough; ties go to the first.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let name = name.to_lowercase();
    let mut best = None;
    let mut best_score = ALIKE;
    for candidate in candidates {
        let score = strsim::jaro_winkler(&name, &candidate.to_lowercase());
        if score > best_score {
            best_score = score;
            best = Some(candidate);
        }
    }
    best
}

/// A hint that names the nearest candidate, or else lists them (at most a dozen); empty without
/// candidates.
pub fn did_you_mean<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if candidates.is_empty() {
        return String::new();
    }
    if let Some(near) = nearest(name, candidates.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    let listed: Vec<String> = candidates.iter().take(SHOWN).map(|c| format!("`{c}`")).collect();
    let more = candidates.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("one of {}{rest}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_junk_finds_none() {
        let names = ["round-robin", "least-loaded", "weighted"];
        assert_eq!(nearest("round_robbin", names), Some("round-robin"));
        assert_eq!(nearest("qqq", names), None);
        assert_eq!(did_you_mean("wieghted", names), "did you mean `weighted`?");
        assert!(did_you_mean("qqq", names).starts_with("one of `round-robin`, `least-loaded`"));
    }
}

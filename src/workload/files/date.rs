//! Dates of log files.

/// Microseconds from the start of 1970 to a moment such as `2023-11-16 18:17:03.9799600`, with `T`
/// for the blank and `Z` or `+01:00` behind it as one likes; finer digits are cut off.
pub(super) fn micros(text: &str) -> Option<u64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let (year, month, day) = (digits(year, 9999)?, digits(month, 12)?, digits(day, 31)?);
    if parts.next().is_some() || month == 0 || day == 0 || day > month_days(year, month) {
        return None;
    }
    let (time, east_minutes) = zone(time)?;
    let mut parts = time.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
    let (hour, minute, second) = (digits(hour, 23)?, digits(minute, 59)?, digits(second, 60)?);
    if parts.next().is_some() || fraction.is_empty() {
        return None;
    }
    let mut micros = 0;
    for place in 0..fraction.len().max(6) {
        let digit = fraction.as_bytes().get(place).copied().map_or(Some(0), digit_of)?;
        micros = if place < 6 { micros * 10 + digit } else { micros };
    }
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - east_minutes;
    u64::try_from((minutes * 60 + second) * 1_000_000 + micros).ok()
}

fn digit_of(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

fn digits(text: &str, max: i64) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && *number <= max)
}

/// The time without its zone, and how many minutes that lies east.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let (hours, minutes) = time[at + 1..].split_once(':')?;
    let minutes = digits(hours, 14)? * 60 + digits(minutes, 59)?;
    Some((&time[..at], if time[at..].starts_with('-') { -minutes } else { minutes }))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the start of 1970.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400 - 477;
    let months: i64 = (1..month).map(|month| month_days(year, month)).sum();
    (year - 1970) * 365 + leaps + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970() {
        for (text, seconds) in [
            ("1970-01-01 00:00:00", 0),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2023-11-16 18:17:03", 1_700_158_623),
            ("2024-02-29 23:59:59+00:00", 1_709_251_199),
            ("2024-02-29 23:59:59-01:30", 1_709_256_599),
        ] {
            assert_eq!(micros(text), Some(seconds * 1_000_000), "{text}");
        }
    }

    #[test]
    fn ticks_of_a_hundred_nanoseconds_are_cut() {
        let whole = micros("2023-11-16 18:17:03").expect("a date");
        assert_eq!(micros("2023-11-16 18:17:03.9799609"), Some(whole + 979_960));
        assert_eq!(micros("2023-11-16 18:17:03.5"), Some(whole + 500_000));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2023-11-16",
            "2023-13-01 00:00:00",
            "2023-02-29 00:00:00",
            "2023-11-16 24:00:00",
            "2023-11-16 18:17",
            "2023-11-16 18:17:03.",
            "2023-11-16 18:17:03.x",
            "2023-11-16 18:17:03+5",
            "1969-12-31 23:59:59",
            "-1-1-1 0:0:0",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }
}

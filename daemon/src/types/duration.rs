//! Lengths of time as people write them: `90s`, `10m`, `1h`, `7d`.

use std::time::Duration;

/// The longest that is read: ten years.
const LONGEST: u64 = 10 * 365 * 86_400;

/// Reads a whole number with one of the units s, m, h, d. None for anything else, for zero
/// and for more than ten years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    // `parse` would take a sign.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=LONGEST)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_with_a_unit_are_read() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h", 3_600), ("7d", 604_800)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "h",
            "1",
            "1.5h",
            "-1h",
            "+1h",
            " 1h",
            "1 h",
            "1H",
            "1é",
            "0s",
            "99999d",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}

//! Times that lie ahead, as kinds write them: `28 days`.

use chrono::{DateTime, Duration, Utc};

/// Returns the time that lies so far ahead, such as `28 days` or `1h`; none if it cannot be told, or no calendar has it.
/// Months have 30 days and years 365, as taskgraph has it (`util/time.py`).
pub(super) fn ahead(after: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    const DAY: i64 = 24 * 60 * 60;
    let after = after.trim();
    let (number, unit) = after.split_at(after.find(|char: char| !char.is_ascii_digit())?);
    let seconds = match unit.trim_start() {
        "s" | "second" | "seconds" => 1,
        "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 60 * 60,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        "mo" | "month" | "months" => 30 * DAY,
        "y" | "year" | "years" => 365 * DAY,
        _ => return None,
    };
    let seconds = number.parse::<i64>().ok()?.checked_mul(seconds)?;
    now.checked_add_signed(Duration::try_seconds(seconds)?)
}

#[cfg(test)]
mod tests {
    use super::ahead;
    use chrono::DateTime;

    #[test]
    fn times_ahead_are_read_as_they_are_written_in_kinds() {
        let now = DateTime::from_timestamp(0, 0).unwrap();
        for (after, days) in [
            ("28 days", Some(28)),
            ("1 day", Some(1)),
            ("2 weeks", Some(14)),
            ("48h", Some(2)),
            ("1000 years", Some(365_000)),
            ("soon", None),
            ("7", None),
            ("1 fortnight", None),
            ("9999999999 years", None),
        ] {
            let then = ahead(after, now).map(|then| (then - now).num_days());
            assert_eq!(then, days, "{after}");
        }
    }
}

//! [`ByteSize`]: a number of bytes that prints in units people read.

use std::fmt;

/// A number of bytes. `Display` uses decimal units (`1.5 MB`), as artifact listings and network rates do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Returns the rate reached by moving this much in `elapsed`, as text such as `12.4 MB/s`.
    #[must_use]
    pub fn rate(self, elapsed: std::time::Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(1e-3);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "three digits are shown"
        )]
        let per_second = (self.0 as f64 / seconds) as u64;
        format!("{}/s", ByteSize(per_second))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let mut value = self.0 as f64 / 1000.0;
        let mut unit = 0;
        while value >= 999.95 && unit + 1 < UNITS.len() {
            value /= 1000.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;
    use std::time::Duration;

    #[test]
    fn units_change_before_four_digits_are_needed() {
        let shown: Vec<String> = [0, 999, 1000, 1_540_000, 999_949, 999_950, 4_000_000_000]
            .map(|n| ByteSize(n).to_string())
            .into();
        assert_eq!(
            shown,
            [
                "0 B", "999 B", "1.0 kB", "1.5 MB", "999.9 kB", "1.0 MB", "4.0 GB"
            ]
        );
    }

    #[test]
    fn rate_of_nothing_in_no_time_is_finite() {
        assert_eq!(ByteSize(0).rate(Duration::ZERO), "0 B/s");
        assert_eq!(ByteSize(5_000_000).rate(Duration::from_secs(2)), "2.5 MB/s");
    }
}

//! Latencies, kept in a histogram of three significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::Report;

/// The longest that is told apart from longer ones: an hour.
const MICROS_MAX: u64 = 3_600_000_000;

/// A distribution of latencies, to the microsecond.
#[derive(Clone, Debug)]
pub struct Latency {
    // Only bounds that make no sense could fail; without a histogram nothing is recorded.
    histogram: Option<Histogram<u64>>,
}

impl Default for Latency {
    fn default() -> Self {
        Latency {
            histogram: Histogram::new_with_bounds(1, MICROS_MAX, 3).ok(),
        }
    }
}

/// The names of a distribution's fields: where, and how to get them.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("max", 1.0),
];

impl Latency {
    /// Records one.
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(MICROS_MAX);
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(micros.max(1));
        }
    }

    /// Adds another distribution.
    pub fn add(&mut self, other: &Latency) {
        if let (Some(histogram), Some(other)) = (&mut self.histogram, &other.histogram) {
            // Both have the same bounds, so every value fits.
            let _ = histogram.add(other);
        }
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The latency which this part (0 to 1) of all does not exceed, in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        let micros = self
            .histogram
            .as_ref()
            .map_or(0, |histogram| histogram.value_at_quantile(quantile));
        micros as f64 / 1_000.0
    }

    /// Puts `{name}_p50_ms` to `{name}_max_ms` into a report; nothing if nothing was recorded.
    pub fn report(&self, name: &str, report: &mut Report) {
        if self.count() == 0 {
            return;
        }
        for (label, quantile) in QUANTILES {
            report.put(format!("{name}_{label}_ms"), self.quantile_ms(quantile));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::default();
        for millis in millis {
            latency.record(Duration::from_millis(millis));
        }
        latency
    }

    fn close(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() <= expected / 500.0,
            "{actual} is not {expected}"
        );
    }

    #[test]
    fn quantiles_are_true_to_three_digits() {
        let latency = of(1..=1_000);
        assert_eq!(latency.count(), 1_000);
        close(latency.quantile_ms(0.5), 500.0);
        close(latency.quantile_ms(0.99), 990.0);
        close(latency.quantile_ms(0.999), 999.0);
        close(latency.quantile_ms(1.0), 1_000.0);
    }

    #[test]
    fn distributions_add_up() {
        let mut latency = of([1; 90]);
        latency.add(&of([100; 10]));
        assert_eq!(latency.count(), 100);
        close(latency.quantile_ms(0.9), 1.0);
        close(latency.quantile_ms(0.91), 100.0);
    }

    #[test]
    fn extremes_are_kept_within_bounds() {
        let latency = of([0, u64::MAX]);
        assert_eq!(latency.count(), 2);
        close(latency.quantile_ms(0.1), 0.001);
        close(latency.quantile_ms(1.0), 3_600_000.0);
        assert_eq!(Latency::default().quantile_ms(0.5), 0.0);
    }

    #[test]
    fn nothing_recorded_is_nothing_reported() {
        let mut report = Report::new("chat");
        Latency::default().report("send_to_sent", &mut report);
        of([5]).report("send_to_read", &mut report);
        let json = report.json();
        assert!(!json.contains("send_to_sent"), "{json}");
        assert!(json.contains("\"send_to_read_p99_9_ms\":5"), "{json}");
    }
}

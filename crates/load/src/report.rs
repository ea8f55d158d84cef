//! What a run found: fields in order, as a table for people or one JSON object for programs.
//!
//! A field's name ends with its unit and never changes its meaning; `docs/load.md` lists them all.

use std::fmt::Write as _;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// A run's report.
#[derive(Clone, Debug)]
pub struct Report {
    fields: Vec<(String, Value)>,
    faults: Vec<String>,
}

impl Report {
    /// An empty report of this scenario.
    #[must_use]
    pub fn new(scenario: &str) -> Report {
        Report {
            fields: vec![("scenario".to_owned(), Value::from(scenario))],
            faults: Vec::new(),
        }
    }

    /// Puts a field. Fractions are rounded to what can be meant.
    pub fn put(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let value = match value.into() {
            Value::Number(number) if number.is_f64() => {
                Value::from(round(number.as_f64().unwrap_or_default()))
            }
            other => other,
        };
        self.fields.push((name.into(), value));
    }

    /// Puts a field if there is a value.
    pub fn put_some(&mut self, name: impl Into<String>, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Puts a count that must be zero: anything else is a fault.
    pub fn put_fault(&mut self, name: &str, count: u64) {
        self.put(name, count);
        if count > 0 {
            self.faults.push(format!("{name}: {count}"));
        }
    }

    /// Says that something is wrong that is no number.
    pub fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// What was wrong; none in a good run.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// A field's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let named = |(field, _): &&(String, Value)| field == name;
        self.fields.iter().find(named).map(|(_, value)| value)
    }

    /// One JSON object, on one line.
    #[must_use]
    pub fn json(&self) -> String {
        // Names are text and values are JSON already: it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A table, one field a line, the percentiles of a latency on one line.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut fields = self.fields.iter().peekable();
        while let Some((name, value)) = fields.next() {
            let Some(stem) = name.strip_suffix("_p50_ms") else {
                let _ = writeln!(text, "{name:<36} {}", plain(value));
                continue;
            };
            let mut line = format!("{:<36} p50 {}", format!("{stem}_ms"), plain(value));
            while let Some((label, value)) = fields.peek().and_then(|(name, value)| {
                let label = name.strip_prefix(stem)?.strip_prefix('_')?;
                Some((label.strip_suffix("_ms")?, value))
            }) {
                let _ = write!(line, "  {} {}", label.replace('_', "."), plain(value));
                fields.next();
            }
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len() + 1))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("faults", &self.faults)?;
        map.end()
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// To four significant digits, or to whole numbers where there are more.
fn round(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return 0.0;
    }
    let digits = number.abs().log10().floor() as i32 + 1;
    let factor = 10f64.powi((4 - digits).max(0));
    (number * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("chat");
        report.put("messages_per_s", 24_000.4);
        for (name, value) in [("p50", 1.23456), ("p99_9", 9.0), ("max", 10.5)] {
            report.put(format!("send_to_sent_{name}_ms"), value);
        }
        report.put_fault("lost", 0);
        report.put_some("server_resident_bytes", None::<u64>);
        report
    }

    #[test]
    fn json_is_one_object_in_order() {
        assert_eq!(
            report().json(),
            r#"{"scenario":"chat","messages_per_s":24000.0,"send_to_sent_p50_ms":1.235,"send_to_sent_p99_9_ms":9.0,"send_to_sent_max_ms":10.5,"lost":0,"faults":[]}"#
        );
    }

    #[test]
    fn the_table_has_a_line_for_each_latency() {
        assert_eq!(
            report().table(),
            "scenario                             chat\n\
             messages_per_s                       24000.0\n\
             send_to_sent_ms                      p50 1.235  p99.9 9.0  max 10.5\n\
             lost                                 0\n"
        );
    }

    #[test]
    fn a_count_that_must_be_zero_is_a_fault() {
        let mut report = report();
        assert!(report.faults().is_empty());
        report.put_fault("doubled", 2);
        assert_eq!(report.faults(), ["doubled: 2"]);
        assert_eq!(report.get("doubled"), Some(&Value::from(2)));
    }

    #[test]
    fn numbers_are_rounded() {
        assert_eq!(round(0.012_345_6), 0.012_35);
        assert_eq!(round(123_456.7), 123_457.0);
        assert_eq!(round(f64::NAN), 0.0);
        assert_eq!(round(0.0), 0.0);
    }
}

//! Times as people say them, in the time zone of this machine.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tidings_core::Time;

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Time,
    pub(crate) zone: TimeZone,
}

impl Clock {
    /// `10:32`.
    pub(crate) fn time(&self, at: Time) -> String {
        self.local(at)
            .map_or_else(String::new, |at| at.strftime("%H:%M").to_string())
    }

    pub(crate) fn day(&self, at: Time) -> Option<Date> {
        self.local(at).map(|at| at.date())
    }

    /// `Today`, `Yesterday`, `Friday, 21 November 2026`.
    pub(crate) fn day_in_words(&self, at: Time) -> String {
        let Some(day) = self.day(at) else {
            return String::new();
        };
        match self.days_ago(day) {
            Some(0) => "Today".to_owned(),
            Some(1) => "Yesterday".to_owned(),
            _ => day.strftime("%A, %-d %B %Y").to_string(),
        }
    }

    /// The shortest that says when: the time today, the weekday this week, else the date.
    pub(crate) fn short(&self, at: Time) -> String {
        let Some(local) = self.local(at) else {
            return String::new();
        };
        match self.days_ago(local.date()) {
            Some(0) => self.time(at),
            Some(1..=6) => local.strftime("%a").to_string(),
            _ => local.strftime("%d.%m.%y").to_string(),
        }
    }

    /// `last seen today at 10:32`.
    pub(crate) fn last_seen(&self, at: Time) -> String {
        let time = self.time(at);
        match self.day(at).and_then(|day| self.days_ago(day)) {
            Some(0) => format!("last seen today at {time}"),
            Some(1) => format!("last seen yesterday at {time}"),
            _ => format!("last seen {}", self.short(at)),
        }
    }

    fn days_ago(&self, day: Date) -> Option<i32> {
        let today = self.day(self.now)?;
        Some(day.until(today).ok()?.get_days())
    }

    fn local(&self, at: Time) -> Option<Zoned> {
        let millis = i64::try_from(at.0).ok()?;
        Some(
            Timestamp::from_millisecond(millis)
                .ok()?
                .to_zoned(self.zone.clone()),
        )
    }
}

/// A span as it is typed and said: `90 s`, `5 min`, `2 h`, `7 d`.
pub(crate) fn span(millis: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min")];
    let unit = UNITS
        .into_iter()
        .find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => format!("{} {name}", millis / unit),
        None => format!("{} s", millis / 1000),
    }
}

/// `90s`, `5m`, `2h`, `7d`; `off` is 0.
pub(crate) fn read_span(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase();
    if matches!(text.as_str(), "off" | "never" | "0") {
        return Some(0);
    }
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..)?.trim() {
        "s" | "sec" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

//! What was found, how it is shown, and with which code the program ends.

use std::process::ExitCode;

use serde::Serialize;

/// How a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and something is to be mended or known.
    Warning,
    /// It does not work, or not for long, or is not safe.
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at: a name that stays.
    pub check: &'static str,
    /// How it was found.
    pub what: String,
    /// What to do about it; empty if nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// All is well with this.
    pub(super) fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(Verdict::Ok, check, what, "");
    }

    /// It works, but `advice`.
    pub(super) fn warning(
        &mut self,
        check: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Verdict::Warning, check, what, advice);
    }

    /// It does not work, so `advice`.
    pub(super) fn fault(
        &mut self,
        check: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Verdict::Fault, check, what, advice);
    }

    fn add(
        &mut self,
        verdict: Verdict,
        check: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.findings.push(Finding {
            verdict,
            check,
            what: what.into(),
            advice: advice.into(),
        });
    }

    /// The worst of all.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Ok)
    }

    /// 0: all well; 1: warnings; 2: faults.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.verdict() as u8)
    }

    /// For people: a line each, and below it what to do.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let word = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Fault => "FAULT",
            };
            text.push_str(&format!(
                "{word:<8} {:<14} {}\n",
                finding.check, finding.what
            ));
            if !finding.advice.is_empty() {
                text.push_str(&format!("{:<23} → {}\n", "", finding.advice));
            }
        }
        let count = |verdict| {
            let with = self.findings.iter().filter(|of| of.verdict == verdict);
            with.count()
        };
        let (warnings, faults) = (count(Verdict::Warning), count(Verdict::Fault));
        text.push_str(&match (warnings, faults) {
            (0, 0) => "\nAll is well.\n".to_owned(),
            _ => format!(
                "\n{}, {}.\n",
                counted(faults, "fault"),
                counted(warnings, "warning")
            ),
        });
        text
    }

    /// For programs: `verdict` and `findings`.
    #[must_use]
    pub fn json(&self) -> String {
        let value = serde_json::json!({
            "verdict": self.verdict(),
            "findings": self.findings,
        });
        format!("{value:#}\n")
    }

    /// How a check came out: the worst finding of this name, if there is one.
    #[cfg(test)]
    pub(super) fn of(&self, check: &str) -> Option<Verdict> {
        let found = self.findings.iter().filter(|of| of.check == check);
        found.map(|finding| finding.verdict).max()
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_and_each_says_what_to_do() {
        let mut report = Report::default();
        assert_eq!(report.verdict(), Verdict::Ok);
        assert!(report.text().contains("All is well"));
        report.ok("settings", "are read");
        report.warning("clock", "is 2 s ahead", "run chrony");
        assert_eq!(report.verdict(), Verdict::Warning);
        report.fault("disk", "is full", "make room");
        assert_eq!(report.verdict(), Verdict::Fault);
        let text = report.text();
        assert!(text.contains("FAULT    disk           is full\n"), "{text}");
        assert!(text.contains("→ make room"), "{text}");
        assert!(text.ends_with("1 fault, 1 warning.\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["verdict"], "fault");
        assert_eq!(json["findings"][1]["verdict"], "warning");
        assert_eq!(json["findings"][0].get("advice"), None);
    }
}

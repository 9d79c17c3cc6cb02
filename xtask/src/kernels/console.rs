//! What the console of the machine said, and what follows from it.

use crate::ci::Counts;

/// Begins what the first process of the machine says.
const MARK: &str = "#MACHINE# ";

/// Begins a reason why a test, or a part of one, did not run.
const SKIPPED: &str = "SKIPPED: ";

/// What the lines so far have told.
#[derive(Debug, Default)]
pub(super) struct Record {
    kernel: String,
    /// Names of the suites, and what they have ended with.
    suites: Vec<(String, Option<i32>)>,
    counts: Counts,
    skipped: Vec<String>,
    /// What the kernel or the first process complained about.
    troubles: Vec<String>,
    done: bool,
}

impl Record {
    /// Takes in a line.
    pub(super) fn see(&mut self, line: &str) {
        if let Some((_, skipped)) = line.split_once(SKIPPED) {
            self.skipped.push(skipped.to_owned());
        }
        // A program that was killed leaves its last line open.
        let Some((_, said)) = line.split_once(MARK) else {
            self.counts.add(line);
            return;
        };
        match said.split_once(' ').unwrap_or((said, "")) {
            ("kernel", release) => self.kernel = release.to_owned(),
            ("begins", suite) => self.suites.push((suite.to_owned(), None)),
            ("ended", rest) => self.end_suite(rest),
            ("trouble:", what) => self.troubles.push(what.to_owned()),
            ("done", _) => self.done = true,
            _ => self.troubles.push(line.to_owned()),
        }
    }

    fn end_suite(&mut self, name_and_code: &str) {
        let ended = name_and_code.rsplit_once(' ');
        match (ended, self.suites.last_mut()) {
            (Some((name, code)), Some((running, end))) if name == running => {
                *end = code.parse().ok();
            }
            _ => self.troubles.push(format!("ended: {name_and_code}")),
        }
    }

    /// One line if all of them have passed, else everything that speaks against it.
    pub(super) fn verdict(&self) -> Result<String, String> {
        let mut faults = Vec::new();
        for (suite, code) in &self.suites {
            match code {
                Some(0) => {}
                Some(code) => faults.push(format!("suite {suite} has failed with {code}")),
                None => faults.push(format!("suite {suite} did not come to its end")),
            }
        }
        if !self.done {
            faults.push("the machine ended before its time".to_owned());
        } else if self.counts.passed() == 0 {
            faults.push("no test has run".to_owned());
        }
        if self.counts.ignored() > 0 {
            faults.push(format!("{} tests were ignored", self.counts.ignored()));
        }
        faults.extend(self.skipped.iter().map(|it| format!("skipped: {it}")));
        faults.extend(self.troubles.iter().map(|it| format!("trouble: {it}")));
        if !faults.is_empty() {
            return Err(faults.join("\n  "));
        }
        let (kernel, passed) = (&self.kernel, self.counts.passed());
        Ok(format!("{passed} passed on {kernel}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
SeaBIOS (version 1.16.2)
#MACHINE# kernel 6.1.0-56-cloud-amd64
#MACHINE# begins kernel
running 2 tests
test caps::exact ... ok
FIGURE: caps::exact: 4 at most
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s
#MACHINE# ended kernel 0
#MACHINE# done";

    fn verdict(console: &str) -> Result<String, String> {
        let mut record = Record::default();
        console.lines().for_each(|line| record.see(line));
        record.verdict()
    }

    #[test]
    fn a_good_run_says_what_has_passed_and_where() {
        assert_eq!(verdict(GOOD).unwrap(), "2 passed on 6.1.0-56-cloud-amd64");
    }

    #[test]
    fn whatever_is_amiss_is_named() {
        let ended = "#MACHINE# ended kernel 0";
        for (from, to, named) in [
            (ended, "#MACHINE# ended kernel 101", "failed with 101"),
            (ended, "test x ... #MACHINE# ended kernel 137", "with 137"),
            (ended, "", "suite kernel did not come to its end"),
            (ended, "#MACHINE# ended other 0", "ended: other 0"),
            ("#MACHINE# done", "", "before its time"),
            ("2 passed", "0 passed", "no test has run"),
            ("0 ignored", "1 ignored", "1 tests were ignored"),
            (
                "FIGURE: caps::exact: 4 at most",
                "test x ... SKIPPED: pin::far: no pair of interfaces",
                "skipped: pin::far: no pair of interfaces",
            ),
            (
                "#MACHINE# done",
                "#MACHINE# trouble: WARNING: CPU: 0\n#MACHINE# done",
                "WARNING: CPU: 0",
            ),
        ] {
            let fault = verdict(&GOOD.replace(from, to)).unwrap_err();
            assert!(fault.contains(named), "{fault}");
        }
    }
}

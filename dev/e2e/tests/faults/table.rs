//! The results of the scenarios: all figures for the terminal, one short line each for the page.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Write},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use crate::{
    runner::{Scenario, say},
    verdict::{Verdict, ms},
};

/// The directory of the page and of the logs of failed scenarios.
const OUTPUTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/faults");

/// The head of the page.
const HEAD: &str = include_str!("table.md");

/// The longest line of the page, in characters.
const MAX_LINE: usize = 200;

/// The result of one scenario.
#[derive(Debug)]
pub(crate) struct Row {
    number: u32,
    engine: &'static str,
    what: &'static str,
    pass: &'static str,
    verdict: Verdict,
    took: Duration,
}

/// All results.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    skipped: Vec<String>,
    incomplete: bool,
}

// === impl Row ===

impl Row {
    pub(crate) fn new(scenario: &Scenario, verdict: Verdict, took: Duration) -> Self {
        Self {
            number: scenario.number,
            engine: scenario.place.name(),
            what: scenario.what,
            pass: scenario.pass,
            verdict,
            took,
        }
    }

    fn result(&self) -> &'static str {
        if self.verdict.passed() { "pass" } else { "FAIL" }
    }

    fn keep_logs(&self) {
        if self.verdict.passed() {
            return;
        }
        let path = outputs().join(format!("{:02}_{}.log", self.number, self.engine));
        if let Err(error) = fs::write(&path, self.verdict.logs()) {
            say(&format!("{}: {error}", path.display()));
        }
    }

    /// A line of the page, with as many figures as fit.
    fn markdown(&self) -> String {
        let Self {
            number,
            engine,
            what,
            pass,
            ..
        } = self;
        let mut line = format!("| {number} | {engine} | {what} | {pass} | {} |", self.result());
        let mut separator = " ";
        for figure in self.verdict.figures() {
            let figure = figure.replace('|', "\\|");
            if line.chars().count() + separator.len() + figure.chars().count() + " |".len() > MAX_LINE {
                break;
            }
            line = line + separator + &figure;
            separator = "; ";
        }
        line + " |"
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, engine, result, took) = (self.number, self.engine, self.result(), ms(self.took));
        write!(f, "{number:>2} {engine:8} {result} {took:>7}  ")?;
        f.write_str(&self.verdict.figures().collect::<Vec<_>>().join("; "))
    }
}

// === impl Table ===

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        row.keep_logs();
        self.rows.push(row);
    }

    /// Adds a scenario that cannot run here. With `CI=true` that is a failure.
    pub(crate) fn skip(&mut self, scenario: &Scenario, why: &str, is_failure: bool) {
        let line = format!("{:>2} {:8} NOT RUN  {why}", scenario.number, scenario.place.name());
        self.skipped.push(line);
        self.incomplete |= is_failure;
    }

    /// Prints all results again, writes the page, and returns the exit code.
    pub(crate) fn finish(mut self, rates: &BTreeMap<String, f64>, took: Duration) -> ExitCode {
        self.rows.sort_by_key(|row| (row.number, row.engine != "kafka"));
        for row in &self.rows {
            say(&row.to_string());
        }
        for line in &self.skipped {
            say(line);
        }
        let failed = self.rows.iter().filter(|row| !row.verdict.passed()).count();
        let load: Vec<_> = rates.iter().map(|(key, rate)| format!("{key}: {rate}/s")).collect();
        say(&format!(
            "{} passed, {failed} failed, {} not run, in {}; load: {}",
            self.rows.len() - failed,
            self.skipped.len(),
            ms(took),
            load.join(", ")
        ));
        let mut page = HEAD.replace("{load}", &load.join(", "));
        for row in &self.rows {
            // Writing to a string does not fail.
            let _ = writeln!(page, "{}", row.markdown());
        }
        let path = outputs().join("faults.md");
        match fs::write(&path, page) {
            Ok(()) => say(&format!("the table is in {}", path.display())),
            Err(error) => say(&format!("{}: {error}", path.display())),
        }
        if failed > 0 || self.incomplete {
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

fn outputs() -> PathBuf {
    let dir = Path::new(OUTPUTS);
    // After a failure, the write into it fails.
    let _ = fs::create_dir_all(dir);
    dir.canonicalize().unwrap_or_else(|_| dir.to_owned())
}

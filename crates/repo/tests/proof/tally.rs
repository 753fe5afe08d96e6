//! What a proof counts, and the line it prints.

use std::sync::Mutex;
use std::time::Instant;

use dbvault_testkit::tier::{seed, with_commas};

/// Violations that are told in full; the others are counted.
const TOLD_MAX: usize = 5;

/// What a proof has tried so far, and what it found.
pub(crate) struct Tally {
    what: String,
    began: Instant,
    violations: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn new(what: impl Into<String>) -> Tally {
        Tally { what: what.into(), began: Instant::now(), violations: Mutex::default() }
    }

    /// Notes a violation.
    pub(crate) fn add(&self, violation: String) {
        self.violations.lock().unwrap().push(violation);
    }

    /// Prints the line of this proof; panics where there were violations. `counts` are numbers and what they
    /// count.
    pub(crate) fn end(self, counts: &[(usize, &str)]) {
        let violations = self.violations.into_inner().unwrap();
        let counts: Vec<String> =
            counts.iter().map(|(count, of)| format!("{} {of}", with_commas(*count))).collect();
        let (what, seconds) = (&self.what, self.began.elapsed().as_secs());
        println!("proof: {what}: {}, {} violations, {seconds} s", counts.join(", "), violations.len());
        let told: Vec<&str> = violations.iter().take(TOLD_MAX).map(String::as_str).collect();
        assert!(
            violations.is_empty(),
            "{what}: {} violations, seed {}:\n{}",
            violations.len(),
            seed(),
            told.join("\n")
        );
    }
}

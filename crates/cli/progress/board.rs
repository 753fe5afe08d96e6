//! The counts of a running job, and what of them is worth showing now.

use std::sync::atomic::{AtomicU64, Ordering};

use dbvault_jobs::Watcher;
use dbvault_repo::{Counter, Monitor, Phase};
use parking_lot::Mutex;

use crate::sanitize;

/// Counters there are.
const COUNTERS: [Counter; 8] = [
    Counter::StreamBytes,
    Counter::NewBytes,
    Counter::StoredBytes,
    Counter::Segments,
    Counter::Packs,
    Counter::PackBytes,
    Counter::Archives,
    Counter::Chunks,
];

/// The counts. Adding to them never waits.
#[derive(Debug, Default)]
pub(crate) struct Board {
    counts: [AtomicU64; COUNTERS.len()],
    stage: Mutex<Stage>,
}

/// What is being done, and where the counts stood when it began.
#[derive(Clone, Debug, Default)]
struct Stage {
    phase: Option<Phase>,
    entry: Option<String>,
    /// Entries that have begun and not ended, as they are shown.
    running: Vec<(String, String)>,
    /// Distinguishes one stage from the next.
    number: u64,
    start: u64,
    total: Option<u64>,
}

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Distinguishes one bar from the next.
    pub(crate) number: u64,
    /// What is being done, safe to print.
    pub(crate) label: String,
    /// How much of it is done.
    pub(crate) done: u64,
    /// How much there is, where that is known.
    pub(crate) total: Option<u64>,
    /// True where these are bytes.
    pub(crate) in_bytes: bool,
    /// Bytes that were added to the repository since the beginning, in a backup.
    pub(crate) stored_bytes: Option<u64>,
}

impl Board {
    /// What to show now; `None` before anything has begun.
    pub(crate) fn view(&self) -> Option<View> {
        let stage = self.stage.lock().clone();
        let phase = stage.phase?;
        let counter = main_counter(phase);
        let label = match (&stage.entry, phase) {
            (Some(entry), Phase::Store | Phase::Read) => sanitize::line(entry).into_owned(),
            _ => phase_words(phase).to_owned(),
        };
        Some(View {
            number: stage.number,
            label,
            done: self.count(counter).saturating_sub(stage.start),
            total: stage.total,
            in_bytes: matches!(phase, Phase::Store | Phase::Read | Phase::CheckData),
            stored_bytes: (phase == Phase::Store).then(|| self.count(Counter::StoredBytes)),
        })
    }

    fn count(&self, counter: Counter) -> u64 {
        COUNTERS
            .iter()
            .position(|other| *other == counter)
            .map_or(0, |at| self.counts[at].load(Ordering::Relaxed))
    }

    fn begin(&self, phase: Phase, entry: Option<String>, total: Option<u64>) {
        let start = self.count(main_counter(phase));
        let mut stage = self.stage.lock();
        let running = std::mem::take(&mut stage.running);
        *stage = Stage { phase: Some(phase), entry, running, number: stage.number + 1, start, total };
    }
}

impl Monitor for Board {
    fn add(&self, counter: Counter, amount: u64) {
        if let Some(at) = COUNTERS.iter().position(|other| *other == counter) {
            self.counts[at].fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn expect(&self, counter: Counter, total: u64) {
        let mut stage = self.stage.lock();
        // An entry's own length is known better.
        if stage.phase.map(main_counter) == Some(counter) && stage.entry.is_none() {
            stage.total = Some(total);
        }
    }

    fn phase(&self, phase: Phase) {
        let stage = self.stage.lock().clone();
        let same = stage.phase == Some(phase);
        // An entry that was announced before the engine got to it stays announced.
        let keeps_entry = matches!(phase, Phase::Store | Phase::Read);
        if !same {
            self.begin(phase, stage.entry.filter(|_| keeps_entry), stage.total.filter(|_| keeps_entry));
        }
    }
}

impl Watcher for Board {
    fn entry_begins(&self, name: &str, index: usize, count: usize, bytes: Option<u64>) {
        let phase = self.stage.lock().phase;
        let phase = phase.filter(|phase| matches!(phase, Phase::Store | Phase::Read));
        let phase = phase.unwrap_or(if bytes.is_some() { Phase::Read } else { Phase::Store });
        let label = if count > 1 { format!("{name} ({}/{count})", index + 1) } else { name.to_owned() };
        let mut stage = self.stage.lock();
        stage.running.push((name.to_owned(), label.clone()));
        if stage.running.len() > 1 {
            // They are counted together.
            (stage.entry, stage.total) = (Some(together(&stage.running)), None);
            return;
        }
        drop(stage);
        self.begin(phase, Some(label), bytes);
    }

    fn entry_ends(&self, name: &str) {
        let mut stage = self.stage.lock();
        stage.running.retain(|(running, _)| running != name);
        if !stage.running.is_empty() {
            stage.entry = Some(together(&stage.running));
        }
    }
}

/// Entries that run side by side, in a few words.
fn together(running: &[(String, String)]) -> String {
    match running {
        [] => String::new(),
        [(_, label)] => label.clone(),
        [(_, first), rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// The counter that tells how far a phase is.
fn main_counter(phase: Phase) -> Counter {
    match phase {
        Phase::LoadIndex => Counter::Segments,
        Phase::Store | Phase::Commit | Phase::Read => Counter::StreamBytes,
        Phase::CheckStructure => Counter::Archives,
        Phase::CheckData => Counter::PackBytes,
        Phase::Mark => Counter::Archives,
        Phase::Rebase => Counter::Chunks,
        Phase::Repack => Counter::Packs,
    }
}

fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::LoadIndex => "loading the index",
        Phase::Store => "storing",
        Phase::Commit => "committing",
        Phase::Read => "reading",
        Phase::CheckStructure => "checking archives",
        Phase::CheckData => "checking data",
        Phase::Mark => "looking what is needed",
        Phase::Rebase => "compressing anew",
        Phase::Repack => "repacking",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_counts_from_zero() {
        let board = Board::default();
        assert_eq!(board.view(), None);
        board.phase(Phase::LoadIndex);
        board.expect(Counter::Segments, 3);
        board.add(Counter::Segments, 1);
        let view = board.view().unwrap();
        assert_eq!((view.done, view.total, view.in_bytes), (1, Some(3), false));
        board.phase(Phase::Store);
        board.entry_begins("a\n", 0, 2, None);
        board.add(Counter::StreamBytes, 10);
        board.add(Counter::StoredBytes, 4);
        board.entry_ends("a\n");
        board.entry_begins("b", 1, 2, None);
        board.add(Counter::StreamBytes, 7);
        let view = board.view().unwrap();
        assert_eq!((view.label.as_str(), view.done, view.stored_bytes), ("b (2/2)", 7, Some(4)));
        assert_eq!((view.total, view.in_bytes), (None, true));
    }

    #[test]
    fn entries_that_run_side_by_side_are_counted_together() {
        let board = Board::default();
        let label = || board.view().unwrap().label;
        board.phase(Phase::Store);
        board.entry_begins("a", 0, 3, None);
        board.entry_begins("b", 1, 3, None);
        board.add(Counter::StreamBytes, 10);
        assert_eq!(label(), "a (1/3) and 1 more");
        board.entry_begins("c", 2, 3, None);
        assert_eq!((label().as_str(), board.view().unwrap().done), ("a (1/3) and 2 more", 10));
        board.entry_ends("a");
        board.entry_ends("c");
        assert_eq!(label(), "b (2/3)");
    }

    #[test]
    fn an_entry_that_is_announced_first_keeps_its_length() {
        let board = Board::default();
        board.entry_begins("a", 0, 1, Some(100));
        board.phase(Phase::Read);
        board.expect(Counter::StreamBytes, 55);
        board.add(Counter::StreamBytes, 50);
        let view = board.view().unwrap();
        assert_eq!((view.label.as_str(), view.done, view.total), ("a", 50, Some(100)));
    }
}

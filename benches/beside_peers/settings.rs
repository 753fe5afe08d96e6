//! What the environment asks for.

use std::path::Path;

use crate::environment::number;

const MEGABYTES: u32 = 1000;
const DAYS: u32 = 30;
const ROUNDS: usize = 3;

/// A tool that can't see small changes stores every dump anew: this share of it, for dumps grow in a month.
const STORED_SHARE: f64 = 0.3;
/// A dump, the one after it, the database itself with its indexes and what dbvault stores, in sizes of a dump.
const WORKLOAD_SHARE: f64 = 5.0;
/// Dumps stored at a time where there is no series, in repositories and copies of them.
const DUMPS_STORED: u32 = 5;

/// A question that the benchmark answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What does each step cost, for a dump and that of the next day?
    Stream,
    /// How does a repository grow in a month, and what does it cost then?
    Series,
    /// Do other kinds of dumps do as well?
    Kinds,
    /// What does a backup of a running server cost beside the dump alone?
    Live,
}

impl Part {
    const ALL: [Self; 4] = [Self::Stream, Self::Series, Self::Kinds, Self::Live];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Series => "series",
            Self::Kinds => "kinds",
            Self::Live => "live",
        }
    }
}

pub(crate) struct Settings {
    /// Of 10^6 bytes.
    pub(crate) megabytes: u32,
    pub(crate) days: u32,
    pub(crate) rounds: usize,
    pub(crate) parts: Vec<Part>,
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Self, String> {
        Ok(Self {
            megabytes: number("DBVAULT_BENCH_MB", MEGABYTES)?.max(1),
            days: number("DBVAULT_BENCH_DAYS", DAYS)?.max(1),
            rounds: number("DBVAULT_BENCH_ROUNDS", ROUNDS)?.max(1),
            parts: parts()?,
        })
    }

    /// Whether what this run finds is worth being kept as the result.
    pub(crate) fn is_complete(&self) -> bool {
        let whole = Part::ALL.iter().all(|part| self.parts.contains(part));
        whole && self.megabytes >= MEGABYTES && self.days >= DAYS && self.rounds >= ROUNDS
    }

    /// Better no run than one that ends in the middle. `others` counts the tools beside dbvault.
    pub(crate) fn require_room(&self, work: &Path, others: usize) -> Result<(), String> {
        let series = if self.parts.contains(&Part::Series) { self.days + 1 } else { 0 };
        let dumps = f64::from(series.max(DUMPS_STORED));
        let share = WORKLOAD_SHARE + STORED_SHARE * dumps * others as f64;
        let needed = share * f64::from(self.megabytes) * 1e6;
        let space = rustix::fs::statvfs(work).map_err(|error| format!("{}: {error}", work.display()))?;
        let free = space.f_bavail as f64 * space.f_frsize as f64;
        if free >= needed {
            return Ok(());
        }
        let parent = work.parent().unwrap_or(work).display();
        Err(format!(
            "this needs about {:.0} GB in {parent}, which has {:.0} GB: set TMPDIR or a smaller DBVAULT_BENCH_MB",
            needed / 1e9,
            free / 1e9
        ))
    }
}

fn parts() -> Result<Vec<Part>, String> {
    let Ok(text) = std::env::var("DBVAULT_BENCH_PARTS") else { return Ok(Part::ALL.to_vec()) };
    let part = |name: &str| {
        let found = Part::ALL.into_iter().find(|part| part.name() == name.trim());
        found.ok_or_else(|| format!("DBVAULT_BENCH_PARTS: there is no part \"{name}\""))
    };
    text.split(',').map(part).collect()
}

//! Check: is everything there that archives need, and is every byte what it was?
//!
//! Goes on after the first finding, and names what is hurt.

mod objects;
mod packs;
mod streams;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use dbvault_format::id::ChunkId;

use crate::monitor::{Monitor, Phase};
use crate::view::View;
use crate::{Reader, Repository, Result};

/// How deep a check looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckDepth {
    /// Every object but packs is read; packs must be there in their full length.
    Structure,
    /// Packs are read too, and every chunk is decoded.
    Data,
}

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the object.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// An entry that can't be restored in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedEntry {
    /// Name of the archive.
    pub archive: String,
    /// Name of the entry; empty where the table of entries itself is hurt.
    pub entry: String,
    /// Byte ranges of the stream that are lost; empty where it is not known which.
    pub ranges: Vec<Range<u64>>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Damaged, missing and misplaced objects.
    pub findings: Vec<Finding>,
    /// What that does to archives.
    pub damage: Vec<DamagedEntry>,
    /// Archives that were followed.
    pub archives: u64,
    /// Packs that were looked at.
    pub packs: u64,
    /// Bytes of these.
    pub pack_bytes: u64,
    /// Chunks that archives use, counted once an archive.
    pub chunks: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn clean(&self) -> bool {
        self.findings.is_empty() && self.damage.is_empty()
    }
}

/// Findings that several threads add to.
#[derive(Debug, Default)]
struct Findings {
    all: Mutex<Vec<Finding>>,
    /// Chunks of which some copy is damaged.
    suspects: Mutex<HashSet<ChunkId>>,
}

impl Findings {
    fn add(&self, object: impl Into<String>, problem: &dyn std::fmt::Display) {
        let finding = Finding { object: object.into(), problem: problem.to_string() };
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
    }

    fn suspect(&self, id: ChunkId) {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }
}

impl Repository {
    /// Checks the repository. An error is a failure to look; what is wrong is in the report.
    pub fn check(&self, depth: CheckDepth, monitor: Arc<dyn Monitor>) -> Result<CheckReport> {
        let view = View::load(self)?;
        self.reader_at(&view, monitor)?.check_at(&view, depth)
    }
}

impl Reader {
    /// As [`Repository::check`], by the index that is open.
    pub fn check(self: &Arc<Self>, depth: CheckDepth) -> Result<CheckReport> {
        let view = View::load(self.repo())?;
        self.update(&view)?;
        self.check_at(&view, depth)
    }

    /// Checks what was there when `view` was read. Everything an archive needs is stored before the archive,
    /// so what is listed here, after the view, covers the archives of the view, whoever writes meanwhile.
    fn check_at(self: &Arc<Self>, view: &View, depth: CheckDepth) -> Result<CheckReport> {
        let findings = Findings::default();
        let mut report = CheckReport::default();
        let (repo, monitor) = (self.repo(), self.monitor());
        let listings = objects::check_objects(repo, view, &findings)?;
        let stored = packs::list_packs(repo, &findings)?;
        packs::check_presence(self, &listings, &stored, &findings)?;
        report.packs = stored.len() as u64;
        report.pack_bytes = stored.values().sum();
        if depth == CheckDepth::Data {
            monitor.phase(Phase::CheckData);
            packs::check_data(self, &stored, &listings, &findings, monitor)?;
        }
        monitor.phase(Phase::CheckStructure);
        // A chunk is lost only when no copy of it can be read.
        let suspects = findings.suspects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lost = suspects.into_iter().filter(|id| self.chunks().fetch_one(id).is_err()).collect();
        let ground = streams::Ground { reader: self, stored: &stored, lost: &lost };
        streams::check_archives(&ground, view, &findings, &mut report)?;
        report.findings = findings.all.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.findings.sort_by(|a, b| (&a.object, &a.problem).cmp(&(&b.object, &b.problem)));
        report.findings.dedup();
        Ok(report)
    }
}

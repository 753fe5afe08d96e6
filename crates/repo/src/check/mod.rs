//! Check: is everything there that archives need, and is every byte what it was?
//!
//! Goes on after the first finding, and names what is hurt.

mod memory;
mod objects;
mod packs;
pub(crate) mod scrub;
mod streams;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use dbvault_format::id::{ChunkId, PackName};
use parking_lot::Mutex;

use crate::monitor::{Monitor, Phase};
use crate::pack_list::StoredPacks;
use crate::view::View;
use crate::{Reader, Repository, Result, layout};
pub(crate) use objects::fence_readable;

/// How deep a check looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckDepth {
    /// Every object but packs is read; packs must be there in their full length.
    Structure,
    /// Packs are read too, and every chunk is decoded.
    Data,
    /// As [`CheckDepth::Data`], of the packs of one part.
    Part(Part),
    /// As [`CheckDepth::Part`], of the part that comes after the one that was read last from here.
    NextPart {
        /// Number of parts, at least 1.
        of: u32,
    },
    /// As [`CheckDepth::Data`], of the packs that no check from here has read lately and found good.
    Unread {
        /// How long ago a pack may have been read, milliseconds.
        max_age_ms: i64,
    },
}

/// A share of all packs, by their names: each pack is in one part, for ever, and parts are about equally large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    number: u32,
    of: u32,
}

impl Part {
    /// Part `number` of `of`, counted from 1; `None` where there is no such part.
    pub fn new(number: u32, of: u32) -> Option<Part> {
        (1..=of).contains(&number).then_some(Part { number, of })
    }

    /// Whether a pack is in it: names are hashes, and the first part has the lowest ones.
    pub fn holds(&self, name: &PackName) -> bool {
        let mut head = [0; 8];
        head.copy_from_slice(&name.0[..8]);
        let place = (u128::from(u64::from_be_bytes(head)) * u128::from(self.of)) >> 64;
        place + 1 == u128::from(self.number)
    }
}

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the object.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Finding {
    /// What is wrong with the object `key`.
    pub(crate) fn new(key: &dbvault_storage::Key, problem: impl std::fmt::Display) -> Finding {
        Finding { object: key.as_str().to_owned(), problem: problem.to_string() }
    }
}

/// An entry that can't be restored in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamagedEntry {
    /// Name of the archive.
    pub archive: String,
    /// Name of the entry; empty where the table of entries itself is hurt.
    pub entry: String,
    /// Byte ranges of the stream that are lost; empty where it is not known which.
    pub ranges: Vec<Range<u64>>,
    /// It is not the content of a tree that is hurt but its file table: files whose records are lost have no name.
    pub table: bool,
    /// Paths of files of a tree whose content is hurt, the first [`FILES_NAMED_MAX`] of them.
    pub files: Vec<Vec<u8>>,
    /// How many there are, as far as the file table can be read.
    pub file_count: u64,
}

/// Files of a damaged tree that a check names, at most.
pub const FILES_NAMED_MAX: usize = 1000;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Damaged, missing and misplaced objects.
    pub findings: Vec<Finding>,
    /// What that does to archives.
    pub damage: Vec<DamagedEntry>,
    /// Good to know, and no damage.
    pub notes: Vec<Finding>,
    /// Archives that were followed.
    pub archives: u64,
    /// Packs that were looked at.
    pub packs: u64,
    /// Bytes of these.
    pub pack_bytes: u64,
    /// Packs that were read.
    pub packs_read: u64,
    /// Bytes of these.
    pub bytes_read: u64,
    /// The part whose packs were read, and of how many, where only one was.
    pub part: Option<(u32, u32)>,
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
    /// Packs of which every chunk is suspect.
    suspect_packs: Mutex<HashSet<PackName>>,
}

impl Findings {
    fn add(&self, object: impl Into<String>, problem: &dyn std::fmt::Display) {
        let finding = Finding { object: object.into(), problem: problem.to_string() };
        self.all.lock().push(finding);
    }

    fn suspect(&self, id: ChunkId) {
        self.suspects.lock().insert(id);
    }

    fn suspect_pack(&self, reader: &Reader, name: &PackName) -> Result<()> {
        reader.index().entries(name)?.iter().for_each(|entry| self.suspect(entry.id));
        self.suspect_packs.lock().insert(*name);
        Ok(())
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
        let stored = repo.list_packs(&mut |key| findings.add(key.as_str(), &"not a name a pack can have"))?;
        packs::check_presence(self, &listings, &stored, &findings)?;
        report.packs = stored.len() as u64;
        report.pack_bytes = stored.values().sum();
        if depth != CheckDepth::Structure {
            monitor.phase(Phase::CheckData);
            self.check_data(depth, &stored, &listings, &findings, &mut report)?;
        }
        if repo.params.parity_percent.is_some() {
            let parities = crate::parity::list(repo)?;
            let without = stored.keys().filter(|name| !parities.contains(*name));
            report.notes.extend(without.map(|name| Finding::new(&layout::pack(name), "has no parity")));
            report.notes.sort_by(|a, b| a.object.cmp(&b.object));
        }
        monitor.phase(Phase::CheckStructure);
        // A chunk is lost only when no copy of it can be read.
        let suspects = findings.suspects.lock().clone();
        let lost = suspects.into_iter().filter(|id| self.chunks().fetch_one(id).is_err()).collect();
        let suspect_packs = std::mem::take(&mut *findings.suspect_packs.lock());
        let ground = streams::Ground { reader: self, stored: &stored, tried: &suspect_packs, lost: &lost };
        streams::check_archives(&ground, view, &findings, &mut report)?;
        report.findings = findings.all.into_inner();
        report.findings.sort_by(|a, b| (&a.object, &a.problem).cmp(&(&b.object, &b.problem)));
        report.findings.dedup();
        Ok(report)
    }

    /// Reads the packs that `depth` asks for, and remembers the good ones.
    fn check_data(
        self: &Arc<Self>,
        depth: CheckDepth,
        stored: &StoredPacks,
        listings: &objects::Listings,
        findings: &Findings,
        report: &mut CheckReport,
    ) -> Result<()> {
        let memory = memory::Memory::load(self.repo());
        let part = match depth {
            CheckDepth::Part(part) => Some(part),
            CheckDepth::NextPart { of } => Some(memory.next_part(of.max(1))),
            _ => None,
        };
        let due = |name: &PackName| match depth {
            CheckDepth::Unread { max_age_ms } => memory.is_due(name, max_age_ms),
            _ => part.is_none_or(|part| part.holds(name)),
        };
        let mut chosen = stored.clone();
        chosen.retain(|name, _| due(name));
        packs::check_data(self, &chosen, listings, findings, &memory)?;
        if let Some(part) = part {
            memory.note_part(part);
        }
        memory.tidy(stored);
        report.part = part.map(|part| (part.number, part.of));
        report.packs_read = chosen.len() as u64;
        report.bytes_read = chosen.values().sum();
        Ok(())
    }
}

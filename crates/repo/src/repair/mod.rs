//! Repair: the index is made anew from packs, what is damaged goes to the quarantine, and what parity can give back
//! comes back.
//!
//! Nothing that could be read before can't be read after, wherever it ends: what is good is stored, and listed by a
//! root, before what is damaged moves. `docs/protocol.md`, "Repair", has the order and the reasons.

mod epochs;
mod index;
mod marks;
mod packs;
mod quarantine;
mod survey;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dbvault_format::id::PackName;
use dbvault_storage::{ErrorKind, Key};

use crate::check::{CheckDepth, DamagedEntry, Finding};
use crate::monitor::Monitor;
use crate::session::Session;
use crate::view::{Standing, View};
use crate::{Error, Repository, Result, layout, parity};
use epochs::Epochs;
use survey::{Fate, Survey};

/// Times that a repair begins anew when a collection, or another repair, was quicker.
const TRIES_MAX: u32 = 8;

/// Time for another repair to put something in the place of what it has moved.
const MOVED_PAUSE: Duration = Duration::from_millis(50);

/// Parity that takes the place of a damaged one, where nothing says how much there should be, percent.
const PARITY_PERCENT: u8 = 10;

/// What a repair does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Read all packs, to find damage that does not show in lengths and directories.
    pub read_data: bool,
    /// Only tell what is wrong.
    pub dry_run: bool,
    /// Store parity for all packs that have none, about so many percent of their length; 1 to 100.
    pub add_parity_percent: Option<u8>,
}

impl RepairOptions {
    /// How much parity packs without any get, percent.
    fn parity_percent(&self, repo: &Repository) -> Option<u8> {
        // What a crash, or a loss, has left away.
        let made_again = repo.params.parity_percent.filter(|_| self.read_data);
        self.add_parity_percent.or(made_again)
    }
}

/// What a repair found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was wrong.
    pub findings: Vec<Finding>,
    /// Objects that went to the quarantine.
    pub quarantined: Vec<String>,
    /// Packs that their parity has restored, bit for bit.
    pub restored: Vec<String>,
    /// What stays as it is, and why.
    pub left: Vec<Finding>,
    /// The number of the root that lists all packs anew, if there had to be one.
    pub root: Option<u32>,
    /// Packs that it lists.
    pub listed_packs: u64,
    /// Records of damaged packs that were good and are stored anew.
    pub saved_records: u64,
    /// Records of damaged packs that were not.
    pub lost_records: u64,
    /// Packs that have got parity.
    pub parity_added: u64,
    /// What archives lack now: the next backup stores it again, where its source still has it.
    pub damage: Vec<DamagedEntry>,
}

impl RepairReport {
    /// Whether nothing was wrong.
    pub fn clean(&self) -> bool {
        self.findings.is_empty() && self.root.is_none() && self.damage.is_empty()
    }
}

/// Does `work` again where another repair has just moved what it was reading, and is about to put something in its
/// place.
fn while_moving<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES_MAX {
        match work() {
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => std::thread::sleep(MOVED_PAUSE),
            done => return done,
        }
    }
    work()
}

impl Repository {
    /// Repairs the repository.
    ///
    /// May be interrupted, and crash, at any point: the next repair goes on, and nothing is lost by it. Errors:
    /// a newer version, and failures of the storage; [`Error::Fenced`] after a sleep of a day.
    pub fn repair(&self, options: &RepairOptions, monitor: Arc<dyn Monitor>) -> Result<RepairReport> {
        let mut report = RepairReport::default();
        if options.dry_run {
            let epochs = Epochs::look(self)?;
            let survey = Survey::take(self, &epochs, options, &monitor)?;
            report.note(&epochs, &survey);
            match self.check(CheckDepth::Structure, monitor) {
                Ok(checked) => report.damage = checked.damage,
                // The findings tell what can't be read.
                Err(Error::Damaged { .. }) => {}
                Err(e) => return Err(e),
            }
            return Ok(report);
        }
        // Collections that condemn after this wait, so that no pack goes that is looked at here.
        let session = Session::register(self)?;
        let done = while_moving(|| self.repair_registered(&session, options, &monitor, &mut report));
        let ended = session.end();
        done?;
        if let Err(e) = ended {
            tracing::warn!("the registration of this repair stays behind: {e}");
        }
        parity::forget_orphans(self)?;
        self.storage.flush()?;
        report.damage = while_moving(|| self.check(CheckDepth::Structure, monitor.clone()))?.damage;
        Ok(report)
    }

    fn repair_registered(
        &self,
        session: &Session,
        options: &RepairOptions,
        monitor: &Arc<dyn Monitor>,
        report: &mut RepairReport,
    ) -> Result<()> {
        for _ in 0..TRIES_MAX {
            let epochs = Epochs::look(self)?;
            epochs.finish(self)?;
            let survey = Survey::take(self, &epochs, options, monitor)?;
            report.note(&epochs, &survey);
            let mut root = epochs.latest;
            let aside = self.copy_aside(&survey)?;
            if survey.needs_root {
                match index::rebuild(self, &epochs, &survey, report)? {
                    Some(number) => root = number,
                    // Another root was quicker: all is looked at again.
                    None => continue,
                }
            }
            epochs.replace_roots(self, root)?;
            // Before any parity moves, damaged as it may be.
            self.restore_packs(session, &survey, report)?;
            self.remove_aside(&survey, &aside, report)?;
            return self.add_parity(options, &survey, report);
        }
        Err(Error::Storage(dbvault_storage::Error::new(ErrorKind::AlreadyExists, layout::roots().as_str())))
    }

    /// Copies to the quarantine what is to leave its place, durably.
    fn copy_aside(&self, survey: &Survey) -> Result<Vec<quarantine::Copied>> {
        let moving = survey.small.iter().filter(|(_, fate)| !matches!(fate, Fate::Left(_)));
        let packs: Vec<Key> = survey.bad.iter().map(layout::pack).collect();
        let mut copied = Vec::new();
        for key in moving.map(|(key, _)| key).chain(&packs) {
            self.client.check_interrupt()?;
            copied.extend(quarantine::copy(self, key)?);
        }
        self.storage.flush()?;
        Ok(copied)
    }

    /// Removes the originals of what was copied, and puts what has to stand in their places.
    fn remove_aside(
        &self,
        survey: &Survey,
        aside: &[quarantine::Copied],
        report: &mut RepairReport,
    ) -> Result<()> {
        marks::outnumber(self, survey)?;
        for copied in aside {
            self.client.check_interrupt()?;
            match survey::is_still_damaged(self, copied.key()) {
                Ok(true) => {}
                Ok(false) => {
                    let reason =
                        "read well the second time: look at the memory and the disks of this machine";
                    report.left.push(Finding::new(copied.key(), reason));
                    continue;
                }
                // Gone, by another repair or a collection.
                Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            }
            if !copied.remove_original(self)? {
                continue;
            }
            report.quarantined.push(copied.key().as_str().to_owned());
            if survey.small.get(copied.key()) == Some(&Fate::Fenced) {
                self.fence_slot(copied.key())?;
            }
        }
        Ok(self.storage.flush()?)
    }

    /// Puts a fence in place of a manifest, or a fence, that nobody can read. Its session may not complete any more,
    /// as rules C6 and C7 want it, and all that it listed is in the base.
    fn fence_slot(&self, slot: &Key) -> Result<()> {
        let Some(session) = layout::parse_archive(slot) else { return Ok(()) };
        self.put_fence(&session)
    }

    /// Puts back packs that parity restores, but for those that a collection may be about to delete.
    fn restore_packs(&self, session: &Session, survey: &Survey, report: &mut RepairReport) -> Result<()> {
        if survey.restorable.is_empty() {
            return Ok(());
        }
        let view = View::load(self)?;
        for name in &survey.restorable {
            self.client.check_interrupt()?;
            let key = layout::pack(name);
            if view.standing(name, &[]) == Standing::Absent {
                let reason = "a collection is about to delete it: run prune, then repair again";
                report.left.push(Finding::new(&key, reason));
            } else if packs::put_restored(self, session, name)? {
                report.restored.push(key.as_str().to_owned());
            }
        }
        Ok(())
    }

    fn add_parity(&self, options: &RepairOptions, survey: &Survey, report: &mut RepairReport) -> Result<()> {
        let percent = options.parity_percent(self).or(self.params.parity_percent).unwrap_or(PARITY_PERCENT);
        for name in &survey.without_parity {
            self.client.check_interrupt()?;
            let bytes = match self.storage.get(&layout::pack(name), None) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                bytes => bytes?,
            };
            // Parity of damaged bytes would keep the damage.
            if *blake3::hash(&bytes).as_bytes() == name.0 {
                parity::put(self, name, &bytes, percent)?;
                report.parity_added += 1;
            } else {
                report.left.push(Finding::new(&layout::pack(name), "damaged: repair --read-data finds it"));
            }
        }
        Ok(self.storage.flush()?)
    }
}

impl RepairReport {
    /// Takes over what was found wrong.
    fn note(&mut self, epochs: &Epochs, survey: &Survey) {
        self.findings = epochs.findings.iter().chain(&survey.findings).cloned().collect();
        self.left.clear();
        for (key, fate) in &survey.small {
            if let Fate::Left(why) = fate {
                self.left.push(Finding::new(key, why));
            }
        }
    }
}

/// Packs whose listings are wanted.
type Names = BTreeSet<PackName>;

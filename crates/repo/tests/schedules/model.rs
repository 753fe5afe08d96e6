//! Random sequences of all that can be done with a repository, against a model that fits on a page: names, what they
//! hold, and whether they are in the trash. A sequence that fails is made shorter before it is shown.
//!
//! `DBVAULT_MODEL=n` does sequence n again.

use std::collections::BTreeMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dbvault_repo::{CheckDepth, CollectOptions, Error, NoMonitor, Repository};
use dbvault_storage::MemoryStorage;
use dbvault_testkit::crashing_storage::CrashingStorage;
use dbvault_testkit::tier;
use tempfile::TempDir;

use crate::common::*;
use crate::scale;
use crate::world::{NOW_MS, begin_script};

/// Sequences in the quick tier, and the length of each.
const SEQUENCES: usize = 300;
const COMMANDS: usize = 30;

/// One sequence in so many has its indexes on disk, where they outlive a command.
const ON_DISK_ONE_IN: u64 = 8;

/// After so many commands all archives are compared.
const LOOK_EVERY: usize = 6;

/// Clients with a cache each.
const CLIENTS: usize = 2;

/// What is done. Numbers choose among what is there.
#[derive(Clone, Copy, Debug)]
enum Command {
    Backup {
        client: usize,
        content: usize,
    },
    Suspend {
        client: usize,
        content: usize,
    },
    Abandon {
        client: usize,
        content: usize,
    },
    Delete(usize),
    Undelete(usize),
    Collect {
        client: usize,
        take: bool,
        fence: bool,
        repack: bool,
    },
    Check {
        client: usize,
        data: bool,
    },
    Restore {
        client: usize,
        archive: usize,
    },
    RestorePart {
        archive: usize,
        bytes: usize,
    },
    AddKey(u8),
    RemoveKey(usize),
    ChangeKey(u8),
    LoseCache(usize),
    /// The command before this one is cut off after a part of its changes, of which some are lost.
    Crash {
        cut: u64,
        lost: u64,
    },
    /// A bit of an object changes, and changes back.
    Corrupt {
        object: usize,
        bit: usize,
    },
}

/// What is known of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Trashed,
    /// A collection may have taken it.
    Taken,
    /// In the trash or not: the mark was cut off.
    Unknown,
}

fn content(number: usize) -> Streams {
    let table = text(6000, 1);
    match number % 7 {
        0 => streams(&[("table", &table)]),
        1 => streams(&[("table", &edited(&table, 2, 1))]),
        2 => streams(&[("table", &edited(&table, 3, 2)), ("blob", &noise(3000, 3))]),
        3 => streams(&[("blob", &noise(3000, 3))]),
        4 => streams(&[("blob", &edited(&noise(3000, 3), 1, 7)), ("nothing", &[])]),
        5 => streams(&[("long", &noise(40_000, 5))]),
        _ => streams(&[("long", &edited(&noise(40_000, 5), 3, 6)), ("table", &table)]),
    }
}

fn command(numbers: &mut Numbers) -> Command {
    let (client, number) = (numbers.below(CLIENTS), numbers.below(1000));
    match numbers.below(100) {
        0..=23 => Command::Backup { client, content: number },
        24..=27 => Command::Suspend { client, content: number },
        28..=30 => Command::Abandon { client, content: number },
        31..=42 => Command::Delete(number),
        43..=48 => Command::Undelete(number),
        49..=63 => {
            let (take, fence) = (number % 4 != 0, number % 3 == 0);
            Command::Collect { client, take, fence, repack: number % 5 != 0 }
        }
        64..=68 => Command::Check { client, data: number % 2 == 0 },
        69..=73 => Command::Restore { client, archive: number },
        74..=76 => Command::RestorePart { archive: number, bytes: numbers.below(9000) },
        77..=79 => Command::AddKey((number % 200) as u8 + 2),
        80..=82 => Command::RemoveKey(number),
        83 => Command::ChangeKey((number % 200) as u8 + 2),
        84..=85 => Command::LoseCache(client),
        86..=94 => Command::Crash { cut: numbers.next(), lost: numbers.next() },
        _ => Command::Corrupt { object: number, bit: numbers.below(1 << 20) },
    }
}

/// What each archive holds, and what is known of it.
type Archives = BTreeMap<String, (usize, Fate)>;

/// A repository and what should be in it.
struct Model {
    storage: CrashingStorage,
    caches: [TempDir; CLIENTS],
    archives: Archives,
    secrets: Vec<u8>,
    made: usize,
    /// What was so before the last command, if it can be cut off, and how much had been changed then.
    before: Option<(Archives, Vec<u8>, usize)>,
}

impl Model {
    fn new() -> Model {
        let storage = MemoryStorage::new();
        let caches = [temporary_dir(), temporary_dir()];
        init_on(Arc::new(storage.clone()), caches[0].path(), small_params());
        let storage = CrashingStorage::starting_from(&storage);
        Model { storage, caches, archives: Archives::new(), secrets: vec![1], made: 0, before: None }
    }

    fn open(&self, client: usize) -> Result<Repository, String> {
        let secret = secret(*self.secrets.last().expect("there is always one"));
        let cache = crate::common::client(self.caches[client].path());
        Repository::open(Arc::new(self.storage.clone()), cache, &secret).map_err(|e| format!("open: {e:?}"))
    }

    fn name(&self, number: usize) -> Option<String> {
        self.archives.keys().nth(number % self.archives.len().max(1)).cloned()
    }

    /// Does one command, and looks whether it ends as it should.
    fn perform(&mut self, command: Command) -> Result<(), String> {
        if let Command::Crash { cut, lost } = command {
            return self.crash(cut, lost);
        }
        let operations = self.storage.operations().len();
        self.before = Some((self.archives.clone(), self.secrets.clone(), operations));
        match command {
            Command::Backup { client, content } => self.backup(client, content),
            Command::Suspend { client, content: number } => {
                suspend(&self.open(client)?, "suspended", &content(number));
                Ok(())
            }
            Command::Abandon { client, content: number } => {
                let mut txn = begin(&self.open(client)?, "abandoned").map_err(|e| format!("{e:?}"))?;
                let streams = content(number);
                let (name, bytes) = streams.iter().next().expect("every content has an entry");
                let grid = dbvault_format::entry::Grid::Content;
                add(&mut txn, name, grid, &mut &bytes[..]).map_err(|e| format!("{e:?}"))
            }
            Command::Delete(number) => self.mark(number, true),
            Command::Undelete(number) => self.mark(number, false),
            Command::Collect { client, take, fence, repack } => self.collect(client, take, fence, repack),
            Command::Check { client, data } => self.check(client, data),
            Command::Restore { client, archive } => self.restore(client, archive, usize::MAX),
            Command::RestorePart { archive, bytes } => self.restore(0, archive, bytes),
            Command::AddKey(byte) => self.add_key(byte),
            Command::RemoveKey(number) => self.remove_key(number),
            Command::ChangeKey(byte) if self.secrets.contains(&byte) => Ok(()),
            Command::ChangeKey(byte) => {
                self.open(0)?.replace_key(&secret(byte)).map_err(|e| format!("{e:?}"))?;
                self.secrets.pop();
                self.secrets.push(byte);
                Ok(())
            }
            Command::LoseCache(client) => {
                self.caches[client] = temporary_dir();
                Ok(())
            }
            Command::Corrupt { object, bit } => self.corrupt(object, bit),
            Command::Crash { .. } => Ok(()),
        }
    }

    fn backup(&mut self, client: usize, number: usize) -> Result<(), String> {
        self.made += 1;
        let name = format!("archive {}", self.made);
        backup(&self.open(client)?, &name, &content(number)).map_err(|e| format!("{e:?}"))?;
        self.archives.insert(name, (number, Fate::Kept));
        Ok(())
    }

    fn mark(&mut self, number: usize, delete: bool) -> Result<(), String> {
        let Some(name) = self.name(number) else { return Ok(()) };
        let fate = self.archives[&name].1;
        let repo = self.open(0)?;
        let id = match repo.find_archive(&name) {
            Err(Error::NoSuchArchive { .. }) if matches!(fate, Fate::Taken | Fate::Unknown) => return Ok(()),
            found => found.map_err(|e| format!("{name}: {e:?}"))?.manifest.id,
        };
        let marked = if delete { repo.delete_archive(&id) } else { repo.undelete_archive(&id) };
        let good = match (fate, delete) {
            (Fate::Kept, true) | (Fate::Trashed, false) => marked.is_ok(),
            (Fate::Kept, false) | (Fate::Trashed, true) => matches!(marked, Err(Error::ArchiveState { .. })),
            (Fate::Taken | Fate::Unknown, _) => true,
        };
        if !good {
            return Err(format!("{name} was {fate:?}, and then: {marked:?}"));
        }
        if marked.is_ok() {
            self.archives.get_mut(&name).expect("found above").1 =
                if delete { Fate::Trashed } else { Fate::Kept };
        }
        Ok(())
    }

    fn collect(&mut self, client: usize, take: bool, fence: bool, repack: bool) -> Result<(), String> {
        let options = CollectOptions {
            trashed_before_ms: if take { i64::MAX } else { i64::MIN },
            silence: if fence { Duration::ZERO } else { Duration::MAX },
            repack_bytes_max: if repack { u64::MAX } else { 0 },
            ..CollectOptions::default()
        };
        self.open(client)?.collect(&options, Arc::new(NoMonitor)).map_err(|e| format!("{e:?}"))?;
        for (_, fate) in self.archives.values_mut().filter(|_| take) {
            if matches!(fate, Fate::Trashed | Fate::Unknown) {
                *fate = if *fate == Fate::Trashed { Fate::Taken } else { Fate::Unknown };
            }
        }
        Ok(())
    }

    fn check(&self, client: usize, data: bool) -> Result<(), String> {
        let depth = if data { CheckDepth::Data } else { CheckDepth::Structure };
        let report = self.open(client)?.check(depth, Arc::new(NoMonitor)).map_err(|e| format!("{e:?}"))?;
        // What a collection that was cut off has taken may still be there in name.
        let taken = |name: &str| self.archives.get(name).is_some_and(|(_, fate)| *fate != Fate::Kept);
        if report.findings.is_empty() && report.damage.iter().all(|damage| taken(&damage.archive)) {
            return Ok(());
        }
        Err(format!("check: {:?} {:?}", report.findings, report.damage))
    }

    /// Compares an archive, or as much of its streams.
    fn restore(&self, client: usize, number: usize, bytes_max: usize) -> Result<(), String> {
        let Some(name) = self.name(number) else { return Ok(()) };
        let (number, fate) = self.archives[&name];
        let repo = self.open(client)?;
        let compared = (|| {
            let archive = repo.find_archive(&name).map_err(|e| format!("{name}: {e:?}"))?;
            let reader = reader(&repo).map_err(|e| format!("{name}: {e:?}"))?;
            for entry in reader.entries(&archive.manifest).map_err(|e| format!("{name}: {e:?}"))? {
                let wanted = &content(number)[&entry.meta.name];
                let stream = reader.open_stream(&entry.stream).map_err(|e| format!("{name}: {e:?}"))?;
                let mut found = Vec::new();
                stream
                    .take(bytes_max as u64)
                    .read_to_end(&mut found)
                    .map_err(|e| format!("{name}: {e:?}"))?;
                assert!(found == wanted[..wanted.len().min(bytes_max)], "{name} has other bytes");
            }
            Ok(())
        })();
        if matches!(fate, Fate::Taken | Fate::Unknown) { Ok(()) } else { compared }
    }

    fn add_key(&mut self, byte: u8) -> Result<(), String> {
        if self.secrets.contains(&byte) || self.secrets.len() > 4 {
            return Ok(());
        }
        self.open(0)?.add_key(&secret(byte), "more").map_err(|e| format!("{e:?}"))?;
        self.secrets.insert(0, byte);
        Ok(())
    }

    /// Removes the key of one secret.
    fn remove_key(&mut self, number: usize) -> Result<(), String> {
        let at = number % self.secrets.len();
        let cache = client(self.caches[0].path());
        let repo = Repository::open(Arc::new(self.storage.clone()), cache, &secret(self.secrets[at]));
        let repo = repo.map_err(|e| format!("{e:?}"))?;
        let slots = repo.key_slots().map_err(|e| format!("{e:?}"))?;
        let id = slots.iter().find(|slot| slot.current).ok_or("no current slot")?.id;
        match repo.remove_key(&id) {
            Ok(()) if self.secrets.len() > 1 => drop(self.secrets.remove(at)),
            Err(Error::LastSlot { .. }) if self.secrets.len() == 1 => {}
            other => return Err(format!("remove key: {other:?}")),
        }
        Ok(())
    }

    /// Whatever is damaged: an archive is restored as it was, or not at all, and a check that finds nothing is right.
    fn corrupt(&self, object: usize, bit: usize) -> Result<(), String> {
        let now = self.storage.operations().len();
        let state = self.storage.state_at(now, &|_| true);
        let names = state.object_names();
        let name = &names[object % names.len()];
        let mut bytes = state.read_raw(name).expect("listed above").to_vec();
        let at = bit % (bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        state.replace_raw(name, bytes);
        let elsewhere = temporary_dir();
        let clients = client(elsewhere.path());
        let secret = secret(*self.secrets.last().expect("there is always one"));
        let Ok(repo) = Repository::open(Arc::new(state), clients, &secret) else { return Ok(()) };
        let clean = check(&repo).is_ok_and(|report| report.clean());
        let restored = self.look_by(&repo, &mut |_| ());
        match restored {
            Err(e) if e.contains("other bytes") => Err(format!("bit {at} of {name}: {e}")),
            Err(e) if clean => Err(format!("bit {at} of {name}: check finds nothing, but {e}")),
            _ => Ok(()),
        }
    }

    /// Cuts the last command off. Nobody knows then how far it came.
    fn crash(&mut self, cut: u64, lost: u64) -> Result<(), String> {
        let Some((archives, secrets, begin)) = self.before.take() else { return Ok(()) };
        let operations = self.storage.operations();
        let end = begin + (cut % (operations.len() - begin + 1) as u64) as usize;
        let keep = |place: usize| {
            blake3::hash(&[lost, place as u64].map(u64::to_le_bytes).concat()).as_bytes()[0] < 128
        };
        self.storage = CrashingStorage::starting_from(&self.storage.state_at(end, &keep));
        let whole = end == operations.len();
        if !whole {
            self.merge(archives, secrets)?;
        }
        self.look()
    }

    /// Both what was before the last command and what was after it may be so.
    fn merge(&mut self, before: Archives, secrets: Vec<u8>) -> Result<(), String> {
        let opens = |byte: &u8| {
            let cache = client(self.caches[0].path());
            Repository::open(Arc::new(self.storage.clone()), cache, &secret(*byte)).is_ok()
        };
        let (mut both, after) = (secrets.clone(), std::mem::take(&mut self.secrets));
        both.extend(after.iter().filter(|byte| !secrets.contains(byte)));
        let lost = secrets.iter().find(|byte| after.contains(byte) && !opens(byte));
        if let Some(lost) = lost {
            return Err(format!("secret {lost} opens no more"));
        }
        both.retain(opens);
        self.secrets = both;
        let there: Vec<String> = {
            let list = self.open(0)?.archives().map_err(|e| format!("{e:?}"))?;
            list.archives.into_iter().map(|archive| archive.manifest.name).collect()
        };
        for (name, (_, fate)) in &mut self.archives {
            match before.get(name).map(|(_, fate)| *fate) {
                Some(earlier) if earlier == *fate => {}
                Some(_) if *fate == Fate::Taken => {}
                Some(_) => *fate = Fate::Unknown,
                None => {}
            }
        }
        self.archives.retain(|name, _| before.contains_key(name) || there.contains(name));
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        let repo = self.open(1)?;
        let mut settled = Vec::new();
        self.look_by(&repo, &mut |state| settled.push(state))?;
        // What a look has shown is known from then on.
        for (name, deleted) in settled {
            let (_, fate) = self.archives.get_mut(&name).expect("looked at");
            if *fate == Fate::Unknown && !deleted {
                *fate = Fate::Kept;
            }
        }
        Ok(())
    }

    /// Compares all archives. Tells of each that is there whether it is in the trash.
    fn look_by(&self, repo: &Repository, tell: &mut dyn FnMut((String, bool))) -> Result<(), String> {
        let list = repo.archives().map_err(|e| format!("archives: {e:?}"))?;
        if let Some((id, e)) = list.damaged.first() {
            return Err(format!("{id} is damaged: {e:?}"));
        }
        let reader = reader(repo).map_err(|e| format!("reader: {e:?}"))?;
        let mut missing = self.archives.clone();
        missing.retain(|_, (_, fate)| matches!(fate, Fate::Kept | Fate::Trashed));
        for archive in list.archives {
            let (name, deleted) = (archive.manifest.name.clone(), archive.deleted_ms.is_some());
            let (number, fate) = self.archives.get(&name).ok_or_else(|| format!("nobody made {name}"))?;
            if *fate == Fate::Kept && deleted || *fate == Fate::Trashed && !deleted {
                return Err(format!("{name} is {fate:?}, but deleted: {deleted}"));
            }
            let found = restore(&reader, &archive.manifest);
            if found.as_ref().is_ok_and(|found| *found != content(*number)) {
                return Err(format!("{name} has other bytes"));
            }
            if !deleted || *fate == Fate::Trashed {
                found.map_err(|e| format!("{name}: {e}"))?;
            }
            missing.remove(&name);
            tell((name, deleted));
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("lost: {missing:?}")) }
    }
}

/// Does a sequence; what was wrong after which command.
fn run(number: u64, commands: &[Command]) -> Result<(), String> {
    begin_script(number, NOW_MS);
    dbvault_repo::scripted::keep_indexes_in_memory(!number.is_multiple_of(ON_DISK_ONE_IN));
    let mut model = Model::new();
    for (at, command) in commands.iter().enumerate() {
        let done = model.perform(*command);
        let looked = done.and_then(|()| if (at + 1) % LOOK_EVERY == 0 { model.look() } else { Ok(()) });
        looked.map_err(|e| format!("command {at}, {command:?}: {e}"))?;
    }
    model.look()?;
    model.check(0, true)?;
    model.collect(1, true, true, true).map_err(|e| format!("last collection: {e}"))?;
    model.backup(0, 6).map_err(|e| format!("last backup: {e}"))?;
    model.look().map_err(|e| format!("at the end: {e}"))?;
    model.check(1, true).map_err(|e| format!("at the end: {e}"))
}

/// The same, with panics as errors.
fn try_run(number: u64, commands: &[Command]) -> Result<(), String> {
    // One thread, so that the same numbers are drawn in the same order.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| threads.install(|| run(number, commands))));
    caught.unwrap_or_else(|_| Err("panicked".into()))
}

/// Leaves out whatever the failure does not need.
fn shrink(number: u64, mut commands: Vec<Command>) -> Vec<Command> {
    let mut at = commands.len();
    while at > 0 {
        at -= 1;
        let mut shorter = commands.clone();
        shorter.remove(at);
        if try_run(number, &shorter).is_err() {
            commands = shorter;
            at = at.min(commands.len());
        }
    }
    commands
}

#[test]
fn random_sequences_do_what_the_model_does() {
    let began = Instant::now();
    let replay = std::env::var("DBVAULT_MODEL").ok().map(|number| number.parse::<u64>().unwrap());
    let first = tier::seed() * 1_000_000;
    let numbers: Vec<u64> = match replay {
        Some(number) => vec![number],
        None => (first..first + (SEQUENCES * scale()) as u64).collect(),
    };
    let (failures, commands_count) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let sequences = numbers.len();
    in_parallel(numbers, |number| {
        let mut drawn = Numbers::new(number);
        let commands: Vec<Command> = (0..COMMANDS).map(|_| command(&mut drawn)).collect();
        commands_count.fetch_add(commands.len(), Ordering::Relaxed);
        if try_run(number, &commands).is_err() && failures.lock().unwrap().len() < 5 {
            let shortest = shrink(number, commands);
            let problem = try_run(number, &shortest).err();
            let text = format!("DBVAULT_MODEL={number}: {problem:?} by {shortest:#?}");
            println!("{text}");
            failures.lock().unwrap().push(text);
        }
    });
    let failures = failures.into_inner().unwrap();
    println!(
        "proof: model: {sequences} sequences, {} commands, {:.0} s, {} failures",
        commands_count.into_inner(),
        began.elapsed().as_secs_f32(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures[0]);
}

#[test]
fn a_check_passes_over_records_without_bases_that_nothing_needs() {
    let commands = [
        Command::Suspend { client: 0, content: 1 },
        Command::Backup { client: 1, content: 6 },
        Command::Backup { client: 1, content: 4 },
        Command::Collect { client: 1, take: false, fence: true, repack: true },
        Command::Crash { cut: 5_012_253_349_701_680_243, lost: 17_054_148_009_818_394_480 },
    ];
    run(1_000_268, &commands).unwrap();
}

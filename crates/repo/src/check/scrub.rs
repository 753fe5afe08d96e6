//! A check without any key: what can be seen of damage by whoever only stores the repository.
//!
//! Packs are all but all of a repository, and their names are the hashes of their bytes: no damage to one goes
//! unseen. Of the small objects only the header and the length can be judged: damage to what is sealed in them, and
//! what is missing, takes a key to see.

use std::sync::atomic::{AtomicBool, Ordering};

use dbvault_format::header::{HEADER_BYTES, Header, ObjectKind};
use dbvault_format::padding::padme;
use dbvault_format::parity::Parity;
use dbvault_format::{config, key_slot};
use dbvault_storage::{ErrorKind, Key, ObjectMeta, Storage};
use parking_lot::Mutex;
use rayon::prelude::*;

use super::Finding;
use crate::monitor::{Counter, Monitor, Phase};
use crate::{Error, Result, layout};

/// What a check without a key found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Damaged and misplaced objects.
    pub findings: Vec<Finding>,
    /// Objects that were looked at.
    pub objects: u64,
    /// Packs among them; all of each was read.
    pub packs: u64,
    /// Bytes of these.
    pub pack_bytes: u64,
}

/// Objects of one folder.
struct Folder {
    prefix: Key,
    kinds: &'static [ObjectKind],
    /// Whether a name is one that an object of this folder can have.
    named: fn(&Key) -> bool,
}

/// Looks for damage without a key. Ends with [`Error::Interrupted`] soon after `interrupt` becomes true.
///
/// An error is a failure to look; what is wrong is in the report.
pub fn scrub(storage: &dyn Storage, interrupt: &AtomicBool, monitor: &dyn Monitor) -> Result<ScrubReport> {
    monitor.phase(Phase::CheckStructure);
    let mut report = ScrubReport { objects: 1, ..ScrubReport::default() };
    let config = layout::config();
    if let Err(e) = config::repo_id(&storage.get(&config, None)?) {
        report.findings.push(Finding::new(&config, e));
    }
    for folder in folders() {
        for object in list(storage, &folder.prefix)? {
            stop_if(interrupt)?;
            report.objects += 1;
            let problem = look(storage, &folder, &object)?;
            report.findings.extend(problem.map(|problem| Finding::new(&object.key, problem)));
        }
    }
    let packs = list(storage, &layout::packs())?;
    report.objects += packs.len() as u64;
    report.packs = packs.len() as u64;
    report.pack_bytes = packs.iter().map(|pack| pack.size_bytes).sum();
    monitor.phase(Phase::CheckData);
    monitor.expect(Counter::PackBytes, report.pack_bytes);
    let found = Mutex::new(std::mem::take(&mut report.findings));
    packs.par_iter().try_for_each(|pack| {
        stop_if(interrupt)?;
        if let Some(problem) = look_at_pack(storage, pack)? {
            let mut found = found.lock();
            found.push(Finding::new(&pack.key, problem));
        }
        monitor.add(Counter::Packs, 1);
        monitor.add(Counter::PackBytes, pack.size_bytes);
        Ok::<_, Error>(())
    })?;
    report.findings = found.into_inner();
    report.findings.sort_by(|a, b| (&a.object, &a.problem).cmp(&(&b.object, &b.problem)));
    Ok(report)
}

fn folders() -> [Folder; 9] {
    let folder = |prefix, kinds, named| Folder { prefix, kinds, named };
    let numbered: fn(&Key) -> bool = |key| layout::parse_number(key).is_some();
    [
        folder(layout::key_slots(), &[ObjectKind::KeySlot], |key| layout::parse_key_slot(key).is_some()),
        folder(layout::index(), &[ObjectKind::IndexSegment], |key| {
            layout::parse_index_segment(key).is_some()
        }),
        folder(layout::sessions(), &[ObjectKind::Session], |key| layout::parse_session(key).is_some()),
        folder(layout::archives(), &[ObjectKind::Archive, ObjectKind::Fence], |key| {
            layout::parse_archive(key).is_some()
        }),
        folder(layout::trash(), &[ObjectKind::Trash], |key| layout::parse_trash_mark(key).is_some()),
        folder(layout::notes(), &[ObjectKind::Note], |key| layout::parse_note(key).is_some()),
        folder(layout::condemned(), &[ObjectKind::Condemned], numbered),
        folder(layout::roots(), &[ObjectKind::Root], numbered),
        folder(layout::parities(), &[ObjectKind::Parity], |key| layout::parse_parity(key).is_some()),
    ]
}

/// What is wrong with an object that is not a pack, as far as it shows.
fn look(storage: &dyn Storage, folder: &Folder, object: &ObjectMeta) -> Result<Option<String>> {
    let Some(bytes) = get(storage, &object.key)? else { return Ok(None) };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(problem) => return Ok(Some(problem)),
    };
    if !(folder.named)(&object.key) {
        return Ok(Some("not a name an object can have here".into()));
    }
    let header = match Header::decode(&bytes, folder.kinds) {
        Ok((header, _)) => header,
        Err(e) => return Ok(Some(e.to_string())),
    };
    Ok(match header.kind {
        ObjectKind::KeySlot => key_slot::kind(&bytes).err().map(|e| e.to_string()),
        ObjectKind::Parity => {
            let name = layout::parse_parity(&object.key);
            let whole = name.map(|name| Parity::decode(&name, &bytes).map(|parity| parity.is_whole()));
            match whole {
                Some(Ok(true)) | None => None,
                Some(Ok(false)) => Some("its bytes do not have the hash at its end".into()),
                Some(Err(e)) => Some(e.to_string()),
            }
        }
        _ => odd_length(bytes.len() as u64),
    })
}

fn look_at_pack(storage: &dyn Storage, pack: &ObjectMeta) -> Result<Option<String>> {
    let Some(name) = layout::parse_pack(&pack.key).filter(|name| layout::pack(name) == pack.key) else {
        return Ok(Some("not a name a pack can have".into()));
    };
    let bytes = match get(storage, &pack.key)? {
        None => return Ok(None),
        Some(Err(problem)) => return Ok(Some(problem)),
        Some(Ok(bytes)) => bytes,
    };
    if *blake3::hash(&bytes).as_bytes() != name.0 {
        return Ok(Some("its bytes do not have the hash that is its name".into()));
    }
    let header = bytes.get(..HEADER_BYTES).map(|head| Header::decode(head, &[ObjectKind::Pack]));
    Ok(match header {
        Some(Ok(_)) => odd_length(bytes.len() as u64),
        Some(Err(e)) => Some(e.to_string()),
        None => Some("ends too early".into()),
    })
}

fn odd_length(size_bytes: u64) -> Option<String> {
    (padme(size_bytes) != size_bytes).then(|| format!("{size_bytes} bytes are no length an object can have"))
}

/// The bytes of an object, or why they can't be read; `None` where it went away since it was listed.
fn get(storage: &dyn Storage, key: &Key) -> Result<Option<Result<Vec<u8>, String>>> {
    match storage.get(key, None) {
        Ok(bytes) => Ok(Some(Ok(bytes))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(e.into()),
        Err(e) => Ok(Some(Err(format!("can't be read: {e}")))),
    }
}

fn list(storage: &dyn Storage, prefix: &Key) -> Result<Vec<ObjectMeta>> {
    let mut objects = Vec::new();
    storage.list(prefix, &mut |object| {
        objects.push(object);
        Ok(())
    })?;
    objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(objects)
}

fn stop_if(interrupt: &AtomicBool) -> Result<()> {
    if interrupt.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

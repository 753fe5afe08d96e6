//! Packs: there in full length, and every record decodes to the chunk its id names.

use dbvault_format::compress::Decoder;
use dbvault_format::header::HEADER_BYTES;
use dbvault_format::id::{ChunkId, PackName, Salt};
use dbvault_format::pack::{ChunkEntry, RecordOpener, open_pack};
use dbvault_format::parity::Parity;
use dbvault_storage::ErrorKind;
use rayon::prelude::*;

use super::Findings;
use super::memory::Memory;
use super::objects::Listings;
use crate::chunk_reader::Bench;
use crate::monitor::Counter;
use crate::pack_list::StoredPacks;
use crate::pack_reader::room;
use crate::{Error, Reader, Repository, Result, layout};

/// Deltas whose bases are fetched together.
const BASES_BATCH: usize = 32;

/// Every listed pack must be there in its full length.
pub(super) fn check_presence(
    reader: &Reader,
    listings: &Listings,
    stored: &StoredPacks,
    findings: &Findings,
) -> Result<()> {
    for (name, listed) in listings {
        let problem = match stored.get(name) {
            Some(size_bytes) if *size_bytes == listed.size_bytes => continue,
            Some(size_bytes) => format!("{size_bytes} bytes long, not {}", listed.size_bytes),
            None => "missing".into(),
        };
        findings.add(layout::pack(name).as_str(), &problem);
        findings.suspect_pack(reader, name)?;
    }
    Ok(())
}

/// Reads all packs, on all cores, one pack a core in memory.
pub(super) fn check_data(
    reader: &Reader,
    stored: &StoredPacks,
    listings: &Listings,
    findings: &Findings,
    memory: &Memory,
) -> Result<()> {
    let monitor = reader.monitor();
    monitor.expect(Counter::PackBytes, stored.values().sum());
    stored.par_iter().try_for_each(|(name, size_bytes)| {
        reader.repo().client.check_interrupt()?;
        if check_pack(reader, name, listings, findings)? & check_parity(reader.repo(), name, findings)? {
            memory.note_pack(name);
        }
        monitor.add(Counter::Packs, 1);
        monitor.add(Counter::PackBytes, *size_bytes);
        Ok(())
    })
}

/// Whether nothing is wrong with the parity of a pack. That there is none is nothing wrong.
fn check_parity(repo: &Repository, name: &PackName, findings: &Findings) -> Result<bool> {
    let key = layout::parity(name);
    let problem = match repo.storage.get(&key, None) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
        Err(e) => format!("can't be read: {e}"),
        Ok(object) => match Parity::decode(name, &object) {
            Ok(parity) if parity.is_whole() => return Ok(true),
            Ok(_) => "its bytes do not have the hash at its end".into(),
            Err(e) => e.to_string(),
        },
    };
    findings.add(key.as_str(), &problem);
    Ok(false)
}

/// Whether nothing is wrong with a pack.
fn check_pack(reader: &Reader, name: &PackName, listings: &Listings, findings: &Findings) -> Result<bool> {
    let repo = reader.repo();
    let key = layout::pack(name);
    let mut bytes = match repo.storage.get(&key, None) {
        Ok(bytes) => bytes,
        // Collected since it was listed.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => {
            findings.add(key.as_str(), &format_args!("can't be read: {e}"));
            findings.suspect_pack(reader, name)?;
            return Ok(false);
        }
    };
    let opened = open_pack(&repo.keys.pack, &repo.id, name, &bytes);
    let listing = listings.get(name);
    let sound = opened.is_ok();
    let (salt, entries) = match (opened, listing) {
        (Ok((salt, entries)), Some(listing)) if !listing.is(&salt, &entries) => {
            findings.add(key.as_str(), &"its directory is not what the index says");
            (salt, entries)
        }
        (Ok(opened), _) => opened,
        (Err(e), listing) => {
            findings.add(key.as_str(), &e);
            // What the index knows tells which of its chunks are still good.
            let Some(listing) = listing else { return Ok(false) };
            (listing.salt, reader.index().entries(name)?)
        }
    };
    let as_listed = listing.is_none_or(|listing| listing.is(&salt, &entries));
    Ok(check_records(reader, &key, &mut bytes, &salt, &entries, findings) && sound && as_listed)
}

/// Whether every record decodes to the chunk its id names.
fn check_records(
    reader: &Reader,
    key: &dbvault_storage::Key,
    bytes: &mut [u8],
    salt: &Salt,
    entries: &[ChunkEntry],
    findings: &Findings,
) -> bool {
    let mut good = true;
    let repo = reader.repo();
    let opener = RecordOpener::new(&repo.keys.pack, repo.id, salt);
    let (mut bench, mut decoder, mut plain) = (Bench::default(), Decoder::new(), Vec::new());
    let (mut ordinal, mut offset) = (0, HEADER_BYTES);
    for batch in entries.chunks(BASES_BATCH) {
        let wanted: Vec<ChunkId> = batch.iter().filter_map(|entry| entry.base).collect();
        let mut bases = reader.chunks().fetch(&wanted, &mut bench).into_iter();
        for entry in batch {
            let base = entry.base.and_then(|_| bases.next());
            // A collection leaves records that nothing needs without their bases. Where an archive does need the
            // chunk, following the archive shows what it lacks. One that is about to take them all may have begun
            // with the pack of the base, which segments list as long as they are there.
            let baseless = matches!(base, Some(Err(Error::ChunkMissing { .. } | Error::PackMissing { .. })));
            let end = offset + entry.sealed_len as usize;
            let check = |sealed| {
                let record = opener.open_in_place(ordinal, entry, sealed).map_err(|e| e.to_string())?;
                let base = base.transpose().map_err(|e| format!("its base can't be read: {e}"))?;
                let plain = room(&mut plain, entry.plain_len as usize);
                let decoded = decoder.decode_into(entry.codec, record, base, plain);
                decoded.map_err(|e| e.to_string())?;
                let right = repo.keys.chunk_id(plain) == entry.id;
                right.then_some(()).ok_or_else(|| "its bytes are not those its id names".to_string())
            };
            let sealed = bytes.get_mut(offset..end).ok_or_else(|| "record is cut off".to_string());
            if let Err(problem) = sealed.and_then(check) {
                findings.suspect(entry.id);
                good &= baseless;
                if !baseless {
                    findings.add(key.as_str(), &format_args!("chunk {}: {problem}", entry.id));
                }
            }
            offset = end;
            ordinal += 1;
        }
    }
    good
}

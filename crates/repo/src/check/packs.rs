//! Packs: there in full length, and every record decodes to the chunk its id names.

use std::collections::HashMap;

use dbvault_format::compress::Decoder;
use dbvault_format::header::HEADER_BYTES;
use dbvault_format::id::{ChunkId, PackName, Salt};
use dbvault_format::pack::{ChunkEntry, RecordOpener, open_pack};
use dbvault_storage::ErrorKind;
use rayon::prelude::*;

use super::Findings;
use super::objects::Listings;
use crate::chunk_reader::Bench;
use crate::monitor::{Counter, Monitor};
use crate::pack_reader::room;
use crate::{Reader, Repository, Result, layout};

/// Deltas whose bases are fetched together.
const BASES_BATCH: usize = 32;

/// Lengths of the packs that are stored, bytes, by name.
pub(super) type Stored = HashMap<PackName, u64>;

/// Lists all packs.
pub(super) fn list_packs(repo: &Repository, findings: &Findings) -> Result<Stored> {
    let mut stored = Stored::new();
    for shard in 0..layout::PACK_SHARDS {
        repo.storage.list(&layout::pack_shard(shard as u8), &mut |object| {
            match layout::parse_pack(&object.key).filter(|name| layout::pack(name) == object.key) {
                Some(name) => drop(stored.insert(name, object.size_bytes)),
                None => findings.add(object.key.as_str(), &"not a name a pack can have"),
            }
            Ok(())
        })?;
    }
    Ok(stored)
}

/// Every listed pack must be there in its full length.
pub(super) fn check_presence(
    reader: &Reader,
    listings: &Listings,
    stored: &Stored,
    findings: &Findings,
) -> Result<()> {
    for (name, listed) in listings {
        let problem = match stored.get(name) {
            Some(size_bytes) if *size_bytes == listed.size_bytes => continue,
            Some(size_bytes) => format!("{size_bytes} bytes long, not {}", listed.size_bytes),
            None => "missing".into(),
        };
        findings.add(layout::pack(name).as_str(), &problem);
        reader.index().entries(name)?.iter().for_each(|entry| findings.suspect(entry.id));
    }
    Ok(())
}

/// Reads all packs, on all cores, one pack a core in memory.
pub(super) fn check_data(
    reader: &Reader,
    stored: &Stored,
    listings: &Listings,
    findings: &Findings,
    monitor: &dyn Monitor,
) -> Result<()> {
    monitor.expect(Counter::PackBytes, stored.values().sum());
    stored.par_iter().try_for_each(|(name, size_bytes)| {
        reader.repo().client.check_interrupt()?;
        check_pack(reader, name, listings, findings)?;
        monitor.add(Counter::Packs, 1);
        monitor.add(Counter::PackBytes, *size_bytes);
        Ok(())
    })
}

fn check_pack(reader: &Reader, name: &PackName, listings: &Listings, findings: &Findings) -> Result<()> {
    let repo = reader.repo();
    let key = layout::pack(name);
    let mut bytes = match repo.storage.get(&key, None) {
        Ok(bytes) => bytes,
        // Collected since it was listed.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => {
            findings.add(key.as_str(), &format_args!("can't be read: {e}"));
            reader.index().entries(name)?.iter().for_each(|entry| findings.suspect(entry.id));
            return Ok(());
        }
    };
    let opened = open_pack(&repo.keys.pack, &repo.id, name, &bytes);
    let listing = listings.get(name);
    let (salt, entries) = match (opened, listing) {
        (Ok((salt, entries)), Some(listing)) if !listing.is(&salt, &entries) => {
            findings.add(key.as_str(), &"its directory is not what the index says");
            (salt, entries)
        }
        (Ok(opened), _) => opened,
        (Err(e), listing) => {
            findings.add(key.as_str(), &e);
            // What the index knows tells which of its chunks are still good.
            let Some(listing) = listing else { return Ok(()) };
            (listing.salt, reader.index().entries(name)?)
        }
    };
    check_records(reader, &key, &mut bytes, &salt, &entries, findings);
    Ok(())
}

fn check_records(
    reader: &Reader,
    key: &dbvault_storage::Key,
    bytes: &mut [u8],
    salt: &Salt,
    entries: &[ChunkEntry],
    findings: &Findings,
) {
    let repo = reader.repo();
    let opener = RecordOpener::new(&repo.keys.pack, repo.id, salt);
    let (mut bench, mut decoder, mut plain) = (Bench::default(), Decoder::new(), Vec::new());
    let (mut ordinal, mut offset) = (0, HEADER_BYTES);
    for batch in entries.chunks(BASES_BATCH) {
        let wanted: Vec<ChunkId> = batch.iter().filter_map(|entry| entry.base).collect();
        let mut bases = reader.chunks().fetch(&wanted, &mut bench).into_iter();
        for entry in batch {
            let base = entry.base.and_then(|_| bases.next());
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
                findings.add(key.as_str(), &format_args!("chunk {}: {problem}", entry.id));
                findings.suspect(entry.id);
            }
            offset = end;
            ordinal += 1;
        }
    }
}

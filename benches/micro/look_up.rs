//! Finding chunks that are there already, in the index, beside RocksDB alone.

use std::path::Path;
use std::sync::Arc;

use dbvault_format::entry::{EntryReport, Grid};
use dbvault_format::keys::PurposeKey;
use dbvault_repo::{BackupOptions, BackupTxn, NoMonitor};
use rocksdb::{DB, Options};

use crate::step::{Amount, Step, Way};
use crate::whole::{entry, make_repository};

const KEYS: usize = 100_000;

/// As much as the index keeps of a chunk.
const VALUE_BYTES: usize = 22;

/// Chunks this short make a backup of what is there already a series of look-ups, and little else.
const CHUNK_BYTES: usize = 64;

/// Ours is a backup of a stream that is there already: each chunk is also hashed, claimed and listed.
pub(crate) fn look_up(work: &Path) -> Result<Step<'static>, String> {
    let mut stream = vec![0; KEYS * CHUNK_BYTES];
    PurposeKey::derive("micro benchmark", b"chunks").expand(&mut stream);
    let mut backup = begin_backup(&work.join("ours"), &stream)?;
    let mut passes = 0;
    let ours = Way::new(
        "dbvault",
        move |sink| {
            passes += 1;
            let meta = entry(&format!("pass {passes}"), Grid::Fixed(CHUNK_BYTES as u32));
            let stored = backup.add_entry(meta, &mut stream.as_slice()).expect("the stream is stored");
            backup.finish_entry(stored, EntryReport::default());
            let sizes = backup.entries().last().expect("an entry was finished").sizes;
            sink(sizes.chunks as usize, &sizes.new_chunks.to_le_bytes());
        },
        |chunks, new_chunks| chunks >= KEYS && new_chunks == 0u64.to_le_bytes(),
    );
    let keys: Vec<[u8; 32]> =
        (0..KEYS).map(|number| *blake3::hash(&number.to_le_bytes()).as_bytes()).collect();
    let db = fill(&work.join("bare"), &keys)?;
    let bare = Way::new(
        "RocksDB get",
        move |sink| {
            for (number, key) in keys.iter().enumerate() {
                let value = db.get(key).ok().flatten().unwrap_or_default();
                sink(number, &value);
            }
        },
        |number, value| value == [number as u8; VALUE_BYTES],
    );
    Ok(Step::new("look up", Amount::Items(KEYS), vec![ours, bare]).of_all_threads())
}

/// A backup into a repository that has all chunks of `stream`, in its index and no longer in memory.
fn begin_backup(work: &Path, stream: &[u8]) -> Result<BackupTxn, String> {
    std::fs::create_dir_all(work).map_err(|error| error.to_string())?;
    let repo = make_repository(work)?;
    let begin = |name: &str| {
        let options = BackupOptions { archive_name: name.to_owned(), comment: None };
        repo.begin_backup(options, Arc::new(NoMonitor)).map_err(|error| error.to_string())
    };
    let mut first = begin("first")?;
    let meta = entry("first", Grid::Fixed(CHUNK_BYTES as u32));
    let stored = first.add_entry(meta, &mut &*stream).map_err(|error| error.to_string())?;
    first.finish_entry(stored, EntryReport::default());
    first.commit().map_err(|error| error.to_string())?;
    begin("second")
}

/// A database that holds all keys in files.
fn fill(path: &Path, keys: &[[u8; 32]]) -> Result<DB, String> {
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, path).map_err(|error| error.to_string())?;
    for (number, key) in keys.iter().enumerate() {
        db.put(key, [number as u8; VALUE_BYTES]).map_err(|error| error.to_string())?;
    }
    db.flush().map_err(|error| error.to_string())?;
    Ok(db)
}

//! Loading an index from nothing: keys are sorted before the database gets them.
//!
//! Keys are hashes. Given one by one, the database would sort what it has again and again; here they are
//! spread over parts by their first bits, sorted a part at a time, and become files of the database as they are.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use dbvault_format::id::SessionId;
use dbvault_format::index_segment::IndexSegment;
use rocksdb::{SstFileWriter, WriteBatch};

use super::database::{CHUNKS, Database, SIMILAR, similar_keys};
use super::location::{Place, short};
use crate::Result;

/// Parts that the keys of a family are spread over.
const PARTS: usize = 64;

/// Bytes of a part that are kept in memory before they go to its file: 16 MiB with all parts of two families.
const BUFFER_BYTES: usize = 128 << 10;

/// A file for the database is ended once it is this long, bytes.
const FILE_BYTES: u64 = 64 << 20;

/// A key and a place: one number, big-endian, by which they are sorted.
const PAIR_BYTES: usize = 8 + Place::BYTES;

/// A load that is going on. The database gets its owner at the end: one that a crash left in the middle is of
/// no use to anybody.
pub(super) struct Load<'a> {
    database: &'a Database,
    chunks: Sorter<'a>,
    similar: Sorter<'a>,
}

impl<'a> Load<'a> {
    /// Begins to fill an empty database.
    pub(super) fn start(database: &'a Database) -> Load<'a> {
        Load { database, chunks: Sorter::new(database, CHUNKS), similar: Sorter::new(database, SIMILAR) }
    }

    /// Adds all packs of a segment, and its name.
    pub(super) fn add_segment(
        &mut self,
        name: &str,
        session: &SessionId,
        segment: &IndexSegment,
    ) -> Result<()> {
        for pack in &segment.packs {
            let mut batch = WriteBatch::default();
            let (number, new) = self.database.list_pack(&mut batch, session, pack)?;
            self.database.write(batch)?;
            for (place, entry) in Place::of_all(number, pack).filter(|_| new) {
                self.chunks.push(short(&entry.id), place)?;
                for key in entry.features.iter().flat_map(similar_keys) {
                    self.similar.push(key, place)?;
                }
            }
        }
        self.database.add_segment_name(name)
    }

    /// Gives the database what was added, sorted.
    pub(super) fn finish(self) -> Result<()> {
        self.chunks.finish(|places| places)?;
        // The newest chunk that has the feature.
        self.similar.finish(|places| &places[places.len() - Place::BYTES..])?;
        self.database.set_owner()
    }
}

/// Keys of a family, and a place for each.
struct Sorter<'a> {
    database: &'a Database,
    family: &'static str,
    parts: [Vec<u8>; PARTS],
}

impl<'a> Sorter<'a> {
    fn new(database: &'a Database, family: &'static str) -> Sorter<'a> {
        Sorter { database, family, parts: std::array::from_fn(|_| Vec::new()) }
    }

    fn push(&mut self, key: u64, place: Place) -> Result<()> {
        let part = (key >> (u64::BITS - PARTS.ilog2())) as usize;
        self.parts[part].extend_from_slice(&key.to_be_bytes());
        self.parts[part].extend_from_slice(&place.encode());
        if self.parts[part].len() < BUFFER_BYTES {
            return Ok(());
        }
        let file = OpenOptions::new().create(true).append(true).open(self.file(&format!("part-{part}")));
        let written = file.and_then(|mut file| file.write_all(&self.parts[part]));
        self.parts[part].clear();
        written.map_err(|e| self.database.error(&e))
    }

    /// Writes everything into files for the database. `merge` makes one value of the places of a key.
    fn finish(mut self, merge: fn(&[u8]) -> &[u8]) -> Result<()> {
        let error = |e: rocksdb::Error| self.database.error(&e);
        let options = Database::file_options(self.family);
        let mut writer = SstFileWriter::create(&options);
        let (mut files, mut open) = (Vec::new(), false);
        let mut places = Vec::new();
        let key = |pair: u128| (pair >> u64::BITS) as u64;
        for part in 0..PARTS {
            let pairs = self.take_part(part).map_err(|e| self.database.error(&e))?;
            if !open && !pairs.is_empty() {
                files.push(self.file(&format!("{part}.sst")));
                writer.open(&files[files.len() - 1]).map_err(error)?;
                open = true;
            }
            for same in pairs.chunk_by(|one, next| key(*one) == key(*next)) {
                places.clear();
                same.iter().for_each(|pair| places.extend_from_slice(&(*pair as u64).to_be_bytes()));
                writer.put(key(same[0]).to_be_bytes(), merge(&places)).map_err(error)?;
            }
            if open && (writer.file_size() >= FILE_BYTES || part + 1 == PARTS) {
                writer.finish().map_err(error)?;
                open = false;
            }
        }
        self.database.ingest(self.family, files)
    }

    /// The pairs of a part, in order.
    fn take_part(&mut self, part: usize) -> io::Result<Vec<u128>> {
        let file = self.file(&format!("part-{part}"));
        let mut bytes = match fs::read(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        if !bytes.is_empty() {
            fs::remove_file(&file)?;
        }
        bytes.append(&mut self.parts[part]);
        let number = |pair: &[u8; PAIR_BYTES]| u128::from_be_bytes(*pair);
        let mut pairs: Vec<u128> = bytes.as_chunks().0.iter().map(number).collect();
        pairs.sort_unstable();
        Ok(pairs)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.database.path().join(format!("load-{}-{name}", self.family))
    }
}

//! Loading an index from nothing: keys are sorted before the database gets them.
//!
//! Keys are hashes. Given one by one, the database would sort what it has again and again; here they are
//! spread over parts by their first bits, sorted a part at a time, and become files of the database as they are.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use dbvault_format::id::SessionId;
use dbvault_format::index_segment::{IndexSegment, PackListing};
use rocksdb::{Options, SstFileWriter, WriteBatch};

use super::database::{self, CHUNKS, Database, FILE_BYTES, GROUPS, SIMILAR, similar_keys};
use super::group;
use super::location::{Place, short};
use crate::Result;

/// Parts that the keys of a family are spread over.
const PARTS: usize = 64;

/// Bytes of a part that are kept in memory before they go to its file: 16 MiB with all parts of two families.
const BUFFER_BYTES: usize = 128 << 10;

/// A key and a place: one number, big-endian, by which they are sorted.
const PAIR_BYTES: usize = 8 + Place::BYTES;

/// Options for the files of the three large families; they outlive the load.
pub(super) struct FileOptions([Options; 3]);

impl Default for FileOptions {
    fn default() -> FileOptions {
        FileOptions([GROUPS, CHUNKS, SIMILAR].map(database::file_options))
    }
}

/// A load that is going on. The database gets its owner at the end: one that a crash left in the middle is of
/// no use to anybody.
pub(super) struct Load<'a> {
    database: &'a Database,
    groups: Files<'a>,
    chunks: Sorter<'a>,
    similar: Sorter<'a>,
}

impl<'a> Load<'a> {
    /// Begins to fill an empty database.
    pub(super) fn start(database: &'a Database, options: &'a FileOptions) -> Load<'a> {
        let FileOptions([groups, chunks, similar]) = options;
        Load {
            database,
            groups: Files::new(database, GROUPS, groups),
            chunks: Sorter::new(Files::new(database, CHUNKS, chunks)),
            similar: Sorter::new(Files::new(database, SIMILAR, similar)),
        }
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
            if new {
                self.add_chunks(number, pack)?;
            }
        }
        self.database.add_segment_name(name)
    }

    fn add_chunks(&mut self, number: u32, pack: &PackListing) -> Result<()> {
        let groups = group::encode_all(number, &pack.entries).map_err(|e| self.database.error(&e))?;
        // In order as they come: later packs have higher numbers.
        groups.iter().try_for_each(|(first, group)| self.groups.put(&first.encode(), group))?;
        for (place, entry) in Place::of_all(number, pack) {
            self.chunks.push(short(&entry.id), place)?;
            for key in entry.features.iter().flat_map(similar_keys) {
                self.similar.push(key, place)?;
            }
        }
        Ok(())
    }

    /// Gives the database what was added, sorted.
    pub(super) fn finish(self) -> Result<()> {
        self.groups.finish()?;
        self.chunks.finish(|places| places)?;
        // The newest chunk that has the feature.
        self.similar.finish(|places| &places[places.len() - Place::BYTES..])?;
        self.database.set_owner()
    }
}

/// Files for a family of the database, written in the order of their keys.
struct Files<'a> {
    database: &'a Database,
    family: &'static str,
    writer: SstFileWriter<'a>,
    paths: Vec<PathBuf>,
    open: bool,
}

impl<'a> Files<'a> {
    fn new(database: &'a Database, family: &'static str, options: &'a Options) -> Files<'a> {
        Files { database, family, writer: SstFileWriter::create(options), paths: Vec::new(), open: false }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if !self.open {
            let path = self.path(&format!("{}.sst", self.paths.len()));
            self.writer.open(&path).map_err(|e| self.database.error(&e))?;
            self.paths.push(path);
            self.open = true;
        }
        self.writer.put(key, value).map_err(|e| self.database.error(&e))?;
        if self.writer.file_size() >= FILE_BYTES { self.end_file() } else { Ok(()) }
    }

    fn end_file(&mut self) -> Result<()> {
        self.open = false;
        self.writer.finish().map_err(|e| self.database.error(&e))
    }

    /// Makes all files part of the database.
    fn finish(mut self) -> Result<()> {
        if self.open {
            self.end_file()?;
        }
        self.database.ingest(self.family, self.paths)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.database.path().join(format!("load-{}-{name}", self.family))
    }
}

/// Keys of a family, and a place for each, to be sorted.
struct Sorter<'a> {
    files: Files<'a>,
    parts: [Vec<u8>; PARTS],
}

impl<'a> Sorter<'a> {
    fn new(files: Files<'a>) -> Sorter<'a> {
        Sorter { files, parts: std::array::from_fn(|_| Vec::new()) }
    }

    fn push(&mut self, key: u64, place: Place) -> Result<()> {
        let part = (key >> (u64::BITS - PARTS.ilog2())) as usize;
        self.parts[part].extend_from_slice(&key.to_be_bytes());
        self.parts[part].extend_from_slice(&place.encode());
        if self.parts[part].len() < BUFFER_BYTES {
            return Ok(());
        }
        let file = OpenOptions::new().create(true).append(true).open(self.part_path(part));
        let written = file.and_then(|mut file| file.write_all(&self.parts[part]));
        self.parts[part].clear();
        written.map_err(|e| self.files.database.error(&e))
    }

    /// Makes everything part of the database. `merge` makes one value of the places of a key.
    fn finish(mut self, merge: fn(&[u8]) -> &[u8]) -> Result<()> {
        let key = |pair: u128| (pair >> u64::BITS) as u64;
        let mut places = Vec::new();
        for part in 0..PARTS {
            let pairs = self.take_part(part).map_err(|e| self.files.database.error(&e))?;
            for same in pairs.chunk_by(|one, next| key(*one) == key(*next)) {
                places.clear();
                same.iter().for_each(|pair| places.extend_from_slice(&(*pair as u64).to_be_bytes()));
                self.files.put(&key(same[0]).to_be_bytes(), merge(&places))?;
            }
        }
        self.files.finish()
    }

    /// The pairs of a part, in order.
    fn take_part(&mut self, part: usize) -> io::Result<Vec<u128>> {
        let path = self.part_path(part);
        let mut bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        if !bytes.is_empty() {
            fs::remove_file(&path)?;
        }
        bytes.append(&mut self.parts[part]);
        let number = |pair: &[u8; PAIR_BYTES]| u128::from_be_bytes(*pair);
        let mut pairs: Vec<u128> = bytes.as_chunks().0.iter().map(number).collect();
        pairs.sort_unstable();
        Ok(pairs)
    }

    fn part_path(&self, part: usize) -> PathBuf {
        self.files.path(&format!("part-{part}"))
    }
}

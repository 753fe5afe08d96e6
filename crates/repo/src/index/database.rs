//! The RocksDB database behind the index.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dbvault_format::id::{ChunkId, PackName, RepoId, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::pack::ChunkEntry;
use dbvault_format::similarity::{SUPER_FEATURE_BYTES, SUPER_FEATURES, SuperFeatures};
use parking_lot::Mutex;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompactionStyle,
    IngestExternalFileOptions, MergeOperands, Options, WaitForCompactOptions, WriteBatch,
};

use super::group::{self, Group};
use super::location::{Location, PackInfo, Place, short};
use super::near::Near;
use super::slot::cache_error;
use super::store::{Memory, Store, handle};
use crate::Result;

/// Beginning of a chunk id -> places, one appended to the other.
pub(super) const CHUNKS: &str = "chunks";
/// Place of the first record of a group -> the group.
pub(super) const GROUPS: &str = "groups";
/// Pack number -> what is known of it.
const PACKS: &str = "packs";
/// Pack name -> pack number.
const PACK_NUMBERS: &str = "pack_numbers";
/// Which super-feature, and its value -> place of the newest chunk that has it.
pub(super) const SIMILAR: &str = "similar";
/// Name of a segment that is in the index.
const SEGMENTS: &str = "segments";
/// Version, repository and root number.
const META: &str = "meta";

const FAMILIES: [&str; 7] = [CHUNKS, GROUPS, PACKS, PACK_NUMBERS, SIMILAR, SEGMENTS, META];

const KEY_OWNER: &str = "owner";
const KEY_ROOT: &str = "root";

/// Changed whenever the database holds other things than before: an older cache is then made anew.
const VERSION: &[u8] = b"dbvault index 3 ";

/// Blocks, indexes and filters that are kept in memory, bytes.
const BLOCK_CACHE_BYTES: usize = 96 << 20;
/// Packs that are remembered: less than 1 MiB.
const PACKS_MAX: usize = 4096;
/// New entries that are kept in memory before they are written out, bytes.
const WRITE_BUFFER_BYTES: usize = 24 << 20;
/// Files that are open at once.
const OPEN_FILES_MAX: i32 = 256;
/// Runs of sorted files of a family before some are made one. Each program that stores anything leaves one.
const RUNS_MAX: i32 = 4;
/// Longest that closing waits for runs to be made one.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);
/// Files are no longer than this but for small ones, so that few have to be open, bytes.
pub(super) const FILE_BYTES: u64 = 128 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    New,
    Known,
    ReadOnly,
}

/// An open index database.
pub(super) struct Database {
    path: PathBuf,
    /// Version and repository.
    owner: Vec<u8>,
    /// `None` between [`Database::close`] and the next database in its place.
    store: Option<Store>,
    read_only: bool,
    next_pack: Mutex<u32>,
    /// This and `packs` belong to the database: where another takes its place, numbers mean other packs.
    near: Near,
    /// Packs that were asked for lately.
    packs: Mutex<HashMap<u32, PackInfo>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.path.display())
    }
}

impl Drop for Database {
    /// Makes few runs of many small ones before it closes: closing stops that, and most programs end so soon that runs
    /// would never be fewer. Every file takes time when the database is opened.
    fn drop(&mut self) {
        let Some(Store::Disk(db)) = &self.store else { return };
        if self.read_only {
            return;
        }
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        options.set_timeout(SETTLE_TIME_MAX.as_micros() as u64);
        if let Err(e) = db.wait_for_compact(&options) {
            tracing::debug!("the index in {} is left as it is: {e}", self.path.display());
        }
    }
}

impl Database {
    /// Opens what is there; an error where there is nothing, or nothing of use for `repo`.
    pub(super) fn open(path: &Path, repo: &RepoId) -> Result<Database> {
        Database::opened(Database::start(path, repo, Open::Known)?, path)
    }

    /// The same to be read only, which is many times faster: nothing is written, so nothing is synced.
    pub(super) fn open_read_only(path: &Path, repo: &RepoId) -> Result<Database> {
        Database::opened(Database::start(path, repo, Open::ReadOnly)?, path)
    }

    fn opened(database: Database, path: &Path) -> Result<Database> {
        if !database.is_owned()? {
            return Err(cache_error(path, &"of another repository or version"));
        }
        let next = match database.told(database.store()?.last_key(PACKS))? {
            Some(key) => database.number(&key)?.saturating_add(1),
            None => 0,
        };
        *database.next_pack.lock() = next;
        Ok(database)
    }

    /// Makes an empty one. It has no owner until it is filled: see [`Load`](super::load::Load).
    pub(super) fn create(path: &Path, repo: &RepoId) -> Result<Database> {
        Database::start(path, repo, Open::New)
    }

    /// Makes an empty one in memory, which goes away with its owner.
    pub(super) fn in_memory(repo: &RepoId) -> Result<Database> {
        let database = Database::over(Store::Memory(Memory::default()), Path::new("memory"), repo);
        // It is filled pair by pair: there are no files that it could take.
        database.set_owner()?;
        Ok(database)
    }

    /// Whether this has been filled.
    pub(super) fn is_owned(&self) -> Result<bool> {
        Ok(self.get(META, KEY_OWNER.as_bytes())? == Some(self.owner.clone()))
    }

    /// Whether nothing has been added yet.
    pub(super) fn is_empty(&self) -> Result<bool> {
        Ok(*self.next_pack.lock() == 0 && self.segments()?.is_empty())
    }

    /// This is filled: it is as good as the segments whose names are in it.
    pub(super) fn set_owner(&self) -> Result<()> {
        let mut batch = WriteBatch::default();
        self.put(&mut batch, META, KEY_OWNER, &self.owner)?;
        self.write(batch)
    }

    fn start(path: &Path, repo: &RepoId, how: Open) -> Result<Database> {
        let cache = Cache::new_hyper_clock_cache(BLOCK_CACHE_BYTES, 0);
        let mut options = Options::default();
        options.create_if_missing(how == Open::New);
        options.create_missing_column_families(how == Open::New);
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(WRITE_BUFFER_BYTES);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_max_background_jobs(2);
        // Each family starts so many, which takes longer than what they do.
        options.set_max_file_opening_threads(1);
        options.set_keep_log_file_num(1);
        options.set_max_log_file_size(1 << 20);
        options.set_paranoid_checks(true);
        let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, family_options(name, &cache)));
        let read_only = how == Open::ReadOnly;
        let db = if read_only {
            DB::open_cf_descriptors_read_only(&options, path, families, false)
        } else {
            DB::open_cf_descriptors(&options, path, families)
        };
        let db = db.map_err(|e| cache_error(path, &e))?;
        let mut database = Database::over(Store::Disk(db), path, repo);
        database.read_only = read_only;
        Ok(database)
    }

    fn over(store: Store, path: &Path, repo: &RepoId) -> Database {
        Database {
            path: path.into(),
            owner: [VERSION, repo.as_bytes()].concat(),
            store: Some(store),
            read_only: false,
            next_pack: Mutex::new(0),
            near: Near::default(),
            packs: Mutex::default(),
        }
    }

    /// Whether every change is refused.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Closes the files. Every other call is an error from then on.
    pub(super) fn close(&mut self) {
        self.store = None;
        self.near.clear();
        self.packs.lock().clear();
    }

    /// Names of the segments that are in the index.
    pub(super) fn segments(&self) -> Result<HashSet<String>> {
        let all = self.told(self.store()?.keys(SEGMENTS))?;
        all.into_iter().map(|key| String::from_utf8(key.into_vec()).map_err(|e| self.error(&e))).collect()
    }

    /// Number of the root the index was made for.
    pub(super) fn root_number(&self) -> Result<u32> {
        self.get(META, KEY_ROOT.as_bytes())?.map_or(Ok(0), |value| self.number(&value))
    }

    /// Sets the number of the root the index is made for.
    pub(super) fn set_root_number(&self, number: u32) -> Result<()> {
        if self.root_number()? == number {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        self.put(&mut batch, META, KEY_ROOT, number.to_be_bytes())?;
        self.write(batch)
    }

    /// Adds all packs of a segment, then its name.
    pub(super) fn add_segment(&self, name: &str, session: &SessionId, segment: &IndexSegment) -> Result<()> {
        for pack in &segment.packs {
            self.add_pack(session, pack)?;
        }
        self.add_segment_name(name)
    }

    /// All packs of the segment are there.
    pub(super) fn add_segment_name(&self, name: &str) -> Result<()> {
        let mut batch = WriteBatch::default();
        self.put(&mut batch, SEGMENTS, name, [])?;
        self.write(batch)
    }

    /// Adds a pack and its chunks, or another session to a pack that is known; gives its number.
    pub(super) fn add_pack(&self, session: &SessionId, pack: &PackListing) -> Result<u32> {
        // One batch: a chunk is never known without its pack, nor under the number of another.
        let mut batch = WriteBatch::default();
        let (number, new) = self.list_pack(&mut batch, session, pack)?;
        if !new {
            self.write(batch)?;
            return Ok(number);
        }
        for (first, group) in group::encode_all(number, &pack.entries).map_err(|e| self.error(&e))? {
            self.put(&mut batch, GROUPS, first.encode(), group)?;
        }
        for (place, entry) in Place::of_all(number, pack) {
            self.told(self.store()?.append(
                &mut batch,
                CHUNKS,
                short(&entry.id).to_be_bytes(),
                place.encode(),
            ))?;
            for key in entry.features.iter().flat_map(similar_keys) {
                self.put(&mut batch, SIMILAR, key.to_be_bytes(), place.encode())?;
            }
        }
        self.write(batch)?;
        Ok(number)
    }

    /// Puts what is known of a pack into `batch`, or another session of a pack that is known already. Gives the
    /// number of the pack, and whether it is new.
    pub(super) fn list_pack(
        &self,
        batch: &mut WriteBatch,
        session: &SessionId,
        pack: &PackListing,
    ) -> Result<(u32, bool)> {
        if let Some(number) = self.get(PACK_NUMBERS, pack.name.as_bytes())? {
            let number = self.number(&number)?;
            let mut info = self.pack(number)?;
            if !info.sessions.contains(session) {
                info.sessions.push(*session);
                self.put(batch, PACKS, number.to_be_bytes(), info.encode())?;
                self.packs.lock().insert(number, info);
            }
            return Ok((number, false));
        }
        let number = {
            let mut next = self.next_pack.lock();
            *next += 1;
            *next - 1
        };
        let info = PackInfo {
            name: pack.name,
            salt: pack.salt,
            size_bytes: pack.size_bytes,
            sessions: vec![*session],
        };
        self.put(batch, PACKS, number.to_be_bytes(), info.encode())?;
        self.put(batch, PACK_NUMBERS, pack.name.as_bytes(), number.to_be_bytes())?;
        Ok((number, true))
    }

    /// Takes files of sorted keys as they are. The keys of a file are not in any other.
    pub(super) fn ingest(&self, family: &str, files: Vec<PathBuf>) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let Store::Disk(db) = self.store()? else { return Err(self.error(&"in memory")) };
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let taken = db.ingest_external_file_cf_opts(self.told(handle(db, family))?, &options, files);
        taken.map_err(|e| self.error(&e))
    }

    /// See [`super::ChunkIndex::locate`].
    pub(super) fn locate(&self, id: &ChunkId) -> Result<Vec<Location>> {
        let key = short(id).to_be_bytes();
        let copies = self.told(self.store()?.look(CHUNKS, &key, |places| self.copies(id, places, false)))?;
        copies.unwrap_or(Ok(Vec::new()))
    }

    /// See [`super::ChunkIndex::locate_many`].
    ///
    /// How many are looked for at once is learned on the way: after one that is stored, its neighbours are
    /// likely to be the next, and known by then; after one that is not, the next are likely to be new too.
    pub(super) fn locate_many(&self, ids: &[ChunkId]) -> Result<Vec<Vec<Location>>> {
        let mut found = vec![Vec::new(); ids.len()];
        let (mut unknown, mut ask) = (Vec::new(), 1);
        for (at, id) in ids.iter().enumerate() {
            match self.near.get(id) {
                Some(location) => found[at].push(location),
                None => unknown.push(at),
            }
            if unknown.len() == ask || at + 1 == ids.len() {
                let any = self.look_up(ids, &unknown, &mut found)?;
                ask = if any { 1 } else { 2 * ask };
                unknown.clear();
            }
        }
        Ok(found)
    }

    /// Looks for the chunks numbered `unknown` of `ids` in one go. Gives whether one is stored.
    fn look_up(&self, ids: &[ChunkId], unknown: &[usize], found: &mut [Vec<Location>]) -> Result<bool> {
        let keys: Vec<_> = unknown.iter().map(|at| short(&ids[*at]).to_be_bytes()).collect();
        let values = self.told(self.store()?.get_many(CHUNKS, &keys))?;
        let mut any = false;
        for (at, value) in unknown.iter().zip(values) {
            let Some(value) = value else { continue };
            found[*at] = match self.near.get(&ids[*at]) {
                Some(location) => vec![location],
                None => self.copies(&ids[*at], &value, true)?,
            };
            any = true;
        }
        Ok(any)
    }

    /// The copies of a chunk among the places of those that share the beginning of its id; `remember` their
    /// neighbours?
    fn copies(&self, id: &ChunkId, places: &[u8], remember: bool) -> Result<Vec<Location>> {
        let places = Place::decode_all(places).map_err(|e| self.error(&e))?;
        let mut copies: Vec<Location> = Vec::with_capacity(places.len());
        for place in places {
            let copy = self.location(place, remember)?;
            if copy.entry.id == *id && !copies.iter().any(|known| known.pack == copy.pack) {
                copies.push(copy);
            }
        }
        Ok(copies)
    }

    /// What is at a place. Its neighbours may be remembered, which takes as long as to find it.
    fn location(&self, place: Place, remember: bool) -> Result<Location> {
        let index = place.ordinal % group::RECORDS as u32;
        let first = Place { ordinal: place.ordinal - index, ..place };
        let found = self.with_group(first, |group| {
            let location = group.location(index as usize);
            if remember {
                self.near.insert(group.into_owned());
            }
            location
        });
        found?.ok_or_else(|| self.error(&format!("{first:?} is not known")))
    }

    /// What `look` says of the group that begins at `first`, if there is one.
    fn with_group<T>(
        &self,
        first: Place,
        look: impl FnOnce(Group) -> dbvault_format::Result<T>,
    ) -> Result<Option<T>> {
        let look = |value: &[u8]| Group::decode(first, value).and_then(look);
        let seen = self.told(self.store()?.look(GROUPS, &first.encode(), look))?;
        seen.transpose().map_err(|e| self.error(&e))
    }

    /// See [`super::ChunkIndex::pack`].
    pub(super) fn pack(&self, number: u32) -> Result<PackInfo> {
        if let Some(info) = self.packs.lock().get(&number) {
            return Ok(info.clone());
        }
        let value = self.get(PACKS, &number.to_be_bytes())?;
        let value = value.ok_or_else(|| self.error(&format!("pack number {number} is not known")))?;
        let info = PackInfo::decode(&value).map_err(|e| self.error(&e))?;
        let mut packs = self.packs.lock();
        if packs.len() >= PACKS_MAX {
            packs.clear();
        }
        packs.insert(number, info.clone());
        Ok(info)
    }

    /// See [`super::ChunkIndex::pack_number`].
    pub(super) fn pack_number(&self, name: &PackName) -> Result<Option<u32>> {
        self.get(PACK_NUMBERS, name.as_bytes())?.map(|number| self.number(&number)).transpose()
    }

    /// See [`super::ChunkIndex::entries`].
    pub(super) fn entries(&self, name: &PackName) -> Result<Vec<ChunkEntry>> {
        let Some(pack) = self.pack_number(name)? else { return Ok(Vec::new()) };
        let (mut entries, mut ordinal) = (Vec::new(), 0);
        let mut add_all = |group: Group| {
            group.ids().try_for_each(|(_, index)| {
                entries.push(group.location(index)?.entry);
                Ok(())
            })
        };
        while self.with_group(Place { pack, ordinal }, &mut add_all)?.is_some() {
            ordinal += group::RECORDS as u32;
        }
        Ok(entries)
    }

    /// See [`super::ChunkIndex::similar`]: chunks that share more super-features go first.
    pub(super) fn similar(&self, features: &SuperFeatures) -> Result<Vec<ChunkId>> {
        let mut found: Vec<(Place, usize)> = Vec::with_capacity(SUPER_FEATURES);
        for key in similar_keys(features) {
            let value = self.get(SIMILAR, &key.to_be_bytes())?.unwrap_or_default();
            for place in Place::decode_all(&value).map_err(|e| self.error(&e))? {
                match found.iter_mut().find(|(known, _)| *known == place) {
                    Some((_, count)) => *count += 1,
                    None => found.push((place, 1)),
                }
            }
        }
        found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        found.into_iter().map(|(place, _)| Ok(self.location(place, true)?.entry.id)).collect()
    }

    fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.told(self.store()?.look(family, key, <[u8]>::to_vec))
    }

    /// Writes without the write-ahead log: what a crash loses is read again from the segments, whose names
    /// are lost with it (all families are flushed as one).
    pub(super) fn write(&self, batch: WriteBatch) -> Result<()> {
        self.told(self.store()?.write(batch))
    }

    fn put(
        &self,
        batch: &mut WriteBatch,
        family: &str,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.told(self.store()?.put(batch, family, key, value))
    }

    fn store(&self) -> Result<&Store> {
        self.store.as_ref().ok_or_else(|| self.error(&"closed"))
    }

    fn number(&self, bytes: &[u8]) -> Result<u32> {
        bytes.try_into().map(u32::from_be_bytes).map_err(|_| self.error(&"number of wrong length"))
    }

    fn told<T>(&self, result: Result<T, String>) -> Result<T> {
        result.map_err(|e| self.error(&e))
    }

    /// Directory of the database.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn error(&self, message: &dyn std::fmt::Display) -> crate::Error {
        cache_error(&self.path, message)
    }
}

/// Keys by the first bits of which chunks are spread evenly.
pub(super) fn similar_keys(features: &SuperFeatures) -> [u64; SUPER_FEATURES] {
    const FREE_BITS: usize = 64 - 8 * SUPER_FEATURE_BYTES;
    std::array::from_fn(|index| features.0[index] << FREE_BITS | index as u64)
}

/// Options for files of a family that are made outside of the database.
pub(super) fn file_options(family: &str) -> Options {
    family_options(family, &Cache::new_lru_cache(0))
}

/// Keys are hashes: nothing compresses, nothing is ever looked for in order.
fn family_options(name: &str, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    if name == GROUPS {
        // A block a group. No filter: groups that are asked for are there.
        table.set_block_size(1 << 10);
    } else {
        table.set_block_size(2 << 10);
        table.set_hybrid_ribbon_filter(10.0, 1);
    }
    table.set_optimize_filters_for_memory(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    options.set_target_file_size_base(FILE_BYTES);
    // Keys are spread evenly, so that a small run put into levels would have most of them written anew.
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_level_zero_file_num_compaction_trigger(RUNS_MAX);
    if name == CHUNKS {
        options.set_merge_operator_associative("append", append);
    }
    options
}

fn append(_: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let mut value = existing.unwrap_or_default().to_vec();
    operands.iter().for_each(|operand| value.extend_from_slice(operand));
    Some(value)
}

//! A repository of many chunks that were never written: index segments, chunk lists and archives are real,
//! packs are holes of the right length.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dbvault_format::chunk_list::{ChunkListBuilder, Item, StreamRef};
use dbvault_format::compress::Codec;
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use dbvault_format::header::{HEADER_BYTES, ObjectKind};
use dbvault_format::id::{ChunkId, PackName, RepoId, Salt, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::key_slot::Secret;
use dbvault_format::keys::Keys;
use dbvault_format::manifest::{ArchiveManifest, EntryRecord, Sizes, encode_entries};
use dbvault_format::object::{Place, seal_object};
use dbvault_format::pack::{ChunkEntry, PackBuilder};
use dbvault_format::padding::padme;
use dbvault_format::similarity::SuperFeatures;
use dbvault_repo::{Client, Repository};
use dbvault_storage::LocalStorage;

use crate::{Error, PASSPHRASE};

/// Chunks of two packs that are filled side by side.
const PAIR_CHUNKS: usize = 1024;
/// Segments that an archive's packs are listed in.
const SEGMENTS: usize = 5;
/// One in so many chunks is a delta.
const DELTA_EVERY: usize = 8;
const PLAIN_BYTES: u32 = 128 << 10;
const SEALED_BYTES: u32 = 36 << 10;
const DELTA_BYTES: u32 = 900;
/// Bytes that make up a synthetic chunk: id and features.
const SEED_BYTES: usize = ChunkId::BYTES + 24;

/// Where everything is, and how much.
pub(crate) struct World {
    root: PathBuf,
    pub(crate) archives: usize,
    pub(crate) chunks_each: usize,
}

impl World {
    /// The world below `root`, of about `chunks` chunks.
    pub(crate) fn new(root: &Path, chunks: usize) -> World {
        let archives = (chunks / 50_000).clamp(10, 1000);
        World { root: root.into(), archives, chunks_each: chunks / archives }
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.root.join("repository")
    }

    /// Home of the user whose caches count.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub(crate) fn chunks(&self) -> usize {
        self.archives * self.chunks_each
    }

    /// Opens the repository, with the caches the program uses.
    pub(crate) fn open(&self) -> Result<Repository, Error> {
        let storage = Arc::new(LocalStorage::open(self.repository())?);
        Ok(Repository::open(storage, self.client(), &secret())?)
    }

    /// Makes it all.
    pub(crate) fn make(&self) -> Result<(), Error> {
        fs::create_dir_all(self.home())?;
        let storage = Arc::new(LocalStorage::create(self.repository())?);
        let repo = Repository::init(storage, self.client(), Default::default(), &secret(), "first")?;
        let maker = Maker { root: self.repository(), keys: Keys::derive(&repo.export_key()), id: *repo.id() };
        for shard in 0..=255u8 {
            fs::create_dir_all(maker.root.join(format!("packs/{shard:02x}")))?;
        }
        let numbers: Vec<usize> = (0..self.archives).collect();
        let halves = numbers.split_at(numbers.len() / 2);
        std::thread::scope(|scope| {
            let make = |numbers: &[usize]| -> Result<(), String> {
                let made =
                    numbers.iter().try_for_each(|number| maker.archive(*number, &self.stream(*number)));
                made.map_err(|error| error.to_string())
            };
            let other = scope.spawn(move || make(halves.1));
            make(halves.0)?;
            other.join().map_err(|_| "a thread panicked")?
        })?;
        Ok(())
    }

    /// The chunks of an archive, in order.
    pub(crate) fn stream(&self, archive: usize) -> Vec<Chunk> {
        let mut bytes = vec![0; self.chunks_each * SEED_BYTES];
        noise(archive, 0, &mut bytes);
        bytes.chunks_exact(SEED_BYTES).map(Chunk::from_noise).collect()
    }

    /// The id of one chunk, as [`World::stream`] has it.
    pub(crate) fn id(&self, archive: usize, index: usize) -> ChunkId {
        let mut bytes = [0; SEED_BYTES];
        noise(archive, index, &mut bytes);
        Chunk::from_noise(&bytes).id
    }

    fn client(&self) -> Client {
        Client {
            host: "host".into(),
            user: "user".into(),
            cache_dir: self.home().join("cache/dbvault"),
            interrupt: Arc::new(AtomicBool::new(false)),
        }
    }
}

fn secret() -> Secret {
    Secret::Passphrase(PASSPHRASE.as_bytes().to_vec().into())
}

fn noise(archive: usize, index: usize, bytes: &mut [u8]) {
    let mut hash = blake3::Hasher::new().update(&(archive as u64).to_le_bytes()).finalize_xof();
    hash.set_position((index * SEED_BYTES) as u64);
    hash.fill(bytes);
}

/// What is known of a synthetic chunk.
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    features: SuperFeatures,
}

impl Chunk {
    fn from_noise(bytes: &[u8]) -> Chunk {
        let mut id = [0; ChunkId::BYTES];
        id.copy_from_slice(&bytes[..ChunkId::BYTES]);
        let feature = |index: usize| {
            let mut word = [0; 8];
            word[..6].copy_from_slice(&bytes[ChunkId::BYTES + 8 * index..][..6]);
            u64::from_le_bytes(word)
        };
        Chunk { id: ChunkId(id), features: SuperFeatures(std::array::from_fn(feature)) }
    }
}

/// Makes the objects of a repository.
struct Maker {
    root: PathBuf,
    keys: Keys,
    id: RepoId,
}

impl Maker {
    fn archive(&self, number: usize, stream: &[Chunk]) -> Result<(), Error> {
        let hash = blake3::hash(format!("session {number}").as_bytes());
        let mut session = [0; 16];
        session.copy_from_slice(&hash.as_bytes()[..16]);
        let session = SessionId(session);
        let mut packs: Vec<PackListing> = Vec::new();
        for pair in stream.chunks(PAIR_CHUNKS) {
            packs.extend(self.hollow_packs(pair)?);
        }
        let (table, pack) = self.lists(stream)?;
        packs.push(pack);
        for (number, packs) in packs.chunks(packs.len().div_ceil(SEGMENTS)).enumerate() {
            let body = IndexSegment { packs: packs.to_vec() }.encode();
            let name = format!("index/{session}/{number:08}");
            self.put_sealed(&name, ObjectKind::IndexSegment, &body)?;
        }
        let sizes = Sizes { chunks: stream.len() as u64, ..Sizes::default() };
        let manifest = ArchiveManifest {
            id: session,
            name: format!("archive {number}"),
            started_ms: number as i64,
            finished_ms: number as i64 + 1,
            host: "host".into(),
            user: "user".into(),
            program_version: "0".into(),
            entries: table,
            entry_count: 1,
            sizes,
            comment: None,
            failed: Vec::new(),
        };
        self.put_sealed(&format!("archives/{session}"), ObjectKind::Archive, &manifest.encode())
    }

    /// Two packs with nothing but their length.
    fn hollow_packs(&self, chunks: &[Chunk]) -> Result<Vec<PackListing>, Error> {
        let mut entries: [Vec<ChunkEntry>; 2] = Default::default();
        let mut last = None;
        for (index, chunk) in chunks.iter().enumerate() {
            let base = last.filter(|_| index % DELTA_EVERY == 1);
            last = Some(chunk.id);
            entries[usize::from(chunk.id.0[31] & 1)].push(ChunkEntry {
                id: chunk.id,
                codec: if base.is_some() { Codec::Delta } else { Codec::Zstd },
                depth: u8::from(base.is_some()),
                plain_len: PLAIN_BYTES,
                sealed_len: if base.is_some() { DELTA_BYTES } else { SEALED_BYTES },
                base,
                features: Some(chunk.features),
            });
        }
        let [one, other] = entries;
        let listings = [one, other].into_iter().filter(|entries| !entries.is_empty()).map(|entries| {
            let salt = Salt(*blake3::hash(entries[0].id.as_bytes()).as_bytes());
            let name = PackName(*blake3::hash(&salt.0).as_bytes());
            let records: u64 = entries.iter().map(|entry| u64::from(entry.sealed_len)).sum();
            let directory = 60 * entries.len();
            let size_bytes = padme(HEADER_BYTES as u64 + records + directory as u64);
            File::create(self.root.join(pack_object(&name)))?.set_len(size_bytes)?;
            Ok(PackListing { name, salt, size_bytes, entries })
        });
        listings.collect::<io::Result<_>>().map_err(Error::from)
    }

    /// The chunk list of a stream, and the table of entries that names it, in a pack of their own.
    fn lists(&self, stream: &[Chunk]) -> Result<(StreamRef, PackListing), Error> {
        let salt = Salt(*blake3::hash(stream[0].id.as_bytes()).as_bytes());
        let mut pack = PackBuilder::new(&self.keys.pack, self.id, Salt(*blake3::hash(&salt.0).as_bytes()), 0);
        let mut store = |bytes: Vec<u8>| -> dbvault_format::Result<ChunkId> {
            let id = self.keys.chunk_id(&bytes);
            let entry = ChunkEntry {
                id,
                codec: Codec::Raw,
                depth: 0,
                plain_len: bytes.len() as u32,
                sealed_len: 0,
                base: None,
                features: None,
            };
            pack.append(entry, &bytes)?;
            Ok(id)
        };
        let mut builder = ChunkListBuilder::default();
        for chunk in stream {
            builder.push(Item { id: chunk.id, stream_bytes: u64::from(PLAIN_BYTES) }, &mut store)?;
        }
        let stream = builder.finish(&mut store)?;
        let meta = EntryMeta {
            name: "database".into(),
            kind: EntryKind::Stdin,
            grid: Grid::Content,
            attributes: Default::default(),
        };
        let (sizes, report) = (Sizes::default(), EntryReport::default());
        let table =
            encode_entries(&[EntryRecord { meta, stream, sizes, duration_ms: 1, report, table: None }]);
        let bytes = table.len() as u64;
        let root = store(table)?;
        let pack = pack.finish()?;
        fs::write(self.root.join(pack_object(&pack.name)), &pack.bytes)?;
        let (size_bytes, entries) = (pack.bytes.len() as u64, pack.entries);
        let listing = PackListing { name: pack.name, salt: pack.salt, size_bytes, entries };
        Ok((StreamRef { bytes, levels: 0, root: Some(root) }, listing))
    }

    fn put_sealed(&self, name: &str, kind: ObjectKind, body: &[u8]) -> Result<(), Error> {
        let place = Place { repo: &self.id, name };
        let salt = Salt(*blake3::hash(name.as_bytes()).as_bytes());
        let object = seal_object(&self.keys.object, place, kind, salt, body)?;
        let path = self.root.join(name);
        fs::create_dir_all(path.with_file_name(""))?;
        Ok(fs::write(path, object)?)
    }
}

fn pack_object(name: &PackName) -> String {
    format!("packs/{:02x}/{name}", name.0[0])
}

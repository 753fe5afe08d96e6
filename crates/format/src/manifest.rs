//! Archive manifests: the object whose existence is the archive, and the table of entries it points to.

use minicbor::{Decode, Encode};

use crate::chunk_list::StreamRef;
use crate::entry::{EntryKind, EntryMeta, EntryReport};
use crate::id::SessionId;
use crate::object::{from_cbor, to_cbor};
use crate::{Error, Result};

/// Longest archive or entry name, bytes.
pub const NAME_BYTES_MAX: usize = 4096;

/// How much was read and what it cost to store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sizes {
    /// Bytes of the streams themselves.
    #[n(0)]
    pub original_bytes: u64,
    /// Bytes of those chunks that were not in the repository yet.
    #[n(1)]
    pub new_bytes: u64,
    /// Bytes of records that were added to packs for them.
    #[n(2)]
    pub stored_bytes: u64,
    /// Chunks of the streams.
    #[n(3)]
    pub chunks: u64,
    /// Chunks that were not in the repository yet.
    #[n(4)]
    pub new_chunks: u64,
    /// New chunks that were stored against a similar one.
    #[n(5)]
    pub delta_chunks: u64,
}

impl Sizes {
    /// Adds `other` to these.
    pub fn add(&mut self, other: &Sizes) {
        self.original_bytes += other.original_bytes;
        self.new_bytes += other.new_bytes;
        self.stored_bytes += other.stored_bytes;
        self.chunks += other.chunks;
        self.new_chunks += other.new_chunks;
        self.delta_chunks += other.delta_chunks;
    }
}

/// Body of `archives/<session>`: the manifest of a complete archive.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ArchiveManifest {
    /// Id of the archive, which is that of the session that made it.
    #[n(0)]
    pub id: SessionId,
    /// Name of the archive.
    #[n(1)]
    pub name: String,
    /// When the backup began, milliseconds since 1970 UTC, by the client's clock.
    #[n(2)]
    pub started_ms: i64,
    /// When it ended, likewise.
    #[n(3)]
    pub finished_ms: i64,
    /// Host the backup ran on.
    #[n(4)]
    pub host: String,
    /// User the backup ran as.
    #[n(5)]
    pub user: String,
    /// Version of dbvault that made it.
    #[n(6)]
    pub program_version: String,
    /// The stream of the entry table: the [`EntryRecord`]s as a CBOR sequence (RFC 8742).
    #[n(7)]
    pub entries: StreamRef,
    /// Entries in the table.
    #[n(8)]
    pub entry_count: u64,
    /// Sum over all entries and the table.
    #[n(9)]
    pub sizes: Sizes,
    /// What the user says of it.
    #[n(10)]
    pub comment: Option<String>,
    /// What should be in it and is not, because its dump failed: an archive that has such is incomplete.
    #[n(11)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub failed: Vec<FailedEntry>,
}

/// An entry that was asked for and is not in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FailedEntry {
    /// The name it would have.
    #[n(0)]
    pub name: String,
    /// What the dump failed for, in words. Never holds a secret.
    #[n(1)]
    pub reason: String,
}

impl ArchiveManifest {
    /// Whether all that was asked for is in it.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// The body as bytes.
    pub fn encode(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Reads the body of the object named after `id`.
    pub fn decode(id: &SessionId, bytes: &[u8]) -> Result<ArchiveManifest> {
        let manifest: ArchiveManifest = from_cbor("archive manifest", bytes)?;
        manifest.entries.validate()?;
        let name_ok = (1..=NAME_BYTES_MAX).contains(&manifest.name.len());
        if manifest.id == *id && name_ok {
            Ok(manifest)
        } else {
            Err(Error::malformed("archive manifest", "id or name does not fit"))
        }
    }
}

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EntryRecord {
    /// What it is.
    #[n(0)]
    pub meta: EntryMeta,
    /// Its bytes.
    #[n(1)]
    pub stream: StreamRef,
    /// What it cost.
    #[n(2)]
    pub sizes: Sizes,
    /// How long it took, milliseconds.
    #[n(3)]
    pub duration_ms: u64,
    /// What was known at its end.
    #[n(4)]
    pub report: EntryReport,
    /// Of a tree: its [file table](crate::file_table).
    #[n(5)]
    pub table: Option<StreamRef>,
}

impl EntryRecord {
    /// All streams that belong to it.
    pub fn streams(&self) -> impl Iterator<Item = &StreamRef> {
        std::iter::once(&self.stream).chain(&self.table)
    }

    /// What is known of attribute `key`: the report goes before the meta data.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let value = self.report.attributes.get(key).or_else(|| self.meta.attributes.get(key));
        value.map(String::as_str)
    }
}

/// The entry table as bytes.
pub fn encode_entries(entries: &[EntryRecord]) -> Vec<u8> {
    entries.iter().flat_map(to_cbor).collect()
}

/// Reads an entry table of `count` entries. Names are unique and within [`NAME_BYTES_MAX`].
pub fn decode_entries(bytes: &[u8], count: u64) -> Result<Vec<EntryRecord>> {
    let wrong = |detail: &str| Error::malformed("entry table", detail);
    let mut decoder = minicbor::Decoder::new(bytes);
    let (mut entries, mut names) = (Vec::new(), std::collections::BTreeSet::new());
    while decoder.position() < bytes.len() {
        let entry: EntryRecord = decoder.decode().map_err(|e| Error::malformed("entry table", e))?;
        entry.streams().try_for_each(StreamRef::validate)?;
        if entry.table.is_some() != (entry.meta.kind == EntryKind::Tree) {
            return Err(wrong("a tree without a table, or a table without a tree"));
        }
        let name = &entry.meta.name;
        if name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || name.contains('\0')
            || !names.insert(name.clone())
        {
            return Err(wrong("bad or repeated name"));
        }
        entries.push(entry);
    }
    if entries.len() as u64 == count { Ok(entries) } else { Err(wrong("count differs")) }
}

/// Body of a [`crate::header::ObjectKind::Fence`]: the session may not commit any more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Fence {
    /// The session that is fenced.
    #[n(0)]
    pub session: SessionId,
    /// When, milliseconds since 1970 UTC, by the clock of the one that fenced it.
    #[n(1)]
    pub fenced_ms: i64,
    /// Host of the one that fenced it.
    #[n(2)]
    pub host: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Grid, attribute};

    fn entry(name: &str) -> EntryRecord {
        let attributes = [(attribute::HOST.to_string(), "db1".to_string())].into();
        EntryRecord {
            meta: EntryMeta {
                name: name.into(),
                kind: EntryKind::Postgresql,
                grid: Grid::Fixed(8192),
                attributes,
            },
            stream: StreamRef::default(),
            sizes: Sizes { original_bytes: 1, ..Sizes::default() },
            duration_ms: 3,
            report: EntryReport::default(),
            table: None,
        }
    }

    #[test]
    fn the_entry_table_goes_both_ways_and_names_are_unique() {
        let entries = vec![entry("users"), entry("orders")];
        let bytes = encode_entries(&entries);
        assert_eq!(decode_entries(&bytes, 2), Ok(entries.clone()));
        assert_eq!(entries[0].attribute(attribute::HOST), Some("db1"));
        assert!(decode_entries(&bytes, 1).is_err());
        assert!(decode_entries(&bytes[..bytes.len() - 1], 2).is_err());
        assert!(decode_entries(&encode_entries(&[entry("a"), entry("a")]), 2).is_err());
        assert!(decode_entries(&encode_entries(&[entry("")]), 1).is_err());
    }

    #[test]
    fn a_manifest_belongs_to_its_name() {
        let id = SessionId([1; 16]);
        let manifest = ArchiveManifest {
            id,
            name: "nightly".into(),
            started_ms: -5,
            finished_ms: 7,
            host: "db1".into(),
            user: "root".into(),
            program_version: "0.1.0".into(),
            entries: StreamRef::default(),
            entry_count: 0,
            sizes: Sizes::default(),
            comment: None,
            failed: Vec::new(),
        };
        let bytes = manifest.encode();
        assert_eq!(ArchiveManifest::decode(&id, &bytes), Ok(manifest));
        assert!(ArchiveManifest::decode(&SessionId([2; 16]), &bytes).is_err());
    }
}

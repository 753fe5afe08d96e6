//! Sealing and opening the records of packs.

use std::sync::Arc;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use dbvault_format::id::{ChunkId, Salt};
use dbvault_format::pack::{ChunkEntry, PackBuilder, RecordOpener};
use dbvault_format::seal::TAG_BYTES;

use crate::material::Material;
use crate::step::{Amount, Step, Way};

const PACK_BYTES: usize = 16 << 20;
const BARE_KEY: [u8; 32] = [3; 32];

/// The stored form of every chunk, sealed.
pub(crate) struct Sealed {
    ours: Vec<Record>,
    /// By the bare library, tags at their ends.
    bare: Vec<Vec<u8>>,
}

/// A sealed record, and what opens it.
struct Record {
    opener: Arc<RecordOpener>,
    ordinal: u32,
    entry: ChunkEntry,
    sealed: Vec<u8>,
}

impl Sealed {
    pub(crate) fn prepare(material: &Material) -> Self {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        seal_into_packs(material, |_, opener, (ordinal, entry, sealed)| {
            let (opener, entry, sealed) = (opener.clone(), entry.clone(), sealed.to_vec());
            ours.push(Record { opener, ordinal, entry, sealed });
        });
        seal_in_place(material, |_, sealed| bare.push(sealed.to_vec()));
        Self { ours, bare }
    }
}

/// That what is sealed can be opened is seen by [`open`].
pub(crate) fn seal<'m>(material: &'m Material, sealed: &'m Sealed) -> Step<'m> {
    let ours = Way::new(
        "dbvault",
        |sink| seal_into_packs(material, |number, _, (_, _, sealed)| sink(number, sealed)),
        |number, record| record == sealed.ours[number].sealed,
    );
    let bare = Way::new(
        "chacha20poly1305, in place",
        |sink| seal_in_place(material, sink),
        |number, record| record == sealed.bare[number],
    );
    Step::new("seal", Amount::Bytes(stored_bytes(material)), vec![ours, bare])
}

pub(crate) fn open<'m>(material: &'m Material, sealed: &'m Sealed) -> Step<'m> {
    let is_right = |number: usize, opened: &[u8]| opened == material.stored[number].bytes;
    let mut buffer = Vec::new();
    let ours = Way::new(
        "dbvault",
        move |sink| {
            for (number, record) in sealed.ours.iter().enumerate() {
                buffer.clear();
                buffer.extend_from_slice(&record.sealed);
                record.opener.open(record.ordinal, &record.entry, &mut buffer).expect("the record is whole");
                sink(number, &buffer);
            }
        },
        is_right,
    );
    let mut buffer = Vec::new();
    let bare = Way::new(
        "chacha20poly1305, in place",
        move |sink| {
            let cipher = ChaCha20Poly1305::new(&BARE_KEY.into());
            for (number, record) in sealed.bare.iter().enumerate() {
                let (bytes, tag) = record.split_last_chunk::<TAG_BYTES>().expect("a record has a tag");
                buffer.clear();
                buffer.extend_from_slice(bytes);
                let opened = cipher.decrypt_inout_detached(
                    &nonce(number),
                    b"",
                    buffer.as_mut_slice().into(),
                    &(*tag).into(),
                );
                opened.expect("the tag is right");
                sink(number, &buffer);
            }
        },
        is_right,
    );
    Step::new("open", Amount::Bytes(stored_bytes(material)), vec![ours, bare])
}

/// Seals all chunks as a backup does; `take` gets the number of each and its record.
fn seal_into_packs(
    material: &Material,
    mut take: impl FnMut(usize, &Arc<RecordOpener>, (u32, &ChunkEntry, &[u8])),
) {
    let mut builder = pack(material, 0);
    for (number, stored) in material.stored.iter().enumerate() {
        if builder.len_with_bytes(stored.bytes.len()) > PACK_BYTES {
            builder = pack(material, number);
        }
        let opener = builder.opener().clone();
        let appended = builder.append(entry(material, number), &stored.bytes);
        take(number, &opener, appended.expect("a record is short enough"));
    }
}

fn seal_in_place(material: &Material, mut take: impl FnMut(usize, &[u8])) {
    let cipher = ChaCha20Poly1305::new(&BARE_KEY.into());
    let mut buffer = Vec::new();
    for (number, stored) in material.stored.iter().enumerate() {
        buffer.clear();
        buffer.extend_from_slice(&stored.bytes);
        let tag = cipher.encrypt_inout_detached(&nonce(number), b"", buffer.as_mut_slice().into());
        buffer.extend_from_slice(&tag.expect("a record is short enough"));
        take(number, &buffer);
    }
}

/// Salts that are not random do for packs that nobody stores.
fn pack(material: &Material, number: usize) -> PackBuilder {
    let mut salt = Salt([0; 32]);
    salt.0[..8].copy_from_slice(&number.to_le_bytes());
    PackBuilder::new(&material.keys.pack, material.repo, salt, PACK_BYTES)
}

fn entry(material: &Material, number: usize) -> ChunkEntry {
    let mut id = ChunkId([0; 32]);
    id.0[..8].copy_from_slice(&number.to_le_bytes());
    let plain_len = material.chunk(number).len() as u32;
    let codec = material.stored[number].codec;
    ChunkEntry { id, codec, depth: 0, plain_len, sealed_len: 0, base: None, features: None }
}

fn nonce(number: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    nonce.into()
}

fn stored_bytes(material: &Material) -> usize {
    material.stored.iter().map(|stored| stored.bytes.len()).sum()
}

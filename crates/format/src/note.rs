//! Notes: what users say of an archive after it was made.

use minicbor::{Decode, Encode};

use crate::id::SessionId;

/// Longest tag, bytes.
pub const TAG_BYTES_MAX: usize = 128;

/// Body of `notes/<session>/<n>`. The note with the highest number counts, alone; notes are never changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Note {
    /// The archive.
    #[n(0)]
    pub archive: SessionId,
    /// Words it can be found by, sorted, each once.
    #[n(1)]
    pub tags: Vec<String>,
    /// Whether it may be neither deleted nor pruned.
    #[n(2)]
    pub protected: bool,
    /// When, milliseconds since 1970 UTC, by the client's clock.
    #[n(3)]
    pub written_ms: i64,
    /// Host it was written from.
    #[n(4)]
    pub host: String,
    /// What the last drill of each entry found, sorted by entry, each once. Empty in notes of programs that know of
    /// no drills.
    #[n(5)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub proofs: Vec<Proof>,
    /// What the archive is called from now on, where that is not what its manifest says.
    #[n(6)]
    pub name: Option<String>,
    /// What the user says of it from now on, where that is not what its manifest says; empty: nothing.
    #[n(7)]
    pub comment: Option<String>,
}

/// Whether an entry could be restored when it was tried.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Proof {
    /// Name of the entry.
    #[n(0)]
    pub entry: String,
    /// When it was tried, milliseconds since 1970 UTC, by the client's clock.
    #[n(1)]
    pub proven_ms: i64,
    /// Whether it was restored and was what had been backed up.
    #[n(2)]
    pub ok: bool,
    /// What was compared, or what failed, in words. Never holds a secret.
    #[n(3)]
    pub detail: String,
    /// Rows that were counted, where rows were counted.
    #[n(4)]
    pub rows: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{from_cbor, to_cbor};

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn note(proofs: Vec<Proof>) -> Note {
        let archive = SessionId([7; 16]);
        Note {
            archive,
            tags: vec!["keep".into()],
            protected: true,
            written_ms: 5,
            host: "db1".into(),
            proofs,
            name: None,
            comment: None,
        }
    }

    /// As the first version of the format wrote it.
    const WITHOUT_PROOFS: &str = "a50050070707070707070707070707070707070181646b65657002f503050463646231";
    const WITH_PROOFS: [&str; 3] = [
        "a60050070707070707070707070707070707070181646b65657002f5030504636462310582",
        "a500657573657273011903e802f50360041864",
        "a4006161010002f40364676f6e65",
    ];

    #[test]
    fn notes_without_proofs_are_as_they_always_were() {
        let golden = bytes(WITHOUT_PROOFS);
        assert_eq!(from_cbor::<Note>("note", &golden), Ok(note(Vec::new())));
        assert_eq!(to_cbor(&note(Vec::new())), golden);
    }

    #[test]
    fn names_and_comments_are_more_keys_of_a_note() {
        let named = Note { name: Some("b".into()), comment: Some(String::new()), ..note(Vec::new()) };
        let mut golden = bytes(WITHOUT_PROOFS);
        golden[0] = 0xa7;
        golden.extend(bytes("0661620760"));
        assert_eq!(to_cbor(&named), golden);
        assert_eq!(from_cbor::<Note>("note", &golden), Ok(named));
    }

    #[test]
    fn proofs_are_one_more_key_of_a_note() {
        let proofs = vec![
            Proof {
                entry: "users".into(),
                proven_ms: 1000,
                ok: true,
                detail: String::new(),
                rows: Some(100),
            },
            Proof { entry: "a".into(), proven_ms: 0, ok: false, detail: "gone".into(), rows: None },
        ];
        let golden = bytes(&WITH_PROOFS.concat());
        assert_eq!(to_cbor(&note(proofs.clone())), golden);
        assert_eq!(from_cbor::<Note>("note", &golden), Ok(note(proofs)));
    }
}

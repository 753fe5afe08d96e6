//! Sealed objects: a header, then one sealed and padded body.

use minicbor::{Decode, Encode};

use crate::bytes::Reader;
use crate::header::{HEADER_BYTES, Header, ObjectKind};
use crate::id::{RepoId, Salt};
use crate::keys::PurposeKey;
use crate::padding::padme;
use crate::seal::{Sealer, TAG_BYTES};
use crate::{Error, Result};

/// Number of the only sealed part of an object.
const BODY: u64 = 0;

/// Bytes of the length that goes before the body, inside the seal.
const LENGTH_BYTES: usize = 8;

/// Where an object belongs: an object that is moved to another name or repository does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Repository the object is in.
    pub repo: &'a RepoId,
    /// Full name of the object.
    pub name: &'a str,
}

impl Place<'_> {
    fn aad(&self, header: &[u8]) -> Vec<u8> {
        [header, self.repo.as_bytes(), self.name.as_bytes()].concat()
    }
}

/// Makes the bytes of a sealed object. `salt` must be random and fresh: it decides the key.
pub fn seal_object(
    key: &PurposeKey,
    place: Place,
    kind: ObjectKind,
    salt: Salt,
    body: &[u8],
) -> Result<Vec<u8>> {
    let header = Header { kind, salt }.encode();
    let mut object = header.to_vec();
    object.extend_from_slice(&(body.len() as u64).to_le_bytes());
    object.extend_from_slice(body);
    let padded = padme((object.len() + TAG_BYTES) as u64) as usize;
    object.resize(padded - TAG_BYTES, 0);
    Sealer::new(key, &salt).seal(BODY, &place.aad(&header), &mut object, HEADER_BYTES)?;
    Ok(object)
}

/// Opens a sealed object that is of one of the kinds `expected`; gives its kind and its body.
pub fn open_object(
    key: &PurposeKey,
    place: Place,
    expected: &[ObjectKind],
    object: &[u8],
) -> Result<(ObjectKind, Vec<u8>)> {
    let (header, sealed) = Header::decode(object, expected)?;
    let mut body = sealed.to_vec();
    let aad = place.aad(&object[..HEADER_BYTES]);
    Sealer::new(key, &header.salt).open(header.kind.name(), BODY, &aad, &mut body)?;
    let mut reader = Reader::new(header.kind.name(), &body);
    let len = usize::try_from(u64::from_le_bytes(reader.array()?)).map_err(|e| reader.malformed(e))?;
    let end = len.checked_add(LENGTH_BYTES).filter(|end| *end <= body.len());
    let end = end.ok_or_else(|| reader.malformed("length past the end"))?;
    if body[end..].iter().any(|byte| *byte != 0) {
        return Err(reader.malformed("padding is not zero"));
    }
    body.truncate(end);
    body.drain(..LENGTH_BYTES);
    Ok((header.kind, body))
}

/// `value` as CBOR (RFC 8949) with integer map keys.
pub fn to_cbor<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing CBOR to memory can't fail")
}

/// Reads the CBOR of one value and nothing behind it. `what` names it in the error.
pub fn from_cbor<'b, T: Decode<'b, ()>>(what: &'static str, bytes: &'b [u8]) -> Result<T> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|e| Error::malformed(what, e))?;
    if decoder.position() == bytes.len() { Ok(value) } else { Err(Error::malformed(what, "bytes left over")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_opens_in_its_own_place_only() {
        let key = PurposeKey::derive("test", b"secret");
        let (repo, other) = (RepoId([1; 32]), RepoId([2; 32]));
        let place = Place { repo: &repo, name: "trash/00" };
        let kinds = [ObjectKind::Trash];
        let object = seal_object(&key, place, ObjectKind::Trash, Salt([9; 32]), b"body").unwrap();
        assert_eq!(padme(object.len() as u64), object.len() as u64);
        assert_eq!(open_object(&key, place, &kinds, &object), Ok((ObjectKind::Trash, b"body".to_vec())));
        for wrong in [Place { repo: &other, ..place }, Place { name: "trash/01", ..place }] {
            assert!(open_object(&key, wrong, &kinds, &object).is_err());
        }
        for at in 0..object.len() {
            let mut bad = object.clone();
            bad[at] ^= 0x80;
            assert!(open_object(&key, place, &kinds, &bad).is_err(), "byte {at}");
            assert!(open_object(&key, place, &kinds, &object[..at]).is_err(), "length {at}");
        }
    }
}

//! Maps of sparse files in a tar: the form of old GNU headers, and the three forms in PAX records.

use std::io;

use dbvault_format::file_table::Extent;
use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::BLOCK_BYTES;
use super::pax::{Pax, bad, number};

/// Stretches of one file, at most: a record has no room for more.
const STRETCHES_MAX: usize = 1 << 20;
/// What is read of a map at once, bytes.
const PIECE_BYTES: usize = 4 << 10;
/// Longest number in a map with its newline, bytes.
const NUMBER_BYTES_MAX: usize = 21;

/// Which stretches of a sparse file are stored.
#[derive(Debug, Default)]
pub(super) struct SparseMap {
    /// Length of the file, bytes.
    pub(super) size_bytes: u64,
    /// Bytes of the map itself, before the content.
    pub(super) before_bytes: u64,
    stretches: Vec<(u64, u64)>,
}

impl SparseMap {
    /// The stretches as a record has them; `None` where they are the whole file.
    ///
    /// Errors: they are out of order, or not as long as what is stored.
    pub(super) fn extents(self, stored_bytes: u64) -> Result<Option<Vec<Extent>>, &'static str> {
        const WHY: &str = "its map does not fit";
        let (mut extents, mut stored) = (Vec::<Extent>::new(), 0_u64);
        for (offset, bytes) in self.stretches.into_iter().filter(|(_, bytes)| *bytes > 0) {
            stored = stored.checked_add(bytes).ok_or(WHY)?;
            let end = offset.checked_add(bytes).ok_or(WHY)?;
            match extents.last_mut() {
                Some(last) if last.offset + last.bytes == offset => last.bytes += bytes,
                Some(last) if last.offset + last.bytes > offset => return Err(WHY),
                _ => extents.push(Extent { offset, bytes }),
            }
            if end > self.size_bytes {
                return Err(WHY);
            }
        }
        if stored != stored_bytes {
            return Err(WHY);
        }
        Ok((stored < self.size_bytes).then_some(extents))
    }
}

/// The map of an old GNU header, and of the blocks behind it; `content` is moved behind these.
pub(super) fn old(
    header: &Header,
    content: &mut u64,
    mut block: impl FnMut(u64) -> io::Result<Vec<u8>>,
) -> io::Result<SparseMap> {
    let malformed = || bad("the map of a sparse file is malformed");
    let gnu = header.as_gnu().ok_or_else(malformed)?;
    let mut map = SparseMap { size_bytes: gnu.real_size()?, ..SparseMap::default() };
    let mut add = |stretch: &GnuSparseHeader| -> io::Result<()> {
        if !stretch.is_empty() {
            map.stretches.push((stretch.offset()?, stretch.length()?));
        }
        if map.stretches.len() > STRETCHES_MAX { Err(malformed()) } else { Ok(()) }
    };
    gnu.sparse.iter().try_for_each(&mut add)?;
    let mut goes_on = gnu.is_extended();
    while goes_on {
        let mut more = GnuExtSparseHeader::new();
        more.as_mut_bytes().copy_from_slice(&block(*content)?);
        more.sparse().iter().try_for_each(&mut add)?;
        goes_on = more.is_extended();
        *content += BLOCK_BYTES;
    }
    Ok(map)
}

/// The map that PAX records tell of; that of form 1.0 stands before the content, of which `bytes` gives what is asked for.
/// `None` for a file that is not sparse.
///
/// Errors: those of `bytes`; it is malformed.
pub(super) fn of_records(
    pax: &Pax,
    bytes: impl FnMut(u64, usize) -> io::Result<Vec<u8>>,
) -> io::Result<Option<SparseMap>> {
    let told = |key: &[u8]| pax.get(key).and_then(number);
    let is_form_1 = told(b"GNU.sparse.major") == Some(1) && told(b"GNU.sparse.minor") == Some(0);
    if !is_form_1 && pax.get(b"GNU.sparse.size").is_none() {
        return Ok(None);
    }
    let size_bytes = told(b"GNU.sparse.realsize").or_else(|| told(b"GNU.sparse.size"));
    let size_bytes = size_bytes.ok_or_else(|| bad("the length of a sparse file is missing"))?;
    if !is_form_1 {
        return Ok(Some(SparseMap { size_bytes, before_bytes: 0, stretches: pax.sparse_map.clone() }));
    }
    let mut numbers = Numbers { bytes, at: 0 };
    let count = usize::try_from(numbers.next()?).ok().filter(|count| *count <= STRETCHES_MAX);
    let count = count.ok_or_else(|| bad("the map of a sparse file is too long"))?;
    let mut stretches = Vec::new();
    for _ in 0..count {
        stretches.push((numbers.next()?, numbers.next()?));
    }
    Ok(Some(SparseMap { size_bytes, before_bytes: numbers.at.next_multiple_of(BLOCK_BYTES), stretches }))
}

/// Decimal numbers, each with a newline.
struct Numbers<F> {
    bytes: F,
    at: u64,
}

impl<F: FnMut(u64, usize) -> io::Result<Vec<u8>>> Numbers<F> {
    fn next(&mut self) -> io::Result<u64> {
        // The map fills whole blocks, so that there is as much to read as a block has left.
        let left = BLOCK_BYTES - self.at % BLOCK_BYTES;
        let len = usize::try_from(left).unwrap_or(PIECE_BYTES).min(NUMBER_BYTES_MAX);
        let mut text = (self.bytes)(self.at, len)?;
        if !text.contains(&b'\n') && len < NUMBER_BYTES_MAX {
            text.extend((self.bytes)(self.at + len as u64, NUMBER_BYTES_MAX - len)?);
        }
        let malformed = || bad("the map of a sparse file is malformed");
        let end = text.iter().position(|byte| *byte == b'\n').ok_or_else(malformed)?;
        self.at += end as u64 + 1;
        number(&text[..end]).filter(|_| end > 0).ok_or_else(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(size_bytes: u64, stretches: &[(u64, u64)], stored: u64) -> Result<Option<Vec<Extent>>, ()> {
        let map = SparseMap { size_bytes, before_bytes: 0, stretches: stretches.to_vec() };
        map.extents(stored).map_err(drop)
    }

    #[test]
    fn maps_must_fit_what_is_stored() {
        let extent = |offset, bytes| Extent { offset, bytes };
        assert_eq!(extents(10, &[(0, 10)], 10), Ok(None));
        assert_eq!(extents(10, &[(0, 4), (4, 6), (10, 0)], 10), Ok(None));
        assert_eq!(extents(10, &[(2, 3), (8, 2)], 5), Ok(Some(vec![extent(2, 3), extent(8, 2)])));
        assert_eq!(extents(10, &[(10, 0)], 0), Ok(Some(Vec::new())));
        assert_eq!(extents(0, &[], 0), Ok(None));
        for (stretches, stored) in [
            (&[(2, 3), (8, 2)][..], 6),
            (&[(8, 3)], 3),
            (&[(5, 2), (4, 2)], 4),
            (&[(u64::MAX, 2)], 2),
            (&[(0, u64::MAX), (5, u64::MAX)], 5),
        ] {
            assert_eq!(extents(10, stretches, stored), Err(()), "{stretches:?}");
        }
    }

    #[test]
    fn a_map_before_the_content_may_cross_blocks() {
        let mut text = b"200\n".to_vec();
        (0..200_u64).for_each(|n| text.extend(format!("{}\n512\n", n * 4096).bytes()));
        text.resize(text.len().next_multiple_of(512), 0);
        let mut records = Vec::new();
        super::super::pax::put(&mut records, b"GNU.sparse.major", b"1");
        super::super::pax::put(&mut records, b"GNU.sparse.minor", b"0");
        super::super::pax::put(&mut records, b"GNU.sparse.realsize", b"1000000");
        let mut pax = Pax::default();
        pax.read(&records).unwrap();
        let bytes = |at: u64, len: usize| {
            let found = text.get(at as usize..at as usize + len).map(<[u8]>::to_vec);
            found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        let map = of_records(&pax, bytes).unwrap().unwrap();
        assert_eq!((map.before_bytes, map.stretches.len()), (text.len() as u64, 200));
        assert_eq!(map.extents(200 * 512).unwrap().unwrap().len(), 200);
        of_records(&pax, |_, _| Ok(b"x\n".to_vec())).unwrap_err();
    }
}

//! Which stretches of a sparse file hold data.

use std::os::fd::AsFd;

use dbvault_format::file_table::Extent;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Stretches of one file that are told at most; the rest of the file is one more, holes and all.
const EXTENTS_MAX: usize = 1 << 16;

/// The stretches of a file of `size_bytes` that hold data. `None` where that is all of it, and where the file system
/// does not tell.
pub(crate) fn data_extents(file: impl AsFd, size_bytes: u64) -> Option<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size_bytes {
        let offset = match seek(&file, SeekFrom::Data(at)) {
            Ok(offset) if offset < size_bytes => offset,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = match seek(&file, SeekFrom::Hole(offset)) {
            Ok(_) if extents.len() == EXTENTS_MAX => size_bytes,
            Ok(end) => end.min(size_bytes),
            Err(_) => return None,
        };
        if end <= offset {
            // Changed between the two questions.
            return None;
        }
        extents.push(Extent { offset, bytes: end - offset });
        at = end;
    }
    let whole = matches!(extents[..], [Extent { offset: 0, bytes }] if bytes == size_bytes);
    (!whole).then_some(extents)
}

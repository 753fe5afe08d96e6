//! Records and content as a tar stream: ustar headers, and PAX records for what these have no room for.

use std::io::{self, Write};

use dbvault_files::acl_to_text;
use dbvault_format::file_table::{Extent, FileKind, FileRecord, FileTime};
use tar::{EntryType, Header};

use super::pax;
use super::{ACL_ACCESS_XATTR, ACL_DEFAULT_XATTR, BLOCK_BYTES};

/// Room for a path or a target in a header, bytes.
const NAME_BYTES: usize = 100;
/// Room for the name of an owner, bytes; the last is a NUL.
const OWNER_BYTES: usize = 31;
/// The first number of an owner that the header has no room for.
const OWNER_END: u32 = 1 << 21;
/// The first length and time that it has no room for.
const NUMBER_END: u64 = 1 << 33;

/// Writes one member after the other.
pub(super) struct TarWriter<'a> {
    out: &'a mut dyn Write,
    /// Content of the current member that is still to come, bytes.
    left: u64,
    /// Bytes behind it, up to the next block.
    padding: usize,
    /// Bytes that were written.
    pub(super) written: u64,
}

impl<'a> TarWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> TarWriter<'a> {
        TarWriter { out, left: 0, padding: 0, written: 0 }
    }

    /// Begins a member with all that `record` says. A regular file that is no other name of one is followed by its content,
    /// by [`TarWriter::content`], in as many pieces as are wanted.
    ///
    /// Errors: the output can't be written. A socket is no member: the caller leaves it out.
    pub(super) fn begin(&mut self, record: &FileRecord) -> io::Result<()> {
        let map = match &record.extents {
            Some(extents) if record.content_bytes() < record.size_bytes => {
                Some(sparse_map(extents, record.size_bytes))
            }
            _ => None,
        };
        let content_bytes = record.content_bytes() + map.as_ref().map_or(0, |map| map.len() as u64);
        let mut text = Vec::new();
        let mut header = header(record, content_bytes, &mut text);
        if map.is_some() {
            pax::put(&mut text, b"GNU.sparse.major", b"1");
            pax::put(&mut text, b"GNU.sparse.minor", b"0");
            pax::put(&mut text, b"GNU.sparse.name", &path_text(record));
            pax::put(&mut text, b"GNU.sparse.realsize", record.size_bytes.to_string().as_bytes());
        }
        attributes(record, &mut text);
        if !text.is_empty() {
            self.extended_header(&text)?;
        }
        header.set_cksum();
        self.put(header.as_bytes())?;
        self.left = content_bytes;
        self.padding = (content_bytes.next_multiple_of(BLOCK_BYTES) - content_bytes) as usize;
        map.map_or(Ok(()), |map| self.content(&map))
    }

    /// A piece of the content.
    pub(super) fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes)?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.left == 0 {
            let padding = std::mem::take(&mut self.padding);
            self.put(&[0; BLOCK_BYTES as usize][..padding])?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.put(&[0; 2 * BLOCK_BYTES as usize])?;
        self.out.flush()?;
        Ok(self.written)
    }

    fn extended_header(&mut self, text: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        if let Some(ustar) = header.as_ustar_mut() {
            copy(&mut ustar.name, b"PaxHeaders/0");
        }
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        header.set_cksum();
        self.put(header.as_bytes())?;
        self.put(text)?;
        let padding = text.len().next_multiple_of(BLOCK_BYTES as usize) - text.len();
        self.put(&[0; BLOCK_BYTES as usize][..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// The header of a member, without its sum; what it has no room for goes to `text`.
fn header(record: &FileRecord, content_bytes: u64, text: &mut Vec<u8>) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(match record.kind {
        _ if record.same_as.is_some() => EntryType::Link,
        FileKind::Regular | FileKind::Socket => EntryType::Regular,
        FileKind::Directory => EntryType::Directory,
        FileKind::Symlink => EntryType::Symlink,
        FileKind::Fifo => EntryType::Fifo,
        FileKind::CharacterDevice => EntryType::Char,
        FileKind::BlockDevice => EntryType::Block,
    });
    header.set_mode(u32::from(record.mode));
    number(text, b"size", content_bytes, NUMBER_END, |value| header.set_size(value));
    let owner_end = u64::from(OWNER_END);
    number(text, b"uid", u64::from(record.uid), owner_end, |value| header.set_uid(value));
    number(text, b"gid", u64::from(record.gid), owner_end, |value| header.set_gid(value));
    let FileTime { seconds, nanoseconds } = record.modified;
    header.set_mtime(seconds.clamp(0, NUMBER_END.cast_signed() - 1).cast_unsigned());
    if nanoseconds > 0 || !(0..NUMBER_END.cast_signed()).contains(&seconds) {
        pax::put(text, b"mtime", pax::time_text(record.modified).as_bytes());
    }
    let is_sparse = record.extents.is_some() && record.content_bytes() < record.size_bytes;
    let target = record.same_as.as_ref().or(record.target.as_ref()).map(|target| target.as_slice());
    if let Some(ustar) = header.as_ustar_mut() {
        let path = path_text(record);
        // A program that does not know of sparse files must not take what it finds for the file itself.
        let shown = if is_sparse { [b"GNUSparseFile.0/", path.as_slice()].concat() } else { path };
        name(text, b"path", &shown, NAME_BYTES, !is_sparse, &mut ustar.name);
        name(text, b"linkpath", target.unwrap_or_default(), NAME_BYTES, true, &mut ustar.linkname);
        let owner = |name: &Option<String>| name.clone().unwrap_or_default().into_bytes();
        name(text, b"uname", &owner(&record.user), OWNER_BYTES, true, &mut ustar.uname);
        name(text, b"gname", &owner(&record.group), OWNER_BYTES, true, &mut ustar.gname);
        if let Some(device) = record.device {
            ustar.set_device_major(device.major);
            ustar.set_device_minor(device.minor);
        }
    }
    header
}

/// A number into its field, and where that has no room into a record.
fn number(text: &mut Vec<u8>, key: &[u8], value: u64, end: u64, set: impl FnOnce(u64)) {
    if value >= end {
        pax::put(text, key, value.to_string().as_bytes());
    }
    // Programs that know no records know the binary form of large numbers.
    set(value);
}

/// A name into its field, and where that has no room, and `with_record`, into a record.
fn name(text: &mut Vec<u8>, key: &[u8], value: &[u8], room: usize, with_record: bool, field: &mut [u8]) {
    if value.len() > room && with_record {
        if std::str::from_utf8(value).is_err() {
            pax::put(text, b"hdrcharset", b"BINARY");
        }
        pax::put(text, key, value);
    }
    copy(field, &value[..value.len().min(room)]);
}

fn copy(field: &mut [u8], bytes: &[u8]) {
    field.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// The path as tar programs write it.
fn path_text(record: &FileRecord) -> Vec<u8> {
    let path = record.path.as_slice();
    match record.kind {
        FileKind::Directory if path.is_empty() => b"./".to_vec(),
        FileKind::Directory => [path, b"/"].concat(),
        _ => path.to_vec(),
    }
}

/// Attributes, flags, and the time of the last change. Other names of a file have none of their own.
fn attributes(record: &FileRecord, text: &mut Vec<u8>) {
    if record.changed != FileTime::default() && record.same_as.is_none() {
        pax::put(text, b"ctime", pax::time_text(record.changed).as_bytes());
    }
    for xattr in &record.xattrs {
        let key: Option<&[u8]> = match xattr.name.as_slice() {
            ACL_ACCESS_XATTR => Some(pax::ACL_ACCESS),
            ACL_DEFAULT_XATTR => Some(pax::ACL_DEFAULT),
            _ => None,
        };
        match key.and_then(|key| Some((key, acl_to_text(&xattr.value)?))) {
            Some((key, acl)) => pax::put(text, key, acl.as_bytes()),
            None => {
                let key = [pax::XATTR, &pax::encode_name(&xattr.name)].concat();
                pax::put(text, &key, &xattr.value);
            }
        }
    }
    if record.flags != 0 {
        pax::put(text, pax::FLAGS, format!("{:x}", record.flags).as_bytes());
    }
}

/// Where the stretches of a sparse file are, as GNU tar's form 1.0 has it before them.
fn sparse_map(extents: &[Extent], size_bytes: u64) -> Vec<u8> {
    // An empty stretch at the end makes the file as long as it is.
    let end = extents.last().is_none_or(|last| last.offset + last.bytes < size_bytes);
    let mut map = format!("{}\n", extents.len() + usize::from(end));
    for extent in extents {
        map.push_str(&format!("{}\n{}\n", extent.offset, extent.bytes));
    }
    if end {
        map.push_str(&format!("{size_bytes}\n0\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK_BYTES as usize), 0);
    map
}

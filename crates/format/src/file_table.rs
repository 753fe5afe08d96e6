//! File tables: what is known of each file of a tree but its content, and where in the content stream that is.
//!
//! A tree is an entry with two streams: the content of its regular files, one after the other in the order of the
//! table, and the table. A record has no offset in it, only the bytes of the content stream that lie between the file
//! before and this one: so a file that changed in one place changes no record of another.

use std::cmp::Ordering;
use std::ops::Range;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::bytes::put_varint;
use crate::object::{from_cbor, to_cbor};
use crate::{Error, Result};

/// Longest path, bytes: what Linux takes in one call.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest record, bytes: extended attributes are most of it.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// What a file is. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum FileKind {
    /// A regular file.
    #[n(0)]
    Regular,
    /// A directory.
    #[n(1)]
    Directory,
    /// A symbolic link.
    #[n(2)]
    Symlink,
    /// A named pipe.
    #[n(3)]
    Fifo,
    /// A character device.
    #[n(4)]
    CharacterDevice,
    /// A block device.
    #[n(5)]
    BlockDevice,
    /// A socket in the file system.
    #[n(6)]
    Socket,
}

impl FileKind {
    /// The word for this kind in JSON and messages.
    pub fn name(self) -> &'static str {
        match self {
            FileKind::Regular => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
            FileKind::Fifo => "fifo",
            FileKind::CharacterDevice => "character device",
            FileKind::BlockDevice => "block device",
            FileKind::Socket => "socket",
        }
    }

    /// Whether this is one of the two kinds of devices.
    pub fn is_device(self) -> bool {
        matches!(self, FileKind::CharacterDevice | FileKind::BlockDevice)
    }
}

/// A moment: seconds since 1970 UTC, and nanoseconds after that second, below 1,000,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct FileTime {
    /// Whole seconds, rounded down.
    #[n(0)]
    pub seconds: i64,
    /// The rest.
    #[n(1)]
    pub nanoseconds: u32,
}

/// A stretch of a sparse file that is stored; what lies between them reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Extent {
    /// Where in the file it begins, bytes.
    #[n(0)]
    pub offset: u64,
    /// Its length, bytes; not 0.
    #[n(1)]
    pub bytes: u64,
}

/// Numbers of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeviceNumber {
    /// Which driver.
    #[n(0)]
    pub major: u32,
    /// Which of its devices.
    #[n(1)]
    pub minor: u32,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Xattr {
    /// Its name with its namespace, `user.note`.
    #[n(0)]
    pub name: ByteVec,
    /// Its value.
    #[n(1)]
    pub value: ByteVec,
}

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileRecord {
    /// Where it is: relative to `/` of the machine, without a slash at either end, raw bytes as the system has them. Empty for
    /// `/` itself. No component is empty, `.` or `..`; no NUL.
    #[n(0)]
    pub path: ByteVec,
    /// What it is.
    #[n(1)]
    pub kind: FileKind,
    /// Permission bits, set-user-id, set-group-id and sticky bit included.
    #[n(2)]
    pub mode: u16,
    /// Owner.
    #[n(3)]
    pub uid: u32,
    /// Group.
    #[n(4)]
    pub gid: u32,
    /// Name of the owner, where it has one.
    #[n(5)]
    pub user: Option<String>,
    /// Name of the group, where it has one.
    #[n(6)]
    pub group: Option<String>,
    /// When its content was changed last.
    #[n(7)]
    pub modified: FileTime,
    /// Length of a regular file, holes included, bytes; of a symbolic link that of its target; else 0.
    #[n(8)]
    #[cbor(default)]
    pub size_bytes: u64,
    /// Bytes of the content stream between the content of the file before and that of this one.
    #[n(9)]
    #[cbor(default, skip_if = "is_zero")]
    pub gap_bytes: u64,
    /// What of a sparse file is stored, in order, no two touching; `None`: all of it.
    #[n(10)]
    pub extents: Option<Vec<Extent>>,
    /// What a symbolic link points to.
    #[n(11)]
    pub target: Option<ByteVec>,
    /// Another name of a file that is in the table before, by its path: that record has the content and all else.
    #[n(12)]
    pub same_as: Option<ByteVec>,
    /// Numbers of a device.
    #[n(13)]
    pub device: Option<DeviceNumber>,
    /// Extended attributes, POSIX ACLs among them, in the order of their names.
    #[n(14)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub xattrs: Vec<Xattr>,
    /// Flags as `FS_IOC_GETFLAGS` gives them, those that can be set.
    #[n(15)]
    #[cbor(default, skip_if = "is_no_flag")]
    pub flags: u32,
    /// When anything of it was changed last: with the inode it tells whether the file must be read again.
    #[n(16)]
    pub changed: FileTime,
    /// Number of the inode.
    #[n(17)]
    #[cbor(default, skip_if = "is_zero")]
    pub inode: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that minicbor calls")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that minicbor calls")]
fn is_no_flag(value: &u32) -> bool {
    *value == 0
}

impl FileRecord {
    /// Bytes of the content stream that are this file's: 0 for all but regular files, and for other names of a file.
    pub fn content_bytes(&self) -> u64 {
        if self.kind != FileKind::Regular || self.same_as.is_some() {
            return 0;
        }
        match &self.extents {
            Some(extents) => extents.iter().map(|extent| extent.bytes).sum(),
            None => self.size_bytes,
        }
    }

    /// The record as it is in the table.
    pub fn encode(&self) -> Vec<u8> {
        let body = to_cbor(self);
        let mut out = Vec::with_capacity(body.len() + 4);
        put_varint(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
        out
    }

    /// Checks what must hold for any record; an archive that somebody made to harm is told by this.
    pub fn validate(&self) -> Result<()> {
        let fail = |detail: &'static str| Err(Error::malformed("file table", detail));
        if !is_path(&self.path) || self.same_as.as_ref().is_some_and(|path| !is_path(path) || path.is_empty())
        {
            return fail("bad path");
        }
        if self.path.is_empty() && self.kind != FileKind::Directory {
            return fail("the root is no directory");
        }
        if self.mode > 0o7777
            || self.modified.nanoseconds > 999_999_999
            || self.changed.nanoseconds > 999_999_999
        {
            return fail("mode or time out of range");
        }
        let target_fits = match (&self.target, self.kind) {
            (Some(target), FileKind::Symlink) => !target.is_empty() && !target.contains(&0),
            (None, FileKind::Symlink) => self.same_as.is_some(),
            (target, _) => target.is_none(),
        };
        let links_fit = self.same_as.is_none() || self.kind != FileKind::Directory;
        if !target_fits || !links_fit || (self.device.is_some() && !self.kind.is_device()) {
            return fail("kind and its details disagree");
        }
        if self.extents.as_ref().is_some_and(|extents| !extents_fit(extents, self.size_bytes)) {
            return fail("extents out of order or beyond the end");
        }
        Ok(())
    }
}

fn extents_fit(extents: &[Extent], size_bytes: u64) -> bool {
    let mut at = 0;
    extents.iter().all(|extent| {
        let end = extent.offset.checked_add(extent.bytes);
        let fits = extent.bytes > 0 && extent.offset >= at && end.is_some_and(|end| end <= size_bytes);
        at = end.unwrap_or(u64::MAX);
        fits
    })
}

fn is_path(path: &[u8]) -> bool {
    let good = |component: &[u8]| !matches!(component, b"" | b"." | b"..") && !component.contains(&0);
    path.is_empty() || path.len() <= PATH_BYTES_MAX && path.split(|byte| *byte == b'/').all(good)
}

/// The order of a table: a directory before what is in it, names by their bytes. Each path is in it once.
pub fn compare_paths(left: &[u8], right: &[u8]) -> Ordering {
    let components = |path| <[u8]>::split(path, |byte: &u8| *byte == b'/');
    match (left.is_empty(), right.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => components(left).cmp(components(right)),
    }
}

/// Reads the first record of `bytes` and gives its length with it; `None` where `bytes` end within it. What it is worth
/// is for [`FileTableOrder`].
pub fn decode_record(bytes: &[u8]) -> Result<Option<(FileRecord, usize)>> {
    let Some((body_bytes, head_bytes)) = length_of(bytes)? else { return Ok(None) };
    let Some(body) = bytes[head_bytes..].get(..body_bytes) else { return Ok(None) };
    let record: FileRecord = from_cbor("file table", body)?;
    record.validate()?;
    Ok(Some((record, head_bytes + body_bytes)))
}

/// The length before a record, and its own; `None` where there is too little to tell.
fn length_of(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut length = 0_usize;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let shortest = at == 0 || *byte != 0;
            if !shortest || length > RECORD_BYTES_MAX {
                break;
            }
            return Ok(Some((length, at + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Error::malformed("file table", "length of a record")) }
}

/// Follows a table from its beginning: checks the order, and tells where in the content stream each file is.
#[derive(Clone, Debug, Default)]
pub struct FileTableOrder {
    last: Option<Vec<u8>>,
    content_end: u64,
}

impl FileTableOrder {
    /// Follows a table from within: behind a record whose content ended at `content_end`, bytes.
    pub fn from_within(content_end: u64) -> FileTableOrder {
        FileTableOrder { last: None, content_end }
    }

    /// Where the content of the next record is.
    ///
    /// # Errors
    /// It is not behind the one before it, or its content is too long.
    pub fn next(&mut self, record: &FileRecord) -> Result<Range<u64>> {
        let behind =
            self.last.as_ref().is_none_or(|last| compare_paths(last, &record.path) == Ordering::Less);
        if !behind {
            return Err(Error::malformed("file table", "records out of order"));
        }
        let begin = self.content_end.checked_add(record.gap_bytes);
        let range = begin.and_then(|begin| Some(begin..begin.checked_add(record.content_bytes())?));
        let range = range.ok_or_else(|| Error::malformed("file table", "lengths overflow"))?;
        self.last = Some(record.path.to_vec());
        self.content_end = range.end;
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str) -> FileRecord {
        FileRecord {
            path: path.as_bytes().to_vec().into(),
            kind: FileKind::Regular,
            mode: 0o644,
            uid: 0,
            gid: 1000,
            user: Some("root".into()),
            group: None,
            modified: FileTime { seconds: -1, nanoseconds: 999_999_999 },
            size_bytes: 10,
            gap_bytes: 0,
            extents: None,
            target: None,
            same_as: None,
            device: None,
            xattrs: vec![Xattr { name: b"user.a".to_vec().into(), value: vec![0, 255].into() }],
            flags: 0,
            changed: FileTime::default(),
            inode: 7,
        }
    }

    #[test]
    fn a_record_goes_both_ways_and_is_known_when_it_is_whole() {
        let mut long = record("a/b");
        long.xattrs[0].value = vec![1; 70_000].into();
        for record in [record("a/b"), record("\u{fc}"), long] {
            let mut bytes = record.encode();
            let len = bytes.len();
            bytes.extend(b"more");
            assert_eq!(decode_record(&bytes), Ok(Some((record, len))));
            for cut in 0..len {
                assert_eq!(decode_record(&bytes[..cut]), Ok(None), "{cut}");
            }
        }
        decode_record(&[0xff; 5]).unwrap_err();
        decode_record(&[0x80, 0x00, 0, 0]).unwrap_err();
    }

    #[test]
    fn the_order_is_that_of_a_walk() {
        let sorted = ["", "a", "a/b", "a/b/c", "a/b.c", "a-b", "a.b", "b"];
        for (index, left) in sorted.iter().enumerate() {
            for (other, right) in sorted.iter().enumerate() {
                assert_eq!(
                    compare_paths(left.as_bytes(), right.as_bytes()),
                    index.cmp(&other),
                    "{left} {right}"
                );
            }
        }
    }

    #[test]
    fn content_follows_content_and_gaps_are_passed_over() {
        let mut order = FileTableOrder::default();
        let sparse = FileRecord {
            extents: Some(vec![Extent { offset: 2, bytes: 3 }, Extent { offset: 9, bytes: 1 }]),
            gap_bytes: 5,
            ..record("b")
        };
        let other_name = FileRecord { same_as: Some(b"b".to_vec().into()), ..record("c") };
        assert_eq!(order.next(&record("a")), Ok(0..10));
        assert_eq!(order.next(&sparse), Ok(15..19));
        assert_eq!(order.next(&other_name), Ok(19..19));
        order.next(&record("c")).unwrap_err();
        order.next(&record("b/x")).unwrap_err();
        order.next(&FileRecord { gap_bytes: u64::MAX, ..record("d") }).unwrap_err();
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let bad = |change: fn(&mut FileRecord)| {
            let mut record = record("a");
            change(&mut record);
            assert!(record.validate().is_err(), "{record:?}");
        };
        for path in ["/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0b"] {
            assert!(record(path).validate().is_err(), "{path}");
        }
        bad(|record| record.path = vec![b'a'; PATH_BYTES_MAX + 1].into());
        bad(|record| record.path = Vec::new().into());
        bad(|record| record.mode = 0o10000);
        bad(|record| record.modified.nanoseconds = 1_000_000_000);
        bad(|record| record.target = Some(b"x".to_vec().into()));
        bad(|record| record.kind = FileKind::Symlink);
        bad(|record| record.device = Some(DeviceNumber { major: 1, minor: 2 }));
        bad(|record| record.same_as = Some(b"../x".to_vec().into()));
        bad(|record| record.extents = Some(vec![Extent { offset: 5, bytes: 6 }]));
        bad(|record| record.extents = Some(vec![Extent { offset: 5, bytes: 0 }]));
        bad(|record| {
            record.extents = Some(vec![Extent { offset: 5, bytes: 1 }, Extent { offset: 5, bytes: 1 }])
        });
    }
}

//! Members of a tar file as records: ustar, GNU and PAX headers, read at any place of the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use dbvault_files::AclReader;
use dbvault_format::file_table::{DeviceNumber, FileKind, FileRecord, FileTime, Xattr};
use tar::{EntryType, Header};

use super::pax::{self, Pax, bad};
use super::sparse::{self, SparseMap};
use super::{ACL_ACCESS_XATTR, ACL_DEFAULT_XATTR, BLOCK_BYTES};

/// Longest extended header, bytes: a record may have 16 MiB of attributes.
const EXTENDED_BYTES_MAX: u64 = 32 << 20;
/// Longest path or target of a GNU long-name member, bytes.
const LONG_NAME_BYTES_MAX: u64 = 64 << 10;
/// Extended headers that hold for all that follow, at most.
const GLOBALS_MAX: usize = 1 << 10;
/// What is read at once, bytes: the headers of a few small files.
const WINDOW_BYTES: usize = 16 << 10;
/// Length of a stored ACL of three entries: it says no more than the mode.
const PLAIN_ACL_BYTES: usize = 4 + 3 * 8;

/// A tar file that can be read anywhere.
pub(super) struct TarFile {
    file: File,
    window: Vec<u8>,
    window_at: u64,
    acls: AclReader,
    /// What holds for all members behind a place; the first holds nothing.
    globals: Vec<Pax>,
}

/// What is at a place.
pub(super) enum Step {
    /// A file.
    Member(Box<Member>),
    /// Something that no record can be.
    LeftOut {
        /// Its name.
        path: Vec<u8>,
        /// Why not.
        why: &'static str,
        /// Where the next member is.
        next: u64,
    },
    /// The end of the archive.
    End,
}

/// A file in a tar.
#[derive(Debug)]
pub(super) struct Member {
    /// All that the tar says of it. `same_as` is what a hard link says, normalised, wherever that is.
    pub(super) record: FileRecord,
    /// Where its content begins; it has [`FileRecord::content_bytes`].
    pub(super) content: u64,
    /// Where the next member is.
    pub(super) next: u64,
    /// What could not be taken over of it.
    pub(super) lacks: Vec<&'static str>,
    /// Which of the headers that hold for all that follow hold for it.
    pub(super) global: usize,
}

/// What stands before the header of a member.
#[derive(Default)]
struct Before {
    local: Pax,
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
}

impl TarFile {
    pub(super) fn new(file: File) -> TarFile {
        TarFile {
            file,
            window: Vec::new(),
            window_at: 0,
            acls: AclReader::default(),
            globals: vec![Pax::default()],
        }
    }

    /// The file, to read content.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// What is at `at`, for a first pass from the beginning.
    ///
    /// Errors: it can't be read, is cut short, or is no tar.
    pub(super) fn step(&mut self, at: u64) -> io::Result<Step> {
        self.read(at, None)
    }

    /// The member at `at` once more, under the headers that held for it then.
    pub(super) fn again(&mut self, at: u64, global: usize) -> io::Result<Member> {
        match self.read(at, Some(global))? {
            Step::Member(member) => Ok(*member),
            _ => Err(bad("it changed while it was read")),
        }
    }

    fn read(&mut self, mut at: u64, known_global: Option<usize>) -> io::Result<Step> {
        let mut before = Before::default();
        loop {
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(self.bytes(at, BLOCK_BYTES as usize)?);
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                return Ok(Step::End);
            }
            if !sum_fits(&header) {
                let what = if at == 0 { "it is no tar archive" } else { "a header is damaged" };
                return Err(bad(what));
            }
            let body = at + BLOCK_BYTES;
            let kind = header.entry_type();
            if !is_extension(kind) {
                return self.member(&header, &before, body, known_global);
            }
            let len = header.entry_size().map_err(|_| bad("a header is damaged"))?;
            let is_text =
                kind.is_pax_local_extensions() || kind.is_pax_global_extensions() || is_solaris(kind);
            if len > if is_text { EXTENDED_BYTES_MAX } else { LONG_NAME_BYTES_MAX } {
                return Err(bad("an extended header is too long"));
            }
            let text = self.bytes(body, len as usize)?.to_vec();
            match kind {
                EntryType::GNULongName => before.long_name = Some(until_nul(&text)),
                EntryType::GNULongLink => before.long_target = Some(until_nul(&text)),
                EntryType::XGlobalHeader if known_global.is_some() => {}
                EntryType::XGlobalHeader => self.add_global(&text)?,
                _ => before.local.read(&text)?,
            }
            at = body + len.next_multiple_of(BLOCK_BYTES);
        }
    }

    fn add_global(&mut self, text: &[u8]) -> io::Result<()> {
        if self.globals.len() > GLOBALS_MAX {
            return Err(bad("it has too many global headers"));
        }
        let mut global = self.globals.last().cloned().unwrap_or_default();
        global.read(text)?;
        self.globals.push(global);
        Ok(())
    }

    /// `len` bytes at `at`.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let begin = at.checked_sub(self.window_at).and_then(|begin| usize::try_from(begin).ok());
        let inside = begin.filter(|begin| begin.checked_add(len).is_some_and(|end| end <= self.window.len()));
        let begin = match inside {
            Some(begin) => begin,
            None => {
                self.window.resize(len.max(WINDOW_BYTES), 0);
                self.window_at = at;
                let mut read = 0;
                while read < self.window.len() {
                    match self.file.read_at(&mut self.window[read..], at + read as u64)? {
                        0 => break,
                        count => read += count,
                    }
                }
                self.window.truncate(read);
                0
            }
        };
        let cut_short = || io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut short");
        self.window.get(begin..begin + len).ok_or_else(cut_short)
    }

    fn member(
        &mut self,
        header: &Header,
        before: &Before,
        mut content: u64,
        known_global: Option<usize>,
    ) -> io::Result<Step> {
        let global = known_global.unwrap_or(self.globals.len() - 1);
        let fields = Fields { header, before, global: self.globals[global].clone() };
        let raw_path = fields.path();
        let is_old_sparse = header.entry_type().is_gnu_sparse();
        let mut map = None;
        if is_old_sparse {
            map = Some(sparse::old(header, &mut content, |at| {
                self.bytes(at, BLOCK_BYTES as usize).map(<[u8]>::to_vec)
            })?);
        }
        let kind = kind(header.entry_type(), &raw_path);
        let size_bytes = fields.size(kind)?;
        let end = content.checked_add(size_bytes).filter(|end| *end < u64::MAX - BLOCK_BYTES);
        let next = end.ok_or_else(|| bad("a length is out of range"))?.next_multiple_of(BLOCK_BYTES);
        let left_out = |why| Ok(Step::LeftOut { path: raw_path.clone(), why, next });
        let Some(kind) = kind else { return left_out("it is of a kind that is not known") };
        if kind == Kind::Aside {
            return left_out("it is no file");
        }
        let mut stored_bytes = size_bytes;
        if map.is_none() && kind == Kind::File(FileKind::Regular) {
            map = match sparse::of_records(&before.local, |at, len| {
                self.bytes(content + at, len).map(<[u8]>::to_vec)
            }) {
                Ok(found) => found,
                Err(e) if e.kind() == io::ErrorKind::InvalidData => return left_out("its map is malformed"),
                Err(e) => return Err(e),
            };
            if let Some(map) = &map {
                content += map.before_bytes;
                stored_bytes = stored_bytes.saturating_sub(map.before_bytes);
            }
        }
        let mut lacks = Vec::new();
        match fields.record(kind, stored_bytes, map, &self.acls, &mut lacks) {
            Ok(record) => Ok(Step::Member(Box::new(Member { record, content, next, lacks, global }))),
            Err(why) => left_out(why),
        }
    }
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File(FileKind),
    HardLink,
    /// A label of the volume, or a list of names.
    Aside,
}

fn kind(entry_type: EntryType, path: &[u8]) -> Option<Kind> {
    Some(match entry_type.as_byte() {
        // Before there was a type for directories, they were told by a slash.
        b'0' | 0 if path.ends_with(b"/") => Kind::File(FileKind::Directory),
        b'0' | 0 | b'7' | b'S' => Kind::File(FileKind::Regular),
        b'1' => Kind::HardLink,
        b'2' => Kind::File(FileKind::Symlink),
        b'3' => Kind::File(FileKind::CharacterDevice),
        b'4' => Kind::File(FileKind::BlockDevice),
        b'5' | b'D' => Kind::File(FileKind::Directory),
        b'6' => Kind::File(FileKind::Fifo),
        b'V' | b'N' => Kind::Aside,
        _ => return None,
    })
}

fn is_solaris(kind: EntryType) -> bool {
    kind.as_byte() == b'X'
}

fn is_extension(kind: EntryType) -> bool {
    kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_local_extensions()
        || kind.is_pax_global_extensions()
        || is_solaris(kind)
}

/// Some old programs summed signed bytes.
fn sum_fits(header: &Header) -> bool {
    let Ok(wanted) = header.cksum() else { return false };
    let bytes = header.as_bytes();
    let rest = || bytes[..148].iter().chain(&bytes[156..]);
    let spaces = 8 * u32::from(b' ');
    let unsigned: u32 = rest().map(|byte| u32::from(*byte)).sum::<u32>() + spaces;
    let signed: i32 = rest().map(|byte| i32::from(byte.cast_signed())).sum::<i32>() + spaces.cast_signed();
    wanted == unsigned || i64::from(wanted) == i64::from(signed)
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// A header and all that stands before it.
struct Fields<'a> {
    header: &'a Header,
    before: &'a Before,
    global: Pax,
}

impl Fields<'_> {
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.before.local.get(key).or_else(|| self.global.get(key));
        found.filter(|value| !value.is_empty())
    }

    fn path(&self) -> Vec<u8> {
        let told = self.get(b"GNU.sparse.name").or_else(|| self.get(b"path"));
        let told = told.map(<[u8]>::to_vec).or_else(|| self.before.long_name.clone());
        told.unwrap_or_else(|| self.header.path_bytes().into_owned())
    }

    fn target(&self) -> Vec<u8> {
        let told = self.get(b"linkpath").map(<[u8]>::to_vec).or_else(|| self.before.long_target.clone());
        told.or_else(|| self.header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default()
    }

    /// Bytes that follow the header. Only regular files have content, whatever is said; and lists of names.
    fn size(&self, kind: Option<Kind>) -> io::Result<u64> {
        let is_list = self.header.entry_type().as_byte() == b'D';
        if !is_list && !matches!(kind, None | Some(Kind::File(FileKind::Regular) | Kind::Aside)) {
            return Ok(0);
        }
        let told = match self.get(b"size") {
            Some(text) => pax::number(text),
            None => self.header.entry_size().ok(),
        };
        told.ok_or_else(|| bad("a length is malformed"))
    }

    fn number(&self, key: &[u8], field: io::Result<u64>) -> Result<u32, &'static str> {
        let told = self.get(key).and_then(pax::number).or(field.ok()).unwrap_or(0);
        u32::try_from(told).map_err(|_| "the number of its owner is out of range")
    }

    fn owner(&self, key: &[u8], field: Option<&[u8]>) -> Option<String> {
        let name = self.get(key).or(field).unwrap_or_default().to_vec();
        String::from_utf8(name).ok().filter(|name| !name.is_empty())
    }

    fn record(
        &self,
        kind: Kind,
        stored_bytes: u64,
        map: Option<SparseMap>,
        acls: &AclReader,
        lacks: &mut Vec<&'static str>,
    ) -> Result<FileRecord, &'static str> {
        let mut record = FileRecord {
            path: normal(&self.path())?.into(),
            kind: if let Kind::File(kind) = kind { kind } else { FileKind::Regular },
            mode: (self.header.mode().unwrap_or(0o644) & 0o7777) as u16,
            uid: self.number(b"uid", self.header.uid())?,
            gid: self.number(b"gid", self.header.gid())?,
            user: self.owner(b"uname", self.header.username_bytes()),
            group: self.owner(b"gname", self.header.groupname_bytes()),
            modified: self.time(b"mtime").unwrap_or_else(|| self.header_time()),
            size_bytes: 0,
            gap_bytes: 0,
            extents: None,
            target: None,
            same_as: None,
            device: None,
            xattrs: self.xattrs(acls, lacks),
            flags: self.flags(),
            changed: self.time(b"ctime").unwrap_or_default(),
            inode: 0,
        };
        match kind {
            Kind::HardLink => record.same_as = Some(normal(&self.target())?.into()),
            Kind::File(FileKind::Symlink) => {
                let target = self.target();
                record.size_bytes = target.len() as u64;
                record.target = Some(target.into());
            }
            Kind::File(kind) if kind.is_device() => record.device = Some(self.device()),
            Kind::File(FileKind::Regular) => {
                record.size_bytes = map.as_ref().map_or(stored_bytes, |map| map.size_bytes);
                record.extents = map.map(|map| map.extents(stored_bytes)).transpose()?.flatten();
            }
            _ => {}
        }
        record.validate().map_err(|_| "no file can be like that")?;
        Ok(record)
    }

    fn time(&self, key: &[u8]) -> Option<FileTime> {
        self.get(key).and_then(pax::read_time)
    }

    /// Negative in the binary form, where it is before 1970.
    fn header_time(&self) -> FileTime {
        FileTime { seconds: self.header.mtime().unwrap_or(0).cast_signed(), nanoseconds: 0 }
    }

    fn device(&self) -> DeviceNumber {
        let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
        DeviceNumber { major: number(self.header.device_major()), minor: number(self.header.device_minor()) }
    }

    fn flags(&self) -> u32 {
        let text = self.get(pax::FLAGS).and_then(|text| std::str::from_utf8(text).ok());
        text.and_then(|text| u32::from_str_radix(text, 16).ok()).unwrap_or(0)
    }

    fn xattrs(&self, acls: &AclReader, lacks: &mut Vec<&'static str>) -> Vec<Xattr> {
        let mut found: Vec<Xattr> = Vec::new();
        let mut add = |name: Vec<u8>, value: &[u8]| {
            found.retain(|there| *there.name != *name);
            found.push(Xattr { name: name.into(), value: value.to_vec().into() });
        };
        for (name, value) in self.global.with_prefix(pax::XATTR) {
            add(pax::decode_name(name), value);
        }
        for (name, value) in self.before.local.with_prefix(pax::XATTR) {
            add(pax::decode_name(name), value);
        }
        if let Some(label) = self.get(pax::SELINUX) {
            add(b"security.selinux".to_vec(), label);
        }
        for (key, name) in [(pax::ACL_ACCESS, ACL_ACCESS_XATTR), (pax::ACL_DEFAULT, ACL_DEFAULT_XATTR)] {
            let Some(text) = self.get(key) else { continue };
            match acls.read(text) {
                Some(acl) if name == ACL_ACCESS_XATTR && acl.len() <= PLAIN_ACL_BYTES => {}
                Some(acl) => add(name.to_vec(), &acl),
                None => lacks.push("its ACL names somebody who is not known here, or can't be understood"),
            }
        }
        found.retain(|xattr| !xattr.name.is_empty() && !xattr.name.contains(&0));
        found.sort();
        found
    }
}

/// A path as a record has it: without slashes at its ends and twice, and without `.`.
///
/// Errors: it leads outside, or is none.
fn normal(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    if path.contains(&0) {
        return Err("its name has a NUL");
    }
    let mut normal = Vec::with_capacity(path.len());
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
        if name == b".." {
            return Err("its name leads outside");
        }
        if !normal.is_empty() {
            normal.push(b'/');
        }
        normal.extend_from_slice(name);
    }
    if normal.is_empty() && path.is_empty() {
        return Err("it has no name");
    }
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_those_of_records() {
        for (path, wanted) in [
            ("./", Ok("")),
            ("/", Ok("")),
            ("./a//b/./c/", Ok("a/b/c")),
            ("/etc/passwd", Ok("etc/passwd")),
            ("..a/b..", Ok("..a/b..")),
            ("a/../b", Err(())),
            ("..", Err(())),
            ("", Err(())),
            ("a\0b", Err(())),
        ] {
            let found = normal(path.as_bytes()).map(|path| String::from_utf8(path).unwrap()).map_err(drop);
            assert_eq!(found, wanted.map(str::to_owned), "{path}");
        }
    }
}

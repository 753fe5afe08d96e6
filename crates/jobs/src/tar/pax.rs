//! PAX records: what a tar header has no room for, as `length key=value` lines before it.

use std::collections::BTreeMap;
use std::io;

use dbvault_format::file_table::FileTime;

/// Prefix of extended attributes, as star, GNU tar, bsdtar and restic have it.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";
/// The ACL of a file, as text.
pub(super) const ACL_ACCESS: &[u8] = b"SCHILY.acl.access";
/// The ACL that new files in a directory get, as text.
pub(super) const ACL_DEFAULT: &[u8] = b"SCHILY.acl.default";
/// The label that GNU tar stores with `--selinux`.
pub(super) const SELINUX: &[u8] = b"RHT.security.selinux";
/// Flags of an inode, as `FS_IOC_GETFLAGS` gives them, hexadecimal. Our own: there is no other word for all of them.
pub(super) const FLAGS: &[u8] = b"DBVAULT.flags";

/// Most pairs of the two oldest forms of sparse maps.
const SPARSE_PAIRS_MAX: usize = 1 << 20;

/// The records before a member, or those for all that follow.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offset and length of each stretch, of a sparse file in one of the two oldest forms.
    pub(super) sparse_map: Vec<(u64, u64)>,
}

impl Pax {
    /// Adds the records of one extended header; later ones replace earlier ones.
    pub(super) fn read(&mut self, mut text: &[u8]) -> io::Result<()> {
        let mut offset = 0;
        while !text.is_empty() && text[0] != 0 {
            let (key, value, rest) = record(text).ok_or_else(|| bad("an extended header is malformed"))?;
            text = rest;
            let number = || number(value).ok_or_else(|| bad("the map of a sparse file is malformed"));
            match key {
                b"GNU.sparse.offset" => offset = number()?,
                b"GNU.sparse.numbytes" => self.sparse_map.push((offset, number()?)),
                b"GNU.sparse.map" => self.sparse_map = pairs(value)?,
                _ => drop(self.values.insert(key.to_vec(), value.to_vec())),
            }
            if self.sparse_map.len() > SPARSE_PAIRS_MAX {
                return Err(bad("the map of a sparse file is too long"));
            }
        }
        Ok(())
    }

    /// A value; an empty one says that there is none.
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// All values whose key begins with `prefix`, without that.
    pub(super) fn with_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let from = self.values.range(prefix.to_vec()..);
        from.map_while(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_slice())))
    }
}

/// The first record of a text: key, value, and what is behind it.
fn record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = text.iter().take(20).position(|byte| *byte == b' ')?;
    let len = usize::try_from(number(&text[..space])?).ok()?;
    let (line, rest) = text.split_at_checked(len)?;
    let line = line.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = line.iter().position(|byte| *byte == b'=')?;
    Some((&line[..equals], &line[equals + 1..], rest))
}

fn pairs(value: &[u8]) -> io::Result<Vec<(u64, u64)>> {
    let numbers: Option<Vec<u64>> = match value {
        [] => Some(Vec::new()),
        value => value.split(|byte| *byte == b',').map(number).collect(),
    };
    let numbers = numbers.filter(|numbers| numbers.len() % 2 == 0);
    let numbers = numbers.ok_or_else(|| bad("the map of a sparse file is malformed"))?;
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// A decimal number.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A tar that can't be one.
pub(super) fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Adds a record to a text.
pub(super) fn put(text: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    text.extend(len.to_string().as_bytes());
    text.push(b' ');
    text.extend(key);
    text.push(b'=');
    text.extend(value);
    text.push(b'\n');
}

/// A time as decimal seconds.
pub(super) fn time_text(time: FileTime) -> String {
    let FileTime { seconds, nanoseconds } = time;
    let (sign, whole, part) = match seconds < 0 {
        false => ("", seconds.unsigned_abs(), nanoseconds),
        true if nanoseconds == 0 => ("-", seconds.unsigned_abs(), 0),
        true => ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds.min(999_999_999)),
    };
    match part {
        0 => format!("{sign}{whole}"),
        part => format!("{sign}{whole}.{part:09}"),
    }
}

/// The time that decimal seconds mean; more than nine digits behind the point are cut off.
pub(super) fn read_time(text: &[u8]) -> Option<FileTime> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole = i64::try_from(number(whole.as_bytes())?).ok()?;
    let digits: String = part.chars().chain("000000000".chars()).take(9).collect();
    let part = u32::try_from(number(digits.as_bytes())?).ok()?;
    Some(match (is_negative, part) {
        (false, nanoseconds) => FileTime { seconds: whole, nanoseconds },
        (true, 0) => FileTime { seconds: -whole, nanoseconds: 0 },
        (true, part) => FileTime { seconds: -whole - 1, nanoseconds: 1_000_000_000 - part },
    })
}

/// The name of an attribute as a part of a key, and back: `=` would end the key. As GNU tar does it.
pub(super) fn encode_name(name: &[u8]) -> Vec<u8> {
    name.iter().fold(Vec::with_capacity(name.len()), |mut out, byte| {
        match byte {
            b'=' => out.extend(b"%3D"),
            b'%' => out.extend(b"%25"),
            other => out.push(*other),
        }
        out
    })
}

/// See [`encode_name`].
pub(super) fn decode_name(mut key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    while let Some((first, rest)) = key.split_first() {
        (key, _) = match key {
            [b'%', b'3', b'D', rest @ ..] => (rest, name.push(b'=')),
            [b'%', b'2', b'5', rest @ ..] => (rest, name.push(b'%')),
            _ => (rest, name.push(*first)),
        };
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_both_ways_whatever_is_in_them() {
        let mut text = Vec::new();
        let long = vec![b'x'; 990];
        let values: [(&[u8], &[u8]); 4] = [
            (b"path", b"a\nb=c"),
            (b"SCHILY.xattr.user.a", b"\0\n\xff="),
            (b"SCHILY.xattr.user.b", &long),
            (b"comment", b""),
        ];
        values.iter().for_each(|(key, value)| put(&mut text, key, value));
        let mut pax = Pax::default();
        pax.read(&text).unwrap();
        for (key, value) in values {
            assert_eq!(pax.get(key), Some(value));
        }
        let names: Vec<&[u8]> = pax.with_prefix(XATTR).map(|(name, _)| name).collect();
        assert_eq!(names, [b"user.a", b"user.b"]);
        for total in 5..1200 {
            let mut text = Vec::new();
            put(&mut text, b"k", &vec![b'v'; total]);
            assert_eq!(number(text.split(|byte| *byte == b' ').next().unwrap()), Some(text.len() as u64));
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in ["5 a=b\n", "x a=b\n", "999999999999999999999 a=b\n", "6 a=b", "6 aab\n", "0 ", "2 "] {
            assert!(Pax::default().read(text.as_bytes()).is_err(), "{text}");
        }
        for map in ["1", "1,2,3", "1,x", "1,-2", "1,,2"] {
            let mut text = Vec::new();
            put(&mut text, b"GNU.sparse.map", map.as_bytes());
            assert!(Pax::default().read(&text).is_err(), "{map}");
        }
    }

    #[test]
    fn times_go_both_ways() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (12, 5, "12.000000005"),
            (-1, 0, "-1"),
            (-1, 500_000_000, "-0.500000000"),
            (-3, 999_999_999, "-2.000000001"),
            (i64::MAX, 1, "9223372036854775807.000000001"),
        ] {
            let time = FileTime { seconds, nanoseconds };
            assert_eq!(time_text(time), text);
            assert_eq!(read_time(text.as_bytes()), Some(time));
        }
        assert_eq!(read_time(b"1.5"), Some(FileTime { seconds: 1, nanoseconds: 500_000_000 }));
        assert_eq!(read_time(b"1.1234567899"), Some(FileTime { seconds: 1, nanoseconds: 123_456_789 }));
        for text in ["", "-", "x", "1.x", "+1", "99999999999999999999"] {
            assert_eq!(read_time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn names_of_attributes_go_both_ways() {
        for name in ["user.a", "user.=%=", "user.%3D", "%"] {
            assert_eq!(decode_name(&encode_name(name.as_bytes())), name.as_bytes());
        }
    }
}

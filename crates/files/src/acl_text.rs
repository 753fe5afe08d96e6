//! POSIX ACLs as text: the form in which other programs pass on what the system stores as bytes.

use crate::names::Names;

/// The version that stored ACLs begin with.
const VERSION: u32 = 2;
/// The number of what has no number.
const NOBODY: u32 = u32::MAX;
/// The word of each tag, in the order in which the system wants them.
const TAGS: [(u16, &str); 6] =
    [(0x01, "user"), (0x02, "user"), (0x04, "group"), (0x08, "group"), (0x10, "mask"), (0x20, "other")];
const NAMED_USER: u16 = 0x02;
const NAMED_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Reads ACLs as text. Names of users and groups are looked up when they are first seen.
#[derive(Debug, Default)]
pub struct AclReader {
    names: Names,
}

impl AclReader {
    /// The stored form of a text as `getfacl`, star and tar write it: entries after commas or on lines of their own, users by
    /// their names or numbers, or by both. `None` where it can't be understood, or names somebody who is not known here.
    pub fn read(&self, text: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(text).ok()?;
        let lines = text.split([',', '\n']).map(|line| line.split('#').next().unwrap_or_default().trim());
        let mut entries = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            entries.push(self.entry(line)?);
        }
        entries.sort_unstable();
        let mut stored = VERSION.to_le_bytes().to_vec();
        for (tag, number, permissions) in &entries {
            stored.extend(tag.to_le_bytes());
            stored.extend(permissions.to_le_bytes());
            stored.extend(number.to_le_bytes());
        }
        (!entries.is_empty()).then_some(stored)
    }

    /// Tag, number and permissions of one entry.
    fn entry(&self, line: &str) -> Option<(u16, u32, u16)> {
        let fields: Vec<&str> = line.split(':').map(str::trim).collect();
        let (word, rest) = fields.split_first()?;
        let is_group = match *word {
            "user" | "u" => false,
            "group" | "g" => true,
            // The second field may be left out.
            "mask" | "m" => return Some((MASK, NOBODY, permissions(rest.last()?)?)),
            "other" | "o" => return Some((OTHER, NOBODY, permissions(rest.last()?)?)),
            _ => return None,
        };
        let (who, permissions) = (*rest.first()?, permissions(rest.get(1)?)?);
        if who.is_empty() {
            return Some((if is_group { 0x04 } else { 0x01 }, NOBODY, permissions));
        }
        let named = if is_group { self.names.gid(who) } else { self.names.uid(who) };
        // A name goes before a number, as everywhere.
        let number = named.or_else(|| rest.get(2).unwrap_or(&who).parse().ok())?;
        Some((if is_group { NAMED_GROUP } else { NAMED_USER }, number, permissions))
    }
}

fn permissions(letters: &str) -> Option<u16> {
    let letters = letters.split_whitespace().next().unwrap_or_default();
    letters.chars().try_fold(0, |bits, letter| {
        Some(
            bits | match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return None,
            },
        )
    })
}

/// The text of a stored ACL, with users and groups by their numbers. `None` where it is not in the form that the system
/// gives, so that the text would not say all.
pub fn acl_to_text(stored: &[u8]) -> Option<String> {
    let (version, body) = stored.split_first_chunk::<4>()?;
    let (entries, []) = body.as_chunks::<8>() else { return None };
    if u32::from_le_bytes(*version) != VERSION || entries.is_empty() {
        return None;
    }
    let mut text = String::new();
    let mut last = None;
    for &[tag_0, tag_1, permissions_0, permissions_1, number @ ..] in entries {
        let tag = u16::from_le_bytes([tag_0, tag_1]);
        let permissions = u16::from_le_bytes([permissions_0, permissions_1]);
        let number = u32::from_le_bytes(number);
        let (_, word) = TAGS.iter().find(|(known, _)| *known == tag)?;
        let is_named = matches!(tag, NAMED_USER | NAMED_GROUP);
        let in_order = last.is_none_or(|last| last < (tag, number));
        if permissions > 7 || is_named == (number == NOBODY) || !in_order {
            return None;
        }
        last = Some((tag, number));
        let who = if is_named { number.to_string() } else { String::new() };
        let letter = |bit, letter| if permissions & bit > 0 { letter } else { '-' };
        let letters: String = [letter(4, 'r'), letter(2, 'w'), letter(1, 'x')].into_iter().collect();
        let comma = if text.is_empty() { "" } else { "," };
        text.push_str(&format!("{comma}{word}:{who}:{letters}"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut stored = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, number) in entries {
            stored.extend(tag.to_le_bytes());
            stored.extend(permissions.to_le_bytes());
            stored.extend(number.to_le_bytes());
        }
        stored
    }

    #[test]
    fn acls_go_to_text_and_back() {
        let acl = stored(&[
            (1, 6, NOBODY),
            (2, 4, 1000),
            (2, 7, 70_000),
            (4, 4, NOBODY),
            (8, 5, 50),
            (0x10, 7, NOBODY),
            (0x20, 0, NOBODY),
        ]);
        let text = acl_to_text(&acl).unwrap();
        assert_eq!(
            text,
            "user::rw-,user:1000:r--,user:70000:rwx,group::r--,group:50:r-x,mask::rwx,other::---"
        );
        assert_eq!(AclReader::default().read(text.as_bytes()), Some(acl));
    }

    #[test]
    fn texts_of_others_are_read() {
        let reader = AclReader::default();
        let wanted =
            stored(&[(1, 7, NOBODY), (2, 5, 0), (4, 5, NOBODY), (0x10, 5, NOBODY), (0x20, 0, NOBODY)]);
        for text in [
            "user::rwx\nuser:root:r-x\ngroup::r-x\nmask::r-x\nother::---\n",
            "u::rwx,u:root:rx:0,g::rx,m:rx,o:-",
            "# file: a\nuser::rwx\nuser:0:r-x\t#effective:r-x\nother::---\ngroup::r-x\nmask::r-x",
            "user::rwx,user:nobody-of-this-name:r-x:0,group::r-x,mask::r-x,other::---",
        ] {
            assert_eq!(reader.read(text.as_bytes()), Some(wanted.clone()), "{text}");
        }
        for text in ["", "user:nobody-of-this-name:r-x", "who::rwx", "user::rwz", "user", "\u{fc}"] {
            assert_eq!(reader.read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_stored_oddly_has_no_text() {
        assert!(acl_to_text(&stored(&[(1, 7, NOBODY)])).is_some());
        for odd in [
            Vec::new(),
            stored(&[]),
            stored(&[(3, 7, NOBODY)]),
            stored(&[(1, 8, NOBODY)]),
            stored(&[(1, 7, 5)]),
            stored(&[(4, 7, NOBODY), (1, 7, NOBODY)]),
            stored(&[(1, 7, NOBODY)])[..9].to_vec(),
        ] {
            assert_eq!(acl_to_text(&odd), None, "{odd:?}");
        }
    }
}

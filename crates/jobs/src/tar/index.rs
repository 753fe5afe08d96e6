//! Where in a tar file what is: its members in the order of a file table.
//!
//! A tar has them in any order, and the same name twice: the later one counts then. A hard link is another name of what had
//! the name before it in the stream.

use std::io;

use dbvault_format::file_table::{FileKind, compare_paths};

use super::member::{Step, TarFile};

/// A name in a tar: about 80 bytes, and the path.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) path: Box<[u8]>,
    /// Where its headers begin.
    pub(super) at: u64,
    /// Which of the headers that hold for all that follow hold for it.
    pub(super) global: usize,
    pub(super) is_directory: bool,
    /// What a hard link says.
    target: Option<Box<[u8]>>,
}

/// All members of a tar.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By path, then by place.
    pub(super) names: Vec<Name>,
}

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    /// The member with this number, which has the content and all else.
    Member(usize),
    /// A hard link to nothing.
    Dangling,
}

impl Index {
    /// Reads all headers. `told` hears of what can't be a record, by name and reason.
    ///
    /// Errors: the tar can't be read to its end.
    pub(super) fn read(
        tar: &mut TarFile,
        told: &mut dyn FnMut(&[u8], &'static str) -> io::Result<()>,
    ) -> io::Result<Index> {
        let (mut names, mut at) = (Vec::new(), 0);
        loop {
            match tar.step(at)? {
                Step::End => break,
                Step::LeftOut { path, why, next } => {
                    told(&path, why)?;
                    at = next;
                }
                Step::Member(member) => {
                    names.push(Name {
                        path: member.record.path.as_slice().into(),
                        at,
                        global: member.global,
                        is_directory: member.record.kind == FileKind::Directory,
                        target: member.record.same_as.as_ref().map(|target| target.as_slice().into()),
                    });
                    at = member.next;
                }
            }
        }
        names.sort_unstable_by(|left: &Name, right| {
            compare_paths(&left.path, &right.path).then(left.at.cmp(&right.at))
        });
        Ok(Index { names })
    }

    /// Whether a later member has the same name.
    pub(super) fn is_replaced(&self, number: usize) -> bool {
        self.names.get(number + 1).is_some_and(|next| next.path == self.names[number].path)
    }

    /// What a name is; a hard link is what it leads to.
    pub(super) fn is(&self, mut number: usize) -> Is {
        // Each step goes nearer to the beginning of the tar.
        while let Some(target) = &self.names[number].target {
            let link_at = self.names[number].at;
            let behind = self.names.partition_point(|name| {
                compare_paths(&name.path, target).then(name.at.cmp(&link_at)).is_lt()
            });
            match behind.checked_sub(1).filter(|found| self.names[*found].path == *target) {
                Some(found) => number = found,
                None => return Is::Dangling,
            }
        }
        Is::Member(number)
    }

    /// Whether any name is a hard link.
    pub(super) fn links(&self) -> impl Iterator<Item = usize> {
        self.names.iter().enumerate().filter(|(_, name)| name.target.is_some()).map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(names: &[(&str, u64, Option<&str>)]) -> Index {
        let mut names: Vec<Name> = names
            .iter()
            .map(|(path, at, target)| Name {
                path: path.as_bytes().into(),
                at: *at,
                global: 0,
                is_directory: false,
                target: target.map(|target| target.as_bytes().into()),
            })
            .collect();
        names.sort_by(|left, right| compare_paths(&left.path, &right.path).then(left.at.cmp(&right.at)));
        Index { names }
    }

    #[test]
    fn links_lead_to_what_was_there_before_them() {
        // a, link b to a, a again, link c to a, link d to c, link e to itself, link f to what comes later.
        let index = index(&[
            ("a", 0, None),
            ("b", 1, Some("a")),
            ("a", 2, None),
            ("c", 3, Some("a")),
            ("d", 4, Some("c")),
            ("e", 5, Some("e")),
            ("f", 6, Some("g")),
            ("g", 7, None),
        ]);
        let at = |number: usize| index.names[number].at;
        let found: Vec<_> = (0..index.names.len())
            .map(|number| match index.is(number) {
                Is::Member(member) => (at(number), Some(at(member))),
                Is::Dangling => (at(number), None),
            })
            .collect();
        let wanted = [
            (0, Some(0)),
            (2, Some(2)),
            (1, Some(0)),
            (3, Some(2)),
            (4, Some(2)),
            (5, None),
            (6, None),
            (7, Some(7)),
        ];
        assert_eq!(found, wanted);
        assert!(index.is_replaced(0) && !index.is_replaced(1) && index.links().count() == 5);
    }
}

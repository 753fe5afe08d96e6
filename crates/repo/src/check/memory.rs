//! What was read when: a plain file in the local cache, so that a check of a part goes on where the last one ended.
//!
//! Lines of words: `pack NAME TIME` for a pack in which nothing was found, `part N OF` for a part that was read to
//! its end. Losing the file, or a line of it, only means that packs are read again. What was found wrong is never
//! in it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use dbvault_format::id::PackName;
use parking_lot::Mutex;

use super::Part;
use crate::Repository;
use crate::pack_list::StoredPacks;
use crate::repository::now_ms;

/// Name of the file in the cache directory of the repository.
const FILE: &str = "checked";

/// Longest file that is read, bytes: that of 16 million packs is shorter.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// What earlier checks have read, by what they wrote down.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    /// When a pack was read, milliseconds since 1970 UTC.
    packs: HashMap<PackName, i64>,
    /// The last part that was read, by the number of parts.
    parts: HashMap<u32, u32>,
    file: Mutex<Option<File>>,
}

impl Memory {
    /// Reads what there is. A cache that can't be used is the same as none.
    pub(super) fn load(repo: &Repository) -> Memory {
        let directory = repo.cache_dir();
        let path = directory.join(FILE);
        let (packs, parts) = read(&path);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        let file = made.and_then(|()| OpenOptions::new().create(true).append(true).mode(0o600).open(&path));
        if let Err(e) = &file {
            tracing::warn!("what this check reads is not remembered: {}: {e}", path.display());
        }
        Memory { path, packs, parts, file: Mutex::new(file.ok()) }
    }

    /// Whether a pack has to be read that may have been read `max_age_ms` ago at the longest. A time to come is
    /// no time that it was read at.
    pub(super) fn is_due(&self, name: &PackName, max_age_ms: i64) -> bool {
        let now = now_ms();
        let recent = |read: &i64| *read <= now && now.saturating_sub(*read) <= max_age_ms;
        !self.packs.get(name).is_some_and(recent)
    }

    /// The part after the one that was read last.
    pub(super) fn next_part(&self, of: u32) -> Part {
        let number = self.parts.get(&of).map_or(1, |last| last % of + 1);
        Part { number, of }
    }

    /// Remembers that a pack was read now, and that nothing was found.
    pub(super) fn note_pack(&self, name: &PackName) {
        self.append(&pack_line(name, now_ms()));
    }

    /// Remembers that all packs of a part were read.
    pub(super) fn note_part(&self, part: Part) {
        self.append(&part_line(part.number, part.of));
    }

    fn append(&self, line: &str) {
        let mut file = self.file.lock();
        let written = file.as_mut().map_or(Ok(()), |file| file.write_all(line.as_bytes()));
        if let Err(e) = written {
            tracing::warn!("what this check reads is not remembered: {}: {e}", self.path.display());
            *file = None;
        }
    }

    /// Writes the file anew, a line a pack, without packs that are not there any more.
    pub(super) fn tidy(&self, stored: &StoredPacks) {
        let (packs, parts) = read(&self.path);
        let mut text = String::new();
        for (name, time_ms) in packs.iter().filter(|(name, _)| stored.contains_key(*name)) {
            text += &pack_line(name, *time_ms);
        }
        parts.iter().for_each(|(of, number)| text += &part_line(*number, *of));
        // A crash in the middle leaves the old file, or one that was written in part: both can be read.
        let beside = self.path.with_extension(format!("new-{}", std::process::id()));
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &self.path));
        if let Err(e) = written {
            tracing::debug!("{}: {e}", beside.display());
        }
    }
}

fn pack_line(name: &PackName, time_ms: i64) -> String {
    format!("pack {name} {time_ms}\n")
}

fn part_line(number: u32, of: u32) -> String {
    format!("part {number} {of}\n")
}

/// Lines that make no sense say nothing.
fn read(path: &PathBuf) -> (HashMap<PackName, i64>, HashMap<u32, u32>) {
    let (mut packs, mut parts) = (HashMap::new(), HashMap::new());
    let text = match fs::metadata(path) {
        Ok(meta) if meta.len() <= FILE_BYTES_MAX => fs::read(path),
        Ok(_) => Err(io::ErrorKind::FileTooLarge.into()),
        Err(e) => Err(e),
    };
    for line in String::from_utf8_lossy(&text.unwrap_or_default()).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["pack", name, time_ms] => {
                if let (Ok(name), Ok(time_ms)) = (name.parse(), time_ms.parse()) {
                    packs.insert(name, time_ms);
                }
            }
            ["part", number, of] => {
                if let (Ok(number), Ok(of)) = (number.parse(), of.parse()) {
                    parts.insert(of, number);
                }
            }
            _ => {}
        }
    }
    (packs, parts)
}

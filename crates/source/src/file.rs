//! A file, byte for byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};

use crate::body::{BodyEnd, ByteCount, body};
use crate::{Entry, Error, Result, Source};

/// Permission bits of a file's mode.
const PERMISSIONS: u32 = 0o7777;

/// Backs up one file as it is. Nobody may write to it meanwhile: for databases there are other sources.
pub struct FileSource {
    path: PathBuf,
    name: String,
    part: Option<&'static str>,
    end: Option<BodyEnd<ByteCount>>,
}

impl FileSource {
    /// Opens nothing yet. `path` is absolute; `part` is the value of [`attribute::PART`], where the file belongs to
    /// something.
    pub fn new(path: impl Into<PathBuf>, part: Option<&'static str>) -> FileSource {
        let path = path.into();
        FileSource { name: path.display().to_string(), path, part, end: None }
    }
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self) -> Result<Entry> {
        let failed = |error| Error::from_io("read the file", error);
        let file = File::open(&self.path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & PERMISSIONS;
        let mut attributes: BTreeMap<String, String> = BTreeMap::new();
        attributes.insert(attribute::PATH.into(), self.name.clone());
        attributes.insert(attribute::MODE.into(), format!("{mode:o}"));
        if let Some(part) = self.part {
            attributes.insert(attribute::PART.into(), part.into());
        }
        let (body, end) = body(file, ByteCount::default());
        self.end = Some(end);
        let meta =
            EntryMeta { name: self.name.clone(), kind: EntryKind::File, grid: Grid::Content, attributes };
        Ok(Entry { meta, body })
    }

    fn finish(self: Box<Self>) -> Result<EntryReport> {
        if let Some(end) = &self.end {
            end.take(&self.name)?;
        }
        Ok(EntryReport::default())
    }
}

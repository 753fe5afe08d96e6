//! Where in a dump the rows of its tables are, as an attribute of its entry tells it.
//!
//! A dump that streams by has no table of offsets, so what follows it while it is backed up makes one. The text is a
//! list of items with a space between them, in the order of the stream:
//!
//! ```text
//! item    [GAP "+"] [ID ":"] LENGTH ["/" BYTES]
//! GAP     bytes between the end of the block before, or the beginning, and this one; left out where there are none
//! ID      in the custom format: the entry that the block belongs to
//! LENGTH  bytes of the block; with "i" after it, where it is made of INSERT commands
//! BYTES   bytes of its rows as COPY writes them, where they are not LENGTH
//! ```

use std::fmt::Write;

/// The rows of one table in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataBlock {
    /// The first byte.
    pub offset: u64,
    /// Bytes of the block. In the custom format this is all of it, with lengths of pieces and their end; in a plain dump
    /// the rows alone.
    pub length: u64,
    /// Bytes of the rows as `COPY` writes them, without the line that ends them.
    pub row_bytes: u64,
    /// The entry of the table of contents, in the custom format.
    pub id: Option<i64>,
    /// `INSERT` commands in place of lines as `COPY` writes them.
    pub inserts: bool,
}

impl DataBlock {
    /// The byte after the last.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// The text of the attribute.
pub fn to_text(blocks: &[DataBlock]) -> String {
    let (mut text, mut end) = (String::new(), 0);
    for block in blocks {
        let space = if text.is_empty() { "" } else { " " };
        let gap = Some(block.offset.saturating_sub(end)).filter(|gap| *gap > 0);
        let gap = gap.map(|gap| format!("{gap}+")).unwrap_or_default();
        let id = block.id.map(|id| format!("{id}:")).unwrap_or_default();
        let inserts = if block.inserts { "i" } else { "" };
        // Writing to a String can't fail.
        let _ = write!(text, "{space}{gap}{id}{}{inserts}", block.length);
        if block.row_bytes != block.length {
            let _ = write!(text, "/{}", block.row_bytes);
        }
        end = block.end();
    }
    text
}

/// Reads it; `None` where it is none, or says what can't be in a stream of `stream_bytes`.
pub fn from_text(text: &str, stream_bytes: u64) -> Option<Vec<DataBlock>> {
    let mut end = 0_u64;
    let mut blocks = Vec::new();
    for item in text.split_ascii_whitespace() {
        let (gap, rest) = match item.split_once('+') {
            Some((gap, rest)) => (gap.parse().ok()?, rest),
            None => (0, item),
        };
        let (id, rest) = match rest.split_once(':') {
            Some((id, rest)) => (Some(id.parse().ok()?), rest),
            None => (None, rest),
        };
        let (length, row_bytes) =
            rest.split_once('/').map_or((rest, None), |(length, row_bytes)| (length, Some(row_bytes)));
        let inserts = length.ends_with('i');
        let length: u64 = length.trim_end_matches('i').parse().ok()?;
        let row_bytes = row_bytes.map_or(Some(length), |bytes| bytes.parse().ok())?;
        let offset = end.checked_add(gap)?;
        end = offset.checked_add(length).filter(|end| *end <= stream_bytes)?;
        blocks.push(DataBlock { offset, length, row_bytes, id, inserts });
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_short_and_gives_the_same_again() {
        let block =
            |offset, length, row_bytes, id, inserts| DataBlock { offset, length, row_bytes, id, inserts };
        let custom = [block(2_000, 500, 400, Some(7), false), block(2_500, 15, 0, Some(-8), false)];
        let plain =
            [block(0, 10, 10, None, false), block(30, 7, 0, None, true), block(37, 0, 0, None, false)];
        for (blocks, text) in
            [(&custom[..], "2000+7:500/400 -8:15/0"), (&plain[..], "10 20+7i/0 0"), (&[], "")]
        {
            assert_eq!(to_text(blocks), text);
            assert_eq!(from_text(text, 2_515).unwrap(), blocks);
        }
        for wrong in ["x", "2516", "18446744073709551615 1", "1:", "-1", "1+", "1/x", "i"] {
            assert_eq!(from_text(wrong, 2_515), None, "{wrong}");
        }
    }
}

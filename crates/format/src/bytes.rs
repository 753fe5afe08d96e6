//! Small readers and writers for the hand-laid records: fixed arrays, little-endian numbers, LEB128.

use crate::{Error, Result};

/// Longest LEB128 number, bytes.
const VARINT_BYTES_MAX: usize = 10;

/// Appends `value` as unsigned LEB128: seven bits a byte, low bits first, high bit set on all but the last.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads records from a slice, checking every length before it is used.
#[derive(Debug)]
pub struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; `what` names them in errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { what, rest: bytes }
    }

    /// Bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error about what is being read.
    pub fn malformed(&self, detail: impl ToString) -> Error {
        Error::malformed(self.what, detail)
    }

    /// The next `len` bytes.
    pub fn slice(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.malformed("ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let slice = self.slice(N)?;
        slice.try_into().map_err(|_| self.malformed("ends too early"))
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next LEB128 number, in its shortest form only, so that a value has one encoding.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for index in 0..VARINT_BYTES_MAX {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * index as u32;
            if bits << shift >> shift != bits || (byte == 0 && index > 0) {
                return Err(self.malformed("number out of form"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("number too long"))
    }

    /// The next LEB128 number, at most `max`.
    pub fn varint_max(&mut self, max: u64) -> Result<u64> {
        let value = self.varint()?;
        if value > max { Err(self.malformed(format!("{value} is over {max}"))) } else { Ok(value) }
    }

    /// The next LEB128 number as a length in memory, at most `max`.
    pub fn length(&mut self, max: usize) -> Result<usize> {
        let value = self.varint_max(max as u64)?;
        usize::try_from(value).map_err(|_| self.malformed("length out of range"))
    }

    /// Ok when every byte has been read.
    pub fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("bytes left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways_in_one_form() {
        for value in [0, 1, 127, 128, 300, 1 << 32, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new("test", &out);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
        for bad in [
            &[0x80][..],
            &[0x80, 0x00],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert!(Reader::new("test", bad).varint().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut reader = Reader::new("test", &[1, 2, 3]);
        assert!(reader.u32().is_err());
        assert_eq!(reader.u16(), Ok(0x0201));
        assert!(reader.end().is_err());
        assert!(reader.length(2).is_err(), "3 is over 2");
    }
}

//! The frame of an RDB file: how it begins, and the checksum that it ends with.

/// `REDIS` or `VALKEY` and digits of a version.
const HEAD_BYTES: usize = 9;
/// The byte that ends the data, and the checksum.
const TAIL_BYTES: usize = 9;
const END: u8 = 0xFF;
/// The checksum's polynomial, bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// Tables to take eight bytes at once.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before: u64 = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

fn crc64(mut crc: u64, bytes: &[u8]) -> u64 {
    let mut pieces = bytes.chunks_exact(8);
    for piece in &mut pieces {
        let mut eight = [0; 8];
        eight.copy_from_slice(piece);
        let mixed = (crc ^ u64::from_le_bytes(eight)).to_le_bytes();
        crc = (0..8).fold(0, |sum, at| sum ^ TABLES[7 - at][usize::from(mixed[at])]);
    }
    for byte in pieces.remainder() {
        crc = TABLES[0][((crc ^ u64::from(*byte)) & 0xFF) as usize] ^ (crc >> 8);
    }
    crc
}

/// Follows an RDB file as it streams by.
#[derive(Debug, Default)]
pub(crate) struct Rdb {
    head: Vec<u8>,
    /// The last bytes, which are not in `crc` yet.
    tail: Vec<u8>,
    crc: u64,
    bytes: u64,
}

/// What a whole file says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Whether it has a checksum: servers can be told to write none.
    pub(crate) checksum: bool,
}

impl Rdb {
    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let missing = (HEAD_BYTES - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..missing]);
        if bytes.len() >= TAIL_BYTES {
            self.crc = crc64(self.crc, &self.tail);
            let (body, tail) = bytes.split_at(bytes.len() - TAIL_BYTES);
            self.crc = crc64(self.crc, body);
            self.tail.clear();
            self.tail.extend_from_slice(tail);
        } else {
            self.tail.extend_from_slice(bytes);
            let ripe = self.tail.len().saturating_sub(TAIL_BYTES);
            self.crc = crc64(self.crc, &self.tail[..ripe]);
            self.tail.drain(..ripe);
        }
    }

    /// How many bytes were fed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Checks the end; else what is wrong.
    pub(crate) fn finish(self) -> Result<Whole, String> {
        let magic = self.head.starts_with(b"REDIS") || self.head.starts_with(b"VALKEY");
        if !magic || self.head.len() < HEAD_BYTES {
            return Err("it does not begin like an RDB file".to_owned());
        }
        let Some((END, checksum)) = self.tail.split_first().map(|(end, rest)| (*end, rest)) else {
            return Err("it does not end like an RDB file".to_owned());
        };
        let Ok(checksum) = <[u8; 8]>::try_from(checksum) else {
            return Err("it is too short for an RDB file".to_owned());
        };
        match u64::from_le_bytes(checksum) {
            0 => Ok(Whole { checksum: false }),
            wanted if wanted == crc64(self.crc, &[END]) => Ok(Whole { checksum: true }),
            _ => Err("its checksum is wrong".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(body: &[u8]) -> Vec<u8> {
        let mut file = [b"REDIS0011".as_slice(), body, &[END]].concat();
        let crc = crc64(0, &file);
        file.extend_from_slice(&crc.to_le_bytes());
        file
    }

    fn outcome(bytes: &[u8], piece: usize) -> Result<Whole, String> {
        let mut rdb = Rdb::default();
        bytes.chunks(piece).for_each(|bytes| rdb.feed(bytes));
        rdb.finish()
    }

    #[test]
    fn the_checksum_is_that_of_redis() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn only_whole_files_are_whole() {
        let whole = file(&(0..=255).cycle().take(1000).collect::<Vec<u8>>());
        for piece in [1, 2, 8, 9, 10, 100, 5000] {
            assert_eq!(outcome(&whole, piece), Ok(Whole { checksum: true }), "{piece}");
        }
        for length in 0..whole.len() {
            assert!(outcome(&whole[..length], 64).is_err(), "cut after {length}");
        }
        for at in [0, 20, 500, whole.len() - 9, whole.len() - 1] {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            assert!(outcome(&bad, 64).is_err(), "changed at {at}");
        }
        // The marker of the protocol, left behind it.
        assert!(outcome(&[whole.as_slice(), &[b'a'; 40]].concat(), 64).is_err());
    }
}

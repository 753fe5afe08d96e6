//! Bytes that nothing makes smaller.

/// `len` bytes that follow from `seed` and that no compressor and no delta makes smaller.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let key = blake3::derive_key("dbvault tests noise", &seed.to_le_bytes());
    blake3::Hasher::new_keyed(&key).finalize_xof().fill(&mut bytes);
    bytes
}

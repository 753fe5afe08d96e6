//! Padmé: sizes that tell little.

/// Smallest length of at least `len` bytes that is a Padmé length: the floating-point numbers whose mantissa
/// is no longer than their exponent. An observer learns O(log log len) bits; the cost is under 12%, and
/// under 4% from 64 KiB on.
///
/// Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
/// PETS 2019, algorithm 1.
pub fn padme(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let mantissa_bits = exponent.ilog2() + 1;
    let low_bits = exponent.saturating_sub(mantissa_bits);
    let mask = (1u64 << low_bits) - 1;
    len.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_rounded_as_the_paper_says() {
        for (len, padded) in [(0, 0), (1, 1), (9, 10), (100, 104), (1000, 1024), (1 << 20, 1 << 20)] {
            assert_eq!(padme(len), padded, "{len}");
        }
        for len in (1..5_000_000).step_by(997) {
            let padded = padme(len);
            assert!(
                padded >= len && padme(padded) == padded && (padded - len) * 100 < len * 12 + 100,
                "{len}"
            );
        }
    }
}

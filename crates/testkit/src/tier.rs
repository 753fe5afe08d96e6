//! How much is tried: the quick tier in every run of the tests, the long one with `make torture`.
//!
//! `DBVAULT_TORTURE=1` is the long tier; `DBVAULT_SEED` is what all that is chosen at random follows from.

/// The seed where none is given.
const SEED: u64 = 1;

/// Whether this is the long tier.
pub fn is_long() -> bool {
    std::env::var("DBVAULT_TORTURE").is_ok_and(|value| !matches!(value.as_str(), "" | "0"))
}

/// `quick` in the quick tier, `long` in the long one.
pub fn either<T>(quick: T, long: T) -> T {
    if is_long() { long } else { quick }
}

/// What all choices of this run follow from. Panics where `DBVAULT_SEED` is no number.
pub fn seed() -> u64 {
    match std::env::var("DBVAULT_SEED") {
        Ok(text) => text.parse().expect("DBVAULT_SEED is a number"),
        Err(_) => SEED,
    }
}

/// 20000 as 20,000.
pub fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let comma = |place: usize| place > 0 && (digits.len() - place).is_multiple_of(3);
    let each = |(place, digit): (usize, char)| if comma(place) { format!(",{digit}") } else { digit.into() };
    digits.chars().enumerate().map(each).collect()
}

#[test]
fn numbers_are_easy_to_read() {
    let read = [0, 999, 1000, 1_234_567].map(with_commas);
    assert_eq!(read, ["0", "999", "1,000", "1,234,567"]);
}

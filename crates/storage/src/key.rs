//! Object names.

use std::fmt;

use crate::{Error, ErrorKind, Result};

/// Longest object name, bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// The name of an object: parts of `a-z 0-9 . _ -` joined by `/`, at most [`KEY_BYTES_MAX`] bytes.
/// No part is empty or begins with a dot, so a name is safe as a relative path on every system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Checks `name`. Errors: [`ErrorKind::InvalidKey`] for any name that is not of the form above.
    pub fn new(name: impl Into<String>) -> Result<Key> {
        let name = name.into();
        let byte_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let part_ok = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(byte_ok);
        if name.len() <= KEY_BYTES_MAX && name.split('/').all(part_ok) {
            Ok(Key(name))
        } else {
            Err(Error::new(ErrorKind::InvalidKey, name))
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part of the name.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass_and_bad_names_are_refused() {
        for good in ["config", "packs/0a/ff00", "index/ab-1/0.seg", "a_b"] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".hidden", "A", "a b", "a\0"] {
            assert_eq!(Key::new(bad).unwrap_err().kind(), ErrorKind::InvalidKey, "{bad:?}");
        }
        assert!(Key::new("x".repeat(256)).is_err());
    }

    #[test]
    fn file_name_is_the_last_part() {
        assert_eq!(Key::new("packs/0a/ff00").unwrap().file_name(), "ff00");
        assert_eq!(Key::new("config").unwrap().file_name(), "config");
    }
}

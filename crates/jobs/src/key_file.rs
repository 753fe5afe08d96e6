//! Key files: a secret on a line of its own under a header, so that it can be printed, typed and pasted.
//!
//! ```text
//! dbvault key file v1              dbvault master key v1
//! key: <64 hexadecimal digits>     repository: <64 hexadecimal digits>
//!                                  key: <64 hexadecimal digits>
//! ```
//!
//! The left one opens the repositories it was added to, like a passphrase. The right one is what `key export`
//! writes: the master key of one repository itself. Blank lines and lines that begin with `#` mean nothing.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use dbvault_format::id::RepoId;
use dbvault_format::keys::{KEY_BYTES, MasterKey};
use zeroize::{Zeroize, Zeroizing};

use crate::{Error, Result};

/// Longest file that is looked at, bytes.
const FILE_BYTES_MAX: u64 = 4096;
/// Header of a key file.
const KEY_FILE: &str = "dbvault key file v1";
/// Header of an exported master key.
const MASTER_KEY: &str = "dbvault master key v1";
/// Permission bits that let others than the owner read a file.
const OTHERS_READ: u32 = 0o044;

/// Makes a key file with fresh random bytes, for the owner alone. Errors: [`Error::FileExists`].
pub fn create(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    getrandom::fill(&mut key).map_err(|source| Error::Random { source })?;
    let text = Zeroizing::new(format!("{KEY_FILE}\nkey: {}\n", *hexadecimal(&key)));
    write_new(path, &text)?;
    Ok(key)
}

/// Reads the secret of a key file.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let text = read_text(path)?;
    let wrong = || Error::NotAKeyFile { path: path.to_owned(), expected: "dbvault key file" };
    let lines = lines(&text, KEY_FILE).ok_or_else(wrong)?;
    match lines.as_slice() {
        [("key", key)] => parse_hexadecimal(key).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// True where others than the file's owner may read it.
pub fn readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & OTHERS_READ != 0)
}

/// The master key of `repository` as text.
pub fn master_key_text(repository: &RepoId, master: &MasterKey) -> Zeroizing<String> {
    let key = hexadecimal(&master.0);
    Zeroizing::new(format!("{MASTER_KEY}\nrepository: {repository}\nkey: {}\n", *key))
}

/// Reads the master key of `repository`. Errors: [`Error::ForeignKey`].
pub fn read_master_key(path: &Path, repository: &RepoId) -> Result<MasterKey> {
    let text = read_text(path)?;
    let wrong = || Error::NotAKeyFile { path: path.to_owned(), expected: "dbvault master key" };
    let lines = lines(&text, MASTER_KEY).ok_or_else(wrong)?;
    let [("repository", found), ("key", key)] = lines.as_slice() else { return Err(wrong()) };
    if *found != repository.to_string() {
        return Err(Error::ForeignKey { found: (*found).to_owned(), wanted: repository.to_string() });
    }
    let mut master = MasterKey([0; KEY_BYTES]);
    master.0.copy_from_slice(&parse_hexadecimal(key).ok_or_else(wrong)?);
    Ok(master)
}

/// Makes the file `path` with `text`, for the owner alone, durably. Errors: [`Error::FileExists`].
pub fn write_new(path: &Path, text: &str) -> Result<()> {
    let failed = || Error::file("write", path);
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::FileExists { path: path.to_owned() },
        _ => failed()(error),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed())
}

fn read_text(path: &Path) -> Result<Zeroizing<String>> {
    let failed = || Error::file("read", path);
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize));
    let file = fs::File::open(path).map_err(failed())?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed())?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    Ok(Zeroizing::new(text.to_owned()))
}

/// The `name: value` lines under the header.
fn lines<'a>(text: &'a str, header: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if lines.next() != Some(header) {
        return None;
    }
    lines.map(|line| line.split_once(':').map(|(name, value)| (name.trim(), value.trim()))).collect()
}

fn hexadecimal(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

fn parse_hexadecimal(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_BYTES));
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    while let Some(high) = digits.next() {
        let mut byte = u8::try_from(high? << 4 | digits.next()??).ok()?;
        key.push(byte);
        byte.zeroize();
    }
    (key.len() == KEY_BYTES).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_private_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let key = create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap(), key);
        assert!(!readable_by_others(&path));
        assert!(matches!(create(&path), Err(Error::FileExists { .. })));
        assert_eq!(read(&path).unwrap(), key, "an existing key file is never overwritten");
    }

    #[test]
    fn other_files_are_no_key_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let key = "ab".repeat(32);
        let good = format!("# mine\n\n{KEY_FILE}\r\n  key: {key}\r\n");
        fs::write(&path, &good).unwrap();
        assert_eq!(*read(&path).unwrap(), vec![0xab; 32]);
        for bad in [
            String::new(),
            key.clone(),
            format!("{KEY_FILE}\n"),
            format!("{KEY_FILE}\nkey: {}\n", &key[1..]),
            format!("{KEY_FILE}\nkey: {key}00\n"),
            format!("{KEY_FILE}\nkey: {}zz\n", &key[2..]),
            format!("{MASTER_KEY}\nkey: {key}\n"),
        ] {
            fs::write(&path, &bad).unwrap();
            assert!(matches!(read(&path), Err(Error::NotAKeyFile { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_master_key_belongs_to_its_repository() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let (mine, other) = (RepoId([1; 32]), RepoId([2; 32]));
        write_new(&path, &master_key_text(&mine, &MasterKey([9; 32]))).unwrap();
        assert_eq!(read_master_key(&path, &mine).unwrap().0, [9; 32]);
        assert!(matches!(read_master_key(&path, &other), Err(Error::ForeignKey { .. })));
        assert!(matches!(read(&path), Err(Error::NotAKeyFile { .. })));
    }
}

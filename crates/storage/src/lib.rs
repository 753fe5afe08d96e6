//! Named immutable objects: where do bytes live, and when are they safe?
//!
//! An object once made never changes. There is deliberately no overwrite, rename or append.

mod error;
mod key;
mod local;
mod memory;

pub use error::{Error, ErrorKind, Result};
pub use key::{KEY_BYTES_MAX, Key};
pub use local::{LocalStorage, OPEN_FILES_MAX};
pub use memory::MemoryStorage;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::time::Duration;

/// Name and length of one stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Name of the object.
    pub key: Key,
    /// Length of the object, bytes.
    pub size_bytes: u64,
}

/// A place for immutable objects. All calls block; any number of threads and processes may call at once.
pub trait Storage: Debug + Send + Sync {
    /// Where this is, for messages: a path or an address, never a secret.
    fn location(&self) -> String;

    /// Makes the object `key` from the parts of `body`, one after the other.
    ///
    /// Ok: the object is whole and visible; its name survives a crash after the next [`Storage::flush`],
    /// and whenever its name is there, all its bytes are. Err: it is whole or absent, never partial.
    /// A taken name is [`ErrorKind::AlreadyExists`], and the object that has it is untouched.
    /// Do not name an object like the first parts of another (`a` beside `a/b`): a storage may refuse it.
    fn put_new(&self, key: &Key, body: &[&[u8]]) -> Result<()>;

    /// Reads the object, or the bytes of `range`, which must lie inside it.
    ///
    /// Errors: [`ErrorKind::NotFound`]; [`ErrorKind::ShortRead`] where the object ends before the range does;
    /// [`ErrorKind::Io`] where the range ends before it begins.
    fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Vec<u8>>;

    /// Fills `out` with the bytes of the object from `start` on: as [`Storage::get`] with that range, into
    /// memory that is there. An error leaves the content of `out` undefined.
    fn get_into(&self, key: &Key, start: u64, out: &mut [u8]) -> Result<()> {
        let end = start.saturating_add(out.len() as u64);
        let bytes = self.get(key, Some(start..end))?;
        if bytes.len() != out.len() {
            return Err(Error::new(ErrorKind::ShortRead, key.as_str()));
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    /// Advice that these bytes are read next: what is scattered can then come all at once, and nothing around it.
    /// Nothing is told of what it leads to.
    fn will_read(&self, key: &Key, range: Range<u64>) {
        let _ = (key, range);
    }

    /// Length of the object, bytes, or `None` where there is none.
    fn size(&self, key: &Key) -> Result<Option<u64>>;

    /// Calls `each` for every object whose name begins with `prefix` and a slash, in no order.
    /// A prefix with nothing below it lists nothing. Ends at the first error of `each`, which may call
    /// this storage. Objects made or removed meanwhile may be listed or not.
    fn list(&self, prefix: &Key, each: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()>;

    /// Removes the object. An absent one is Ok. Durable after the next [`Storage::flush`].
    fn delete(&self, key: &Key) -> Result<()>;

    /// Barrier: every name made or removed before this call survives a crash after it. So does a name that
    /// another process made, if this storage has met it (read, listed, or found it taken) before the call.
    /// Err: nothing is known to be durable that was not before; a later call covers it all again.
    fn flush(&self) -> Result<()>;

    /// Removes what writers that crashed left and what is no object, if it is older than `age`: longer than any put
    /// takes. Gives how many there were. Nothing to do for a storage where puts leave nothing.
    fn remove_leftovers(&self, age: Duration) -> Result<u64> {
        let _ = age;
        Ok(0)
    }
}

/// Checks that `range` lies inside an object of `size_bytes`; gives its length, bytes.
/// Done before a buffer is made, so that a damaged range cannot ask for all memory.
fn range_bytes(range: &Range<u64>, size_bytes: u64, subject: impl Fn() -> String) -> Result<usize> {
    let invalid = |why| Error::io(subject(), io::Error::new(io::ErrorKind::InvalidInput, why));
    if range.start > range.end {
        return Err(invalid("the range ends before it begins"));
    }
    if range.end > size_bytes {
        return Err(Error::new(ErrorKind::ShortRead, subject()));
    }
    usize::try_from(range.end - range.start).map_err(|_| invalid("the range does not fit in memory"))
}

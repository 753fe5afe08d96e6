//! Named immutable objects: where do bytes live, and when are they safe?
//!
//! An object once made never changes. There is deliberately no overwrite, rename or append.

mod error;
mod key;

pub use error::{Error, ErrorKind, Result};
pub use key::Key;

use std::fmt::Debug;
use std::ops::Range;

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
    fn put_new(&self, key: &Key, body: &[&[u8]]) -> Result<()>;

    /// Reads the object, or the bytes of `range`, which must lie inside it.
    ///
    /// Errors: [`ErrorKind::NotFound`]; [`ErrorKind::ShortRead`] where the object ends before the range does.
    fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Vec<u8>>;

    /// Length of the object, bytes, or `None` where there is none.
    fn size(&self, key: &Key) -> Result<Option<u64>>;

    /// Calls `each` for every object whose name begins with `prefix` and a slash, in no order.
    /// A prefix with nothing below it lists nothing. Ends at the first error of `each`.
    fn list(&self, prefix: &Key, each: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()>;

    /// Removes the object. An absent one is Ok. Durable after the next [`Storage::flush`].
    fn delete(&self, key: &Key) -> Result<()>;

    /// Barrier: every name made or removed before this call survives a crash after it.
    fn flush(&self) -> Result<()>;
}

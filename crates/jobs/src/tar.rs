//! Tar archives: files of an archive as a stream for others, and the streams of others as an archive.
//!
//! The library `tar` knows headers. What is around them is our own: its reader takes an attribute with a newline in it for
//! the end of the record, and does not tell where members are.

mod export;
mod import;
mod index;
mod member;
mod output;
mod pax;
mod sparse;
mod spool;
mod writer;

pub use export::{TarExport, TarExported, export_tar};
pub(crate) use import::store_tar;
pub use import::{TarImport, TarImported, import_tar};
pub use output::write_file;
pub use spool::{Spool, default_directory};

/// Tar files are made of blocks of this length, bytes.
const BLOCK_BYTES: u64 = 512;
/// The attribute that has the ACL of a file.
const ACL_ACCESS_XATTR: &[u8] = b"system.posix_acl_access";
/// The attribute that has the ACL that new files in a directory get.
const ACL_DEFAULT_XATTR: &[u8] = b"system.posix_acl_default";

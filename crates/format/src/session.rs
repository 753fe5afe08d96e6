//! Sessions: the registration of a running backup, and its signs of life.

use minicbor::{Decode, Encode};

use crate::id::SessionId;

/// Body of `sessions/<session>/<n>`: number 0 registers the session, each later one is a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SessionRecord {
    /// The session.
    #[n(0)]
    pub session: SessionId,
    /// When it was written, milliseconds since 1970 UTC, by the writer's clock; only for people to read.
    #[n(1)]
    pub written_ms: i64,
    /// Host it runs on.
    #[n(2)]
    pub host: String,
    /// Process id on that host.
    #[n(3)]
    pub process: u32,
    /// Version of dbvault.
    #[n(4)]
    pub program_version: String,
}

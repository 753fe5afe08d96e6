//! Trash marks: soft delete of an archive, and its undoing.

use minicbor::{Decode, Encode};

use crate::id::SessionId;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum TrashAction {
    /// The archive is deleted.
    #[n(0)]
    Delete,
    /// The archive is back.
    #[n(1)]
    Undelete,
    /// A collection has begun to free what only this archive uses: it can't come back. Written before the
    /// collection marks, so that no undelete comes between marking and freeing.
    #[n(2)]
    Collect,
}

/// Body of `trash/<session>/<n>`. The mark with the highest number counts; marks are never changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TrashMark {
    /// The archive.
    #[n(0)]
    pub archive: SessionId,
    /// What happened to it.
    #[n(1)]
    pub action: TrashAction,
    /// When, milliseconds since 1970 UTC, by the client's clock.
    #[n(2)]
    pub marked_ms: i64,
    /// Host it was done from.
    #[n(3)]
    pub host: String,
}

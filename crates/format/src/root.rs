//! Roots and condemned lists: the two objects of a collection epoch.

use minicbor::{Decode, Encode};

use crate::id::{PackName, SessionId};

/// Body of `condemned/<n>`: packs that epoch `n` may delete. Until its root is decided, no writer reuses them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Condemned {
    /// The packs.
    #[n(0)]
    pub packs: Vec<PackName>,
}

/// Body of `roots/<n>`: what epoch `n` decided, once and for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Root {
    /// Names of the index segments that make up the base index.
    #[n(0)]
    pub base: Vec<String>,
    /// Sessions whose own index segments the base replaces.
    #[n(1)]
    pub folded: Vec<SessionId>,
    /// Exactly the packs this epoch deletes.
    #[n(2)]
    pub deleted: Vec<PackName>,
}

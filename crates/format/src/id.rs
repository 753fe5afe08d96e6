//! Ids: random or derived byte strings with one meaning each.

use std::fmt;
use std::str::FromStr;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $bytes:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Length in bytes; twice that in hexadecimal digits.
            pub const BYTES: usize = $bytes;

            /// The id as bytes.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ();

            /// Reads exactly the lower-case hexadecimal form.
            fn from_str(text: &str) -> Result<Self, ()> {
                let digit = |byte: u8| match byte {
                    b'0'..=b'9' => Ok(byte - b'0'),
                    b'a'..=b'f' => Ok(byte - b'a' + 10),
                    _ => Err(()),
                };
                let text = text.as_bytes();
                if text.len() != 2 * $bytes {
                    return Err(());
                }
                let mut id = [0; $bytes];
                for (byte, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
                    *byte = digit(pair[0])? << 4 | digit(pair[1])?;
                }
                Ok($name(id))
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                let bytes = d.bytes()?;
                let id = bytes.try_into().map_err(|_| decode::Error::message("id of wrong length"))?;
                Ok($name(id))
            }
        }
    };
}

byte_id!(
    /// Name of a chunk: keyed BLAKE3 of its plaintext.
    ChunkId,
    32
);
byte_id!(
    /// Name of a pack: BLAKE3 (without key) of all bytes of the object.
    PackName,
    32
);
byte_id!(
    /// Random id of a repository, made once by `init`.
    RepoId,
    32
);
byte_id!(
    /// Random id of a backup run, and of the archive it becomes.
    SessionId,
    16
);
byte_id!(
    /// Random id of a key slot.
    SlotId,
    8
);
byte_id!(
    /// Random input to the key derivation of one object.
    Salt,
    32
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways() {
        let id = SlotId([0, 1, 0xab, 0xff, 4, 5, 6, 7]);
        assert_eq!(id.to_string(), "0001abff04050607");
        assert_eq!("0001abff04050607".parse(), Ok(id));
        for bad in ["", "0001abff0405060", "0001ABFF04050607", "0001abff0405060g", "0001abff040506070"] {
            assert_eq!(bad.parse::<SlotId>(), Err(()), "{bad:?}");
        }
    }
}

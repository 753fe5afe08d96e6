//! Names that files have until they are whole.

use crate::error::Problem;

/// Tries for a name that nobody has.
pub(crate) const TRIES_MAX: usize = 16;

/// Begins every such name, so that what a killed restore left can be told.
const PREFIX: &str = ".dbvault-part-";

/// A name that nobody can guess.
pub(crate) fn choose(path: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random)
        .map_err(|_| Problem::found(path, "name", "the system has no random numbers"))?;
    Ok(format!("{PREFIX}{:016x}", u64::from_le_bytes(random)).into_bytes())
}

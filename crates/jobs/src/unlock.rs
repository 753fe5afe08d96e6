//! Opening a repository with the secrets there are.

use dbvault_format::key_slot::Secret;
use dbvault_repo::{Client, Repository};

use crate::place::Place;
use crate::secrets::{Origin, Places, Prompt};
use crate::{Error, Result};

/// How often a person may try a passphrase.
pub const ATTEMPTS_MAX: usize = 3;

/// An open repository and where the secret came from.
pub struct Unlocked {
    /// The repository.
    pub repository: Repository,
    /// Where the secret came from.
    pub origin: Origin,
}

/// Opens the repository at `place`. A person who types a wrong passphrase is told by `wrong` and asked again, at
/// most [`ATTEMPTS_MAX`] times in all.
pub fn unlock(
    place: &Place,
    client: &Client,
    secrets: &Places,
    prompt: Prompt<'_>,
    wrong: &mut dyn FnMut(),
) -> Result<Unlocked> {
    let mut attempt = 1;
    loop {
        let location = place.storage.location();
        let Some(found) = secrets.find(&mut *prompt)? else {
            return Err(Error::NoSecret { location, variable: secrets.variable.clone() });
        };
        match Repository::open(place.storage.clone(), client.clone(), &found.secret) {
            Ok(repository) => return Ok(Unlocked { repository, origin: found.origin }),
            Err(dbvault_repo::Error::WrongSecret { .. }) => {
                if found.origin != Origin::Prompt || attempt == ATTEMPTS_MAX {
                    return Err(Error::WrongSecret { location, origin: found.origin });
                }
                wrong();
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A secret for a new repository or a new key slot.
pub fn new_secret(location: &str, secrets: &Places, prompt: Prompt<'_>) -> Result<Secret> {
    let found = secrets.find(prompt)?;
    let nobody = || Error::NoSecret { location: location.to_owned(), variable: secrets.variable.clone() };
    found.map(|found| found.secret).ok_or_else(nobody)
}

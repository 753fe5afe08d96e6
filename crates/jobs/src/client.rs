//! Who and where this run of the program is.

use std::env;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dbvault_repo::Client;
use etcetera::BaseStrategy;

use crate::{Error, Result};

/// The client on this machine: its host and user, and the user's cache directory.
pub fn local(interrupt: Arc<AtomicBool>) -> Result<Client> {
    let base = etcetera::choose_base_strategy().map_err(|_| Error::NoHome)?;
    Ok(Client { host: host(), user: user(), cache_dir: base.cache_dir().join("dbvault"), interrupt })
}

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The login name, or the number where the environment does not tell one (as under some schedulers).
fn user() -> String {
    let name = |variable| env::var(variable).ok().filter(|name| !name.is_empty());
    let number = || format!("uid {}", rustix::process::geteuid().as_raw());
    name("USER").or_else(|| name("LOGNAME")).unwrap_or_else(number)
}

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

/// The login name; where the environment does not tell one (as under some schedulers), that of the account.
fn user() -> String {
    let name = |variable| env::var(variable).ok().filter(|name| !name.is_empty());
    let number = rustix::process::geteuid().as_raw();
    let account = || account_name(&std::fs::read_to_string("/etc/passwd").ok()?, number);
    name("USER").or_else(|| name("LOGNAME")).or_else(account).unwrap_or_else(|| format!("uid {number}"))
}

/// The name of the account with this number, in the text of `/etc/passwd`.
fn account_name(accounts: &str, number: u32) -> Option<String> {
    let mut lines = accounts.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_number() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\n# odd line\nbackup:x:34:34::/:/bin/false\n";
        assert_eq!(account_name(accounts, 34).as_deref(), Some("backup"));
        assert_eq!(account_name(accounts, 35), None);
    }
}

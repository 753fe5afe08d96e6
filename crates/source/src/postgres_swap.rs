//! Puts a loaded database in the place of the live one.
//!
//! Both renames are one transaction, so nobody ever finds no database, or half of one, under the name; and at no
//! moment is the live database in a state that a crash of ours would leave behind: it keeps allowing connections
//! until it is renamed. PostgreSQL renames only a database that nobody is connected to, so its sessions are ended
//! right before. A session that comes in between makes the rename fail, and it is tried again. Only where clients
//! are that quick, new connections are forbidden for the last tries, and allowed again if these fail too.
//!
//! See "ALTER DATABASE" and "pg_terminate_backend" in PostgreSQL's manual.

use std::fmt::Write;

use crate::postgres_tools::{Psql, identifier, literal};
use crate::{Error, Result};

/// Tries to rename before new connections are forbidden.
const TRIES_OPEN: u32 = 2;
/// Tries in all. Each waits 5 seconds for sessions to end; PostgreSQL sets that time.
const TRIES_MAX: u32 = 4;
/// Longest name of a database, bytes (NAMEDATALEN - 1).
const NAME_BYTES_MAX: usize = 63;
/// First version with `DROP DATABASE ... WITH (FORCE)`.
const FORCE_VERSION: u32 = 130_000;

/// A name for a database beside `name`, which nobody else uses: `<name>__dbvault_<word><8 hex digits>`.
pub(crate) fn name_beside(name: &str, word: &str) -> Result<String> {
    let mut random = [0_u8; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::io("get random bytes")(error.into()))?;
    let mut suffix = format!("__dbvault_{word}");
    for byte in random {
        let _ = write!(suffix, "{byte:02x}");
    }
    let kept = name.floor_char_boundary(NAME_BYTES_MAX - suffix.len());
    Ok(format!("{}{suffix}", &name[..kept]))
}

/// Drops a database and ends whatever still uses it. Absent is Ok.
pub(crate) fn drop_database(psql: &Psql, name: &str) -> Result<()> {
    let exists = "SELECT current_setting('server_version_num') FROM pg_catalog.pg_database WHERE datname = ";
    let answer = psql.run(&[&format!("{exists}{}", literal(name))])?;
    let Some(version) = answer.first() else { return Ok(()) };
    let force = if version.parse::<u32>().unwrap_or(0) >= FORCE_VERSION { " WITH (FORCE)" } else { "" };
    let quoted = identifier(name);
    psql.run(&[
        // A template can't be dropped; the dump may have made it one.
        &format!("ALTER DATABASE {quoted} IS_TEMPLATE false"),
        &end_sessions(name),
        &format!("DROP DATABASE IF EXISTS {quoted}{force}"),
    ])
    .map(drop)
}

fn end_sessions(name: &str) -> String {
    format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
         WHERE datname = {} AND pid <> pg_catalog.pg_backend_pid()",
        literal(name)
    )
}

/// One swap.
pub(crate) struct Swap<'a> {
    /// Connected to neither database, and deaf to interrupts.
    pub(crate) psql: Psql,
    /// The database that was loaded.
    pub(crate) temporary: &'a str,
    /// The name it is to have.
    pub(crate) name: &'a str,
    /// A database of that name is replaced; else it is an error.
    pub(crate) may_replace: bool,
    /// The replaced database stays, under another name.
    pub(crate) keep_old: bool,
}

impl Swap<'_> {
    /// Does it. Ok: the loaded database has the name; the warnings tell what became of the old one. An error: the
    /// live database is there under its name, as it was.
    pub(crate) fn run(&self) -> Result<Vec<String>> {
        let question =
            format!("SELECT datallowconn FROM pg_catalog.pg_database WHERE datname = {}", literal(self.name));
        let live = self.psql.run(&[&question])?;
        let Some(open) = live.first().map(|field| field == "t") else {
            self.rename(&[(self.temporary, self.name)], None)?;
            return Ok(Vec::new());
        };
        if !self.may_replace {
            let message = "a database of this name was made in the meantime".to_owned();
            return Err(Error::Database { what: format!("rename to \"{}\"", self.name), message });
        }
        let old = name_beside(self.name, "old_")?;
        self.replace(&old, open)?;
        Ok(self.dispose(&old, open))
    }

    fn replace(&self, old: &str, open: bool) -> Result<()> {
        let renames = [(self.name, old), (self.temporary, self.name)];
        let mut outcome = Ok(());
        for attempt in 0..TRIES_MAX {
            if attempt == TRIES_OPEN && open && self.allow_connections(self.name, false).is_err() {
                break;
            }
            outcome = self.rename(&renames, Some(self.name));
            match &outcome {
                Err(Error::ProgramFailed { .. }) if attempt + 1 < TRIES_MAX => {
                    tracing::debug!(attempt, "the live database is in use");
                }
                _ => break,
            }
        }
        if outcome.is_err() && open {
            // Harmless where it was never forbidden.
            self.allow_connections(self.name, true)?;
        }
        outcome
    }

    /// All renames or none. The answer may get lost, so on an error the server is asked what is true.
    fn rename(&self, renames: &[(&str, &str)], busy: Option<&str>) -> Result<()> {
        let words = renames
            .iter()
            .map(|(from, to)| format!("ALTER DATABASE {} RENAME TO {}", identifier(from), identifier(to)));
        // One command of several statements is one transaction.
        let transaction = words.collect::<Vec<_>>().join("; ");
        let ended = busy.map(end_sessions);
        let commands: Vec<&str> = ended.as_deref().into_iter().chain([transaction.as_str()]).collect();
        let outcome = self.psql.run(&commands);
        let Err(error) = outcome else { return Ok(()) };
        let question =
            format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", literal(self.temporary));
        match self.psql.run(&[&question]) {
            Ok(found) if found.is_empty() => Ok(()),
            _ => Err(error),
        }
    }

    fn allow_connections(&self, name: &str, allowed: bool) -> Result<()> {
        self.psql
            .run(&[&format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}", identifier(name))])
            .map(drop)
    }

    fn dispose(&self, old: &str, open: bool) -> Vec<String> {
        if self.keep_old {
            let reopened = if open { self.allow_connections(old, true) } else { Ok(()) };
            let mut warnings = vec![format!("the database that was replaced is kept as \"{old}\"")];
            warnings.extend(reopened.err().map(|error| format!("it allows no connections: {error}")));
            return warnings;
        }
        match drop_database(&self.psql, old) {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!(
                "the database that was replaced is still there as \"{old}\": {}",
                error.detail()
            )],
        }
    }
}

//! One database of MariaDB or MySQL, put back: loaded beside the live one, then swapped in by `mariadb_swap.rs`.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::time::Duration;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, attribute};

use crate::interrupt;
use crate::mariadb::{CHARACTER_SET, COLLATION, defaults_of};
use crate::mariadb_filter::{Filter, Rewrite};
use crate::mariadb_journal;
use crate::mariadb_stream;
use crate::mariadb_swap::{Swap, create_database, drop_database};
use crate::mariadb_tools::{MariadbServer, Role, Session, Tool, literal};
use crate::postgres_swap::name_beside;
use crate::{Error, Result, Target};

/// How long one step of the swap, or tidying up, may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(600);

/// Where to restore to.
#[derive(Clone, Debug)]
pub struct MariadbTargetOptions {
    /// The server. Its user must be allowed to create databases, unless `in_place` is set.
    pub server: MariadbServer,
    /// The database to make or replace.
    pub database: String,
    /// Further arguments for the client that loads the dump.
    pub load_options: Vec<String>,
    /// Load into the live database, as the classic tools do: what fails half-way leaves it half loaded, and tables
    /// that the dump does not have stay.
    pub in_place: bool,
    /// Keep the database that was replaced, under the name that the report tells.
    pub keep_old: bool,
}

impl MariadbTargetOptions {
    /// Options for a database, with everything else left to its default.
    pub fn new(server: MariadbServer, database: impl Into<String>) -> MariadbTargetOptions {
        MariadbTargetOptions {
            server,
            database: database.into(),
            load_options: Vec::new(),
            in_place: false,
            keep_old: false,
        }
    }
}

/// Restores one database.
#[derive(Debug)]
pub struct MariadbTarget {
    options: MariadbTargetOptions,
    session: Option<Session>,
    /// [`Target::occupied`] found nothing there, so nothing may be replaced.
    found_free: bool,
    loaded: Option<Loaded>,
    warnings: Vec<String>,
    /// What had to be done before.
    taken_back: Vec<String>,
}

/// A database that holds what was loaded; dropped with the target, unless it is the live one.
#[derive(Debug)]
struct Loaded {
    name: String,
    /// Default character set and collation that the dumped database had.
    defaults: Option<(String, String)>,
    /// Events that would be awake.
    slept: BTreeSet<String>,
}

impl MariadbTarget {
    /// Connects to nothing yet. Errors: [`Error::Connect`] when no database is named.
    pub fn new(options: MariadbTargetOptions) -> Result<MariadbTarget> {
        if options.database.is_empty() {
            let message = "no database is named".to_owned();
            return Err(Error::Connect { server: options.server.place(), message });
        }
        Ok(MariadbTarget {
            options,
            session: None,
            found_free: false,
            loaded: None,
            warnings: Vec::new(),
            taken_back: Vec::new(),
        })
    }

    fn session(&mut self) -> Result<Session> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let session = Session::new(&self.options.server, &[], &[])?;
        self.session = Some(session.clone());
        Ok(session)
    }

    /// Feeds the client. Ok: all of the dump was there, and all of it was taken.
    fn feed(&mut self, session: &Session, meta: &EntryMeta, name: &str, body: &mut dyn Read) -> Result<()> {
        let in_place = self.options.in_place;
        let from = meta.attributes.get(attribute::DATABASE).filter(|from| *from != name);
        let rewrite = Rewrite {
            database: from.map(|from| (from.clone(), name.to_owned())),
            sleep: !in_place,
            wake: BTreeSet::new(),
        };
        let mut filter = Filter::new(body, rewrite);
        let mut writer = session.loader(Some(name), &self.options.load_options).spawn_writer()?;
        let fed = writer.feed(&mut filter);
        // A dump that was cut explains whatever the client makes of it, and must not pass where it makes nothing of it.
        let outcome = fed.and_then(|_| writer.finish());
        if outcome.is_ok() {
            io::copy(&mut filter, &mut io::sink())
                .map_err(|error| Error::from_io("read what is to be restored", error))?;
        }
        let (ended, dump, slept) = filter.finish();
        if ended {
            mariadb_stream::finish(dump, &meta.name)?;
        }
        self.warnings = outcome.map_err(|error| with_hint(session.explained(error)))?;
        if let Some(loaded) = &mut self.loaded {
            loaded.slept = slept;
        }
        Ok(())
    }

    /// Takes back swaps that were cut short.
    fn take_back(&mut self, session: &Session) -> Result<()> {
        for journal in mariadb_journal::cut_short(session, &self.options.database)? {
            let swap = Swap {
                dump: Tool::find(&self.options.server, Role::Dump)?,
                session: session.uninterrupted(STEP_TIMEOUT),
                temporary: &journal.temporary,
                name: &self.options.database,
                defaults: None,
                wake: &BTreeSet::new(),
                may_replace: false,
                keep_old: false,
            };
            swap.undo_later(&journal)?;
            self.taken_back.push(format!(
                "a restore that a crash had cut short was taken back first; what it had loaded is in the database \"{}\"",
                journal.temporary
            ));
        }
        Ok(())
    }

    fn drop_loaded(&mut self) {
        let (Some(loaded), Some(session)) = (self.loaded.take(), &self.session) else { return };
        if self.options.in_place {
            return;
        }
        if let Err(error) = drop_database(&session.uninterrupted(STEP_TIMEOUT), &loaded.name) {
            tracing::warn!(database = %loaded.name, %error, "the half-restored database could not be dropped");
        }
    }
}

impl Target for MariadbTarget {
    fn occupied(&mut self) -> Result<Option<String>> {
        let session = self.session()?;
        let name = literal(&self.options.database);
        let question = format!(
            "SELECT COUNT(*), COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0), \
             (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name}) + \
             (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name}) \
             FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name}"
        );
        let row = session.query(&question)?.pop().unwrap_or_default();
        let number = |at: usize| row.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        self.found_free = number(0) + number(2) == 0.0;
        let (database, place) = (&self.options.database, self.options.server.place());
        let size = format!("{} tables, {:.0} MiB", number(0), (number(1) / 1_048_576.0).ceil());
        Ok((!self.found_free).then(|| format!("database \"{database}\" on {place} ({size})")))
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        let unsuitable = |detail: String| Err(Error::Unsuitable { name: meta.name.clone(), detail });
        if !matches!(meta.kind, EntryKind::Mariadb | EntryKind::Mysql) {
            return unsuitable(format!("it is of kind {}, not a dump of MariaDB or MySQL", meta.kind.name()));
        }
        if let Some(part) = meta.attributes.get(attribute::PART) {
            return unsuitable(format!("it holds {part}, not a database"));
        }
        self.drop_loaded();
        self.warnings.clear();
        let session = self.session()?;
        self.take_back(&session)?;
        let of = |key: &str| meta.attributes.get(key).cloned();
        let defaults = of(CHARACTER_SET).zip(of(COLLATION));
        let live = self.options.database.clone();
        let name = if self.options.in_place { live } else { name_beside(&live, "")? };
        if !self.options.in_place || defaults_of(&session, &name)?.is_none() {
            // From now on there may be something to remove, even if the answer never arrives.
            self.loaded =
                Some(Loaded { name: name.clone(), defaults: defaults.clone(), slept: BTreeSet::new() });
            create_database(&session, &name, defaults.as_ref())?;
        }
        self.loaded = Some(Loaded { name: name.clone(), defaults, slept: BTreeSet::new() });
        self.feed(&session, meta, &name, body)
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        interrupt::check(&self.options.server.interrupt)?;
        let session = self.session()?;
        let Some(loaded) = &self.loaded else {
            return Err(Error::Unsuitable {
                name: self.options.database.clone(),
                detail: "nothing was loaded".to_owned(),
            });
        };
        if !self.options.in_place {
            let swap = Swap {
                dump: Tool::find(&self.options.server, Role::Dump)?,
                session: session.uninterrupted(STEP_TIMEOUT),
                temporary: &loaded.name,
                name: &self.options.database,
                defaults: loaded.defaults.as_ref(),
                wake: &loaded.slept,
                may_replace: !self.found_free,
                keep_old: self.options.keep_old,
            };
            let warnings = swap.run()?;
            self.warnings.extend(warnings);
        }
        self.loaded = None;
        self.warnings.append(&mut self.taken_back);
        Ok(EntryReport { warnings: std::mem::take(&mut self.warnings), ..EntryReport::default() })
    }
}

impl Drop for MariadbTarget {
    fn drop(&mut self) {
        self.drop_loaded();
    }
}

/// Adds the way out to the error of a user who may not do enough.
fn with_hint(error: Error) -> Error {
    let Error::ProgramFailed { program, how, stderr } = error else { return error };
    if !stderr.contains("ERROR 1227 ") {
        return Error::ProgramFailed { program, how, stderr };
    }
    let hint = "the dump has objects that belong to other users: restore as a user who may create these";
    Error::ProgramFailed { program, how, stderr: format!("{stderr}\n{hint}") }
}

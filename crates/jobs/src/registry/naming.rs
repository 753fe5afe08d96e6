//! Names of entries: databases of one name on several servers are told apart.

use std::collections::{BTreeMap, BTreeSet};

use dbvault_format::entry::{EntryReport, attribute};
use dbvault_source::{Entry, Error as SourceError, Result as SourceResult, Source};

use crate::database::Database;

/// The word for the server of an item: its label, else its host and port.
pub(super) fn server(database: &Database) -> String {
    let source = &database.source;
    let socket = source.socket_path.as_ref().map(|path| path.display().to_string());
    let host = source.hostname.clone().or(socket).unwrap_or_else(|| "localhost".to_owned());
    let place = source.port.map_or(host.clone(), |port| format!("{host}:{port}"));
    database.label.clone().unwrap_or(place)
}

/// A source, with the words for its server and for its kind.
pub(super) type Placed = (String, &'static str, Box<dyn Source>);

/// Gives sources of the same name, or group, the word for their server behind it: `users@db1`. Where that is the same
/// too, the kind of database: `users@mariadb`.
pub(super) fn tell_apart(sources: Vec<Placed>) -> Vec<Box<dyn Source>> {
    let whole = |source: &dyn Source| source.group().unwrap_or(source.name()).to_owned();
    let mut places: BTreeMap<String, BTreeSet<(String, &str)>> = BTreeMap::new();
    for (server, kind, source) in &sources {
        places.entry(whole(&**source)).or_default().insert((server.clone(), kind));
    }
    let rename = |(server, kind, source): Placed| -> Box<dyn Source> {
        let whole = whole(&*source);
        let Some(places) = places.get(&whole).filter(|places| places.len() > 1) else { return source };
        let servers: BTreeSet<&String> = places.iter().map(|(server, _)| server).collect();
        let kinds: BTreeSet<&str> = places.iter().map(|(_, kind)| *kind).collect();
        let server = match (servers.len() == places.len(), kinds.len() == places.len()) {
            (true, _) => server,
            (false, true) => kind.to_owned(),
            (false, false) => format!("{kind}:{server}"),
        };
        let group = source.group().map(|_| format!("{whole}@{server}"));
        let rest = source.name().strip_prefix(&whole).unwrap_or_default();
        Box::new(Renamed { name: format!("{whole}@{server}{rest}"), group, inner: source })
    };
    sources.into_iter().map(rename).collect()
}

/// A source under another name.
struct Renamed {
    name: String,
    group: Option<String>,
    inner: Box<dyn Source>,
}

impl Source for Renamed {
    fn name(&self) -> &str {
        &self.name
    }

    fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    fn open(&mut self) -> SourceResult<Entry> {
        let mut entry = self.inner.open()?;
        entry.meta.name = self.name.clone();
        if let Some(group) = &self.group {
            entry.meta.attributes.insert(attribute::WHOLE.to_owned(), group.clone());
        }
        Ok(entry)
    }

    fn finish(self: Box<Self>) -> SourceResult<EntryReport> {
        self.inner.finish()
    }
}

/// The source under the name that the user wants.
pub(super) fn renamed(inner: Box<dyn Source>, name: String) -> Box<dyn Source> {
    Box::new(Renamed { name, group: inner.group().map(str::to_owned), inner })
}

/// A source that has failed before it began.
pub(super) fn failed(name: String, error: SourceError) -> Box<dyn Source> {
    Box::new(Failed { name, error: Some(error) })
}

struct Failed {
    name: String,
    error: Option<SourceError>,
}

impl Source for Failed {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self) -> SourceResult<Entry> {
        Err(self.error.take().unwrap_or(SourceError::Interrupted))
    }

    fn finish(self: Box<Self>) -> SourceResult<EntryReport> {
        Err(SourceError::Interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbvault_source::StdinSource;

    #[test]
    fn only_what_has_one_name_on_several_servers_gets_another() {
        let source = |name: &str| Box::new(StdinSource::new(name, Default::default())) as Box<dyn Source>;
        let told = |all: &[(&str, &'static str, &str)]| -> Vec<String> {
            let all = all.iter().map(|(server, kind, name)| ((*server).to_owned(), *kind, source(name)));
            tell_apart(all.collect()).iter().map(|source| source.name().to_owned()).collect()
        };
        let (pg, my) = ("postgresql", "mariadb");
        let names = told(&[("db1", pg, "users"), ("db1", pg, "orders"), ("db2", pg, "users")]);
        assert_eq!(names, ["users@db1", "orders", "users@db2"]);
        assert_eq!(told(&[("db1", pg, "a"), ("db1", my, "a")]), ["a@postgresql", "a@mariadb"]);
        let three = told(&[("db1", pg, "a"), ("db1", my, "a"), ("db2", pg, "a")]);
        assert_eq!(three, ["a@postgresql:db1", "a@mariadb:db1", "a@postgresql:db2"]);
    }
}

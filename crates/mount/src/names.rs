//! Names of entries, archives and times as names of files.

use dbvault_format::entry::{EntryKind, attribute, part};
use dbvault_format::manifest::EntryRecord;
use jiff::Timestamp;

/// Longest name that is made here, bytes: systems take 255, and something may be put behind it.
const NAME_BYTES_MAX: usize = 200;

/// `text` as the name of a file: slashes and control characters are written as `%2F`, and no name leads elsewhere.
pub(crate) fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '/' || character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        } else {
            name.push(character);
        }
    }
    if name.chars().all(|character| character == '.') {
        name = name.replace('.', "%2E");
    }
    if name.len() > NAME_BYTES_MAX {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX - 9));
        name.push('~');
        name.push_str(&hash[..8]);
    }
    name
}

/// `text` as a path: what is between its slashes are directories, and the file in them.
pub(crate) fn path(text: &str) -> Vec<String> {
    let mut path: Vec<String> = text.split('/').filter(|part| !part.is_empty()).map(file_name).collect();
    if path.is_empty() {
        path.push(file_name(text));
    }
    path
}

/// `name` with the extension that programs expect of such an entry, where it has none that says the same.
pub(crate) fn with_extension(name: &str, entry: &EntryRecord) -> String {
    let known = extensions(entry);
    let has = |extension: &&str| {
        name.rsplit_once('.')
            .is_some_and(|(stem, end)| !stem.is_empty() && end.eq_ignore_ascii_case(extension))
    };
    match known.first() {
        Some(first) if !known.iter().any(has) => format!("{name}.{first}"),
        _ => name.to_owned(),
    }
}

/// Extensions of what an entry's bytes are, the usual one first; none where that is not known.
fn extensions(entry: &EntryRecord) -> &'static [&'static str] {
    let format = entry.attribute(attribute::FORMAT).unwrap_or_default();
    let is_sql =
        entry.attribute(attribute::PART).is_some_and(|part| [part::GLOBALS, part::SETTINGS].contains(&part));
    match entry.meta.kind {
        EntryKind::Stdin | EntryKind::Command | EntryKind::File | EntryKind::Tree => &[],
        EntryKind::Postgresql if is_sql || format == "plain" => &["sql"],
        EntryKind::Postgresql if format == "tar" => &["tar"],
        EntryKind::Postgresql => &["dump", "pgdump"],
        EntryKind::Sqlite => &["db", "sqlite", "sqlite3", "db3", "s3db"],
        EntryKind::Mariadb | EntryKind::Mysql => &["sql"],
        EntryKind::Redis => &["rdb"],
        EntryKind::Mongodb => &["archive"],
        EntryKind::Dolt => &["tar"],
    }
}

/// A time as it stands in names: UTC, to the second, in the order of time.
pub(crate) fn time(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H-%M-%SZ").to_string()
}

/// `name`, or with a number behind it what nobody has yet; the number goes before the extension.
pub(crate) fn unused(name: &str, is_used: impl Fn(&str) -> bool) -> String {
    if !is_used(name) {
        return name.to_owned();
    }
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let numbered = (2_u64..).map(|number| format!("{stem}~{number}{extension}"));
    numbered.into_iter().find(|name| !is_used(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbvault_format::chunk_list::StreamRef;
    use dbvault_format::entry::{EntryMeta, EntryReport, Grid};
    use dbvault_format::manifest::Sizes;

    fn entry(kind: EntryKind, attributes: &[(&str, &str)]) -> EntryRecord {
        let attributes =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        EntryRecord {
            meta: EntryMeta { name: "x".into(), kind, grid: Grid::Content, attributes },
            stream: StreamRef::default(),
            sizes: Sizes::default(),
            duration_ms: 0,
            report: EntryReport::default(),
            table: None,
        }
    }

    #[test]
    fn no_name_leads_elsewhere() {
        assert_eq!(path("/srv/app.db"), ["srv", "app.db"]);
        assert_eq!(path("../../etc//passwd"), ["%2E%2E", "%2E%2E", "etc", "passwd"]);
        assert_eq!(path("./a"), ["%2E", "a"]);
        assert_eq!(path("/"), ["%2F"]);
        assert_eq!(path("..."), ["%2E%2E%2E"]);
        assert_eq!(file_name("a/b\n\u{85}"), "a%2Fb%0A%C2%85");
        assert_eq!(file_name("Kunden-Ä 'x'"), "Kunden-Ä 'x'");
    }

    #[test]
    fn long_names_fit_and_stay_apart() {
        let (one, other) = ("ä".repeat(1000), "ä".repeat(1001));
        assert!(file_name(&one).len() <= NAME_BYTES_MAX);
        assert_ne!(file_name(&one), file_name(&other));
        assert_eq!(file_name(&one), file_name(&one));
    }

    #[test]
    fn extensions_are_what_programs_expect() {
        use EntryKind::{File, Postgresql, Redis, Sqlite, Stdin};
        for (name, kind, attributes, want) in [
            ("users", Postgresql, &[("format", "custom")][..], "users.dump"),
            ("users", Postgresql, &[("format", "plain")], "users.sql"),
            ("users", Postgresql, &[("format", "tar")], "users.tar"),
            ("my.db", Postgresql, &[("format", "custom")], "my.db.dump"),
            ("globals", Postgresql, &[("part", "globals")], "globals.sql"),
            ("pre-data", Postgresql, &[("format", "custom"), ("part", "pre-data")], "pre-data.dump"),
            ("app.db", Sqlite, &[], "app.db"),
            ("app.SQLite3", Sqlite, &[], "app.SQLite3"),
            ("app", Sqlite, &[], "app.db"),
            (".db", Sqlite, &[], ".db.db"),
            ("cache", Redis, &[("format", "rdb")], "cache.rdb"),
            ("people.csv", Stdin, &[], "people.csv"),
            ("config.yaml", File, &[], "config.yaml"),
        ] {
            assert_eq!(with_extension(name, &entry(kind, attributes)), want, "{name}");
        }
    }

    #[test]
    fn taken_names_get_a_number() {
        let taken = ["a.dump", "a~2.dump", "b", ".c"];
        let is_used = |name: &str| taken.contains(&name);
        for (name, want) in [("a.dump", "a~3.dump"), ("b", "b~2"), (".c", ".c~2"), ("d", "d")] {
            assert_eq!(unused(name, is_used), want);
        }
    }

    #[test]
    fn times_are_in_order_and_safe_in_a_shell() {
        assert_eq!(time(1_769_860_800_999), "2026-01-31T12-00-00Z");
        assert_eq!(time(i64::MAX), "1970-01-01T00-00-00Z");
    }
}

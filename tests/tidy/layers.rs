//! Which crate may depend on which: the table of `docs/architecture.md` against the manifests.

use crate::{Breaches, FILES};

const DOCUMENT: &str = "docs/architecture.md";
/// For tests of every crate, for the product of none.
const TESTKIT: &str = "dbvault-testkit";

/// A row of the table.
struct Layer {
    /// `crates/<folder>`.
    folder: String,
    /// Packages it may depend on; None: all.
    allowed: Option<Vec<String>>,
}

/// Compares. `read` gives the text of a file of the project.
pub(crate) fn check(breaches: &mut Breaches, read: impl Fn(&str) -> Option<&'static str>) {
    let layers = table(read(DOCUMENT).unwrap_or_default());
    if layers.is_empty() {
        breaches.add(DOCUMENT, 1, "has no table with the columns \"folder\" and \"may depend on\"");
        return;
    }
    for path in FILES.iter().map(|file| file.path.as_str()) {
        let folder = match path {
            "Cargo.toml" => "crates/cli",
            _ => match path.strip_suffix("/Cargo.toml") {
                Some(folder) if folder.starts_with("crates/") => folder,
                _ => continue,
            },
        };
        let Some(layer) = layers.iter().find(|layer| layer.folder == folder) else {
            breaches.add(path, 1, format!("{folder} is not in the table of {DOCUMENT}"));
            continue;
        };
        for (line, package) in own_dependencies(read(path).unwrap_or_default()) {
            let allowed =
                layer.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == package));
            if !allowed || package == TESTKIT {
                breaches.add(path, line, format!("{folder} may not depend on {package}: see {DOCUMENT}"));
            }
        }
    }
}

fn table(document: &str) -> Vec<Layer> {
    let row = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines =
        document.lines().skip_while(|line| !(line.contains("folder") && line.contains("may depend on")));
    let header = lines.next().map(row).unwrap_or_default();
    let column = |word: &str| header.iter().position(|cell| cell.starts_with(word));
    let (Some(folder), Some(allowed)) = (column("folder"), column("may depend on")) else {
        return Vec::new();
    };
    let rows = lines.skip(1).take_while(|line| line.trim_start().starts_with('|')).map(row);
    rows.filter_map(|cells| {
        let place = cells.get(folder)?.find("crates/")?;
        let name: String = cells[folder][place..].chars().take_while(|c| !"` ,)".contains(*c)).collect();
        Some(Layer { folder: name, allowed: packages(cells.get(allowed)?) })
    })
    .collect()
}

/// `format, storage` as packages; None for `all`.
fn packages(cell: &str) -> Option<Vec<String>> {
    let words = cell.split(',').map(|word| word.trim().trim_matches('`')).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    if words == ["all"] {
        return None;
    }
    Some(words.iter().map(|word| format!("dbvault-{}", word.trim_start_matches("dbvault-"))).collect())
}

/// The project's own packages in a manifest's dependencies, but for those of its tests, with their lines.
fn own_dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let (mut concerned, mut found) = (false, Vec::new());
    for (index, line) in manifest.lines().enumerate() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            let depends = section.ends_with("dependencies");
            concerned =
                depends && !section.ends_with("dev-dependencies") && !section.starts_with("workspace");
        } else if concerned && line.starts_with("dbvault-") {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            found.push((index + 1, name));
        }
    }
    found
}

#[test]
fn the_table_and_a_manifest_are_understood() {
    let layers = table(
        "text\n| layer | folder (package) | may depend on |\n|---|---|---|\n| 0 | `crates/a` (dbvault-a) | - |\n\
        | 1 | `crates/b` | a, `c` |\n| 4 | root, `crates/cli` | all |\n\nmore",
    );
    let found: Vec<_> = layers.into_iter().map(|layer| (layer.folder, layer.allowed)).collect();
    let names = |names: &[&str]| Some(names.iter().map(|name| format!("dbvault-{name}")).collect::<Vec<_>>());
    let want = [("crates/a", names(&["-"])), ("crates/b", names(&["a", "c"])), ("crates/cli", None)];
    assert_eq!(found, want.map(|(folder, allowed)| (folder.to_owned(), allowed)));

    let manifest = "[workspace.dependencies]\ndbvault-a = 1\n[dependencies]\ndbvault-b.workspace = true\nserde = \"1\"\n\
        [dev-dependencies]\ndbvault-c = 1\n[target.x.dependencies]\ndbvault-d = 1\n";
    assert_eq!(own_dependencies(manifest), [(4, "dbvault-b"), (9, "dbvault-d")]);
}

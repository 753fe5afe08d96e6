//! Arguments that users give to the dump programs of MariaDB and MySQL: which of them can be passed on.

use std::path::PathBuf;

use crate::mariadb_tools::GivenDefaults;
use crate::{Error, Result};

/// These would leave out the last line, by which a whole dump is known.
const WITHOUT_MARKER: [&str; 4] =
    ["--skip-comments", "--disable-comments", "--compact", "--loose-skip-comments"];
/// These would write to another place, in another shape, or what was not asked for.
const REFUSED: [&str; 16] = [
    "--tab",
    "-T",
    "--result-file",
    "-r",
    "--xml",
    "-X",
    "--all-databases",
    "-A",
    "--databases",
    "-B",
    "--system",
    "--help",
    "-?",
    "--version",
    "-V",
    "--dir",
];

/// The words of `options` that are passed on, and what to tell the user of the others.
///
/// Errors: an option with which there would be no dump.
pub(crate) fn dump_options(entry: &str, options: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    let mut kept = Vec::new();
    let mut warnings = Vec::new();
    for word in options {
        let (name, value) =
            word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        let off = value.is_some_and(|value| ["0", "false", "off"].contains(&value.to_lowercase().as_str()));
        if WITHOUT_MARKER.contains(&name) || (name == "--comments" && off) {
            warnings.push(format!("{word} is left out: without comments a dump that was cut looks whole"));
            continue;
        }
        let joined =
            |refused: &&str| refused.len() == 2 && word.starts_with(*refused) && !word.starts_with("--");
        if REFUSED.iter().any(|refused| *refused == name || joined(refused)) {
            return Err(Error::Unsuitable {
                name: entry.to_owned(),
                detail: format!("its dump can't be made with the option {name}"),
            });
        }
        kept.push(word.clone());
    }
    Ok((kept, warnings))
}

/// Takes out the words about option files, which must go before all others; the last one counts.
pub(crate) fn without_defaults(options: &[String]) -> (Vec<String>, Option<GivenDefaults>) {
    let mut given = None;
    let mut kept = Vec::new();
    for word in options {
        let path = |name: &str| word.strip_prefix(name).map(PathBuf::from);
        if word == "--no-defaults" {
            given = Some(GivenDefaults::None);
        } else if let Some(path) = path("--defaults-extra-file=") {
            given = Some(GivenDefaults::Extra(path));
        } else if let Some(path) = path("--defaults-file=") {
            given = Some(GivenDefaults::Only(path));
        } else {
            kept.push(word.clone());
        }
    }
    (kept, given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_would_hide_a_cut_is_left_out() {
        let (kept, warnings) =
            dump_options("e", &words("--skip-comments --where=1 --comments=0 --compact")).unwrap();
        assert_eq!((kept, warnings.len()), (words("--where=1"), 3));
        assert_eq!(dump_options("e", &words("--comments --dump-date")).unwrap().1.len(), 0);
    }

    #[test]
    fn what_would_write_elsewhere_is_refused() {
        for bad in ["--tab=/x", "-T/x", "-r x", "--result-file=x", "--all-databases", "-B", "--xml"] {
            assert!(dump_options("e", &words(bad)).is_err(), "{bad}");
        }
        assert!(dump_options("e", &words("--triggers --tz-utc")).is_ok());
    }

    #[test]
    fn words_about_option_files_are_taken_out() {
        let (kept, given) = without_defaults(&words("--a --defaults-extra-file=/x/my.cnf --b"));
        assert_eq!(kept, words("--a --b"));
        assert_eq!(given, Some(GivenDefaults::Extra("/x/my.cnf".into())));
    }
}

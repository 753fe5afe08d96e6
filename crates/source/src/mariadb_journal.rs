//! What is to be taken back when a swap is cut short, kept on the server: neither dbvault nor the server may be there
//! to the end of it.
//!
//! Statements that define tables are no transaction on these servers. So all of them are handed to one client at once,
//! which goes on when dbvault is killed; and before the first of them everything that is needed to take them back is
//! written to a table, which the last one drops. Where it is found, a swap did not come to its end: the next restore
//! takes it back before it begins, and no dump is made before that.

use serde::{Deserialize, Serialize};

use crate::mariadb_tools::{Session, identifier, literal};
use crate::{Error, Result};

/// Name of the table, in the database that takes the replaced tables.
pub(crate) const TABLE: &str = "dbvault_journal";
/// Longest statement that is sent as one piece, bytes: servers refuse more than `max_allowed_packet`.
const PIECE_BYTES: usize = 256 << 10;

/// What must be known to take a swap back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// The database that is replaced.
    pub(crate) name: String,
    /// The one that was loaded.
    pub(crate) temporary: String,
    /// The one that takes the replaced tables.
    pub(crate) beside: String,
    /// Tables that were loaded.
    pub(crate) tables: Vec<String>,
    /// What was there before; `None` where no database of the name was.
    pub(crate) old: Option<Old>,
}

/// What was there before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Old {
    pub(crate) tables: Vec<String>,
    /// Triggers, events, routines and views, as SQL.
    pub(crate) code: String,
    /// Statements that give back what users may do with routines.
    pub(crate) grants: Vec<String>,
    /// Default character set and collation.
    pub(crate) defaults: (String, String),
}

impl Journal {
    /// Statements that write it; the lock that they take first, by the name of [`Journal::beside`], tells that the client
    /// which swaps is there. It is held until after [`Journal::end`].
    pub(crate) fn statements(&self) -> Result<String> {
        let json = serde_json::to_string(self)
            .map_err(|error| Error::io("write down what a swap replaces")(error.into()))?;
        let table = self.table();
        let mut sql = format!(
            "DO GET_LOCK({}, 0);\n\
             CREATE TABLE {table} (place INT PRIMARY KEY, text LONGTEXT NOT NULL) CHARACTER SET utf8mb4;\n",
            literal(&self.beside)
        );
        for (place, piece) in pieces(&json).enumerate() {
            sql += &format!("INSERT INTO {table} VALUES ({place}, {});\n", literal(piece));
        }
        Ok(sql)
    }

    /// The statement that says that the swap has come to its end.
    pub(crate) fn end(&self) -> String {
        format!("DROP TABLE {};\n", self.table())
    }

    fn table(&self) -> String {
        format!("{}.{TABLE}", identifier(&self.beside))
    }
}

/// Swaps of the database `name` that were cut short, as far as the user may see them. Others may go on meanwhile.
///
/// Errors: one of `name` is going on right now.
pub(crate) fn cut_short(session: &Session, name: &str) -> Result<Vec<Journal>> {
    let mut journals = Vec::new();
    for beside in databases_with_one(session)? {
        // Asked before it is read: one that is there although nobody held the lock is not one that ends meanwhile.
        let question = format!("SELECT IS_USED_LOCK({}) IS NOT NULL", literal(&beside));
        let goes_on = session.query(&question)?.iter().flatten().any(|held| held == "1");
        let Some(json) = read(session, &beside)? else { continue };
        // One that is not whole was cut short before anything was touched.
        let Ok(journal) = serde_json::from_str::<Journal>(&json) else { continue };
        if journal.name != name || journal.beside != beside {
            continue;
        }
        if goes_on {
            return Err(Error::Database {
                what: format!("use \"{name}\""),
                message: "a restore is putting something in its place right now: try again in a moment"
                    .to_owned(),
            });
        }
        journals.push(journal);
    }
    Ok(journals)
}

/// Databases that hold a journal.
fn databases_with_one(session: &Session) -> Result<Vec<String>> {
    let found = session.query(&format!(
        "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_NAME = '{TABLE}' \
         AND LOCATE('__dbvault_old_', TABLE_SCHEMA) > 0 ORDER BY TABLE_SCHEMA"
    ))?;
    Ok(found.into_iter().filter_map(|row| row.into_iter().next()).collect())
}

/// The text of the one in the database `beside`; `None` when it is gone by now: its swap came to its end.
fn read(session: &Session, beside: &str) -> Result<Option<String>> {
    match session.query(&format!("SELECT text FROM {}.{TABLE} ORDER BY place", identifier(beside))) {
        Ok(rows) => Ok(Some(rows.into_iter().flatten().collect())),
        Err(error) if databases_with_one(session)?.iter().any(|there| there == beside) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The text in pieces of some length.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(text.floor_char_boundary(PIECE_BYTES));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole() {
        let text = "ä".repeat(PIECE_BYTES);
        assert_eq!(pieces(&text).collect::<String>(), text);
        assert!(pieces(&text).all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(pieces("").count(), 0);
    }
}

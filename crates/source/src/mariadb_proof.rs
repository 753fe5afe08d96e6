//! Questions to a database of MariaDB or MySQL that was just restored: how many rows has it?

use std::collections::BTreeMap;

use crate::Result;
use crate::mariadb_tools::{MariadbServer, Session, identifier, literal};

/// Tables that are counted by one question.
const TABLES_AT_ONCE: usize = 100;
/// Engines whose rows are elsewhere, and in no dump.
const ROWS_ELSEWHERE: [&str; 7] =
    ["MRG_MYISAM", "MRG_ISAM", "CONNECT", "OQGRAPH", "SPIDER", "VP", "FEDERATED"];

/// Rows of each table, by the names that [`crate::row_counts`] has them under.
pub fn mariadb_row_counts(server: &MariadbServer, database: &str) -> Result<BTreeMap<String, u64>> {
    let session = Session::new(server, &[], &[])?;
    let tables = session.query(&format!(
        "SELECT TABLE_NAME, COALESCE(ENGINE, ''), TABLE_TYPE FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {} AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')",
        literal(database)
    ))?;
    let mut rows = BTreeMap::new();
    let mut questions = Vec::new();
    for table in &tables {
        let [name, engine, kind] = table.as_slice() else { continue };
        if ROWS_ELSEWHERE.iter().any(|elsewhere| engine.eq_ignore_ascii_case(elsewhere)) {
            rows.insert(name.clone(), 0);
            continue;
        }
        // History is in a dump where the user wanted it, and else there is none here.
        let all = if kind == "SYSTEM VERSIONED" { " FOR SYSTEM_TIME ALL" } else { "" };
        let from = format!("{}.{}", identifier(database), identifier(name));
        questions.push(format!("SELECT {}, COUNT(*) FROM {from}{all}", literal(name)));
    }
    for questions in questions.chunks(TABLES_AT_ONCE) {
        for answer in session.query(&questions.join(" UNION ALL "))? {
            let [name, count] = answer.as_slice() else { continue };
            rows.insert(name.clone(), count.parse().unwrap_or(u64::MAX));
        }
    }
    Ok(rows)
}

/// The first field of the first row that a question gives.
pub fn mariadb_ask(server: &MariadbServer, database: &str, question: &str) -> Result<Option<String>> {
    let rows = Session::new(server, &[], &[])?.query_in(Some(database), question)?;
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()))
}

/// Drops a database of a private server.
pub fn mariadb_drop(server: &MariadbServer, database: &str) -> Result<()> {
    Session::new(server, &[], &[])?
        .execute(None, &format!("DROP DATABASE {}", identifier(database)))
        .map(drop)
}

//! Questions to a PostgreSQL database that was just restored: is it what was backed up?

use std::collections::BTreeMap;

use crate::Result;
use dbvault_dump::names::table_name;

use crate::postgres::{PostgresOptions, conninfo_of};
use crate::postgres_tools::{Psql, Tools, identifier, literal};

/// Tables that are counted by one question.
const TABLES_AT_ONCE: usize = 100;

fn psql(options: &PostgresOptions) -> Result<Psql> {
    let tool = Tools::new(options.bin_dir.clone()).newest("psql")?;
    Ok(Psql::new(tool, conninfo_of(options)?, &options.interrupt))
}

/// Rows of each table, by the names that [`crate::row_counts`] has them under.
pub fn postgres_row_counts(options: &PostgresOptions) -> Result<BTreeMap<String, u64>> {
    let psql = psql(options)?;
    let fields = psql.run(&["SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"])?;
    let tables: Vec<(&String, &String)> = fields.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect();
    let mut rows = BTreeMap::new();
    for tables in tables.chunks(TABLES_AT_ONCE) {
        let questions = tables.iter().map(|(schema, name)| {
            let key = literal(&table_name(schema, name));
            format!("SELECT {key}, count(*) FROM ONLY {}.{}", identifier(schema), identifier(name))
        });
        let question = questions.collect::<Vec<_>>().join(" UNION ALL ");
        let answer = psql.run(&["SET row_security = off", &question])?;
        rows.extend(
            answer.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].parse().unwrap_or(u64::MAX))),
        );
    }
    Ok(rows)
}

/// The fields of all rows that a question gives.
pub fn postgres_ask(options: &PostgresOptions, question: &str) -> Result<Vec<String>> {
    psql(options)?.run(&[question])
}

/// Makes a role that a dump names and a private server lacks.
pub fn postgres_make_role(options: &PostgresOptions, name: &str) -> Result<()> {
    psql(options)?.run(&[&format!("CREATE ROLE {}", identifier(name))]).map(drop)
}

//! A table in a dump.

use crate::names;

/// What a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableKind {
    /// A table with rows of its own.
    Table,
    /// One whose rows are in its partitions.
    PartitionedTable,
    /// One whose rows are somewhere else.
    ForeignTable,
    /// A view.
    View,
    /// A view that keeps its rows; they are not in the dump.
    MaterializedView,
    /// A virtual table of SQLite: an extension answers for it.
    VirtualTable,
}

impl TableKind {
    /// The words for it.
    pub fn name(self) -> &'static str {
        match self {
            TableKind::Table => "table",
            TableKind::PartitionedTable => "partitioned table",
            TableKind::ForeignTable => "foreign table",
            TableKind::View => "view",
            TableKind::MaterializedView => "materialized view",
            TableKind::VirtualTable => "virtual table",
        }
    }
}

/// A table, a view, or what else has columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its schema; none in SQLite.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// How many rows the dump has of it, where that was counted while it was backed up.
    pub rows: Option<u64>,
    /// Bytes of its rows in the dump, where that is known without reading all of it.
    pub bytes: Option<u64>,
    /// The dump has rows of it: [`crate::Contents::rows`] can give them, be it none.
    pub has_rows: bool,
    /// Where what opened the dump finds it.
    pub(crate) place: Place,
}

/// Where a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The entry that makes it.
    pub(crate) definition: Option<usize>,
    /// The entry that has its rows.
    pub(crate) data: Option<usize>,
    /// The root page of an SQLite table.
    pub(crate) root: u32,
}

impl Table {
    /// Its name as SQL writes it, with its schema and with quotation marks where they are needed.
    pub fn sql_name(&self) -> String {
        match &self.schema {
            Some(schema) => names::table_name(schema, &self.name),
            None => names::quoted(&self.name),
        }
    }
}

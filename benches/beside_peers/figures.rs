//! Everything that was measured: a value, or one for each round, by section, row and column of the report.

use crate::measure::Usage;

const MEGABYTE: f64 = 1e6;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    /// Memory, in 10^6 bytes.
    Megabytes,
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes => format!("{:.2} MB", value / MEGABYTE),
            Self::Megabytes => format!("{value:.0} MB"),
        }
    }
}

/// A row of a section.
pub(crate) struct Row {
    section: &'static str,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    cells: Vec<(&'static str, Vec<f64>)>,
}

impl Row {
    /// The median of the column's values.
    pub(crate) fn median(&self, column: &str) -> Option<f64> {
        self.cells.iter().find(|(name, _)| *name == column).and_then(|(_, values)| median(values))
    }
}

pub(crate) struct Figures {
    rows: Vec<Row>,
    /// Those given, then others in the order of their first value.
    columns: Vec<&'static str>,
}

impl Figures {
    pub(crate) fn new(columns: Vec<&'static str>) -> Self {
        Self { rows: Vec::new(), columns }
    }

    /// Adds a value to those of a cell, which it makes where there is none.
    pub(crate) fn add(
        &mut self,
        section: &'static str,
        title: &str,
        unit: Unit,
        column: &'static str,
        value: f64,
    ) {
        if !self.columns.contains(&column) {
            self.columns.push(column);
        }
        let found = self.rows.iter().position(|row| row.section == section && row.title == title);
        let index = found.unwrap_or_else(|| {
            self.rows.push(Row { section, title: title.to_owned(), unit, cells: Vec::new() });
            self.rows.len() - 1
        });
        let cells = &mut self.rows[index].cells;
        match cells.iter_mut().find(|(name, _)| *name == column) {
            Some((_, values)) => values.push(value),
            None => cells.push((column, vec![value])),
        }
    }

    /// Adds all that one run of a program took.
    pub(crate) fn add_usage(
        &mut self,
        section: &'static str,
        title: &str,
        column: &'static str,
        usage: Usage,
    ) {
        eprintln!("  {column}, {title}: {usage}");
        let mut add = |what, unit, value| self.add(section, &format!("{title}: {what}"), unit, column, value);
        add("wall", Unit::Seconds, usage.wall_seconds);
        add("CPU", Unit::Seconds, usage.cpu_seconds);
        add("peak memory", Unit::Megabytes, usage.peak_megabytes);
    }

    pub(crate) fn section(&self, section: &str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.section == section)
    }

    pub(crate) fn row(&self, section: &str, title: &str) -> Option<&Row> {
        self.section(section).find(|row| row.title == title)
    }

    /// The columns that have a value in any of the rows.
    pub(crate) fn columns_of(&self, rows: &[&Row]) -> Vec<&'static str> {
        let has_value = |column: &&&str| rows.iter().any(|row| row.median(column).is_some());
        self.columns.iter().filter(has_value).copied().collect()
    }

    /// The largest value that a column has in any row of a unit.
    pub(crate) fn largest(&self, unit: Unit, column: &str) -> Option<f64> {
        let rows = self.rows.iter().filter(|row| row.unit == unit);
        let cells = rows.flat_map(|row| &row.cells).filter(|(name, _)| *name == column);
        cells.flat_map(|(_, values)| values).copied().max_by(f64::total_cmp)
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

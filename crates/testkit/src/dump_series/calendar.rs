//! What happens on which day of a long series, besides the scattered changes of every day.

/// Something that does not happen every day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A range of orders is updated.
    Clustered,
    /// The oldest events are deleted.
    Retention,
    /// A new column with a default in every user, a new table, a new index.
    SchemaChange,
    /// `CLUSTER` and `VACUUM FULL`: tables are written anew, and moved rows go back to their place.
    Rewrite,
}

/// Early enough for a short series to have it.
const SCHEMA_CHANGE_DAY: u32 = 4;
/// Late enough for many rows to have left their place.
const REWRITE_DAY: u32 = 20;

impl Happening {
    /// All that happens on a day; the first dump is that of day 0.
    pub fn of_day(day: u32) -> impl Iterator<Item = Self> {
        let calendar = [
            (Self::Clustered, day.is_multiple_of(3)),
            (Self::Retention, day.is_multiple_of(7)),
            (Self::SchemaChange, day == SCHEMA_CHANGE_DAY),
            (Self::Rewrite, day == REWRITE_DAY),
        ];
        calendar.into_iter().filter(move |(_, happens)| *happens && day > 0).map(|(happening, _)| happening)
    }

    /// In a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Clustered => "a range of orders updated",
            Self::Retention => "old events deleted",
            Self::SchemaChange => "schema change",
            Self::Rewrite => "VACUUM FULL",
        }
    }

    pub(super) fn script(self) -> &'static str {
        match self {
            Self::Clustered => include_str!("clustered.sql"),
            Self::Retention => include_str!("retention.sql"),
            Self::SchemaChange => include_str!("schema_change.sql"),
            Self::Rewrite => include_str!("rewrite.sql"),
        }
    }
}

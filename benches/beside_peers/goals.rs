//! What dbvault wants to reach, and whether it did.

use crate::command_lines::OURS;
use crate::figures::{Figures, Row, Unit};
use crate::settings::Settings;
use crate::{live, series, stream};

const PEAK_MEGABYTES_MAX: f64 = 180.0;

/// What a value of dbvault is divided by.
enum Against {
    /// The smallest value of all other tools.
    BestPeer,
    Column(&'static str),
    /// Another value of dbvault in the same section.
    OwnRow(String),
}

/// The largest ratio that passes.
struct Goal {
    title: String,
    section: &'static str,
    row: String,
    against: Against,
    ratio_max: f64,
}

/// A goal and what came of it.
pub(crate) struct Verdict<'a> {
    pub(crate) title: String,
    pub(crate) row: Option<&'a Row>,
    /// What was compared, in words.
    pub(crate) found: String,
    pub(crate) limit: String,
    pub(crate) passed: Option<bool>,
}

/// All goals; `peers` are the columns of other tools.
pub(crate) fn verdicts<'a>(
    figures: &'a Figures,
    settings: &Settings,
    peers: &[&'static str],
) -> Vec<Verdict<'a>> {
    let mut verdicts: Vec<_> = goals(settings).into_iter().map(|goal| goal.judge(figures, peers)).collect();
    let peak = figures.largest(Unit::Megabytes, OURS);
    verdicts.push(Verdict {
        title: "largest peak memory".to_owned(),
        row: None,
        found: peak.map_or(String::new(), |peak| Unit::Megabytes.show(peak)),
        limit: format!("<= {PEAK_MEGABYTES_MAX} MB"),
        passed: peak.map(|peak| peak <= PEAK_MEGABYTES_MAX),
    });
    verdicts
}

fn goals(settings: &Settings) -> Vec<Goal> {
    let of_row = |section, row: String, against, ratio_max| Goal {
        title: row.trim_end_matches(": wall").to_owned(),
        section,
        row,
        against,
        ratio_max,
    };
    let wall = |section, step: &str, against, ratio_max| {
        of_row(section, format!("{step}: wall"), against, ratio_max)
    };
    let growth = || format!("{}: growth", stream::CHANGED);
    let after_series = of_row(
        series::SECTION,
        series::stored_after(settings.days),
        Against::OwnRow(series::stored_after(0)),
        2.0,
    );
    let mut goals = vec![
        wall(stream::SECTION, stream::FIRST, Against::BestPeer, 0.4),
        of_row(stream::SECTION, format!("{}: stored", stream::FIRST), Against::BestPeer, 1.0),
        wall(stream::SECTION, stream::IDENTICAL, Against::BestPeer, 0.4),
        wall(stream::SECTION, stream::CHANGED, Against::BestPeer, 0.3),
        of_row(stream::SECTION, growth(), Against::BestPeer, 1.0 / 30.0),
        of_row(stream::SECTION, growth(), Against::Column(stream::PATCH), 3.0),
        after_series,
        wall(stream::SECTION, stream::EXTRACT_FIRST, Against::BestPeer, 0.9),
        wall(series::SECTION, series::EXTRACT_NEWEST, Against::BestPeer, 1.3),
    ];
    for (step, ratio_max) in [(live::FIRST, 1.3), (live::CHANGED, 1.15)] {
        let goal = wall(live::SECTION, step, Against::Column(live::ALONE), ratio_max);
        goals.push(Goal { title: format!("{step} of a running server"), ..goal });
    }
    goals
}

impl Goal {
    fn judge<'a>(self, figures: &'a Figures, peers: &[&'static str]) -> Verdict<'a> {
        let row = figures.row(self.section, &self.row);
        let (what, value) = match &self.against {
            Against::BestPeer => {
                let values = peers.iter().filter_map(|peer| row?.median(peer));
                ("of the best other tool".to_owned(), values.min_by(f64::total_cmp))
            }
            Against::Column(column) => (format!("of {column}"), row.and_then(|row| row.median(column))),
            Against::OwnRow(title) => {
                let other = figures.row(self.section, title);
                (format!("of {title}"), other.and_then(|row| row.median(OURS)))
            }
        };
        let ours = row.and_then(|row| row.median(OURS));
        let ratio = ours.zip(value).map(|(ours, value)| ours / value);
        Verdict {
            title: self.title,
            row,
            found: ratio.map_or(String::new(), |ratio| format!("{ratio:.3} {what}")),
            limit: format!("<= {}", (self.ratio_max * 1000.0).round() / 1000.0),
            passed: ratio.map(|ratio| ratio <= self.ratio_max),
        }
    }
}

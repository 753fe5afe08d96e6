//! Retention: which archives of a series are kept, and why?
//!
//! A pure function of archives, rules and a clock, so that every outcome can be explained and tested. The rules
//! are Borg's: each keeps the newest archive of each of so many periods that have one, and an archive that an
//! earlier rule keeps does not count for a later one. restic counts every rule by itself, and keeps fewer.
//! See `docs/retention.md`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// How much is kept of each series. 0 switches a rule off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// All that are no older than this, milliseconds.
    pub within_ms: Option<i64>,
    /// The newest archives, whenever they were made.
    pub last: usize,
    /// The newest archive of each of so many hours, and so on.
    pub hourly: usize,
    /// Days of the time zone that is asked for.
    pub daily: usize,
    /// Weeks begin on Monday (ISO 8601).
    pub weekly: usize,
    /// Months of the calendar.
    pub monthly: usize,
    /// Years of the calendar.
    pub yearly: usize,
}

impl Rules {
    /// What a prune without any rule keeps.
    pub const DEFAULT: Rules =
        Rules { within_ms: None, last: 0, hourly: 0, daily: 7, weekly: 4, monthly: 6, yearly: 1 };

    /// Whether they would keep nothing by themselves.
    pub fn is_empty(&self) -> bool {
        *self == Rules::default()
    }
}

/// What is known of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<Id> {
    /// Which one it is.
    pub id: Id,
    /// Archives of the same databases of the same host.
    pub series: String,
    /// When its backup began, milliseconds since 1970 UTC.
    pub started_ms: i64,
    /// Whether the user protects it.
    pub protected: bool,
    /// Whether it has a tag by which the user keeps archives.
    pub tagged: bool,
    /// Whether its manifest and its table of entries can be read.
    pub good: bool,
    /// Whether all that was asked for is in it.
    pub complete: bool,
}

/// A rule that keeps archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Younger than an age.
    Within,
    /// Among the newest.
    Last,
    /// Newest of an hour, and so on.
    Hourly,
    /// Of a day.
    Daily,
    /// Of a week.
    Weekly,
    /// Of a month.
    Monthly,
    /// Of a year.
    Yearly,
}

/// Why an archive is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// By a rule, as the so manieth, from 1.
    Rule(Rule, usize),
    /// The oldest of its series, while a rule has not found all that it keeps.
    Oldest(Rule),
    /// The user protects it.
    Protected,
    /// It has a tag that keeps it.
    Tagged,
    /// Its time is in the future: no rule may judge by it.
    Future,
    /// The newest good one of its series is always kept.
    NewestGood,
    /// It lacks something, and is newer than all that lack nothing: the newest of what it has.
    NewestIncomplete,
    /// It can't be read: no rule counts it, and nobody knows what it is worth.
    Unreadable,
}

/// What becomes of an archive: kept for a reason, or dropped.
pub type Verdict = Option<Why>;

/// Decides for each archive, in the order they are given.
///
/// Archives that lack something take no place of those that lack nothing. Such as are newer than all of these are
/// judged by the same rules among themselves, for they have the newest of what they have; older ones are kept by age
/// only.
pub fn decide<Id>(
    archives: &[Candidate<Id>],
    rules: &Rules,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Verdict> {
    let mut verdicts = vec![None; archives.len()];
    let mut series = BTreeMap::<&str, Vec<usize>>::new();
    for (place, archive) in archives.iter().enumerate() {
        verdicts[place] = exempt(archive, now);
        if verdicts[place].is_none_or(|why| matches!(why, Why::Protected | Why::Tagged)) {
            series.entry(&archive.series).or_default().push(place);
        }
    }
    for mut places in series.into_values() {
        places.sort_by_key(|place| (std::cmp::Reverse(archives[*place].started_ms), *place));
        let (complete, incomplete): (Vec<usize>, Vec<usize>) =
            places.into_iter().partition(|place| archives[*place].complete);
        let newest_ms = complete.first().map(|place| archives[*place].started_ms);
        let is_newer =
            |place: &usize| newest_ms.is_none_or(|newest_ms| archives[*place].started_ms > newest_ms);
        let (newer, older): (Vec<usize>, Vec<usize>) = incomplete.into_iter().partition(is_newer);
        let only_within = Rules { within_ms: rules.within_ms, ..Rules::default() };
        let groups = [
            (complete, rules, Some(Why::NewestGood)),
            (newer, rules, Some(Why::NewestIncomplete)),
            (older, &only_within, None),
        ];
        for (places, rules, newest) in groups {
            let times: Vec<Timestamp> =
                places.iter().map(|place| time_of(archives[*place].started_ms)).collect();
            for (place, why) in places.iter().zip(decide_series(&times, rules, newest, now, zone)) {
                verdicts[*place] = verdicts[*place].or(why);
            }
        }
    }
    verdicts
}

/// Why no rule is asked.
fn exempt<Id>(archive: &Candidate<Id>, now: Timestamp) -> Option<Why> {
    match archive {
        archive if !archive.good => Some(Why::Unreadable),
        archive if archive.started_ms > now.as_millisecond() => Some(Why::Future),
        archive if archive.protected => Some(Why::Protected),
        archive if archive.tagged => Some(Why::Tagged),
        _ => None,
    }
}

/// Decides for good archives of one series, newest first. The newest is kept for the reason `newest`, if by no rule.
fn decide_series(
    times: &[Timestamp],
    rules: &Rules,
    newest: Verdict,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Verdict> {
    let mut kept: Vec<Verdict> = vec![None; times.len()];
    if let Some(within_ms) = rules.within_ms {
        let young = times.iter().take_while(|time| now.as_millisecond() - time.as_millisecond() <= within_ms);
        let young = young.count();
        kept[..young]
            .iter_mut()
            .zip(1..)
            .for_each(|(kept, number)| *kept = Some(Why::Rule(Rule::Within, number)));
    }
    let by_periods = [
        (Rule::Last, rules.last),
        (Rule::Hourly, rules.hourly),
        (Rule::Daily, rules.daily),
        (Rule::Weekly, rules.weekly),
        (Rule::Monthly, rules.monthly),
        (Rule::Yearly, rules.yearly),
    ];
    for (rule, count) in by_periods {
        keep_periods(times, &mut kept, rule, count, zone);
    }
    if let Some(first @ None) = kept.first_mut() {
        *first = newest;
    }
    kept
}

/// Keeps the newest archive of each of `count` periods, but for those whose newest is kept already.
fn keep_periods(times: &[Timestamp], kept: &mut [Verdict], rule: Rule, count: usize, zone: &TimeZone) {
    let (mut found, mut seen) = (0, BTreeSet::new());
    for (place, time) in times.iter().enumerate() {
        if found == count {
            return;
        }
        let first_of_period = seen.insert(period(rule, place, *time, zone));
        if first_of_period && kept[place].is_none() {
            found += 1;
            kept[place] = Some(Why::Rule(rule, found));
        }
    }
    // Else a young series would lose its beginning before any archive of the next period is there.
    if let (Some(oldest @ None), true) = (kept.last_mut(), found < count) {
        *oldest = Some(Why::Oldest(rule));
    }
}

/// The period that a time falls into, as a date and an hour. Summer time makes an hour come twice: then both
/// are one period, and no archive too many is dropped, for the next older hour counts instead.
fn period(rule: Rule, place: usize, time: Timestamp, zone: &TimeZone) -> (i64, i64) {
    let local = time.to_zoned(zone.clone());
    let date = local.date();
    let days =
        |date: Date| i64::from(date.year()) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day());
    match rule {
        Rule::Within | Rule::Last => (place as i64, 0),
        Rule::Hourly => (days(date), i64::from(local.hour())),
        Rule::Daily => (days(date), 0),
        Rule::Weekly => {
            let week = date.iso_week_date();
            (i64::from(week.year()), i64::from(week.week()))
        }
        Rule::Monthly => (i64::from(date.year()), i64::from(date.month())),
        Rule::Yearly => (i64::from(date.year()), 0),
    }
}

/// Times that no calendar has are taken for the nearest that one has.
fn time_of(time_ms: i64) -> Timestamp {
    let nearest = if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(time_ms).unwrap_or(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    /// Sunday, 2026-11-01 12:00 UTC.
    const NOW_MS: i64 = 1_793_534_400_000;

    fn archive(started_ms: i64) -> Candidate<i64> {
        Candidate {
            id: started_ms,
            series: "shop".into(),
            started_ms,
            protected: false,
            tagged: false,
            good: true,
            complete: true,
        }
    }

    fn decide_at_noon(archives: &[Candidate<i64>], rules: &Rules) -> Vec<Verdict> {
        decide(archives, rules, time_of(NOW_MS), &TimeZone::UTC)
    }

    /// One archive a day at 3 o'clock, newest first.
    fn nightly(days: i64) -> Vec<Candidate<i64>> {
        (0..days).map(|day| archive(NOW_MS - 9 * HOUR_MS - day * DAY_MS)).collect()
    }

    fn kept(verdicts: &[Verdict]) -> Vec<usize> {
        verdicts.iter().enumerate().filter(|(_, why)| why.is_some()).map(|(place, _)| place).collect()
    }

    #[test]
    fn the_default_keeps_days_then_weeks_then_months_then_years() {
        let verdicts = decide_at_noon(&nightly(500), &Rules::DEFAULT);
        // Days 0 to 6 are 1 November to 26 October; the Sundays before; the last days of the months before.
        let expected = [0, 1, 2, 3, 4, 5, 6, 7, 14, 21, 28, 32, 62, 93, 124, 154, 185, 305];
        assert_eq!(kept(&verdicts), expected);
        assert_eq!(verdicts[6], Some(Why::Rule(Rule::Daily, 7)));
        assert_eq!(verdicts[28], Some(Why::Rule(Rule::Weekly, 4)));
        assert_eq!(verdicts[305], Some(Why::Rule(Rule::Yearly, 1)));
    }

    #[test]
    fn a_young_series_keeps_its_beginning() {
        let verdicts = decide_at_noon(&nightly(10), &Rules { weekly: 4, ..Rules::default() });
        assert_eq!(verdicts[9], Some(Why::Oldest(Rule::Weekly)));
    }

    #[test]
    fn without_rules_the_newest_good_archive_stays() {
        let mut archives = nightly(3);
        archives[0].good = false;
        let verdicts = decide_at_noon(&archives, &Rules::default());
        assert_eq!(verdicts, [Some(Why::Unreadable), Some(Why::NewestGood), None]);
    }

    #[test]
    fn archives_that_lack_something_take_no_place_of_others() {
        let mut archives = nightly(8);
        for place in [0, 1, 2, 4, 6] {
            archives[place].complete = false;
        }
        let last = |number| Some(Why::Rule(Rule::Last, number));
        let verdicts = decide_at_noon(&archives, &Rules { last: 2, ..Rules::default() });
        assert_eq!(verdicts, [last(1), last(2), None, last(1), None, last(2), None, None]);
        let verdicts = decide_at_noon(&archives, &Rules::default());
        assert_eq!(verdicts[..4], [Some(Why::NewestIncomplete), None, None, Some(Why::NewestGood)]);
        let within_ms = Some(5 * DAY_MS);
        let verdicts = decide_at_noon(&archives, &Rules { within_ms, ..Rules::default() });
        assert_eq!(kept(&verdicts), [0, 1, 2, 3, 4], "age is no place");
    }

    #[test]
    fn archives_of_the_future_count_for_nothing() {
        let archives = [archive(NOW_MS + 1), archive(NOW_MS - 1), archive(NOW_MS - DAY_MS)];
        let verdicts = decide_at_noon(&archives, &Rules { last: 1, ..Rules::default() });
        assert_eq!(verdicts, [Some(Why::Future), Some(Why::Rule(Rule::Last, 1)), None]);
    }

    #[test]
    fn each_series_is_judged_by_itself() {
        let mut archives = nightly(2);
        archives[1].series = "billing".into();
        let verdicts = decide_at_noon(&archives, &Rules { last: 1, ..Rules::default() });
        assert_eq!(verdicts, [Some(Why::Rule(Rule::Last, 1)); 2]);
    }

    #[test]
    fn times_beyond_any_calendar_are_borne() {
        let archives = [i64::MIN, i64::MAX, 0].map(archive);
        assert_eq!(kept(&decide_at_noon(&archives, &Rules::DEFAULT)).len(), 3);
    }

    fn rules() -> impl Strategy<Value = Rules> {
        let within = prop::option::of(0..100 * DAY_MS);
        (within, prop::array::uniform6(0..5_usize)).prop_map(|(within_ms, counts)| {
            let [last, hourly, daily, weekly, monthly, yearly] = counts;
            Rules { within_ms, last, hourly, daily, weekly, monthly, yearly }
        })
    }

    fn archives() -> impl Strategy<Value = Vec<Candidate<i64>>> {
        let often = || prop::bool::weighted(0.9);
        let one = (0..800 * DAY_MS, 0..3_u8, prop::bool::weighted(0.1), often(), often());
        let one = one.prop_map(|(age_ms, series, protected, good, complete)| Candidate {
            series: series.to_string(),
            protected,
            good,
            complete,
            ..archive(NOW_MS - age_ms)
        });
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        #[test]
        fn the_newest_good_archive_of_a_series_is_never_dropped(archives in archives(), rules in rules()) {
            let verdicts = decide_at_noon(&archives, &rules);
            for (archive, why) in archives.iter().zip(&verdicts).filter(|(archive, _)| archive.good && archive.complete) {
                let newest = archives.iter().filter(|other| other.good && other.complete && other.series == archive.series);
                if newest.map(|other| other.started_ms).max() == Some(archive.started_ms) && why.is_none() {
                    let twin = archives.iter().zip(&verdicts).any(|(other, why)| {
                        why.is_some() && other.complete && other.started_ms == archive.started_ms && other.series == archive.series
                    });
                    prop_assert!(twin);
                }
            }
        }

        #[test]
        fn no_rule_keeps_more_than_it_may(archives in archives(), rules in rules()) {
            let verdicts = decide_at_noon(&archives, &rules);
            for series in ["0", "1", "2"] {
                let by_rule = |rule| {
                    let of_series = archives.iter().zip(&verdicts).filter(|(archive, _)| archive.series == series && archive.complete);
                    of_series.filter(|(_, why)| matches!(why, Some(Why::Rule(by, _)) if *by == rule)).count()
                };
                prop_assert!(by_rule(Rule::Daily) <= rules.daily);
                prop_assert!(by_rule(Rule::Yearly) <= rules.yearly);
                prop_assert!(by_rule(Rule::Last) <= rules.last);
            }
        }

        #[test]
        fn what_lacks_something_changes_nothing_for_what_lacks_nothing(archives in archives(), rules in rules()) {
            let verdicts = decide_at_noon(&archives, &rules);
            let of_complete: Vec<_> =
                archives.iter().zip(verdicts).filter(|(archive, _)| archive.complete).map(|(_, why)| why).collect();
            let complete: Vec<_> = archives.iter().filter(|archive| archive.complete).cloned().collect();
            prop_assert_eq!(of_complete, decide_at_noon(&complete, &rules));
        }

        #[test]
        fn the_newest_that_lacks_something_stays_until_one_lacks_nothing(archives in archives(), rules in rules()) {
            let verdicts = decide_at_noon(&archives, &rules);
            for series in ["0", "1", "2"] {
                let good = || archives.iter().zip(&verdicts).filter(|(one, _)| one.good && one.series == series);
                let newest_ms = good().map(|(one, _)| one.started_ms).max();
                let newest: Vec<_> = good().filter(|(one, _)| Some(one.started_ms) == newest_ms).collect();
                prop_assert!(newest.is_empty() || newest.iter().any(|(_, why)| why.is_some()), "{:?}", newest);
            }
        }

        #[test]
        fn the_order_they_come_in_does_not_matter(archives in archives(), rules in rules()) {
            let mut archives = archives;
            archives.sort_by_key(|archive| archive.started_ms);
            archives.dedup_by_key(|archive| archive.started_ms);
            let mut forward = decide_at_noon(&archives, &rules);
            archives.reverse();
            forward.reverse();
            prop_assert_eq!(forward, decide_at_noon(&archives, &rules));
        }

        #[test]
        fn pruning_twice_drops_nothing_more(archives in archives(), rules in rules()) {
            let verdicts = decide_at_noon(&archives, &rules);
            let left: Vec<_> = archives.iter().zip(&verdicts).filter(|(_, why)| why.is_some()).map(|(a, _)| a.clone()).collect();
            let again = decide_at_noon(&left, &rules);
            let lost = again.iter().filter(|why| why.is_none()).count();
            prop_assert_eq!(lost, 0, "{:?}", again);
        }

        #[test]
        fn protected_and_unreadable_archives_stay(archives in archives(), rules in rules()) {
            let verdicts = decide_at_noon(&archives, &rules);
            let stay = archives.iter().zip(&verdicts).filter(|(archive, _)| archive.protected || !archive.good);
            prop_assert!(stay.into_iter().all(|(_, why)| why.is_some()));
        }
    }
}

//! Clients that get in each other's way: all schedules with up to two preemptions, then random ones.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dbvault_testkit::scheduler::{self, Chance, Lists, Plan, Row, Run, Schedule, without_preemption};
use dbvault_testkit::tier::seed;

use crate::common::in_parallel;
use crate::examine::Examined;
use crate::scale;
use crate::world::{Act, Actor, DECADE_MS, Outcome, WORLD};

/// Schedules with one preemption, and with two, that the quick tier chooses of each scenario, about. Many of them need
/// not be run: others stand for them.
const ONCE_PREEMPTED: usize = 2000;
const TWICE_PREEMPTED: usize = 3000;

/// Random schedules of each scenario in the quick tier.
const RANDOM: usize = 700;

/// More than so many failures tell nothing new.
const FAILURES_MAX: usize = 20;

/// A replay: what a failure has printed, with the name of the scenario before a colon.
const REPLAY: &str = "DBVAULT_SCHEDULE";

/// Who comes at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) actors: Vec<Actor>,
    pub(crate) lists: Lists,
}

/// What is counted.
#[derive(Debug, Default)]
struct Counts {
    schedules: AtomicUsize,
    steps: AtomicUsize,
    traces: Mutex<HashSet<u64>>,
    failures: Mutex<Vec<String>>,
    examined: Examined,
}

impl Scenario {
    fn new(name: &'static str, acts: &[&[Act]]) -> Scenario {
        let actors = acts.iter().map(|acts| Actor::new(acts)).collect();
        Scenario { name, actors, lists: Lists::AtOnce }
    }

    /// Whether a session may lose its right to commit.
    pub(crate) fn fences(&self) -> bool {
        self.actors.iter().any(|actor| actor.acts.contains(&Act::CollectAndFence))
    }

    /// Runs it, and looks at what came of it.
    fn run(&self, plan: &Plan, examined: &Examined) -> (Run<Vec<Outcome>>, Result<(), String>) {
        let storage = WORLD.storage.duplicate();
        let start = |(number, actor): (usize, &Actor)| -> scheduler::Actor<'_, Vec<Outcome>> {
            let (actor, storage, lists) = (actor.clone(), storage.clone(), self.lists);
            Box::new(move |turn| actor.run(turn, number as u64, &storage, lists))
        };
        let run = scheduler::run(plan, self.actors.iter().enumerate().map(start).collect());
        let verdict = examined.examine(self, &storage, &run);
        (run, verdict)
    }

    /// As it is, or with lists that lie and clocks that are wrong, as the number says.
    fn variant(&self, number: u64) -> Scenario {
        let mut variant = self.clone();
        variant.lists = [Lists::AtOnce, Lists::Late, Lists::Torn][(number % 3) as usize];
        for (at, actor) in (0..).zip(&mut variant.actors) {
            actor.clock_error_ms = [0, DECADE_MS, -DECADE_MS][((number / 3 + at) % 3) as usize];
        }
        variant
    }

    /// Tries one plan and counts it; after many failures nothing more is tried.
    fn try_out(&self, plan: &Plan, counts: &Counts) -> Option<Run<Vec<Outcome>>> {
        if counts.failures.lock().unwrap().len() >= FAILURES_MAX {
            return None;
        }
        let (run, verdict) = self.run(plan, &counts.examined);
        counts.schedules.fetch_add(1, Ordering::Relaxed);
        counts.steps.fetch_add(run.trace.len(), Ordering::Relaxed);
        let mut hasher = DefaultHasher::new();
        (&run.trace, format!("{:?}", self.lists)).hash(&mut hasher);
        counts.traces.lock().unwrap().insert(hasher.finish());
        if let Err(e) = verdict {
            counts.failures.lock().unwrap().push(self.tell(&run.schedule, &e));
        }
        Some(run)
    }

    /// How to see a failure again.
    fn tell(&self, schedule: &Schedule, problem: &str) -> String {
        let clocks: Vec<i64> = self.actors.iter().map(|actor| actor.clock_error_ms / DECADE_MS).collect();
        let (name, lists) = (self.name, self.lists);
        let text =
            format!("{REPLAY}='{name}: {schedule}' with lists {lists:?} and clocks {clocks:?}: {problem}");
        println!("{text}");
        text
    }

    /// All schedules with at most two preemptions; in the quick tier an even choice of them. Gives how many those that
    /// were run stand for, and how many there are.
    fn systematic(&self, counts: &Counts) -> (usize, usize) {
        let (next, covered, all) = (Mutex::new(Vec::new()), AtomicUsize::new(0), AtomicUsize::new(0));
        let go_on = |schedule: &Schedule, goes_on: bool| {
            let run = self.try_out(&Plan::Fixed(schedule.clone()), counts)?;
            if goes_on {
                next.lock().unwrap().extend(Row::all(schedule, run.trace.clone()));
            }
            Some(run.trace)
        };
        let orders = without_preemption(self.actors.len());
        covered.fetch_add(orders.len(), Ordering::Relaxed);
        all.fetch_add(orders.len(), Ordering::Relaxed);
        in_parallel(orders, |order| drop(go_on(&order, true)));
        for (preemptions, budget) in [(1, ONCE_PREEMPTED), (2, TWICE_PREEMPTED)] {
            let mut rows: Vec<Row> = std::mem::take(&mut next.lock().unwrap());
            rows.sort_by_cached_key(|row| format!("{row:?}"));
            let schedules: usize = rows.iter().map(|row| row.steps().count()).sum();
            all.fetch_add(schedules, Ordering::Relaxed);
            let budget = if scale() > 1 { usize::MAX } else { budget };
            let one_in = schedules.div_ceil(budget).max(1);
            in_parallel(rows.into_iter().step_by(one_in), |row| {
                covered.fetch_add(row.steps().count(), Ordering::Relaxed);
                row.explore(|schedule| go_on(schedule, preemptions < 2));
            });
        }
        (covered.into_inner(), all.into_inner())
    }

    fn random(&self, counts: &Counts) {
        let orders = without_preemption(self.actors.len());
        in_parallel(0..(RANDOM * scale()) as u64, |number| {
            let order = orders[number as usize % orders.len()].order.clone();
            let chance = Chance {
                seed: seed().wrapping_mul(1_000_003) + number,
                switch_one_in: [2, 5, 15][(number % 3) as usize],
                stop_one_in: if number % 4 == 0 { 100 } else { 0 },
            };
            self.variant(number / 2).try_out(&Plan::Random { order, chance }, counts);
        });
    }

    /// Tries all of it, and that the same schedule leads to the same calls.
    fn prove(&self) {
        if let Ok(replay) = std::env::var(REPLAY) {
            return self.replay(&replay);
        }
        let (began, counts) = (Instant::now(), Counts::default());
        let (covered, all) = self.systematic(&counts);
        let systematic = counts.schedules.load(Ordering::Relaxed);
        self.random(&counts);
        self.repeat();
        let (schedules, steps) = (counts.schedules.into_inner(), counts.steps.into_inner());
        let (distinct, failures) =
            (counts.traces.into_inner().unwrap().len(), counts.failures.into_inner().unwrap());
        println!(
            "proof: schedules {}: {systematic} stand for {covered} of {all} with up to two preemptions, {} random, \
             {distinct} distinct that end in {} states, {} calls each, {:.0} s, {} violations",
            self.name,
            schedules - systematic,
            counts.examined.states(),
            steps / schedules,
            began.elapsed().as_secs_f32(),
            failures.len()
        );
        assert!(failures.is_empty(), "{} violations, the first: {}", failures.len(), failures[0]);
    }

    /// What chance has led to happens again.
    fn repeat(&self) {
        for number in 0..5 {
            let scenario = self.variant(number);
            let chance = Chance { seed: number, switch_one_in: 4, stop_one_in: 200 };
            let order = (0..self.actors.len()).collect();
            let (first, _) = scenario.run(&Plan::Random { order, chance }, &Examined::default());
            let text = first.schedule.to_string();
            let (second, _) = scenario.run(&Plan::Fixed(text.parse().unwrap()), &Examined::default());
            assert_eq!(first.trace, second.trace, "{}: {text} is not the same again", self.name);
        }
    }

    fn replay(&self, replay: &str) {
        let (name, schedule) = replay.split_once(": ").expect("a name, a colon, a schedule");
        if name != self.name {
            return;
        }
        let plan = Plan::Fixed(schedule.parse().unwrap());
        for number in 0..9 {
            let scenario = self.variant(number);
            let (run, verdict) = scenario.run(&plan, &Examined::default());
            if number == 0 {
                run.trace
                    .iter()
                    .enumerate()
                    .for_each(|(at, step)| println!("{at} {}: {}", step.actor, step.call));
            }
            println!("variant {number}: {:?} {verdict:?}", run.results);
        }
    }
}

#[test]
fn two_backups_beside_a_collection() {
    let acts: [&[Act]; 3] = [&[Act::Backup("one")], &[Act::Backup("three")], &[Act::Collect]];
    Scenario::new("2 backups x prune", &acts).prove();
}

#[test]
fn two_collections_at_once() {
    Scenario::new("prune x prune", &[&[Act::Collect], &[Act::Collect]]).prove();
}

#[test]
fn restores_beside_a_collection() {
    let acts: [&[Act]; 3] = [&[Act::Restore("delta")], &[Act::Restore("old")], &[Act::Collect]];
    Scenario::new("compact x restore", &acts).prove();
}

#[test]
fn three_backups_beside_a_collection() {
    let acts: [&[Act]; 4] =
        [&[Act::Backup("one")], &[Act::Backup("two")], &[Act::Backup("three")], &[Act::Collect]];
    Scenario::new("3 writers x prune", &acts).prove();
}

#[test]
fn a_backup_and_deletes_beside_a_collection() {
    let deletes = [Act::Delete("kept"), Act::Undelete("kept"), Act::Undelete("old"), Act::Delete("delta")];
    let acts: [&[Act]; 3] = [&[Act::Backup("one")], &deletes, &[Act::Collect]];
    Scenario::new("backup x delete and undelete x prune", &acts).prove();
}

#[test]
fn two_collections_beside_a_backup() {
    let acts: [&[Act]; 3] = [&[Act::Collect], &[Act::Collect], &[Act::Backup("two")]];
    Scenario::new("2 prunes x backup", &acts).prove();
}

#[test]
fn backups_that_sleep_past_their_fences() {
    let acts: [&[Act]; 3] =
        [&[Act::Backup("one")], &[Act::Backup("two")], &[Act::CollectAndFence, Act::Collect]];
    Scenario::new("2 backups x fencing prune", &acts).prove();
}

#[test]
fn a_backup_that_commits_while_a_collection_looks_does_not_stop_it() {
    let acts: [&[Act]; 2] = [&[Act::Backup("three")], &[Act::Collect]];
    Scenario::new("backup x prune", &acts).prove();
}

#[test]
fn a_collection_that_is_stopped_anywhere_leaves_nothing_that_hurts() {
    let scenario = Scenario::new("prune", &[&[Act::Collect]]);
    let examined = Examined::default();
    let (run, verdict) = scenario.run(&Plan::Fixed("0".parse().unwrap()), &examined);
    assert_eq!(verdict, Ok(()));
    in_parallel(0..run.trace.len(), |step| {
        let (run, verdict) = scenario.run(&Plan::Fixed(format!("0 {step}!").parse().unwrap()), &examined);
        assert_eq!(verdict, Ok(()), "{}", scenario.tell(&run.schedule, "stopped"));
    });
}

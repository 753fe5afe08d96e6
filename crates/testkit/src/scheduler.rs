//! Which of several actors goes on? A schedule says so, and the same schedule says the same again.
//!
//! Each actor runs in a thread of its own, and whatever threads it starts count as it. Its storage asks for the
//! turn before every call that matters to others, so that one call at a time is made, in an order that follows
//! from the schedule alone: as long as every actor has one call under way at most, and nothing else in it depends
//! on time or chance.

mod explore;
mod schedule;
mod storage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

pub use explore::{Row, without_preemption};
pub use schedule::{Chance, Plan, Schedule, Switch};
pub use storage::{Alone, CallKind, Lists, ScheduledStorage};

/// No turn takes longer: whoever waits longer waits for ever.
const TURN_MAX: Duration = Duration::from_secs(120);

/// One call, and who else could have gone on in its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// Who made it.
    pub actor: usize,
    /// What it was.
    pub call: String,
    /// Other actors that had not ended.
    pub others: Vec<usize>,
    /// Lists that the actor made after it without asking for the turn.
    pub quiet: Vec<String>,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Run<T> {
    /// What each actor gave, or its panic.
    pub results: Vec<std::thread::Result<T>>,
    /// The calls in the order in which they were made.
    pub trace: Vec<Step>,
    /// The schedule that does the same again.
    pub schedule: Schedule,
    /// Actors that were stopped in the middle.
    pub stopped: Vec<usize>,
}

/// What an actor does; its storages are to be made from the turn it is given.
pub type Actor<'a, T> = Box<dyn FnOnce(&Turn) -> T + Send + 'a>;

/// The right of one actor to go on.
#[derive(Clone, Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    actor: usize,
}

/// The actor was stopped: for the storage it is dead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

#[derive(Debug)]
struct Turns {
    state: Mutex<State>,
    /// Where each actor waits.
    waiting: Vec<Condvar>,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    /// `None` once all have ended.
    current: Option<usize>,
    ended: Vec<bool>,
    stopped: Vec<usize>,
    trace: Vec<Step>,
    /// The changes of turn that were made.
    made: Vec<Switch>,
}

/// Keeps this thread, and those that it starts, on the processor it is on, until this is dropped: only one of them runs
/// at a time, and to wake it on another processor costs more than most of what it does.
struct OneProcessor(Option<CpuSet>);

impl OneProcessor {
    /// Where the system forbids it, threads stay free.
    fn begin() -> OneProcessor {
        let before = sched_getaffinity(None).ok();
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        OneProcessor(before.filter(|_| sched_setaffinity(None, &one).is_ok()))
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = sched_setaffinity(None, before);
        }
    }
}

/// Runs the actors by `plan` until all have ended.
///
/// Panics where a turn takes longer than two minutes.
pub fn run<T: Send>(plan: &Plan, actors: Vec<Actor<'_, T>>) -> Run<T> {
    let count = actors.len();
    let state = State {
        current: plan.order().first().copied(),
        plan: plan.clone(),
        ended: vec![false; count],
        stopped: Vec::new(),
        trace: Vec::new(),
        made: Vec::new(),
    };
    assert!(state.plan.order().len() == count, "{plan:?} is not for {count} actors");
    let waiting = (0..count).map(|_| Condvar::new()).collect();
    let turns = Arc::new(Turns { state: Mutex::new(state), waiting });
    let _one_processor = OneProcessor::begin();
    let results = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, work) in actors.into_iter().enumerate() {
            let turn = Turn { turns: turns.clone(), actor: number };
            threads.push(scope.spawn(move || {
                drop(turn.turns.wait(turn.turns.state.lock(), number));
                let result = catch_unwind(AssertUnwindSafe(|| work(&turn)));
                turn.turns.end(number);
                result
            }));
        }
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(Err)).collect()
    });
    let mut state = turns.state.lock();
    Run {
        results,
        trace: std::mem::take(&mut state.trace),
        schedule: Schedule { order: plan.order().to_vec(), switches: std::mem::take(&mut state.made) },
        stopped: std::mem::take(&mut state.stopped),
    }
}

impl Turn {
    /// Waits until this actor may make the call.
    pub(crate) fn take(&self, call: impl FnOnce() -> String) -> Result<(), Stopped> {
        let actor = self.actor;
        let mut state = self.turns.wait(self.turns.state.lock(), actor);
        if state.stopped.contains(&actor) {
            return Err(Stopped);
        }
        let others: Vec<usize> = (0..state.ended.len()).filter(|n| *n != actor && !state.ended[*n]).collect();
        let step = state.trace.len();
        // Whoever goes on instead comes to the same number: once is enough.
        let changed = state.made.last().is_some_and(|last| last.step() == step);
        match state.plan.change_at(step, &others).filter(|_| !changed) {
            Some(Switch::To { actor: to, .. }) if others.contains(&to) => {
                state.made.push(Switch::To { step, actor: to });
                state.current = Some(to);
                self.turns.waiting[to].notify_all();
                state = self.turns.wait(state, actor);
            }
            Some(Switch::Stop { .. }) => {
                state.made.push(Switch::Stop { step });
                state.stopped.push(actor);
                return Err(Stopped);
            }
            _ => {}
        }
        // Somebody else may have gone on for many steps.
        let others = others.into_iter().filter(|other| !state.ended[*other]).collect();
        state.trace.push(Step { actor, call: call(), others, quiet: Vec::new() });
        Ok(())
    }

    /// Notes a list that is made without asking for the turn, which this actor has.
    pub(crate) fn note(&self, call: String) {
        if let Some(last) = self.turns.state.lock().trace.last_mut().filter(|last| last.actor == self.actor) {
            last.quiet.push(call);
        }
    }
}

impl Turns {
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, actor: usize) -> MutexGuard<'a, State> {
        let not_yet = |state: &mut State| state.current != Some(actor);
        let waited = self.waiting[actor].wait_while_for(&mut state, not_yet, TURN_MAX);
        assert!(!waited.timed_out(), "actor {actor} waits for ever: {:?}", state.made);
        state
    }

    /// Gives the turn to the next actor that has not ended.
    fn end(&self, actor: usize) {
        let mut state = self.state.lock();
        state.ended[actor] = true;
        let next = state.plan.order().iter().copied().find(|next| !state.ended[*next]);
        state.current = next;
        if let Some(next) = next {
            self.waiting[next].notify_all();
        }
    }
}

#[cfg(test)]
mod tests;

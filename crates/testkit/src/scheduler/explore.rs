//! All schedules with few preemptions, from the traces of those with one less; of schedules that only differ in the
//! order of calls that do not touch each other, one.

use std::sync::Arc;

use super::{Schedule, Step, Switch};

/// Every order in which `actors` can run one after the other.
pub fn without_preemption(actors: usize) -> Vec<Schedule> {
    let mut orders = vec![Vec::new()];
    for _ in 0..actors {
        let longer = |order: &Vec<usize>| -> Vec<Vec<usize>> {
            let next = (0..actors).filter(|actor| !order.contains(actor));
            next.map(|actor| [order.as_slice(), &[actor]].concat()).collect()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    orders.into_iter().map(|order| Schedule { order, switches: Vec::new() }).collect()
}

/// A schedule with one preemption more, after those it has, in favour of one actor: before any of its calls.
#[derive(Clone, Debug)]
pub struct Row {
    schedule: Schedule,
    trace: Arc<[Step]>,
    actor: usize,
}

impl Row {
    /// A row for each actor of a schedule that led to `trace`.
    pub fn all(schedule: &Schedule, trace: Vec<Step>) -> Vec<Row> {
        let trace: Arc<[Step]> = trace.into();
        let row = |actor: &usize| Row { schedule: schedule.clone(), trace: trace.clone(), actor: *actor };
        schedule.order.iter().map(row).collect()
    }

    /// Numbers of the calls before which the preemption can be.
    pub fn steps(&self) -> impl Iterator<Item = usize> {
        let first = self.schedule.switches.last().map_or(1, |last| last.step() + 1);
        // Where one has just ended, another order says the same.
        let goes_on = |step: &usize| self.trace[step - 1].actor == self.trace[*step].actor;
        let can = |step: &usize| self.trace[*step].others.contains(&self.actor);
        (first..self.trace.len()).filter(goes_on).filter(can)
    }

    /// The schedule with the preemption before call number `step`.
    pub fn at(&self, step: usize) -> Schedule {
        let mut schedule = self.schedule.clone();
        schedule.switches.push(Switch::To { step, actor: self.actor });
        schedule
    }

    /// Has `run` run the schedules of the row; it gives their traces, or `None` to end. Not run is a schedule like
    /// the one before it but for calls that change places and do not touch each other.
    pub fn explore(&self, mut run: impl FnMut(&Schedule) -> Option<Vec<Step>>) {
        let mut block: Option<(usize, Vec<Step>)> = None;
        for step in self.steps() {
            if let Some((before, calls)) = block.as_mut().filter(|(before, _)| before + 1 == step) {
                let moved = &self.trace[*before];
                if calls.iter().all(|call| !touch(call, moved)) {
                    *before = step;
                    continue;
                }
            }
            let Some(trace) = run(&self.at(step)) else { return };
            let preempted = self.trace[step].actor;
            let calls = trace.into_iter().skip(step).take_while(|call| call.actor != preempted);
            block = Some((step, calls.collect()));
        }
    }
}

/// Whether it makes a difference which of the two was first.
fn touch(a: &Step, b: &Step) -> bool {
    let calls =
        |step: &'_ Step| -> Vec<String> { std::iter::once(&step.call).chain(&step.quiet).cloned().collect() };
    let of_b = calls(b);
    calls(a).iter().any(|a| of_b.iter().any(|b| calls_touch(a, b)))
}

fn calls_touch(a: &str, b: &str) -> bool {
    let parts = |call: &'_ str| -> (bool, bool, String) {
        let name = call.rsplit(' ').next().unwrap_or_default().to_owned();
        (call.starts_with("Put") || call.starts_with("Delete"), call.starts_with("List"), name)
    };
    let ((writes_a, lists_a, a), (writes_b, lists_b, b)) = (parts(a), parts(b));
    let below =
        |name: &str, prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    match (writes_a, writes_b) {
        (false, false) => false,
        (true, _) if lists_b => below(&a, &b),
        (_, true) if lists_a => below(&b, &a),
        _ => a == b,
    }
}

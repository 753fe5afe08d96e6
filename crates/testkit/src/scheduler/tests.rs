use dbvault_storage::{Key, MemoryStorage, Storage};

use super::*;

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// Two actors of three puts each; gives the order of the puts.
fn puts(plan: &Plan) -> (Vec<String>, Run<usize>) {
    let storage = Arc::new(MemoryStorage::new());
    let actor = |name: &'static str| -> Actor<'_, usize> {
        let storage = storage.clone();
        Box::new(move |turn| {
            let storage = turn.storage(storage, Lists::AtOnce, |_, _| false);
            (0..3).filter(|n| storage.put_new(&key(&format!("{name}{n}")), &[b"x"]).is_ok()).count()
        })
    };
    let run = run(plan, vec![actor("a"), actor("b")]);
    (run.trace.iter().map(|step| step.call.replace("Put ", "")).collect(), run)
}

fn fixed(text: &str) -> Plan {
    Plan::Fixed(text.parse().unwrap())
}

#[test]
fn calls_are_made_in_the_order_of_the_schedule() {
    assert_eq!(puts(&fixed("0-1")).0, ["a0", "a1", "a2", "b0", "b1", "b2"]);
    assert_eq!(puts(&fixed("1-0")).0, ["b0", "b1", "b2", "a0", "a1", "a2"]);
    assert_eq!(puts(&fixed("0-1 1>1 3>0")).0, ["a0", "b0", "b1", "a1", "a2", "b2"]);
}

#[test]
fn one_that_is_stopped_does_nothing_more() {
    let (order, run) = puts(&fixed("0-1 1!"));
    assert_eq!(order, ["a0", "b0", "b1", "b2"]);
    assert_eq!(run.stopped, [0]);
    assert_eq!(run.results.into_iter().map(|result| result.unwrap()).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_random_run_is_done_again_by_the_schedule_it_gives() {
    for seed in 0..50 {
        let chance = Chance { seed, switch_one_in: 2, stop_one_in: 9 };
        let (order, run) = puts(&Plan::Random { order: vec![0, 1], chance });
        let text = run.schedule.to_string();
        let (again, second) = puts(&fixed(&text));
        assert_eq!((order, run.trace), (again, second.trace), "{text}");
    }
}

#[test]
fn all_orders_of_two_times_three_calls_with_two_preemptions_are_found() {
    let mut found = std::collections::HashSet::new();
    let mut schedules = without_preemption(2);
    for _ in 0..=2 {
        let mut more = Vec::new();
        for schedule in schedules {
            let (order, run) = puts(&Plan::Fixed(schedule.clone()));
            found.insert(order);
            for row in Row::all(&schedule, run.trace) {
                // Puts of different names do not touch each other: all but the first of a row are passed over.
                let mut count = 0;
                row.explore(|_| {
                    count += 1;
                    Some(Vec::new())
                });
                assert!(count <= 1, "{row:?}");
                more.extend(row.steps().map(|step| row.at(step)));
            }
        }
        schedules = more;
    }
    // Every order, as the bits of a number, that leaves an actor at most twice before its end.
    let possible = (0u32..64).filter(|order| {
        let actor = |at: u32| order >> at & 1;
        let left_early =
            |at: &u32| actor(*at) != actor(at + 1) && (at + 1..6).any(|on| actor(on) == actor(*at));
        order.count_ones() == 3 && (0..5).filter(left_early).count() <= 2
    });
    assert_eq!(found.len(), possible.count());
}

#!/usr/bin/env python3
"""The commit and collection protocol, tried out in every order: a check of docs/protocol.md.

    gc_model.py [WRITERS COLLECTORS EPOCHS [MUTATION [SECONDS]]]
    gc_model.py all

Every pack holds the same one chunk. Archive 0 is there from the start and needs it, pack p0 has it. Writers and
collectors take their steps in every possible order, and may stop for ever at any of them (a crash). Archives are
deleted and undeleted at any moment. After each step every archive that is not collected must find the chunk: in a
pack that is stored, and that a segment which counts lists. A mutation leaves out one rule of docs/protocol.md; then
some order must break something, or the rule would not be needed.
"""

import sys
import time
from typing import NamedTuple

EMPTY = frozenset()
# Archive slots: nothing, manifest, fence, manifest that was removed after it was collected.
NONE, COMMITTED, FENCED, REMOVED = "NCFR"
# Archives: not deleted, deleted (can be undeleted), collected (can't any more).
KEPT, DELETED, COLLECTED = "kdc"


class State(NamedTuple):
    packs: frozenset  # stored packs
    segments: tuple  # per writer: packs that its segments list
    slots: tuple  # per writer
    trash: tuple  # archive 0, then per writer
    sessions: frozenset  # registered writers
    condemned: tuple  # per epoch: None or packs
    roots: tuple  # (base, folded, deleted); epoch 0 is the start
    writers: tuple  # (step, memory)
    collectors: tuple  # (step, memory)


def start(writers, collectors, epochs):
    return State(
        frozenset(["p0"]), (EMPTY,) * writers, (NONE,) * writers, (KEPT,) * (writers + 1), EMPTY,
        (None,) * (epochs + 1), ((frozenset(["p0"]), EMPTY, EMPTY),), (("W0", None),) * writers,
        (("G0", None),) * collectors,
    )


def put(values, at, value):
    return values[:at] + (value,) + values[at + 1 :]


def counts(state):
    """Packs that segments which count list: the index of a collector."""
    base, folded, _ = state.roots[-1]
    listed = set(base)
    for i, slot in enumerate(state.slots):
        if slot == COMMITTED and i not in folded:
            listed |= state.segments[i]
    return frozenset(listed)


def needs(state, i, dead):
    """Whether archive i (0 is the first) is there and not in one of the states `dead`."""
    there = i == 0 or state.slots[i - 1] == COMMITTED
    return there and state.trash[i] not in dead


def any_needs(state, dead):
    return any(needs(state, i, dead) for i in range(len(state.trash)))


def broken(state, mutation):
    dead = (DELETED, COLLECTED) if mutation == "no_collect_mark" else (COLLECTED,)
    return any_needs(state, dead) and not counts(state) & state.packs


def trash_steps(state, mutation):
    """Users delete and undelete; a collector takes the chance to undelete away, for ever."""
    for i, trash in enumerate(state.trash):
        if not needs(state, i, (COLLECTED,)):
            continue
        yield state._replace(trash=put(state.trash, i, DELETED if trash == KEPT else KEPT))
        if trash == DELETED and mutation != "no_collect_mark":
            yield state._replace(trash=put(state.trash, i, COLLECTED))


def usable(state, memory, mutation):
    """What a writer may reuse, as crates/repo/src/view.rs and reuse.rs decide: (pack, adopted)."""
    root, forbidden, ever = memory
    base, folded, _ = root
    for pack in state.packs:
        listed = pack in base or any(
            slot == COMMITTED and i not in folded and pack in state.segments[i]
            for i, slot in enumerate(state.slots)
        )
        if pack in forbidden or not listed and pack in ever:
            continue
        yield pack, not listed


def writer_steps(state, i, mutation):
    step, memory = state.writers[i]

    def to(step, memory=None, **changes):
        return state._replace(writers=put(state.writers, i, (step, memory)), **changes)

    late = mutation == "late_registration"
    if step == "W0":
        never = late or mutation == "no_registration"
        yield to("W1 condemned", sessions=state.sessions if never else state.sessions | {i})
    elif step == "W1 condemned":
        yield to("W1 root", tuple(m for m, packs in enumerate(state.condemned) if packs is not None))
    elif step == "W1 root":
        yield to("W1 lists", (state.roots, memory))
    elif step == "W1 lists":
        # A list that is gone by now is passed over: its deletes are done.
        roots, numbers = memory
        lists = {m: state.condemned[m] for m in numbers if state.condemned[m] is not None}
        ever = frozenset().union(*lists.values())
        newer = (packs for m, packs in lists.items() if m >= len(roots))
        forbidden = frozenset().union(*newer) | roots[-1][2]
        if mutation == "forget_decided_lists":
            newer = (packs for m, packs in lists.items() if m >= len(roots))
            ever = forbidden = frozenset().union(*newer)
        if mutation == "ignore_condemned":
            ever = forbidden = EMPTY
        sessions = state.sessions | {i} if late else state.sessions
        yield to("W2", (roots[-1], forbidden, ever), sessions=sessions)
    elif step == "W2":
        for pack, adopted in usable(state, memory, mutation):
            yield to("W3", frozenset([pack]) if adopted and mutation != "adopt_unlisted" else EMPTY)
        # A writer may also not know that the chunk is there, and store it again.
        yield to("W3", frozenset(["w%d" % i]), packs=state.packs | {"w%d" % i})
    elif step == "W3":
        yield to("W4", segments=put(state.segments, i, memory))
    elif step == "W4":
        if state.slots[i] == NONE:
            yield to("W5", slots=put(state.slots, i, COMMITTED))
        yield to("W5")  # fenced, or interrupted: no archive
    elif step == "W5":
        yield to("end", sessions=state.sessions - {i})


def mark(state, candidates, mutation):
    """Sets of packs to delete, each of which leaves what archives need: rescues one copy of the chunk."""
    dead = (DELETED, COLLECTED) if mutation == "no_collect_mark" else (COLLECTED,)
    listed = counts(state)
    if not any_needs(state, dead):
        return [candidates]
    if listed & state.packs - candidates or mutation == "no_second_mark":
        return [candidates]
    return [candidates - {pack} for pack in candidates & listed & state.packs]


def collector_steps(state, g, mutation):
    step, memory = state.collectors[g]

    def to(step, memory=None, **changes):
        return state._replace(collectors=put(state.collectors, g, (step, memory)), **changes)

    if step == "G0":
        n = len(state.roots)
        if n < len(state.condemned):
            yield to("G1" if state.condemned[n] is None else "G3", n)
    elif step == "G1":
        early = state.sessions if mutation == "sessions_before_condemned" else None
        n, packs = memory, state.packs
        dead = (DELETED, COLLECTED) if mutation == "no_collect_mark" else (COLLECTED,)
        if len(state.roots) == n:
            kept = counts(state) & packs
            # What is needed too, to be repacked.
            choices = [packs - {pack} for pack in kept] + [packs - kept, packs] if any_needs(state, dead) else [packs]
            for choice in set(choices):
                yield to("G2", (n, choice, early))
    elif step == "G2":
        n, packs, early = memory
        lists = state.condemned if state.condemned[n] is not None else put(state.condemned, n, packs)
        yield to("G4", (n, early), condemned=lists) if early is not None else to("G3", n, condemned=lists)
    elif step == "G3":
        yield to("G4", (memory, state.sessions))
    elif step == "G4":
        n, waiting = memory
        open_slots = [i for i in waiting if state.slots[i] == NONE]
        if mutation == "no_waiting" or not open_slots:
            yield to("G5", n)
        for i in open_slots:
            yield to("G4", memory, slots=put(state.slots, i, FENCED))
    elif step == "G5":
        n = memory
        if len(state.roots) != n or state.condemned[n] is None:
            yield to("G0")
            return
        folded = state.roots[-1][1] | frozenset(i for i, s in enumerate(state.slots) if s == COMMITTED)
        for deleted in mark(state, state.condemned[n], mutation):
            yield to("G6", (n, counts(state) - deleted, folded, deleted))
        if any_needs(state, (COLLECTED,)) and counts(state) & state.packs:
            yield to("G5 repacked", n, packs=state.packs | {"r%d.%d" % (g, n)})
    elif step == "G5 repacked":
        n = memory
        own = EMPTY if mutation == "repacked_not_listed" else frozenset(["r%d.%d" % (g, n)])
        if len(state.roots) != n or state.condemned[n] is None:
            yield to("G0")
            return
        folded = state.roots[-1][1] | frozenset(i for i, s in enumerate(state.slots) if s == COMMITTED)
        deleted = state.condemned[n]
        yield to("G6", (n, (counts(state) | own) - deleted, folded, deleted))
    elif step == "G6":
        n, base, folded, deleted = memory
        if len(state.roots) == n:
            yield to("G7", n, roots=state.roots + ((base, folded, deleted),))
        elif mutation == "own_delete_set":
            yield to("G7 own", (n, deleted))
        else:
            yield to("G7", n)
    elif step in ("G7", "G7 own"):
        n, deleted = memory if step == "G7 own" else (memory, state.roots[memory][2])
        left = deleted & state.packs
        for pack in left:
            yield to(step, memory, packs=state.packs - {pack})
        if not left or mutation == "condemned_removed_early":
            yield to("G8" if left == EMPTY else step, memory, condemned=put(state.condemned, n, None))
    elif step == "G8":
        # Clears away the archive slots that are not needed any more, one after the other.
        folded = state.roots[-1][1]
        for i, slot in enumerate(state.slots):
            done = i in folded or mutation == "slot_removed_early"
            if slot == COMMITTED and state.trash[i + 1] == COLLECTED and done:
                yield to("G8", memory, slots=put(state.slots, i, REMOVED))
            if slot == FENCED and mutation == "fence_removed":
                yield to("G8", memory, slots=put(state.slots, i, NONE))
        yield to("G0")


MUTATIONS = {
    "no_registration": (1, 1, 1),
    "late_registration": (1, 1, 1),
    "ignore_condemned": (1, 1, 1),
    "forget_decided_lists": (1, 1, 1),
    "adopt_unlisted": (2, 1, 1),
    "sessions_before_condemned": (1, 1, 1),
    "no_waiting": (1, 1, 1),
    "no_second_mark": (1, 1, 1),
    "own_delete_set": (1, 2, 1),
    "condemned_removed_early": (2, 1, 1),
    "no_collect_mark": (0, 1, 1),
    "slot_removed_early": (2, 1, 2),
    "fence_removed": (1, 1, 1),
    "repacked_not_listed": (0, 1, 1),
}


def successors(state, mutation):
    yield from trash_steps(state, mutation)
    for i in range(len(state.writers)):
        yield from writer_steps(state, i, mutation)
    for g in range(len(state.collectors)):
        yield from collector_steps(state, g, mutation)


def explore(writers, collectors, epochs, mutation="", seconds=600):
    """None: nothing breaks. A list of states: how something breaks."""
    first, began = start(writers, collectors, epochs), time.time()
    came_from, todo = {first: None}, [first]
    while todo:
        state = todo.pop()
        if broken(state, mutation):
            path = [state]
            while came_from[path[-1]] is not None:
                path.append(came_from[path[-1]])
            return len(came_from), path[::-1]
        for following in successors(state, mutation):
            if following not in came_from:
                came_from[following] = state
                todo.append(following)
        if time.time() - began > seconds:
            return len(came_from), "out of time"
    return len(came_from), None


def run(writers, collectors, epochs, mutation, seconds):
    began = time.time()
    count, outcome = explore(writers, collectors, epochs, mutation, seconds)
    words = "nothing breaks" if outcome is None else outcome if isinstance(outcome, str) else "BREAKS"
    shape = f"{writers} writers, {collectors} collectors, {epochs} epochs"
    print(f"{mutation or 'the protocol'}: {shape}: {words}, {count} states, {time.time() - began:.1f} s")
    return outcome


def main(arguments):
    if arguments == ["all"]:
        good = [run(*shape, "", 600) is None for shape in ((1, 1, 2), (0, 2, 2), (1, 2, 1), (2, 1, 1))]
        good += [isinstance(run(*shape, name, 600), list) for name, shape in MUTATIONS.items()]
        return 0 if all(good) else 1
    numbers = [int(number) for number in arguments[:3]] or [2, 1, 1]
    mutation = arguments[3] if len(arguments) > 3 else ""
    outcome = run(*numbers, mutation, float(arguments[4]) if len(arguments) > 4 else 600)
    if isinstance(outcome, list):
        for state in outcome:
            print(state)
    return 0 if outcome is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

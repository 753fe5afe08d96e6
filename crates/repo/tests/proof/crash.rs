//! Every state that a crash can leave, for each command that writes: archives are whole, the current one whole or
//! absent, a check with all data finds nothing, and the next commands work as they stand, even if they crash.

use std::sync::Arc;
use std::time::Duration;

use dbvault_repo::{NoMonitor, RecompressOptions};
use dbvault_storage::MemoryStorage;
use dbvault_testkit::tier::either;

use crate::common::*;
use crate::story::{Plan, Story, Teller, crash};
use crate::worlds::*;

#[test]
fn init() {
    crash("init", &Story::of_init(), Plan::usual());
}

#[test]
fn first_backup() {
    let story = Story::tell(&empty(), |teller| teller.backup("now", &data(3)).map(drop));
    crash("first backup", &story, Plan::usual());
}

/// More packs than one segment lists.
#[test]
fn long_backup() {
    let long = streams(&[("noise", &noise(860 << 10, 3)), ("text", &text(10 << 10, 3))]);
    let story = Story::tell(&empty(), |teller| teller.backup("now", &long).map(drop));
    crash(
        "long backup",
        &story,
        Plan { recoveries_max: either(10, 100), states_max: either(300, 3000), ..Plan::usual() },
    );
}

#[test]
fn incremental_backup() {
    let world = two_archives();
    let today = later(&world.expected["old"], 5);
    let story = Story::tell(&world, |teller| teller.backup("now", &today).map(drop));
    crash("incremental backup", &story, Plan::usual());
}

#[test]
fn identical_backup() {
    let world = two_archives();
    let same = world.expected["old"].clone();
    let story = Story::tell(&world, |teller| teller.backup("now", &same).map(drop));
    crash("identical backup", &story, Plan::usual());
}

#[test]
fn stopped_backup() {
    let story = Story::tell(&two_archives(), |teller| {
        suspend(&teller.repo, "now", &data(5));
        Ok(())
    });
    crash("stopped backup", &story, Plan::usual());
}

#[test]
fn resumed_backup() {
    let world = with_suspended(two_archives(), &data(5));
    let story = Story::tell(&world, |teller| teller.backup("now", &data(5)).map(drop));
    crash("resumed backup", &story, Plan::usual());
}

#[test]
fn delete_and_undelete() {
    let story = Story::tell(&two_archives(), |teller| {
        let id = teller.repo.find_archive("old")?.manifest.id;
        teller.repo.delete_archive(&id)?;
        teller.repo.undelete_archive(&id)?;
        teller.repo.delete_archive(&id)
    });
    crash("delete and undelete", &story, Plan::usual());
}

#[test]
fn prune() {
    let story = Story::tell(&two_archives(), |teller| teller.prune(&["old"]));
    crash("prune", &story, Plan::usual());
}

/// Two epochs, and days that are stored against those that go.
#[test]
fn prune_of_days() {
    let story = Story::tell(&days(6), |teller| {
        teller.prune(&["day 0", "day 1", "day 3"])?;
        teller.prune(&["day 4"])
    });
    crash("prune of days", &story, Plan::usual());
}

/// What a stopped backup left goes, and segments are folded.
#[test]
fn compact() {
    let world = with_suspended(two_archives(), &data(5));
    let story = Story::tell(&world, Teller::collect);
    crash("compact", &story, Plan::usual());
}

/// A base takes the place of another.
#[test]
fn second_compact() {
    let world = with_suspended(with_root(days(3), "day 0"), &data(5));
    let story = Story::tell(&world, Teller::collect);
    crash("second compact", &story, Plan::usual());
}

/// A collection finds a backup running, waits for another day, and is made then.
#[test]
fn prune_beside_a_backup() {
    let story = Story::tell(&two_archives(), |teller| {
        let mut running = begin(&teller.repo, "stopped")?;
        add(&mut running, "noise", dbvault_format::entry::Grid::Content, &mut &noise(9 << 10, 7)[..])?;
        teller.prune(&["old"])?;
        running.suspend()?;
        teller.collect()
    });
    crash("prune beside a backup", &story, Plan::usual());
}

/// Archives come from a repository with the same keys, one of them with what is there already.
#[test]
fn copy_with_the_same_keys() {
    let world = two_archives();
    let contents: Expected =
        [("today".to_owned(), later(&world.expected["old"], 5)), ("away".to_owned(), data(8))].into();
    let story = Story::tell(&world, |teller| {
        let from = teller.repo.init_like(Arc::new(MemoryStorage::new()), tiny_params(), &secret(1), "")?;
        contents.iter().try_for_each(|(name, streams)| backup(&from, name, streams).map(drop))?;
        teller.copy(&from, &contents)
    });
    crash("copy with the same keys", &story, Plan::usual());
}

/// All packs are stored anew, and the old ones go.
#[test]
fn recompress() {
    let options = RecompressOptions {
        level: 19,
        larger: true,
        bytes_max: u64::MAX,
        dry_run: false,
        wait: Duration::ZERO,
        silence: Duration::MAX,
    };
    let story = Story::tell(&days(3), |teller| {
        let done = teller.repo.recompress(&options, Arc::new(NoMonitor))?;
        assert!(done.packs > 0, "{done:?}");
        Ok(())
    });
    crash("recompress", &story, Plan::usual());
}

#[test]
fn key_slots() {
    let story = Story::tell(&two_archives(), |teller| {
        let second = teller.repo.add_key(&secret(2), "second")?;
        teller.repo.remove_key(&second)?;
        teller.repo.add_key(&secret(3), "third").map(drop)
    });
    crash("key add and remove", &story, Plan::usual());
}

#[test]
fn change_of_the_secret() {
    let story = Story::tell(&two_archives(), |teller| teller.repo.replace_key(&secret(4)).map(drop));
    crash("key change", &story.opened_by(&[4, 1]), Plan::usual());
}

//! Backups in a loop beside prunes and compactions in loops, with the real program on a real directory: every
//! archive that a backup reported, and that no prune dropped, restores bit for bit.
//!
//! 20 seconds; 10 minutes with `DBVAULT_TORTURE=1`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says so, and tells how much was tried"
)]

mod cli_support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cli_support::Home;
use dbvault_testkit::tier;

/// Backup loops.
const WRITERS: u64 = 2;

/// What one backup stores: few different streams, so that most of their chunks were just dropped or are just being
/// collected.
fn source(number: u64) -> String {
    let (noise, rows) = (number % 5, number % 7);
    format!(
        "openssl enc -aes-128-ctr -pass pass:{noise} -nosalt -in /dev/zero 2>/dev/null | head -c 700000; \
         seq {rows} 40000"
    )
}

fn bytes_of(number: u64) -> Vec<u8> {
    Command::new("sh").args(["-c", &source(number)]).output().unwrap().stdout
}

#[test]
fn backups_beside_prunes_and_compactions() {
    let seconds = tier::either(20, 600);
    let home = Home::with_repository();
    let until = Instant::now() + Duration::from_secs(seconds);
    let committed = Mutex::new(Vec::new());
    let [prunes, compactions] = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (home, committed) = (&home, &committed);
            scope.spawn(move || {
                for number in (writer..).step_by(WRITERS as usize).take_while(|_| Instant::now() < until) {
                    let name = number.to_string();
                    let source = source(number);
                    home.ok(["backup", "--quiet", "--command", &source, "--name", "x", "--archive", &name]);
                    committed.lock().unwrap().push(number);
                }
            });
        }
        let forever = |words: &'static [&'static str], count: &AtomicU64| {
            while Instant::now() < until {
                home.ok(words);
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let (prunes, compactions) = (&prunes, &compactions);
        scope.spawn(move || forever(&["prune", "--quiet", "--keep-last", "4", "--drop-most"], prunes));
        scope.spawn(move || forever(&["compact", "--quiet", "--wait", "1s"], compactions));
    });
    let committed = committed.into_inner().unwrap();
    let kept = home.archives();
    let newest = committed.iter().max().unwrap();
    assert!(kept.contains(&newest.to_string()), "the newest archive, {newest}, is gone: {kept:?}");
    let streams: BTreeMap<u64, Vec<u8>> = (0..35).map(|number| (number, bytes_of(number))).collect();
    for name in &kept {
        let number: u64 = name.parse().unwrap();
        assert!(committed.contains(&number), "{name} was never reported");
        let mut extract = home.command();
        let found = extract.args(["extract", "--archive", name, "--entry", "x"]).output().unwrap();
        assert!(found.status.success() && found.stdout == streams[&(number % 35)], "{name} has other bytes");
    }
    home.ok(["check", "--read-data"]);
    println!(
        "proof: loop: {} backups, {} prunes, {} compactions in {seconds} s, {} archives left, 0 violations",
        committed.len(),
        prunes.into_inner(),
        compactions.into_inner(),
        kept.len(),
    );
}

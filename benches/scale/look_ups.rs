//! Opening the index, and asking it, on one thread. Rates are by the time of the processor: what else runs on
//! the machine does not count, and nothing waits for a disk once the index is in the system's cache.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use dbvault_format::id::ChunkId;
use dbvault_repo::measure::OpenedIndex;

use crate::Error;
use crate::measure::bytes_stored;
use crate::report::Report;
use crate::world::World;

const OPENS: usize = 5;
/// How often look-ups are timed; the median counts.
const TURNS: usize = 3;
const RANDOM: usize = 200_000;
/// Archives whose streams are looked up.
const STREAMS: usize = 6;
/// Chunks of a batch of the pipeline.
const BATCH: usize = 32;

pub(crate) fn measure(world: &World, report: &mut Report) -> Result<(), Error> {
    let bytes = bytes_stored(&world.home().join("cache"))?;
    report.value("index on disk", bytes as f64 / world.chunks() as f64, "bytes a chunk", None);
    let repo = world.open()?;
    let mut opened = OpenedIndex::open(&repo)?;
    let (mut views, mut opens) = (Vec::new(), Vec::new());
    for _ in 0..OPENS {
        drop(opened);
        opened = OpenedIndex::open(&repo)?;
        views.push(opened.view.as_secs_f64());
        opens.push(opened.open.as_secs_f64());
    }
    let (view, open) = (median(&mut views), median(&mut opens));
    report.value("warm open: view read", view, "s", None);
    report.value("warm open: index", open, "s", None);
    report.value("warm open: both", view + open, "s", Some((1.0, true)));
    let hits = random_ids(world);
    let misses: Vec<ChunkId> = hits.iter().map(|id| ChunkId(*blake3::hash(&id.0).as_bytes())).collect();
    let streams = (0..STREAMS).map(|number| world.stream(number * world.archives / STREAMS));
    let stream: Vec<ChunkId> = streams.flatten().map(|chunk| chunk.id).collect();
    // Waiting for the disk is not what is measured.
    read_all(&world.home().join("cache"))?;
    let mut ask = |what: &str, ids: &[ChunkId], stored: bool, batch: usize, goal: Option<f64>| {
        let expected = if stored { ids.len() } else { 0 };
        let mut rates = Vec::new();
        for _ in 0..TURNS {
            let started = thread_seconds()?;
            let found = match batch {
                1 => opened.count_copies(ids)?,
                _ => ids.chunks(batch).map(|ids| opened.count_stored(ids)).sum::<Result<usize, _>>()?,
            };
            rates.push(ids.len() as f64 / (thread_seconds()? - started));
            if found != expected {
                return Err(Error::from(format!("{what}: {found} of {expected} found")));
            }
        }
        let goal = goal.map(|goal| (goal, false));
        report.value(&format!("look-ups of {what}, {batch} at once"), median(&mut rates), "/s", goal);
        Ok(())
    };
    ask("random chunks", &hits, true, 1, Some(50_000.0))?;
    ask("random chunks", &hits, true, BATCH, None)?;
    ask("new chunks", &misses, false, 1, Some(50_000.0))?;
    ask("new chunks", &misses, false, BATCH, None)?;
    ask("a stream stored before", &stream, true, BATCH, Some(300_000.0))
}

/// Ids from all over the repository.
fn random_ids(world: &World) -> Vec<ChunkId> {
    let mut hash = blake3::Hasher::new().update(b"random").finalize_xof();
    let mut below = |bound: usize| {
        let mut word = [0; 8];
        hash.fill(&mut word);
        (u64::from_le_bytes(word) % bound as u64) as usize
    };
    (0..RANDOM).map(|_| world.id(below(world.archives), below(world.chunks_each))).collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Time that this thread has had a processor.
fn thread_seconds() -> Result<f64, Error> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}

/// Reads all files below a directory, so that the system has them in memory if there is room.
fn read_all(directory: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => read_all(&path)?,
            false => drop(io::copy(&mut File::open(path)?, &mut io::sink())?),
        }
    }
    Ok(())
}

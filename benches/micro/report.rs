//! The tables: each step beside its bare library, and what a whole backup spends on it.

use std::fmt::Write;
use std::fs;

use dbvault_format::manifest::Sizes;

use crate::material::Material;
use crate::step::{Amount, Step, median};
use crate::whole::Backup;

const MEGABYTE: f64 = 1e6;
const GIGABYTE: f64 = 1e9;

/// The whole report as Markdown.
pub(crate) fn write(steps: &[Step], backups: &[[Backup; 2]], material: &Material) -> String {
    let mut lines = vec![
        "# The steps of a backup".to_owned(),
        String::new(),
        format!(
            "Dumps of {:.1} and {:.1} MB, {} chunks and {} deltas; processor time, medians of {} rounds, the ways",
            material.day0.len() as f64 / MEGABYTE,
            material.day1.len() as f64 / MEGABYTE,
            material.chunks().len(),
            material.pairs().len(),
            backups.len(),
        ),
        "of a step taken turn by turn.".to_owned(),
        format!("{}.", machine()),
        String::new(),
        "| step | by | speed | time | time of dbvault / of this | output / input |".to_owned(),
        "| --- | --- | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    steps.iter().for_each(|step| lines.extend(step_lines(step)));
    lines.push(String::new());
    lines.push(
        "A look-up of dbvault is one of a whole backup of chunks of 64 bytes that are there already."
            .to_owned(),
    );
    lines.extend(share_lines(steps, backups));
    lines.join("\n") + "\n"
}

fn step_lines(step: &Step) -> impl Iterator<Item = String> {
    let ours = step.ways[0].seconds();
    step.ways.iter().enumerate().map(move |(number, way)| {
        let seconds = way.seconds();
        let (speed, time, share) = match step.input {
            Amount::Bytes(bytes) => (
                format!("{:.0} MB/s", bytes as f64 / MEGABYTE / seconds),
                format!("{:.3} s/GB", seconds / bytes as f64 * GIGABYTE),
                format!("{:.4}", way.output_bytes as f64 / bytes as f64),
            ),
            Amount::Items(items) => (
                format!("{:.0} /s", items as f64 / seconds),
                format!("{:.2} µs", seconds / items as f64 * 1e6),
                String::new(),
            ),
        };
        let sized = ["compress", "delta"].contains(&step.name);
        let (name, ratio) = match number {
            0 => (step.name, String::new()),
            _ => ("", format!("{:.2}", ours / seconds)),
        };
        let share = if sized { share } else { String::new() };
        format!("| {name} | {} | {speed} | {time} | {ratio} | {share} |", way.name)
    })
}

/// How much of each step a backup needs, in the unit of the step's input. Where a chunk was tried both ways,
/// the one that was not taken is not counted.
fn needs(step: &str, sizes: &Sizes) -> f64 {
    let (stream, new, stored) =
        (sizes.original_bytes as f64, sizes.new_bytes as f64, sizes.stored_bytes as f64);
    let deltas = new * (sizes.delta_chunks as f64 / (sizes.new_chunks as f64).max(1.0));
    match step {
        "cut" => stream,
        // Ids of the stream, of what is read again to verify it, of bases; and the packs' names.
        "hash" => stream + new + deltas + stored,
        // Whether it is there; three super-features of what is new.
        "look up" => (sizes.chunks + 3 * sizes.new_chunks) as f64,
        "features" => new,
        "compress" => new - deltas,
        "delta" | "decompress a delta" => deltas,
        "seal" | "open" => stored,
        // To verify it; and the bases.
        "decompress" => new,
        _ => 0.0,
    }
}

fn share_lines(steps: &[Step], backups: &[[Backup; 2]]) -> Vec<String> {
    let whole = [0, 1].map(|day| median(backups.iter().map(|days| days[day].cpu_seconds)));
    // Keys are random, so that repositories differ a little: the first round's stands for all.
    let sizes = [0, 1].map(|day| &backups[0][day].sizes);
    let cells = |seconds: [f64; 2]| {
        let cell = |day: usize| format!("{:.3} s | {:.1} %", seconds[day], seconds[day] / whole[day] * 100.0);
        format!("{} | {}", cell(0), cell(1))
    };
    let mut lines = vec![
        String::new(),
        "## Share of a whole backup".to_owned(),
        String::new(),
        format!(
            "What each step would take for what the backup says it did: {}; {}.",
            did(sizes[0]),
            did(sizes[1])
        ),
        "The remainder is what no step explains: reading the stream, copies between threads, writing files, the"
            .to_owned(),
        "index's own writing, deltas that were tried and not taken.".to_owned(),
        String::new(),
        "| step | first backup | share | changed day | share |".to_owned(),
        "| --- | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    let mut explained = [0.0; 2];
    for step in steps {
        let seconds =
            sizes.map(|sizes| needs(step.name, sizes) * step.ways[0].seconds() / step.input.number());
        explained = [explained[0] + seconds[0], explained[1] + seconds[1]];
        lines.push(format!("| {} | {} |", step.name, cells(seconds)));
    }
    lines.push(format!("| remainder | {} |", cells([whole[0] - explained[0], whole[1] - explained[1]])));
    lines.push(format!("| whole | {} |", cells(whole)));
    lines
}

fn did(sizes: &Sizes) -> String {
    format!(
        "{:.1} MB in {} chunks, {:.1} MB of them new, {} of {} new chunks as deltas, {:.1} MB stored",
        sizes.original_bytes as f64 / MEGABYTE,
        sizes.chunks,
        sizes.new_bytes as f64 / MEGABYTE,
        sizes.delta_chunks,
        sizes.new_chunks,
        sizes.stored_bytes as f64 / MEGABYTE,
    )
}

/// Processor, cores, memory, kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
    };
    let mut text = field(&read("/proc/cpuinfo"), "model name");
    if text.is_empty() {
        text.push_str("unknown processor");
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gibibytes = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    let _ = write!(text, ", {cores} cores, {gibibytes:.0} GiB of memory, Linux {}", kernel.trim());
    text
}

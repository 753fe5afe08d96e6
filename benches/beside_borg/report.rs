//! The table: medians, ratios, goals, verdicts, and the machine they hold for.

use std::fmt::Write;
use std::fs;

use crate::measure::{Step, Usage};
use crate::tools::Tool;
use crate::{Dumps, Measurements, length};

const SIZE_RATIO_MAX: f64 = 1.02;
const GROWTH_OF_FIRST_MAX: f64 = 0.04;
const GROWTH_RATIO_MAX: f64 = 0.05;
const ABSENT: &str = "absent";
const MEGABYTE: f64 = 1e6;

/// The whole report as Markdown; `tools` and `measured` are dbvault's and Borg's.
pub(crate) fn write(
    tools: &[Tool; 2],
    measured: &[Measurements],
    dumps: &Dumps,
    rounds: usize,
) -> Result<String, String> {
    let [ours, borgs] = measured else { return Err("two tools are compared".to_owned()) };
    let mut lines = vec![
        "# dbvault beside Borg".to_owned(),
        String::new(),
        format!(
            "Streams of {:.1} and {:.1} MB; medians of {rounds} rounds, taken turn by turn.",
            length(&dumps.day0)? as f64 / MEGABYTE,
            length(&dumps.day1)? as f64 / MEGABYTE,
        ),
        format!("{}; {}, zstd,3, repokey-blake2, default chunker.", tools[0].version(), tools[1].version()),
        format!("{}.", machine()),
        String::new(),
        "| what | dbvault | Borg | dbvault / Borg | goal | verdict |".to_owned(),
        "| --- | ---: | ---: | ---: | ---: | --- |".to_owned(),
    ];
    for step in Step::ALL {
        let (ours, borgs) = (&ours.usage[step as usize], &borgs.usage[step as usize]);
        let row = |title: &str, unit, value: fn(&Usage) -> f64, goal| {
            let [ours, borgs] = [ours, borgs].map(|usage| median(usage.iter().map(value)));
            compared(&format!("{}: {title}", step.title()), unit, ours, borgs, goal)
        };
        lines.push(row("wall", "s", |usage| usage.wall_seconds, Some(step.wall_ratio_max())));
        lines.push(row("CPU", "s", |usage| usage.cpu_seconds, None));
        lines.push(row("peak memory", "MiB", |usage| usage.peak_mebibytes, None));
    }
    lines.extend(storage_lines(ours, borgs));
    Ok(lines.join("\n") + "\n")
}

fn storage_lines(ours: &Measurements, borgs: &Measurements) -> Vec<String> {
    let row = |title: &str, value: fn(&Measurements) -> &Vec<f64>, goal| {
        let [ours, borgs] = [ours, borgs]
            .map(|measured| median(value(measured).iter().copied()).map(|bytes| bytes / MEGABYTE));
        compared(title, "MB", ours, borgs, goal)
    };
    let first = median(ours.bytes_first.iter().copied());
    let share = median(ours.growth_changed.iter().copied()).zip(first).map(|(growth, first)| growth / first);
    let percent = share.map_or(ABSENT.to_owned(), |share| format!("{:.2} %", share * 100.0));
    vec![
        row("stored after the first backup", |measured| &measured.bytes_first, Some(SIZE_RATIO_MAX)),
        row("growth by the identical stream", |measured| &measured.growth_identical, None),
        row("growth by the changed day", |measured| &measured.growth_changed, Some(GROWTH_RATIO_MAX)),
        format!(
            "| growth by the changed day, of the first backup | {percent} | | | <= {:.0} % | {} |",
            GROWTH_OF_FIRST_MAX * 100.0,
            verdict(share, Some(GROWTH_OF_FIRST_MAX)),
        ),
    ]
}

/// A line of the table; the goal is the largest ratio that passes.
fn compared(title: &str, unit: &str, ours: Option<f64>, borgs: Option<f64>, goal: Option<f64>) -> String {
    let cell = |value: Option<f64>| value.map_or(ABSENT.to_owned(), |value| format!("{value:.2} {unit}"));
    let ratio = ours.zip(borgs).map(|(ours, borgs)| ours / borgs);
    format!(
        "| {title} | {} | {} | {} | {} | {} |",
        cell(ours),
        cell(borgs),
        ratio.map_or(String::new(), |ratio| format!("{ratio:.3}")),
        goal.map_or(String::new(), |goal| format!("<= {goal}")),
        verdict(ratio, goal),
    )
}

fn verdict(value: Option<f64>, goal: Option<f64>) -> &'static str {
    match value.zip(goal) {
        None => "",
        Some((value, goal)) if value <= goal => "pass",
        Some(_) => "FAIL",
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
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

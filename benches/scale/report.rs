//! The table: values, goals, verdicts, and the machine they hold for.

use std::fs;

use crate::measure::Usage;
use crate::world::World;

/// Lines of the table so far.
pub(crate) struct Report(Vec<String>);

impl Report {
    pub(crate) fn new(world: &World) -> Report {
        let (chunks, archives) = (world.chunks() as f64 / 1e6, world.archives);
        Report(vec![
            format!("# A repository of {chunks:.0} million chunks"),
            String::new(),
            format!(
                "{archives} archives, each of chunks of its own; one chunk in eight is a delta. Packs have no data."
            ),
            format!("{}.", machine()),
            String::new(),
            "| what | value | goal | verdict |".to_owned(),
            "| --- | ---: | ---: | --- |".to_owned(),
        ])
    }

    /// A line; the goal is a bound, and whether it is the largest value that passes or the least.
    pub(crate) fn value(&mut self, what: &str, value: f64, unit: &str, goal: Option<(f64, bool)>) {
        let digits = if value < 100.0 { 2 } else { 0 };
        let (goal, verdict) = match goal {
            None => (String::new(), ""),
            Some((bound, largest)) => {
                let passed = if largest { value <= bound } else { value >= bound };
                let sign = if largest { "<=" } else { ">=" };
                (format!("{sign} {bound}"), if passed { "pass" } else { "FAIL" })
            }
        };
        let line = format!("| {what} | {value:.digits$} {unit} | {goal} | {verdict} |");
        eprintln!("{line}");
        self.0.push(line);
    }

    /// The lines for a run of a program.
    pub(crate) fn usage(&mut self, what: &str, usage: Usage, peak_max: Option<f64>) {
        self.value(&format!("{what}: wall"), usage.wall_seconds, "s", None);
        self.value(&format!("{what}: CPU"), usage.cpu_seconds, "s", None);
        self.value(
            &format!("{what}: peak memory"),
            usage.peak_megabytes,
            "MB",
            peak_max.map(|max| (max, true)),
        );
    }

    /// All of it as Markdown.
    pub(crate) fn finish(self) -> String {
        self.0.join("\n") + "\n"
    }
}

/// Processor, cores, memory.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gibibytes = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20);
    format!("{}, {cores} cores, {gibibytes:.0} GiB of memory", field(&read("/proc/cpuinfo"), "model name"))
}

//! The report as Markdown: goals and verdicts, everything measured, and the machine it holds for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command_lines::{ALL, OURS};
use crate::contest::Contest;
use crate::figures::{Figures, Row};
use crate::goals::verdicts;
use crate::settings::Settings;
use crate::{kinds, live, series, stream};

const RESULT: &str = "benches/results/beside_peers.md";
const README: &str = "README.md";
/// The region of the README that has the goals.
const REGION: [&str; 2] = ["<!-- bench -->\n", "<!-- /bench -->"];
const SECTIONS: [&str; 5] =
    [stream::SECTION, series::SECTION, live::SECTION, kinds::SECTION, series::DAYS_SECTION];

pub(crate) struct Report {
    goals: String,
    figures: String,
    /// Whether it takes the place of the last one.
    published: bool,
}

impl Report {
    pub(crate) fn new(contest: &Contest, settings: &Settings) -> Self {
        let goals = goals(&contest.figures, settings);
        let figures = SECTIONS.iter().map(|section| section_text(contest, section)).collect();
        let published = settings.is_complete() && contest.failures().is_empty();
        let mut head = format!(
            "Dumps of {} MB; medians, rounds: {}; {}.\n\n",
            settings.megabytes,
            settings.rounds,
            machine()
        );
        contest.described().iter().for_each(|line| head.push_str(&format!("- {line}\n")));
        contest.failures().iter().for_each(|line| head.push_str(&format!("- FAILED: {line}\n")));
        Self { goals: format!("{head}\n{goals}"), figures, published }
    }

    pub(crate) fn whole(&self) -> String {
        format!("# dbvault beside other tools\n\n{}{}", self.goals, self.figures)
    }

    /// Returns where it was written.
    pub(crate) fn save(&self) -> Result<PathBuf, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        if !self.published {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("beside_peers.md");
            return write(&path, &self.whole()).map(|()| path);
        }
        let readme = root.join(README);
        let text = fs::read_to_string(&readme).map_err(|error| format!("{README}: {error}"))?;
        write(&readme, &with_region(&text, &self.goals)?)?;
        let path = root.join(RESULT);
        write(&path, &self.whole()).map(|()| path)
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let written = fs::create_dir_all(path.with_file_name("")).and_then(|()| fs::write(path, text));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

fn with_region(text: &str, region: &str) -> Result<String, String> {
    let parts = text.split_once(REGION[0]);
    let parts = parts.and_then(|(before, rest)| Some((before, rest.split_once(REGION[1])?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{README} has no region {}", REGION[0].trim_end()))?;
    Ok(format!("{before}{}{region}{}{after}", REGION[0], REGION[1]))
}

/// A line for each goal.
fn goals(figures: &Figures, settings: &Settings) -> String {
    let peers: Vec<&'static str> = ALL.iter().map(|lines| lines.name).filter(|name| *name != OURS).collect();
    let verdicts = verdicts(figures, settings, &peers);
    let rows: Vec<&Row> = verdicts.iter().filter_map(|verdict| verdict.row).collect();
    let mut columns = figures.columns_of(&rows);
    columns.retain(|column| *column == OURS || peers.contains(column));
    let mut table = header(&columns, "| ratio | goal | verdict |", "| --- | ---: | --- |");
    for verdict in verdicts {
        let passed = match verdict.passed {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "not measured",
        };
        table.push_str(&format!("| {} {}", verdict.title, cells(verdict.row, &columns)));
        table.push_str(&format!("| {} | {} | {passed} |\n", verdict.found, verdict.limit));
    }
    table
}

/// Everything measured in a section; nothing when it was not run.
fn section_text(contest: &Contest, section: &str) -> String {
    let rows: Vec<&Row> = contest.figures.section(section).collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = contest.figures.columns_of(&rows);
    let mut text = format!("\n## {section}\n\n");
    for remark in contest.remarks(section) {
        text.push_str(&format!("{remark}\n\n"));
    }
    text.push_str(&header(&columns, "|", "|"));
    for row in rows {
        text.push_str(&format!("| {} {}|\n", row.title, cells(Some(row), &columns)));
    }
    text
}

fn header(columns: &[&str], titles_end: &str, rule_end: &str) -> String {
    format!(
        "| what | {} {titles_end}\n| --- {}{rule_end}\n",
        columns.join(" | "),
        "| ---: ".repeat(columns.len())
    )
}

fn cells(row: Option<&Row>, columns: &[&str]) -> String {
    let cell = |column: &&str| {
        let value = row.and_then(|row| Some(row.unit.show(row.median(column)?)));
        format!("| {} ", value.unwrap_or_default())
    };
    columns.iter().map(cell).collect()
}

/// Processor, cores, memory, kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
    };
    let processor = match field(&read("/proc/cpuinfo"), "model name") {
        name if name.is_empty() => "unknown processor".to_owned(),
        name => name,
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gibibytes = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{processor}, {cores} cores, {gibibytes:.0} GiB of memory, Linux {}", kernel.trim())
}

//! A tool on this machine, with a directory of its own for repository, configuration and caches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command_lines::{CommandLines, OURS, PASSPHRASE};
use crate::environment;
use crate::measure::{Fingerprint, bytes_stored, measure, measure_output};

/// Of the stream that a tool must bring back before it is measured.
const PROBE_BYTES: usize = 1 << 20;

pub(crate) struct Peer {
    lines: &'static CommandLines,
    program: PathBuf,
    version: String,
    state: PathBuf,
}

impl Peer {
    /// None where it is not installed; `work` gets a directory for it.
    pub(crate) fn find(lines: &'static CommandLines, work: &Path) -> Option<Self> {
        let is_wanted = |program: &PathBuf| {
            version_of(program, lines).is_some_and(|version| version.starts_with(lines.version_start))
        };
        let program = candidates(lines).into_iter().find(is_wanted)?;
        let version = version_of(&program, lines)?;
        Some(Self { lines, program, version, state: work.join(lines.program) })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.lines.name
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.name() == OURS
    }

    /// Version and setup, for the report.
    pub(crate) fn description(&self) -> String {
        format!("{}, {}", self.version, self.lines.setup)
    }

    /// How it is called to check, for the report.
    pub(crate) fn check_line(&self) -> Option<String> {
        let line = self.lines.check;
        (!line.is_empty()).then(|| format!("`{} {}`", self.lines.program, line.join(" ")))
    }

    /// Fails when the tool does not bring back what it was given.
    pub(crate) fn probe(&self) -> Result<(), String> {
        let bytes: Vec<u8> = (0..PROBE_BYTES).map(|index| ((index * index) >> 7) as u8).collect();
        self.start_afresh()?;
        let path = self.state.join("probe");
        fs::write(&path, &bytes).map_err(|error| error.to_string())?;
        measure(self.backup("probe"), Some(&path))?;
        measure_output(self.extract("probe"), &Fingerprint::of_file(&path)?)?;
        self.remove()
    }

    /// The sum of the lengths of all files of the repository.
    pub(crate) fn bytes_stored(&self) -> Result<u64, String> {
        bytes_stored(&self.repository())
    }

    /// Removes everything and makes an empty repository.
    pub(crate) fn start_afresh(&self) -> Result<(), String> {
        self.remove()?;
        let made = fs::create_dir_all(self.home())
            .and_then(|()| fs::write(self.home().join("password"), format!("{PASSPHRASE}\n")));
        made.map_err(|error| format!("{}: {error}", self.home().display()))?;
        self.lines.init.iter().try_for_each(|line| run(&mut self.command(line, "")))
    }

    /// Removes repository, configuration and caches.
    pub(crate) fn remove(&self) -> Result<(), String> {
        remove(&self.state)?;
        remove(&self.saved())
    }

    /// Keeps a copy of repository and caches as they are now.
    pub(crate) fn save_state(&self) -> Result<(), String> {
        remove(&self.saved())?;
        run(Command::new("cp").arg("-a").arg(&self.state).arg(self.saved()))
    }

    /// Puts repository and caches back as they were saved, at the same place: Borg minds where it lives.
    pub(crate) fn bring_back_state(&self) -> Result<(), String> {
        remove(&self.state)?;
        run(Command::new("cp").arg("-a").arg(self.saved()).arg(&self.state))
    }

    /// A command that backs up its standard input.
    pub(crate) fn backup(&self, archive: &str) -> Command {
        self.command(self.lines.backup, archive)
    }

    /// A command that writes what was backed up to its standard output.
    pub(crate) fn extract(&self, archive: &str) -> Command {
        self.command(self.lines.extract, archive)
    }

    pub(crate) fn list(&self) -> Command {
        self.command(self.lines.list, "")
    }

    /// None where the tool has no such command.
    pub(crate) fn check(&self) -> Option<Command> {
        (!self.lines.check.is_empty()).then(|| self.command(self.lines.check, ""))
    }

    /// The program in its own environment, for other arguments than those of the table.
    pub(crate) fn command(&self, line: &[&str], archive: &str) -> Command {
        let mut command = Command::new(&self.program);
        let (home, repository) = (self.home(), self.repository());
        let fill = |word: &str| {
            let word = word.replace("{repo}", &repository.to_string_lossy());
            word.replace("{home}", &home.to_string_lossy()).replace("{archive}", archive)
        };
        command.args(line.iter().map(|word| fill(word)));
        // Nothing of the user's own settings may reach the measurement.
        command
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| ["PATH", "TMPDIR"].contains(&name.as_str())));
        command.env("LC_ALL", "C.UTF-8").env("HOME", &home).current_dir(&home);
        command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_CACHE_HOME", home.join("cache"));
        command.envs(self.lines.environment.iter().map(|(name, value)| (name, fill(value))));
        command
    }

    fn home(&self) -> PathBuf {
        self.state.join("home")
    }

    fn repository(&self) -> PathBuf {
        self.state.join("repository")
    }

    fn saved(&self) -> PathBuf {
        self.state.with_extension("saved")
    }
}

/// The one that is named, the one `scripts/install-deps` made, the one on the search path.
fn candidates(lines: &CommandLines) -> Vec<PathBuf> {
    if lines.name == OURS {
        return vec![environment::program()];
    }
    let named = (lines.program == "borg").then(|| std::env::var_os("DBVAULT_BENCH_BORG")).flatten();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let installed = lines.installed.and_then(|path| Some(cache?.join("dbvault").join(path)));
    named.map(PathBuf::from).into_iter().chain(installed).chain([PathBuf::from(lines.program)]).collect()
}

fn version_of(program: &Path, lines: &CommandLines) -> Option<String> {
    let output = Command::new(program).args(lines.version).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

fn remove(directory: &Path) -> Result<(), String> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end()))
}

//! The tools compared: where they are found, and their command lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BORG_VERSION: &str = "borg 1.4.";
const PASSPHRASE: &str = "a passphrase for measuring only";

/// A backup tool with a directory of its own for repository, configuration and cache.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    program: Option<PathBuf>,
    state: PathBuf,
    lines: CommandLines,
}

/// The arguments of each command. `REPO` stands for the repository, `ARCHIVE` for the archive's name.
struct CommandLines {
    init: &'static [&'static str],
    backup: &'static [&'static str],
    extract: &'static [&'static str],
}

const DBVAULT: CommandLines = CommandLines {
    init: &["--repo", "REPO", "init"],
    backup: &["--repo", "REPO", "backup", "--stdin", "--name", "users"],
    // The archive wanted is always the last one made.
    extract: &["--repo", "REPO", "extract", "--archive", "latest", "--entry", "users"],
};

const BORG: CommandLines = CommandLines {
    init: &["init", "--encryption", "repokey-blake2", "REPO"],
    backup: &["create", "--compression", "zstd,3", "--stdin-name", "users", "REPO::ARCHIVE", "-"],
    extract: &["extract", "--stdout", "REPO::ARCHIVE"],
};

impl Tool {
    /// dbvault first, then Borg; each has its place below `work`. A missing one is listed as such.
    pub(crate) fn find_all(work: &Path) -> Result<[Self; 2], String> {
        let dbvault =
            Self { name: "dbvault", program: find_dbvault(), state: work.join("dbvault"), lines: DBVAULT };
        let borg = Self { name: "Borg", program: find_borg(), state: work.join("borg"), lines: BORG };
        if !dbvault.is_present() && !borg.is_present() {
            return Err("neither dbvault nor Borg 1.4 found: see scripts/install-deps bench".to_owned());
        }
        Ok([dbvault, borg])
    }

    pub(crate) fn is_present(&self) -> bool {
        self.program.is_some()
    }

    pub(crate) fn version(&self) -> String {
        self.program.as_deref().and_then(version_of).unwrap_or_else(|| format!("{}: absent", self.name))
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.state.join("repository")
    }

    /// Removes everything and makes an empty repository.
    pub(crate) fn start_afresh(&self) -> Result<(), String> {
        remove(&self.state)?;
        if !self.is_present() {
            return Ok(());
        }
        fs::create_dir_all(self.state.join("home")).map_err(|error| error.to_string())?;
        run(&mut self.command(self.lines.init, ""))
    }

    /// Keeps a copy of repository and caches as they are now.
    pub(crate) fn save_state(&self) -> Result<(), String> {
        remove(&self.saved())?;
        run(Command::new("cp").arg("-a").arg(&self.state).arg(self.saved()))
    }

    /// Puts repository and caches back as they were saved, at the same place: Borg minds where it lives.
    pub(crate) fn bring_back_state(&self) -> Result<(), String> {
        remove(&self.state)?;
        fs::rename(self.saved(), &self.state).map_err(|error| error.to_string())
    }

    /// A command that backs up its standard input.
    pub(crate) fn backup(&self, archive: &str) -> Command {
        self.command(self.lines.backup, archive)
    }

    /// A command that writes what was backed up to its standard output.
    pub(crate) fn extract(&self, archive: &str) -> Command {
        self.command(self.lines.extract, archive)
    }

    fn saved(&self) -> PathBuf {
        self.state.with_extension("saved")
    }

    fn command(&self, line: &[&str], archive: &str) -> Command {
        let mut command = Command::new(self.program.as_deref().unwrap_or(Path::new("absent")));
        let repository = self.repository().to_string_lossy().into_owned();
        command.args(line.iter().map(|word| word.replace("REPO", &repository).replace("ARCHIVE", archive)));
        // Nothing of the user's own settings may reach the measurement.
        let home = self.state.join("home");
        command.env_clear().envs(std::env::vars().filter(|(name, _)| name == "PATH"));
        command.env("LC_ALL", "C.UTF-8").env("HOME", &home).current_dir(&home);
        command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_CACHE_HOME", home.join("cache"));
        command.env("DBVAULT_PASSPHRASE", PASSPHRASE);
        command.env("BORG_BASE_DIR", &home).env("BORG_PASSPHRASE", PASSPHRASE);
        command
    }
}

fn find_dbvault() -> Option<PathBuf> {
    let named = std::env::var_os("DBVAULT_BIN").map(PathBuf::from);
    named.or_else(|| option_env!("CARGO_BIN_EXE_dbvault").map(PathBuf::from)).filter(|path| path.exists())
}

/// The named one, the one `scripts/install-deps` made, or the one on the search path; 1.4 only.
fn find_borg() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let candidates = [
        std::env::var_os("DBVAULT_BENCH_BORG").map(PathBuf::from),
        cache.map(|cache| cache.join("dbvault/borg/bin/borg")),
        Some(PathBuf::from("borg")),
    ];
    let is_wanted =
        |path: &PathBuf| version_of(path).is_some_and(|version| version.starts_with(BORG_VERSION));
    candidates.into_iter().flatten().find(is_wanted)
}

fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
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

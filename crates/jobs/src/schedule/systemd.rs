//! A service that runs once, and the timer that starts it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Done, Keeper, Places, Plan, When, failed, read};
use crate::{Error, Result};

/// Names of the units.
const SERVICE: &str = "dbvault.service";
const TIMER: &str = "dbvault.timer";
/// First line of both: what has it is ours to overwrite.
const MARK: &str = "# Made by dbvault schedule install, which overwrites it.";

/// What a service of the system may not do. Programs that a dump needs may have to become another user (`sudo -u
/// postgres`), so new privileges are not forbidden, and neither are sockets below /tmp hidden.
const LIMITS_OF_SYSTEM: &str = "\
ProtectSystem=full
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
";

/// The units as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemdFiles {
    /// The service.
    pub service: String,
    /// The timer.
    pub timer: String,
}

impl SystemdFiles {
    /// The units of `plan`. Errors: [`Error::Schedule`] for a time in the words of cron.
    pub fn of(plan: &Plan, keeper: Keeper) -> Result<SystemdFiles> {
        let calendar = match &plan.when {
            When::Daily { hour, minute } => format!("*-*-* {hour:02}:{minute:02}:00"),
            When::Calendar(words) => words.replace(char::is_control, " "),
            When::Cron(_) => {
                let what = "systemd does not know the times of cron".to_owned();
                return Err(Error::Schedule { what, source: None });
            }
        };
        let timer = format!(
            "{MARK}\n[Unit]\nDescription=When dbvault backs up\n\n[Timer]\nOnCalendar={calendar}\n\
             RandomizedDelaySec=10min\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n"
        );
        let mut service = format!(
            "{MARK}\n[Unit]\nDescription=dbvault backs up\nWants=network-online.target\n\
             After=network-online.target\n\n[Service]\nType=oneshot\n"
        );
        if keeper == Keeper::System {
            // With a user there is a home directory, and with that the user's configuration.
            service += "User=root\n";
        }
        for action in &plan.actions {
            let program = plan.program.to_string_lossy();
            let words = std::iter::once(program.as_ref())
                .chain(plan.global_args.iter().map(String::as_str))
                .chain(action.iter().map(String::as_str));
            service += &format!("ExecStart={}\n", words.map(quoted).collect::<Vec<_>>().join(" "));
        }
        service += "Nice=10\nIOSchedulingClass=best-effort\nIOSchedulingPriority=7\nUMask=0077\n";
        if keeper == Keeper::System {
            service += LIMITS_OF_SYSTEM;
        }
        Ok(SystemdFiles { service, timer })
    }
}

/// A word of a command line as systemd reads it: no specifiers, no variables.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@,".contains(c);
    let text = word.replace('%', "%%").replace('$', "$$");
    if !word.is_empty() && word.chars().all(plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

pub(super) fn install(places: &Places, keeper: Keeper, plan: &Plan, dry_run: bool) -> Result<Done> {
    let files = SystemdFiles::of(plan, keeper)?;
    if let When::Calendar(words) = &plan.when {
        check_calendar(places, words)?;
    }
    let directory = directory(places, keeper);
    let mut done = Done::default();
    for (name, text) in [(SERVICE, files.service), (TIMER, files.timer)] {
        let path = directory.join(name);
        let before = read(&path)?;
        if before.as_ref().is_some_and(|before| !before.starts_with(MARK)) {
            return Err(Error::FileExists { path });
        }
        done.changed |= before.as_ref() != Some(&text);
        if !dry_run {
            fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
            fs::write(&path, &text).map_err(Error::file("write", &path))?;
        }
        done.files.push((path.display().to_string(), text));
    }
    if !dry_run {
        systemctl(places, keeper, &["daemon-reload"])?;
        systemctl(places, keeper, &["enable", TIMER])?;
        // Started anew, so that a new time counts at once.
        systemctl(places, keeper, &["restart", TIMER])?;
    }
    Ok(done)
}

pub(super) fn show(places: &Places, keeper: Keeper) -> Result<Done> {
    let mut done = Done::default();
    for path in ours(places, keeper) {
        if let Some(text) = read(&path)? {
            done.files.push((path.display().to_string(), text));
        }
    }
    Ok(done)
}

pub(super) fn remove(places: &Places, keeper: Keeper, dry_run: bool) -> Result<Done> {
    let mut done = show(places, keeper)?;
    if let Some((path, _)) = done.files.iter().find(|(_, text)| !text.starts_with(MARK)) {
        return Err(Error::FileExists { path: path.into() });
    }
    done.changed = !done.files.is_empty();
    if dry_run || !done.changed {
        return Ok(done);
    }
    if done.files.iter().any(|(path, _)| path.ends_with(TIMER)) {
        systemctl(places, keeper, &["disable", "--now", TIMER])?;
    }
    for (path, _) in &done.files {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", Path::new(path))(error));
            }
            _ => {}
        }
    }
    systemctl(places, keeper, &["daemon-reload"])?;
    Ok(done)
}

fn directory(places: &Places, keeper: Keeper) -> PathBuf {
    if keeper == Keeper::System { places.system_units.clone() } else { places.user_units.clone() }
}

fn ours(places: &Places, keeper: Keeper) -> [PathBuf; 2] {
    let directory = directory(places, keeper);
    [directory.join(SERVICE), directory.join(TIMER)]
}

fn systemctl(places: &Places, keeper: Keeper, args: &[&str]) -> Result<()> {
    let program = places.program("systemctl").args((keeper == Keeper::User).then_some("--user")).args(args);
    let what = format!("systemctl {} failed", args.join(" "));
    let ended = program.run_captured().and_then(dbvault_source::process::Captured::into_success);
    ended.map(drop).map_err(failed(&what))
}

/// A timer with a wrong time is loaded all the same, and never runs.
fn check_calendar(places: &Places, words: &str) -> Result<()> {
    let asked = places.program("systemd-analyze").args(["calendar", "--", words]).run_captured();
    match asked.and_then(dbvault_source::process::Captured::into_success) {
        // Then systemd tells when the timer is started.
        Err(dbvault_source::Error::ProgramMissing { .. }) => Ok(()),
        asked => asked.map(drop).map_err(failed("systemd does not understand the time")),
    }
}

//! Words for people, on standard error: errors with their causes and a hint, warnings, notes. The only place that
//! words an error.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use dbvault_dump::Error as Dump;
use dbvault_jobs::Error as Job;
use dbvault_jobs::secrets::Origin;
use dbvault_mount::Error as Mount;
use dbvault_repo::Error as Repo;
use dbvault_source::Error as Source;
use dbvault_storage::ErrorKind;

use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::sanitize;
use crate::style::Style;
use crate::transcript;

/// Starts the log that `-v` asks for; `DBVAULT_LOG` picks from it in the words of tracing's `EnvFilter`.
pub(crate) fn start_log(verbose: u8, style: Style) {
    use tracing_subscriber::EnvFilter;
    let level = ["warn", "info,dbvault=debug", "debug"][usize::from(verbose.min(2))];
    let filter = EnvFilter::try_from_env("DBVAULT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| transcript::Stderr);
    log.with_ansi(style.is_colored()).with_target(false).init();
}

/// Writes `error` with its causes and a hint.
pub(crate) fn error(error: &Error, style: Style) {
    // What ended in the background has told why.
    let told = matches!(error, Error::Background { .. });
    if ExitCode::of(error) != ExitCode::BrokenPipe && !told {
        write(&words(error, style));
    }
}

/// Writes something the user should look at although the command goes on.
pub(crate) fn warning(text: &str, style: Style) {
    write(&format!("{} {}\n", style.warning("warning:"), sanitize::block(text)));
}

/// Writes something good to know.
pub(crate) fn note(text: &str) {
    write(&format!("{}\n", sanitize::block(text)));
}

/// Nobody is left to tell when standard error fails.
fn write(text: &str) {
    transcript::add(text);
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn words(error: &Error, style: Style) -> String {
    if let Error::Signal { inner, .. } = error {
        return words(inner, style);
    }
    let mut text = format!("{} {}\n", style.error("error:"), sanitize::line(&error.to_string()));
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = writeln!(text, "  caused by: {}", sanitize::line(inner.to_string().trim_end()));
        cause = inner.source();
    }
    for line in tool_output(error).into_iter().flat_map(str::lines) {
        let _ = writeln!(text, "    {}", sanitize::block(line));
    }
    for hint in hints(error) {
        let _ = writeln!(text, "  {} {}", style.hint("hint:"), sanitize::line(&hint));
    }
    text
}

/// `error` with its causes, in a line.
pub(crate) fn in_a_line(error: &Error) -> String {
    chain_in_a_line(error)
}

/// A job's error with its causes, and the last that a program said before it failed, in a line.
pub(crate) fn of_job_in_a_line(job: &Job) -> String {
    let mut text = chain_in_a_line(job);
    let said = said_by_tool(job).and_then(|said| said.lines().rfind(|line| !line.trim().is_empty()));
    if let Some(last) = said {
        text += &format!(": {}", sanitize::line(last));
    }
    text
}

fn chain_in_a_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {}", inner.to_string().trim_end());
        cause = inner.source();
    }
    sanitize::line(&text).into_owned()
}

/// What a program said before it failed.
pub(crate) fn tool_output(error: &Error) -> Option<&str> {
    let (Error::Job(job) | Error::LeftOut(job)) = error else { return None };
    said_by_tool(job)
}

fn said_by_tool(job: &Job) -> Option<&str> {
    let (Job::Dump { source, .. }
    | Job::Import { source, .. }
    | Job::Restore { source, .. }
    | Job::Open { source, .. }
    | Job::PassphraseCommand { source }
    | Job::Hook { source, .. }
    | Job::Schedule { source: Some(source), .. }) = job
    else {
        return None;
    };
    match source {
        Source::ProgramFailed { stderr, .. } => Some(stderr.trim_end()),
        _ => None,
    }
}

/// What the user can do about it.
fn hints(error: &Error) -> Vec<String> {
    let hint = match error {
        Error::Job(job) => return job_hints(job),
        Error::LeftOut(Job::Dump { source, .. }) => {
            return source_hints(source, "it is left out of the archive");
        }
        Error::NobodyToAsk { .. } => "--yes answers for you",
        Error::BinaryToTerminal => "name a file with --output, or pipe it into a program",
        Error::DamageFound { .. } => {
            "archives that are not listed as damaged can be restored; a new backup stores again what is missing \
             and still in its source"
        }
        Error::Incomplete { .. } => "what is in it can be restored; --all-or-nothing makes no archive then",
        Error::NoSuchSlot { .. } => "dbvault key list shows them",
        Error::BackupsWanting { .. } => "dbvault list shows the archives; dbvault backup makes one",
        Error::Mount(mount) => return mount_hints(mount),
        _ => return Vec::new(),
    };
    vec![hint.to_owned()]
}

fn mount_hints(error: &Mount) -> Vec<String> {
    let hint = match error {
        Mount::Repo(repo) => return repo_hints(repo),
        Mount::NoFuse => {
            "modprobe fuse loads it, a container has to be given it; dbvault extract needs no mount"
        }
        Mount::FuseForbidden(_) => "ls -l /dev/fuse shows who may; dbvault extract needs no mount",
        Mount::HelperMissing => "it is in the package fuse3",
        Mount::OthersForbidden => "the line user_allow_other in /etc/fuse.conf allows it",
        Mount::NotEmpty { .. } | Mount::NotADirectory { .. } | Mount::NotOurs { .. } => {
            "name a directory that is empty or not there yet"
        }
        Mount::AlreadyMounted { directory } | Mount::Dead { directory } => {
            return vec![format!("dbvault umount {} ends it", directory.display())];
        }
        Mount::NotMounted { .. } => "findmnt shows what is mounted where",
        Mount::Busy { .. } => {
            "leave the directory in all shells, and close what is open in it: fuser -vm shows who uses it"
        }
        _ => return Vec::new(),
    };
    vec![hint.to_owned()]
}

fn job_hints(error: &Job) -> Vec<String> {
    let hint = match error {
        Job::Repo(repo) => return repo_hints(repo),
        Job::Dump { source, .. } => return source_hints(source, "there is no archive of this backup"),
        Job::Open { source, .. } => return source_hints(source, "no server of yours was touched"),
        Job::Restore { source, restored, .. } => return restore_hints(source, restored),
        Job::RepositoryUnnamed => "name one with --repo or DBVAULT_REPO, or make one with dbvault init PATH",
        Job::RepositoryUnchosen { names } => {
            return vec![format!("choose one of them with --repository: {}", names.join(", "))];
        }
        Job::Config { .. } => "dbvault config validate tells all that is wrong",
        Job::PlaceOccupied { .. } => "name a directory that is empty or not there yet",
        Job::NoSources => {
            "name files and directories, or databases with --postgres, --sqlite and so on, or a configuration: \
             dbvault config generate makes an example"
        }
        Job::NoFiles { .. } => "dbvault list --archive ARCHIVE shows what is in it",
        Job::EntryNamedTwice { .. } => "--name behind a source names its entry",
        Job::NoSuchEntry { available, .. } if available.is_empty() => "the archive is empty",
        Job::NoSuchEntry { available, .. } => return vec![format!("it has: {}", available.join(", "))],
        Job::Contents(Dump::NoSuchTable { nearest, .. }) if nearest.is_empty() => {
            "dbvault tables lists those that are there"
        }
        Job::Contents(Dump::NoSuchTable { nearest, .. }) => {
            return vec![format!("there is: {}", nearest.join(", "))];
        }
        Job::Contents(Dump::NoRows { .. }) => "--format sql gives its definition",
        Job::Contents(Dump::Form { .. }) => "--format sql gives them as they are",
        Job::Contents(Dump::Unsupported { .. }) => "dbvault extract without --table gives all of it",
        Job::EntryUnchosen { available, .. } => {
            return vec![format!("choose one of them with --database: {}", available.join(", "))];
        }
        Job::NotRestorable { kind, .. } | Job::NotOpenable { kind, .. } => extract_hint(kind),
        Job::NoTables { .. } => {
            "dbvault open shows all of it in a private place; dbvault restore --to puts it beside the live one"
        }
        Job::NoReadOnly { .. } => "leave out --read-only: what is changed there is gone at the end",
        Job::DropsMost { .. } => {
            "--dry-run --explain shows which, --drop-most allows it; nothing was dropped"
        }
        Job::Declined { .. } => "--to restores beside it under another name",
        Job::NoSecret { variable, .. } => {
            return vec![format!(
                "on a terminal the passphrase is asked for; else set {variable}, {variable}_FILE or \
                 {variable}_COMMAND, or name a key file"
            )];
        }
        Job::WrongSecret { origin, .. } => return vec![origin_words(origin)],
        Job::NotAPassphrase { .. } => "dbvault key add and dbvault key remove replace it",
        Job::NotAKeyFile { .. } => {
            "dbvault init --key-file and dbvault key add --new-key-file make key files"
        }
        Job::Schedule { source: Some(Source::ProgramMissing { .. }), .. } => {
            "install it, or choose --system or --user where systemd runs, --crontab where cron does"
        }
        Job::Hook { .. } => "-v shows what the commands of the configuration print",
        Job::Schedule { source: Some(_), .. } => return Vec::new(),
        Job::Schedule { .. } => {
            "systemd understands --daily and --on-calendar, cron --daily and --cron; --dry-run shows what it would be"
        }
        Job::Tar { .. } | Job::Import { .. } => import_hint(error),
        Job::FileExists { .. } => "name another file, or remove it first",
        _ => return Vec::new(),
    };
    vec![hint.to_owned()]
}

fn extract_hint(kind: &str) -> &'static str {
    match kind {
        "tree" => "dbvault extract --to DIRECTORY brings files back, dbvault mount shows them",
        _ => "dbvault extract writes its bytes to a file or a program",
    }
}

fn import_hint(error: &Job) -> &'static str {
    match error {
        Job::Tar { .. } => {
            "there is no archive; what is compressed otherwise than by zstd comes through a pipe"
        }
        Job::Import { source: Source::ProgramMissing { .. }, .. } => {
            "the repository is read by its own program: install it, and have it in PATH"
        }
        _ => "what opens the repository comes from the environment variables of its own program",
    }
}

fn origin_words(origin: &Origin) -> String {
    match origin {
        Origin::KeyFile(path) => format!("the key file is {}", path.display()),
        Origin::Variable(name) => format!("the passphrase is that in {name}"),
        Origin::PassphraseFile(path) => format!("the passphrase is that in {}", path.display()),
        Origin::Command => "the passphrase is that which the passphrase command printed".to_owned(),
        Origin::Configuration => "the passphrase is that in the configuration".to_owned(),
        Origin::Prompt => {
            "dbvault key import opens the repository again with an exported master key".to_owned()
        }
    }
}

fn repo_hints(error: &Repo) -> Vec<String> {
    let hint = match error {
        Repo::NoRepository { occupied: false, .. } => "dbvault init makes one",
        Repo::NoRepository { occupied: true, .. } => "name the directory that dbvault init made, with --repo",
        Repo::RepositoryExists { .. } => "name another directory; dbvault list shows what is in this one",
        Repo::Newer { .. } => "get the latest version of dbvault",
        Repo::ChunkUnreadable { source, .. } | Repo::Unreadable { source, .. } => return repo_hints(source),
        Repo::Damaged { .. } | Repo::ChunkMissing { .. } | Repo::PackMissing { .. } => {
            "dbvault check --read-data lists all that is damaged"
        }
        Repo::NoSuchArchive { .. } => "dbvault list shows the archives, with --deleted the deleted ones too",
        Repo::AmbiguousArchive { .. } => "use its id, or more digits of it; dbvault list shows them",
        Repo::NameTaken { .. } => {
            "choose another name, or leave --archive out: then one is made of host and time"
        }
        Repo::BadName { .. } => {
            "a name has 1 to 4096 bytes and no control characters, and the name of an archive is not latest"
        }
        Repo::ArchiveState { state: "deleted", .. } => "dbvault undelete takes a deletion back",
        Repo::ArchiveState { state: "protected", .. } => "dbvault protect --remove takes the protection away",
        Repo::LastSlot { .. } => "add another key first, with dbvault key add",
        Repo::NoSuchSlot { .. } => "dbvault key list shows them",
        Repo::Fenced { .. } => "run the backup again: what was stored is used where it is still there",
        Repo::Verify { .. } => "nothing wrong was stored; test the memory of this machine",
        Repo::Cache { .. } => "the cache may be deleted at any time: it is made again",
        Repo::Storage(storage) => match storage.kind() {
            ErrorKind::NoSpace => {
                "the archives that are there are intact; make room and run the command again"
            }
            ErrorKind::PermissionDenied => "check who may write there, and whether it is mounted read-only",
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    vec![hint.to_owned()]
}

fn source_hints(error: &Source, consequence: &str) -> Vec<String> {
    let hint = match error {
        Source::ProgramMissing { package: Some(package), .. } if package.starts_with("postgresql") => {
            format!("it is in the package {package}; DBVAULT_PG_BINDIR names a directory to look in")
        }
        Source::ProgramMissing { package: Some(package), .. } => format!("it is in the package {package}"),
        Source::ProgramMissing { .. } => "install it, or put its directory into PATH".to_owned(),
        Source::Connect { .. } => {
            "the server is named with --host, --port and --username; for PostgreSQL the password comes from \
             PGPASSWORD or ~/.pgpass, for MariaDB and MySQL from MYSQL_PWD or ~/.my.cnf, for Redis from REDISCLI_AUTH"
                .to_owned()
        }
        _ => return vec![consequence.to_owned()],
    };
    vec![hint, consequence.to_owned()]
}

fn restore_hints(error: &Source, restored: &[String]) -> Vec<String> {
    let consequence = match restored {
        [] => "what was there is as it was".to_owned(),
        restored => format!("in place already: {}; the rest is as it was", restored.join(", ")),
    };
    source_hints(error, &consequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ColorChoice;

    fn plain(error: impl Into<Error>) -> String {
        words(&error.into(), Style::for_stderr(ColorChoice::Never))
    }

    #[test]
    fn a_failed_dump_shows_what_the_tool_said() {
        let source = Source::ProgramFailed {
            program: "pg_dump".into(),
            how: "exit status 1".into(),
            stderr: "pg_dump: error: one\n\u{1b}[2Jtwo".into(),
        };
        let error = Job::Dump { entry: "users".into(), source };
        assert_eq!(
            plain(error),
            "error: cannot back up users\n  caused by: pg_dump failed (exit status 1)\n    pg_dump: error: one\n    \
             \\u{1b}[2Jtwo\n  hint: there is no archive of this backup\n"
        );
    }

    #[test]
    fn causes_and_hints_follow_the_error() {
        let denied = dbvault_storage::Error::io("config", io::ErrorKind::PermissionDenied.into());
        assert_eq!(
            plain(Job::from(denied)),
            "error: permission denied: config\n  caused by: permission denied\n  hint: check who may write \
             there, and whether it is mounted read-only\n"
        );
        assert_eq!(
            plain(Repo::NoRepository { location: "/a\nb".into(), occupied: false }),
            "error: no repository at /a\\nb\n  hint: dbvault init makes one\n"
        );
    }
}

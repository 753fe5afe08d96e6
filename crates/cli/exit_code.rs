//! What the exit code of the program tells. Promised to scripts: a number is never given another meaning.

use std::fmt::Write;
use std::io;

use dbvault_dump::Error as Dump;
use dbvault_jobs::Error as Job;
use dbvault_mount::Error as Mount;
use dbvault_repo::Error as Repo;
use dbvault_source::Error as Source;
use dbvault_storage::ErrorKind;

use crate::error::Error;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitCode {
    Success = 0,
    Failure = 1,
    Usage = 2,
    NoRepository = 3,
    NotARepository = 4,
    RepositoryExists = 5,
    NameTaken = 6,
    WrongSecret = 7,
    NewerFormat = 8,
    Damaged = 9,
    DumpFailed = 10,
    RestoreFailed = 11,
    NotFound = 12,
    NoSuchDatabase = 13,
    ProgramMissing = 14,
    CannotConnect = 15,
    NoSpace = 16,
    PermissionDenied = 17,
    EmptyStream = 18,
    Declined = 19,
    BadName = 20,
    NoSecret = 21,
    Configuration = 22,
    Incomplete = 23,
    HookFailed = 24,
    BackupsWanting = 25,
    DrillFailed = 26,
    Different = 27,
    FilesWanting = 28,
    HungUp = 129,
    Interrupted = 130,
    BrokenPipe = 141,
    Terminated = 143,
}

/// All codes and what they mean.
const TABLE: [(ExitCode, &str); 33] = [
    (ExitCode::Success, "done"),
    (ExitCode::Failure, "any failure that has no code of its own"),
    (ExitCode::Usage, "the command line is wrong"),
    (ExitCode::NoRepository, "there is no repository, or none or several are named"),
    (ExitCode::NotARepository, "there is something else in the place of the repository"),
    (ExitCode::RepositoryExists, "init: there is a repository already"),
    (ExitCode::NameTaken, "the name of an archive, entry or file is taken"),
    (ExitCode::WrongSecret, "wrong passphrase or key file"),
    (ExitCode::NewerFormat, "the repository needs a newer version of dbvault"),
    (ExitCode::Damaged, "damaged or missing data was found"),
    (ExitCode::DumpFailed, "the only source, or all, failed or were not whole; there is no archive"),
    (ExitCode::RestoreFailed, "a restore failed"),
    (ExitCode::NotFound, "no such archive, entry, table or key slot, or several"),
    (ExitCode::NoSuchDatabase, "no such database or database file"),
    (ExitCode::ProgramMissing, "a program that is needed is not installed"),
    (ExitCode::CannotConnect, "the database server can't be reached or refuses"),
    (ExitCode::NoSpace, "no space left"),
    (ExitCode::PermissionDenied, "permission denied, or a read-only file system"),
    (ExitCode::EmptyStream, "a stream had no byte at all; there is no archive"),
    (
        ExitCode::Declined,
        "the answer was no, or nobody could be asked; a prune would drop more than half; a protected archive",
    ),
    (ExitCode::BadName, "a name that no archive or entry can have"),
    (ExitCode::NoSecret, "no passphrase or key file was given, or an empty one"),
    (ExitCode::Configuration, "the configuration file is wrong"),
    (ExitCode::Incomplete, "there is an archive, and it lacks sources that failed; an import lacks archives"),
    (ExitCode::HookFailed, "a command of the user failed, before the action or after it"),
    (
        ExitCode::BackupsWanting,
        "status: a backup is missing, failed, old, half as large as before, or not restorable",
    ),
    (ExitCode::DrillFailed, "drill: a database did not restore as it was backed up, or none can be tried"),
    (ExitCode::Different, "diff --exit-code: the archives differ"),
    (ExitCode::FilesWanting, "backup, extract: done, but for some files that could not be read or made"),
    (ExitCode::HungUp, "ended by SIGHUP"),
    (ExitCode::Interrupted, "ended by Ctrl-C"),
    (ExitCode::BrokenPipe, "the reader of standard output went away"),
    (ExitCode::Terminated, "ended by SIGTERM"),
];

/// The table as lines of text.
pub(crate) fn table() -> String {
    TABLE.iter().fold(String::new(), |mut text, (code, meaning)| {
        let _ = writeln!(text, "  {:>3}  {meaning}", code.number());
        text
    })
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code.number())
    }
}

impl ExitCode {
    /// The number the system sees.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The code of a process that ended because of `signal`.
    pub(crate) fn of_signal(signal: i32) -> ExitCode {
        match signal {
            signal_hook::consts::SIGTERM => ExitCode::Terminated,
            signal_hook::consts::SIGHUP => ExitCode::HungUp,
            _ => ExitCode::Interrupted,
        }
    }

    /// The code for `error`.
    pub(crate) fn of(error: &Error) -> ExitCode {
        match error {
            Error::Job(job) | Error::LeftOut(job) => of_job(job),
            Error::Signal { signal, .. } => ExitCode::of_signal(*signal),
            Error::Usage(_) | Error::BinaryToTerminal => ExitCode::Usage,
            Error::Stdout(source) | Error::Write { source, .. } => of_io(source),
            Error::DamageFound { .. } => ExitCode::Damaged,
            Error::Incomplete { .. } | Error::ImportIncomplete { .. } => ExitCode::Incomplete,
            Error::DrillFailed { .. } | Error::NothingDrilled { .. } => ExitCode::DrillFailed,
            Error::ArchivesDiffer { .. } => ExitCode::Different,
            Error::FilesWanting { .. } => ExitCode::FilesWanting,
            Error::BackupsWanting { .. } => ExitCode::BackupsWanting,
            Error::NoSuchSlot { .. } => ExitCode::NotFound,
            Error::ConfigurationWrong { .. } => ExitCode::Configuration,
            Error::NobodyToAsk { .. } | Error::NotRemoved { .. } | Error::NotRepaired { .. } => {
                ExitCode::Declined
            }
            Error::Mount(mount) => of_mount(mount),
            Error::Background { code } => ExitCode::by_number(*code),
            // What the system sees is the status itself; see `main`.
            Error::CommandEnded { .. } | Error::Signals(_) | Error::Terminal(_) => ExitCode::Failure,
        }
    }

    /// The code with this number.
    fn by_number(number: u8) -> ExitCode {
        let codes = TABLE.iter().map(|(code, _)| *code);
        codes.into_iter().find(|code| code.number() == number).unwrap_or(ExitCode::Failure)
    }
}

fn of_mount(error: &Mount) -> ExitCode {
    match error {
        Mount::Repo(repo) => of_repo(repo),
        Mount::HelperMissing => ExitCode::ProgramMissing,
        Mount::FuseForbidden(_) | Mount::OthersForbidden | Mount::NotOurs { .. } => {
            ExitCode::PermissionDenied
        }
        Mount::NotEmpty { .. } | Mount::AlreadyMounted { .. } | Mount::Dead { .. } => ExitCode::NameTaken,
        Mount::Directory { source, .. } | Mount::Mount { source, .. } | Mount::Unmount { source, .. } => {
            of_io(source)
        }
        _ => ExitCode::Failure,
    }
}

fn of_job(error: &Job) -> ExitCode {
    match error {
        Job::Repo(repo) => of_repo(repo),
        Job::Contents(contents) => match contents {
            Dump::NoSuchTable { .. } => ExitCode::NotFound,
            Dump::Damaged { .. } => ExitCode::Damaged,
            _ => ExitCode::Failure,
        },
        Job::Dump { source, .. } => of_source(source, ExitCode::DumpFailed),
        Job::Restore { source, .. } | Job::Open { source, .. } => of_source(source, ExitCode::RestoreFailed),
        Job::RepositoryUnnamed | Job::RepositoryUnchosen { .. } => ExitCode::NoRepository,
        Job::PlaceOccupied { .. } => ExitCode::NotARepository,
        Job::NoSources | Job::Files(_) => ExitCode::Usage,
        Job::Tar { source, .. } => match of_io(source) {
            ExitCode::Failure => ExitCode::DumpFailed,
            code => code,
        },
        Job::Import { source, .. } => of_source(source, ExitCode::DumpFailed),
        Job::Foreign { .. } => ExitCode::DumpFailed,
        Job::NotAsRead { .. } => ExitCode::Damaged,
        Job::NoFiles { .. } | Job::NothingFound { .. } => ExitCode::NotFound,
        Job::EntryNamedTwice { .. } | Job::FileExists { .. } => ExitCode::NameTaken,
        Job::NoSuchEntry { .. } | Job::EntryUnchosen { .. } => ExitCode::NotFound,
        Job::DestinationTwice { .. }
        | Job::NotRestorable { .. }
        | Job::NotOpenable { .. }
        | Job::NoTables { .. }
        | Job::NoReadOnly { .. } => ExitCode::RestoreFailed,
        Job::Declined { .. } | Job::DropsMost { .. } => ExitCode::Declined,
        Job::Config { .. } | Job::NotADatabase { .. } | Job::NoHome => ExitCode::Configuration,
        Job::NoSecret { .. }
        | Job::EmptyPassphrase
        | Job::PassphrasesDiffer
        | Job::PassphraseCommand { .. } => ExitCode::NoSecret,
        Job::WrongSecret { .. } | Job::NotAPassphrase { .. } | Job::NotAKeyFile { .. } => {
            ExitCode::WrongSecret
        }
        Job::ForeignKey { .. } => ExitCode::WrongSecret,
        Job::Output { source, .. } | Job::File { source, .. } => of_io(source),
        Job::Hook { .. } => ExitCode::HookFailed,
        Job::Schedule { source: Some(dbvault_source::Error::ProgramMissing { .. }), .. } => {
            ExitCode::ProgramMissing
        }
        Job::Schedule { source: None, .. } => ExitCode::Usage,
        Job::Interrupted => ExitCode::Interrupted,
        _ => ExitCode::Failure,
    }
}

fn of_repo(error: &Repo) -> ExitCode {
    match error {
        Repo::NoRepository { occupied: false, .. } => ExitCode::NoRepository,
        Repo::NoRepository { occupied: true, .. } => ExitCode::NotARepository,
        Repo::RepositoryExists { .. } => ExitCode::RepositoryExists,
        Repo::Newer { .. } => ExitCode::NewerFormat,
        Repo::WrongSecret { .. } => ExitCode::WrongSecret,
        Repo::Damaged { .. } | Repo::ChunkMissing { .. } | Repo::PackMissing { .. } => ExitCode::Damaged,
        Repo::NoSuchArchive { .. } | Repo::AmbiguousArchive { .. } | Repo::NoSuchSlot { .. } => {
            ExitCode::NotFound
        }
        Repo::NameTaken { .. } => ExitCode::NameTaken,
        Repo::BadName { .. } => ExitCode::BadName,
        Repo::ArchiveState { state: "protected", .. } => ExitCode::Declined,
        Repo::Source { .. } => ExitCode::DumpFailed,
        Repo::ChunkUnreadable { source, .. } | Repo::Unreadable { source, .. } => of_repo(source),
        Repo::Storage(storage) => match storage.kind() {
            ErrorKind::NoSpace => ExitCode::NoSpace,
            ErrorKind::PermissionDenied => ExitCode::PermissionDenied,
            ErrorKind::NotFound | ErrorKind::ShortRead => ExitCode::Damaged,
            _ => ExitCode::Failure,
        },
        Repo::Format(dbvault_format::Error::WrongSecret) => ExitCode::WrongSecret,
        Repo::Interrupted => ExitCode::Interrupted,
        _ => ExitCode::Failure,
    }
}

fn of_source(error: &Source, otherwise: ExitCode) -> ExitCode {
    match error {
        Source::ProgramMissing { .. } => ExitCode::ProgramMissing,
        Source::NoSuchDatabase { .. } => ExitCode::NoSuchDatabase,
        Source::Connect { .. } => ExitCode::CannotConnect,
        Source::Empty { .. } => ExitCode::EmptyStream,
        Source::Interrupted => ExitCode::Interrupted,
        Source::Io { source, .. } => match of_io(source) {
            ExitCode::Failure => otherwise,
            code => code,
        },
        _ => otherwise,
    }
}

fn of_io(error: &io::Error) -> ExitCode {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ExitCode::NoSpace,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ExitCode::PermissionDenied,
        io::ErrorKind::BrokenPipe => ExitCode::BrokenPipe,
        _ => ExitCode::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_number_and_a_line_in_the_table() {
        let numbers: Vec<u8> = TABLE.iter().map(|(code, _)| code.number()).collect();
        let want: Vec<u8> = (0..=28).chain([129, 130, 141, 143]).collect();
        assert_eq!(numbers, want, "a new code is one more line, at its place");
        assert_eq!(table().lines().count(), TABLE.len());
    }

    #[test]
    fn errors_have_the_codes_that_are_promised() {
        let location = || "r".to_owned();
        let io = |kind: io::ErrorKind| dbvault_storage::Error::io("x", kind.into());
        let empty = Source::Empty { name: "a".into() };
        for (error, code) in [
            (Job::Repo(Repo::NoRepository { location: location(), occupied: false }), 3),
            (Job::Repo(Repo::NoRepository { location: location(), occupied: true }), 4),
            (Job::Repo(Repo::NameTaken { name: "a".into() }), 6),
            (Job::EntryNamedTwice { name: "a".into() }, 6),
            (io(io::ErrorKind::ReadOnlyFilesystem).into(), 17),
            (io(io::ErrorKind::StorageFull).into(), 16),
            (Job::Dump { entry: "a".into(), source: empty }, 18),
            (Job::Interrupted, 130),
        ] {
            assert_eq!(ExitCode::of(&Error::Job(error)).number(), code);
        }
    }
}

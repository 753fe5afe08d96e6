//! Sources and targets of databases that can't be installed for tests, with stand-ins for their programs; and commands.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{read_all, restore, write_script};
use dbvault_format::entry::{EntryMeta, EntryReport, attribute};
use dbvault_source::{
    CommandOptions, CommandSource, CommandTarget, CommandTargetOptions, DoltOptions, DoltServer, DoltSource,
    DoltTarget, DoltTargetOptions, Error, Family, MariadbServer, MongodbOptions, MongodbServer,
    MongodbSource, MongodbTarget, MongodbTargetOptions, Secret, Target,
};

fn program(directory: &Path, name: &str, script: &str) -> String {
    let path = directory.join(name);
    write_script(&path, &format!("#!/bin/bash\n{script}\n"));
    path.display().to_string()
}

// ---- commands ----

fn command(options: CommandOptions) -> Result<(EntryMeta, Vec<u8>, EntryReport), Error> {
    read_all(CommandSource::new(CommandOptions { entry_name: "c".into(), ..options }))
}

#[test]
fn an_output_without_its_end_marker_is_incomplete() {
    let with = |text: &str| CommandOptions {
        command: text.into(),
        end_marker: Some("# end of dump".into()),
        ..CommandOptions::default()
    };
    assert!(command(with("seq 100000; echo '# end of dump 2026'")).is_ok());
    assert!(matches!(command(with("seq 100000")), Err(Error::Incomplete { .. })));
    assert!(matches!(command(with("echo '# end of dump'; seq 100000")), Err(Error::Incomplete { .. })));
}

#[test]
fn a_command_that_stalls_is_ended_with_all_its_children() {
    let begun = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let script = format!("echo begun; sleep 3600 & echo $! >{}; wait", pid.display());
    let outcome =
        command(CommandOptions { command: script, stall_timeout_ms: Some(300), ..CommandOptions::default() });
    assert!(
        matches!(&outcome, Err(Error::ProgramFailed { how, .. }) if how.contains("stalled")),
        "{outcome:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    let child = format!("/proc/{}/stat", fs::read_to_string(&pid).unwrap().trim());
    // It may wait for its parent to look at it.
    let gone = || fs::read_to_string(&child).map_or(true, |stat| stat.contains(") Z "));
    assert!((0..100).any(|_| gone() || {
        std::thread::sleep(Duration::from_millis(50));
        false
    }));
    // One that is only slow is not.
    let slow = "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done".to_owned();
    command(CommandOptions { command: slow, stall_timeout_ms: Some(2000), ..CommandOptions::default() })
        .unwrap();
}

#[test]
fn what_a_command_printed_goes_back_into_another() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let back = format!("cat >{}", file.display());
    let options = CommandOptions {
        command: "seq 5".into(),
        restore_command: Some(back.clone()),
        ..CommandOptions::default()
    };
    let (meta, bytes, _) = command(options).unwrap();
    assert_eq!(meta.attributes[attribute::RESTORE_COMMAND], back);
    let target =
        || CommandTarget::new(CommandTargetOptions { command: back.clone(), interrupt: Default::default() });
    assert!(target().occupied().unwrap().unwrap().contains(&back));
    restore(target(), &meta, &bytes).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"1\n2\n3\n4\n5\n");
    let failing =
        CommandTargetOptions { command: "cat >/dev/null; exit 3".into(), interrupt: Default::default() };
    assert!(matches!(restore(CommandTarget::new(failing), &meta, &bytes), Err(Error::ProgramFailed { .. })));
    // A stream that breaks off never reaches the command.
    fs::remove_file(&file).unwrap();
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            buffer[0] = b'x';
            Err(std::io::Error::other("broken"))
        }
    }
    assert!(target().load(&meta, &mut Broken).is_err());
    assert!(!file.exists());
}

// ---- MongoDB ----

/// An archive with one collection, as `printf` writes it.
const ARCHIVE: &str = r"\x6d\xe2\x99\x81\x05\0\0\0\0\x05\0\0\0\0\xff\xff\xff\xff";
const BLOCK: &str = r"\x21\0\0\0\x02db\0\x02\0\0\0s\0\x02collection\0\x02\0\0\0c\0\0";
const LAST: &str = r"\x27\0\0\0\x02db\0\x02\0\0\0s\0\x02collection\0\x02\0\0\0c\0\x08EOF\0\x01\0";

fn mongodump(directory: &Path, then: &str) -> MongodbServer {
    let script = format!(
        "echo \"$*\" >>{0}/arguments; case \"$*\" in *--version*) echo 'mongodump version: 100.9.4'; exit;; esac\n\
         for word in \"$@\"; do case $word in --config=*) cp \"${{word#*=}}\" {0}/config; stat -c %a \"${{word#*=}}\" >{0}/mode;; esac; done\n\
         printf '{ARCHIVE}{BLOCK}\\x05\\0\\0\\0\\0\\xff\\xff\\xff\\xff'; {then}",
        directory.display()
    );
    let restorer = format!(
        "echo \"$*\" >>{0}/arguments; if test -e {0}/bad; then echo 'Failed: bad' >&2; exit 1; fi",
        directory.display()
    );
    MongodbServer {
        host: Some("127.0.0.1".into()),
        // Nobody answers there, so nobody says that it is a replica set.
        port: Some(1),
        user: Some("ann".into()),
        password: Some(Secret::new("tricky: \"pass\\word' #")),
        dump_program: vec![program(directory, "mongodump", &script)],
        restore_program: vec![program(directory, "mongorestore", &restorer)],
        ..MongodbServer::default()
    }
}

fn mongo(server: MongodbServer, database: Option<&str>) -> Result<(EntryMeta, Vec<u8>, EntryReport), Error> {
    read_all(MongodbSource::new(MongodbOptions {
        server,
        database: database.map(str::to_owned),
        entry_name: "docs".into(),
        label: None,
        dump_options: vec!["--readPreference=secondary".into()],
    }))
}

#[test]
fn mongodump_is_called_and_its_archive_followed_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let whole = format!("printf '{LAST}\\xff\\xff\\xff\\xff'; echo 'done dumping' >&2");
    let server = mongodump(directory.path(), &whole);
    let (meta, bytes, report) = mongo(server.clone(), Some("shop")).unwrap();
    assert_eq!(meta.attributes[attribute::CLIENT_VERSION], "mongodump version: 100.9.4");
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    let arguments = fs::read_to_string(directory.path().join("arguments")).unwrap();
    let wanted = [
        "--archive",
        "--db=shop",
        "--host=127.0.0.1",
        "--username=ann",
        "--numParallelCollections=1",
        "--readPreference=secondary",
    ];
    wanted.iter().for_each(|word| assert!(arguments.contains(word), "{word}: {arguments}"));
    assert!(!arguments.contains("tricky") && !arguments.contains("--oplog"));
    let config = fs::read_to_string(directory.path().join("config")).unwrap();
    assert_eq!(config, "password: \"tricky: \\\"pass\\\\word' #\"\n");
    assert_eq!(fs::read_to_string(directory.path().join("mode")).unwrap(), "600\n");

    let target = |database: &str| {
        MongodbTarget::new(MongodbTargetOptions {
            server: server.clone(),
            database: Some(database.into()),
            restore_options: Vec::new(),
        })
    };
    fs::write(directory.path().join("arguments"), "").unwrap();
    restore(target("copy"), &meta, &bytes).unwrap();
    let arguments = fs::read_to_string(directory.path().join("arguments")).unwrap();
    let lines: Vec<&str> = arguments.lines().collect();
    assert!(lines[0].contains("--dryRun") && lines[0].contains("--nsFrom=shop.* --nsTo=copy.*"), "{lines:?}");
    assert!(!lines[1].contains("--dryRun") && lines[1].contains("--drop") && lines.len() == 2, "{lines:?}");
    // Nothing is begun with half of one, or where the trial fails.
    fs::write(directory.path().join("arguments"), "").unwrap();
    assert!(matches!(
        restore(target("shop"), &meta, &bytes[..bytes.len() - 4]),
        Err(Error::Incomplete { .. })
    ));
    assert_eq!(fs::read_to_string(directory.path().join("arguments")).unwrap(), "");
    fs::write(directory.path().join("bad"), "").unwrap();
    assert!(matches!(restore(target("shop"), &meta, &bytes), Err(Error::ProgramFailed { .. })));
    assert_eq!(fs::read_to_string(directory.path().join("arguments")).unwrap().lines().count(), 1);
}

#[test]
fn a_cut_archive_of_mongodump_is_incomplete_and_a_failure_one() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = mongo(mongodump(directory.path(), "true"), None);
    assert!(
        matches!(&outcome, Err(Error::Incomplete { detail, .. }) if detail.contains("s.c")),
        "{outcome:?}"
    );
    let outcome = mongo(mongodump(directory.path(), "echo 'Failed: oh' >&2; exit 1"), None);
    assert!(
        matches!(&outcome, Err(Error::ProgramFailed { stderr, .. }) if stderr.contains("oh")),
        "{outcome:?}"
    );
    let refused = "echo 'Failed: can not create session: error connecting to db server' >&2; exit 1";
    assert!(matches!(mongo(mongodump(directory.path(), refused), None), Err(Error::Connect { .. })));
    let missing = MongodbServer { dump_program: vec!["no-such-program".into()], ..MongodbServer::default() };
    assert!(matches!(mongo(missing, None), Err(Error::ProgramMissing { .. })));
}

// ---- Dolt ----

#[test]
fn a_backup_of_dolt_is_kept_with_what_belongs_to_its_server() {
    let directory = tempfile::tempdir().unwrap();
    let (data, spool) = (directory.path().join("data"), directory.path().join("spool"));
    fs::create_dir_all(data.join(".doltcfg")).unwrap();
    fs::create_dir_all(data.join("shop/.dolt")).unwrap();
    for file in
        ["config.yaml", ".doltcfg/privileges.db", ".doltcfg/branch_control.db", "shop/.dolt/repo_state.json"]
    {
        fs::write(data.join(file), file).unwrap();
    }
    // Writes what it is told into the spool, and knows its own version.
    let script = format!(
        "echo \"$*\" >>{0}/asked; case \"$*\" in *--version*) echo 'mysql  Ver 8.0.36';; *dolt_version*) echo 1.80.0;;\n\
         *dolt_backup*) test -e {0}/refuse && {{ echo 'ERROR 1105 (HY000): no' >&2; exit 1; }}\n\
         mkdir -p {1}/shop/deep; seq 1000 >{1}/shop/0123456789abcdefghijklmnopqrstuv; echo m >{1}/shop/manifest; echo >{1}/shop/LOCK;; esac",
        directory.path().display(),
        spool.display()
    );
    let server = MariadbServer {
        client_program: vec![program(directory.path(), "mysql", &script)],
        ..MariadbServer::new(Family::Mysql)
    };
    let source = || {
        DoltSource::new(DoltOptions {
            server: DoltServer::Dolt(server.clone()),
            database: "shop".into(),
            data_directory: Some(data.clone()),
            spool: spool.clone(),
            entry_name: "shop".into(),
            label: None,
            interrupt: Default::default(),
        })
    };
    let (meta, bytes, report) = read_all(source()).unwrap();
    assert_eq!(meta.attributes[attribute::SERVER_VERSION], "Dolt 1.80.0");
    assert_eq!(report.warnings, Vec::<String>::new());
    assert!(bytes == read_all(source()).unwrap().1, "the same again is the same");
    let asked = fs::read_to_string(directory.path().join("asked")).unwrap();
    let url = format!("file://{}/shop", spool.display());
    let hex: String = url.bytes().map(|byte| format!("{byte:02X}")).collect();
    assert!(asked.contains(&hex), "{asked}");

    let back = directory.path().join("back");
    let target =
        || DoltTarget::new(DoltTargetOptions { directory: back.clone(), interrupt: Default::default() });
    for length in [0, 512, bytes.len() / 2, bytes.len() - 1536] {
        assert!(restore(target(), &meta, &bytes[..length]).is_err() && !back.exists(), "{length}");
    }
    let report = restore(target(), &meta, &bytes).unwrap();
    assert!(report.warnings[0].contains("dolt_backup('restore'"), "{:?}", report.warnings);
    assert_eq!(
        fs::read_to_string(back.join("backup/0123456789abcdefghijklmnopqrstuv")).unwrap().lines().count(),
        1000
    );
    assert_eq!(
        fs::read_to_string(back.join("server/.doltcfg/privileges.db")).unwrap(),
        ".doltcfg/privileges.db"
    );
    assert_eq!(
        fs::read_to_string(back.join("server/shop/.dolt/repo_state.json")).unwrap(),
        "shop/.dolt/repo_state.json"
    );
    assert!(!back.join("backup/LOCK").exists());
    assert!(matches!(target().occupied(), Err(Error::Unsuitable { .. })), "it is not replaced");
    fs::write(directory.path().join("refuse"), "").unwrap();
    assert!(matches!(read_all(source()), Err(Error::ProgramFailed { .. })));
}

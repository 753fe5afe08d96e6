//! The repository as a file system: real mounts, read with the tools that people have.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on has failed; a skipped one says so"
)]

mod cli_support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli_support::mount_point::{MountPoint, can_mount, is_mounted};
use cli_support::{Home, run, run_with_input};
use dbvault_testkit::noise;
use dbvault_testkit::postgres_server::PostgresServer;
use rustix::process::{Pid, Signal, kill_process};

/// Stores `bytes` as entry `name` of an archive.
fn store(home: &Home, archive: &str, name: &str, bytes: &[u8]) {
    let words = ["backup", "--stdin", "--name", name, "--archive", archive, "--quiet"];
    let stored = run_with_input(home.command().args(words), bytes);
    assert_eq!(stored.code, 0, "{stored:#?}");
}

/// Mounts the repository in the background.
fn mount(home: &Home) -> MountPoint {
    let point = MountPoint(home.path("mnt").canonicalize().unwrap_or_else(|_| home.path("mnt")));
    home.ok(["mount", "mnt"]);
    assert!(is_mounted(&point.0));
    point
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until `wanted` holds; the mount follows the repository about once a second.
#[track_caller]
fn eventually(what: &str, wanted: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !wanted() {
        assert!(Instant::now() < until, "{what}: not within 20 s");
        sleep(Duration::from_millis(50));
    }
}

fn ends(pid: Pid) -> bool {
    // A zombie has ended too: nobody waits for it but the test.
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    state.is_empty() || state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

#[test]
fn everything_is_where_it_is_said_to_be() {
    if !can_mount("everything_is_where_it_is_said_to_be") {
        return;
    }
    let home = Home::with_repository();
    home.make_sqlite("app.db", 200);
    home.ok([
        "backup",
        "--sqlite",
        "app.db",
        "--name",
        "app",
        "--archive",
        "first",
        "--timestamp",
        "2026-01-31T12:00:00Z",
    ]);
    let big = noise(9 << 20, 1);
    store(&home, "a/b", "../big", &big);
    let point = mount(&home);

    assert_eq!(names(&point.0), ["README.txt", "archives", "by-database", "by-date", "latest"]);
    assert_eq!(names(&point.join("archives")), ["a%2Fb", "first"]);
    assert_eq!(names(&point.join("archives/first")), ["app.db", "app.tables"]);
    assert_eq!(names(&point.join("by-database")), ["%2E%2E", "app"]);
    let of_app = ["2026-01-31T12-00-00Z.db", "2026-01-31T12-00-00Z.tables"];
    assert_eq!(names(&point.join("by-database/app")), of_app);
    assert!(fs::read_to_string(point.join("README.txt")).unwrap().contains("by-database/DATABASE"));
    assert_eq!(fs::read_link(point.join("latest")).unwrap(), Path::new("archives/a%2Fb"));
    assert_eq!(
        fs::read_link(point.join("by-date/2026-01-31T12-00-00Z")).unwrap(),
        Path::new("../archives/first")
    );
    assert_eq!(fs::read(point.join("latest/%2E%2E/big")).unwrap(), big);

    home.ok(["extract", "--archive", "first", "--output", "whole.db"]);
    let whole = fs::read(home.path("whole.db")).unwrap();
    for path in [
        "archives/first/app.db",
        "by-date/2026-01-31T12-00-00Z/app.db",
        "by-database/app/2026-01-31T12-00-00Z.db",
    ] {
        assert_eq!(fs::read(point.join(path)).unwrap(), whole, "{path}");
    }
    let found = fs::metadata(point.join("archives/first/app.db")).unwrap();
    assert_eq!(found.len(), whole.len() as u64);
    assert_eq!(found.mtime(), 1_769_860_800);
    assert_eq!(found.permissions().mode() & 0o7777, 0o400);
    assert_eq!(fs::metadata(point.join("archives")).unwrap().permissions().mode() & 0o7777, 0o500);
    let again = fs::metadata(point.join("by-database/app/2026-01-31T12-00-00Z.db")).unwrap();
    assert_eq!(found.ino(), again.ino());
    for path in ["new", "archives/first/app.db"] {
        let refused =
            File::options().write(true).create(true).truncate(false).open(point.join(path)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem, "{path}");
    }
    home.ok(["umount", "mnt"]);
    assert!(!home.path("mnt").exists(), "it was made by mount");
}

#[test]
fn sqlite_is_asked_in_place() {
    if !can_mount("sqlite_is_asked_in_place") {
        return;
    }
    let home = Home::with_repository();
    let rows = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 50000) \
                INSERT INTO t SELECT id, 'row ' || id FROM n";
    let made = rusqlite::Connection::open(home.make_sqlite("app.db", 0)).unwrap();
    made.execute(rows, []).unwrap();
    drop(made);
    home.ok(["backup", "--sqlite", "app.db", "--name", "app", "--archive", "a"]);
    let point = mount(&home);
    let uri = format!("file:{}?immutable=1", point.join("latest/app.db").display());
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
    let database = rusqlite::Connection::open_with_flags(uri, flags).unwrap();
    let ask = |sql: &str| database.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(ask("SELECT count(*) || '' FROM t"), "50000");
    assert_eq!(ask("SELECT text FROM t WHERE id = 31415"), "row 31415");
    assert_eq!(ask("PRAGMA integrity_check"), "ok");
    drop(database);
    home.ok(["umount", "mnt"]);
}

#[test]
fn pg_restore_reads_in_parallel_from_the_mount() {
    if !can_mount("pg_restore_reads_in_parallel_from_the_mount") {
        return;
    }
    let (home, server) = (Home::with_repository(), PostgresServer::start().expect("PostgreSQL starts"));
    server.create_database("users").unwrap();
    for table in ["a", "b", "c", "d"] {
        let rows = "SELECT id, md5(id::text) AS text FROM generate_series(1, 60000) id";
        server
            .psql("users", &format!("CREATE TABLE {table} AS {rows}; CREATE INDEX ON {table} (text)"))
            .unwrap();
    }
    let want = server.row_hashes("users").unwrap();
    for (format, archive) in [("custom", "first"), ("plain", "second")] {
        if format == "plain" {
            server.psql("users", "DELETE FROM d WHERE id % 7 = 0").unwrap();
        }
        fs::write(
            home.path("config.yaml"),
            format!("postgresql_databases:\n  - name: users\n    format: {format}\n"),
        )
        .unwrap();
        let words = [
            "backup",
            "--repo",
            "repo",
            "--key-file",
            "key",
            "--config",
            "config.yaml",
            "--archive",
            archive,
        ];
        let made = run(home.command().args(words).envs(server.env()));
        assert_eq!(made.code, 0, "{made:#?}");
    }
    let point = mount(&home);
    let mut times = names(&point.join("by-database/users"));
    times.retain(|name| !name.ends_with(".tables"));
    assert!(times[0].ends_with("Z.dump") && times[1].ends_with("Z.sql"), "{times:?}");

    server.create_database("copy").unwrap();
    let dump = point.join("by-database/users").join(&times[0]);
    let restored = run(server.command("pg_restore").args(["-j", "4", "-d", "copy"]).arg(&dump));
    assert_eq!(restored.code, 0, "{restored:#?}");
    assert_eq!(server.row_hashes("copy").unwrap(), want);

    server.create_database("plain").unwrap();
    let restored =
        run(server.command("psql").args(["-q", "-d", "plain", "-f"]).arg(point.join("latest/users.sql")));
    assert_eq!(restored.code, 0, "{restored:#?}");
    assert_eq!(server.row_hashes("plain").unwrap(), server.row_hashes("users").unwrap());
    home.ok(["umount", "mnt"]);
}

/// A repository with archive `a` of a PostgreSQL database `users` and a SQLite file `app`.
fn with_tables() -> (Home, PostgresServer) {
    let (home, server) = (Home::with_repository(), PostgresServer::start().expect("PostgreSQL starts"));
    server.create_database("users").unwrap();
    let sql = "CREATE SCHEMA s; CREATE TABLE s.big AS SELECT id, md5(id::text) || E'\\t\"x\"' AS text, \
               NULLIF(id % 3, 0) AS n FROM generate_series(1, 40000) id; \
               CREATE TABLE \"Odd.Name/1\" (a text); INSERT INTO \"Odd.Name/1\" VALUES ('ä'); CREATE TABLE none (a int); \
               CREATE VIEW v AS SELECT 1";
    server.psql("users", sql).unwrap();
    home.make_sqlite("app.db", 100);
    let words = ["backup", "--postgres", "users", "--sqlite", "app.db", "--name", "app", "--archive", "a"];
    let made = run(home.command().args(words).envs(server.env()));
    assert_eq!(made.code, 0, "{made:#?}");
    (home, server)
}

/// One table, as `extract` gives it.
fn extract(home: &Home, database: &str, table: &str, format: &str) -> String {
    home.ok(["extract", "--archive", "a", "--database", database, "--table", table, "--format", format])
}

#[test]
fn tables_are_files() {
    if !can_mount("tables_are_files") {
        return;
    }
    let (home, _server) = with_tables();
    store(&home, "b", "users", b"no dump");
    let point = mount(&home);
    assert_eq!(names(&point.join("archives/a")), ["app.db", "app.tables", "users.dump", "users.tables"]);
    assert_eq!(names(&point.join("archives/b")), ["users"]);
    let tables = point.join("archives/a/users.tables");
    let want = [
        "public.\"Odd.Name%2F1\".copy",
        "public.\"Odd.Name%2F1\".csv",
        "public.none.copy",
        "public.none.csv",
        "s.big.copy",
        "s.big.csv",
        "schema.sql",
    ];
    assert_eq!(names(&tables), want);
    assert_eq!(names(&point.join("archives/a/app.tables")), ["schema.sql", "t.copy", "t.csv"]);
    let by_database = names(&point.join("by-database/users"));
    let linked = by_database.iter().find(|name| name.ends_with(".tables")).unwrap();
    assert_eq!(names(&point.join("by-database/users").join(linked)), want);

    for (path, database, table) in [
        ("users.tables/s.big", "users", "s.big"),
        ("users.tables/public.\"Odd.Name%2F1\"", "users", "public.\"Odd.Name/1\""),
        ("users.tables/public.none", "users", "none"),
        ("app.tables/t", "app", "t"),
    ] {
        for format in ["csv", "copy"] {
            let file = point.join(&format!("archives/a/{path}.{format}"));
            let exact = format == "copy" && database == "users";
            let said = fs::metadata(&file).unwrap().len();
            let read = fs::read_to_string(&file).unwrap();
            assert!(read == extract(&home, database, table, format), "{path}.{format}");
            assert!(said == read.len() as u64 || !exact && said == 0, "{path}.{format}: {said}");
        }
    }
    home.ok(["umount", "mnt"]);
}

#[test]
fn tables_are_read_in_any_order_and_loaded_elsewhere() {
    if !can_mount("tables_are_read_in_any_order_and_loaded_elsewhere") {
        return;
    }
    let (home, server) = with_tables();
    let point = mount(&home);
    let tables = point.join("archives/a/users.tables");
    // Not from the beginning to the end, and back again.
    let (file, whole) =
        (File::open(tables.join("s.big.csv")).unwrap(), extract(&home, "users", "s.big", "csv"));
    for at in [1_000_000, 100, 1_500_000, 0, whole.len() - 10] {
        let mut read = [0; 10];
        file.read_exact_at(&mut read, at as u64).unwrap();
        assert_eq!(read, whole.as_bytes()[at..at + 10], "at {at}");
    }
    assert_eq!(file.read_at(&mut [0; 10], whole.len() as u64 + 5).unwrap(), 0);
    eventually("its length is known", || {
        fs::metadata(tables.join("s.big.csv")).unwrap().len() == whole.len() as u64
    });
    let schema = fs::read_to_string(tables.join("schema.sql")).unwrap();
    assert!(schema.contains("CREATE TABLE s.big") && schema.contains("CREATE VIEW public.v"), "{schema}");
    server.create_database("fresh").unwrap();
    let load = format!("\\copy s.big FROM '{}' CSV", tables.join("s.big.csv").display());
    let loaded = run(server
        .command("psql")
        .args(["-q", "-v", "ON_ERROR_STOP=1", "-d", "fresh", "-f"])
        .arg(tables.join("schema.sql"))
        .args(["-c", &load]));
    assert_eq!(loaded.code, 0, "{loaded:#?}");
    assert_eq!(server.psql("fresh", "SELECT count(*), sum(n) FROM s.big").unwrap().trim(), "40000|40000");
    drop(file);
    home.ok(["umount", "mnt"]);
}

#[test]
fn many_read_at_once() {
    if !can_mount("many_read_at_once") {
        return;
    }
    let home = Home::with_repository();
    let entries: Vec<Vec<u8>> = (0..3).map(|seed| noise(12 << 20, seed)).collect();
    for (number, bytes) in entries.iter().enumerate() {
        store(&home, &format!("a{number}"), "dump", bytes);
    }
    let point = mount(&home);
    std::thread::scope(|scope| {
        for reader in 0..12_usize {
            let (bytes, path) = (&entries[reader % 3], point.join(&format!("archives/a{}/dump", reader % 3)));
            scope.spawn(move || {
                let mut file = File::open(path).unwrap();
                if reader < 6 {
                    let mut all = Vec::new();
                    file.read_to_end(&mut all).unwrap();
                    assert!(all == *bytes);
                    return;
                }
                let mut place = reader * 7919;
                for _ in 0..150 {
                    place = (place * 1_103_515_245 + 12345) % (bytes.len() - 8192);
                    let mut page = [0; 8192];
                    file.read_exact_at(&mut page, place as u64).unwrap();
                    assert!(page[..] == bytes[place..place + 8192], "at {place}");
                }
            });
        }
    });
    home.ok(["umount", "mnt"]);
}

#[test]
fn what_is_new_appears_and_what_is_deleted_goes() {
    if !can_mount("what_is_new_appears_and_what_is_deleted_goes") {
        return;
    }
    let home = Home::with_repository();
    let point = mount(&home);
    assert_eq!(names(&point.0), ["README.txt", "archives", "by-database", "by-date"]);
    assert!(names(&point.join("archives")).is_empty() && names(&point.join("by-database")).is_empty());
    store(&home, "one", "dump", b"first");
    eventually("the archive appears", || point.join("archives/one/dump").exists());
    assert_eq!(fs::read(point.join("latest/dump")).unwrap(), b"first");
    // From within the directory, without looking it up again.
    let listed = |directory: &File| {
        rustix::fs::Dir::read_from(directory).unwrap().filter(|name| name.is_ok()).count() - 2
    };
    let inside = File::open(point.join("by-database/dump")).unwrap();
    assert_eq!(listed(&inside), 1);
    store(&home, "two", "dump", b"second");
    eventually("the newest leads", || {
        fs::read(point.join("latest/dump")).is_ok_and(|read| read == b"second")
    });
    eventually("it is in the list that is open", || listed(&inside) == 2);
    home.ok(["delete", "two"]);
    eventually("the archive goes", || names(&point.join("archives")) == ["one"]);
    // The same name again, with other bytes.
    home.ok(["compact"]);
    store(&home, "two", "dump", b"third!");
    eventually("the new one is shown", || {
        fs::read(point.join("archives/two/dump")).is_ok_and(|read| read == b"third!")
    });
    drop(inside);
    home.ok(["umount", "mnt"]);
}

/// The largest file below `directory`.
fn largest(directory: &Path) -> PathBuf {
    let files = cli_support::files_below(directory);
    files.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_chunk_fails_by_itself_and_is_named() {
    if !can_mount("a_damaged_chunk_fails_by_itself_and_is_named") {
        return;
    }
    let home = Home::with_repository();
    let (hurt, whole) = (noise(6 << 20, 1), noise(3 << 20, 2));
    store(&home, "hurt", "dump", &hurt);
    flip(&largest(&home.path("repo/packs")), 3_000_000);
    store(&home, "whole", "dump", &whole);
    let point = mount(&home);
    let file = File::open(point.join("archives/hurt/dump")).unwrap();
    let (mut failed, mut page) = (Vec::new(), [0; 4096]);
    for at in (0..hurt.len()).step_by(4096) {
        match file.read_exact_at(&mut page, at as u64) {
            Ok(()) => assert!(page[..] == hurt[at..at + 4096], "at {at}"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "EIO: {error}");
                failed.push(at);
            }
        }
    }
    let length = failed.last().unwrap() - failed[0] + 4096;
    assert!(
        length <= 1 << 20 && failed.len() == length / 4096,
        "one chunk: {length} bytes from {}",
        failed[0]
    );
    assert_eq!(fs::read(point.join("archives/whole/dump")).unwrap(), whole);
    assert!(
        Command::new("cat")
            .arg(point.join("archives/hurt/dump"))
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .code()
            != Some(0)
    );
    let log = cli_support::files_below(&home.path("cache"))
        .into_iter()
        .find(|(path, _)| path.ends_with("mount.log"));
    let log = String::from_utf8(log.unwrap().1).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a read failed")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for word in ["ERROR", "hurt", "dump", "chunk ", "can't be read", "packs/"] {
        assert!(lines[0].contains(word), "no {word} in {}", lines[0]);
    }
    drop(file);
    home.ok(["umount", "mnt"]);
}

#[test]
fn damaged_archives_are_shown_as_such() {
    if !can_mount("damaged_archives_are_shown_as_such") {
        return;
    }
    let home = Home::with_repository();
    store(&home, "hurt", "dump", b"bytes");
    flip(&largest(&home.path("repo/archives")), 100);
    store(&home, "whole", "dump", b"others");
    let point = mount(&home);
    let shown = names(&point.join("archives"));
    assert_eq!(shown.len(), 2);
    let note = shown.iter().find(|name| name.ends_with(".DAMAGED.txt")).unwrap();
    let text = fs::read_to_string(point.join("archives").join(note)).unwrap();
    assert!(text.contains("can't be read") && text.contains("dbvault check"), "{text}");
    assert!(!point.join("latest").exists() && point.join("latest.UNKNOWN.txt").exists());
    assert_eq!(fs::read(point.join("archives/whole/dump")).unwrap(), b"others");
    home.ok(["umount", "mnt"]);
}

#[test]
fn what_a_killed_process_left_is_cleaned_up() {
    if !can_mount("what_a_killed_process_left_is_cleaned_up") {
        return;
    }
    let home = Home::with_repository();
    store(&home, "a", "dump", &noise(2 << 20, 1));
    fs::create_dir(home.path("mnt")).unwrap();
    let point = mount(&home);
    let open = File::open(point.join("latest/dump")).unwrap();
    let process = point.process();
    kill_process(process, Signal::KILL).unwrap();
    eventually("it ends", || ends(process));
    assert!(open.read_at(&mut [0; 10], 1 << 20).is_err());
    home.fails(["mount", "mnt"], 6, "a mount whose process is gone");
    home.ok(["umount", "mnt"]);
    assert!(!is_mounted(&point.0) && names(&point.0).is_empty());
    home.fails(["umount", "mnt"], 1, "no repository is mounted");
    home.ok(["mount", "mnt"]);
    assert_eq!(fs::read(point.join("latest/dump")).unwrap().len(), 2 << 20);
    home.ok(["umount", "mnt"]);
    home.ok(["check", "--read-data"]);
    assert!(home.path("mnt").is_dir(), "it was there before");
}

#[test]
fn an_archive_that_is_collected_while_it_is_open_fails_cleanly() {
    if !can_mount("an_archive_that_is_collected_while_it_is_open_fails_cleanly") {
        return;
    }
    let home = Home::with_repository();
    // Six packs: those that are open can be read on, that of the first page and that of the chunk list.
    let (gone, stays) = (noise(96 << 20, 1), noise(5 << 20, 2));
    store(&home, "gone", "dump", &gone);
    store(&home, "stays", "dump", &stays);
    let point = mount(&home);
    let file = File::open(point.join("archives/gone/dump")).unwrap();
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 0).unwrap();
    home.ok(["delete", "gone"]);
    let freed = home.ok(["compact"]);
    // What is in packs that are open comes as it was; the rest is gone, and nothing else comes in its place.
    let mut lost = 0;
    for offset in (0..gone.len()).step_by(1 << 20) {
        match file.read_exact_at(&mut page, offset as u64) {
            Ok(()) => assert!(page[..] == gone[offset..offset + page.len()]),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "EIO: {error}");
                lost += 1;
            }
        }
    }
    assert!(lost > 0, "{freed}");
    eventually("it is not shown any more", || names(&point.join("archives")) == ["stays"]);
    assert_eq!(fs::read(point.join("archives/stays/dump")).unwrap(), stays);
    drop(file);
    home.ok(["umount", "mnt"]);
}

/// Starts a mount that stays in the foreground, and waits until it is there.
fn start(home: &Home, point: &MountPoint) -> Child {
    let child = home.command().args(["mount", "--foreground", "mnt"]).stdout(Stdio::piped()).spawn().unwrap();
    eventually("it mounts", || is_mounted(&point.0));
    child
}

#[test]
fn signals_unmount_and_so_does_the_system() {
    if !can_mount("signals_unmount_and_so_does_the_system") {
        return;
    }
    let home = Home::with_repository();
    store(&home, "a", "dump", &noise(3 << 20, 1));
    let point = MountPoint(home.path("mnt"));
    for signal in [Some(Signal::INT), Some(Signal::TERM), Some(Signal::HUP), None] {
        let mut child = start(&home, &point);
        assert_eq!(fs::read(point.join("latest/dump")).unwrap().len(), 3 << 20);
        match signal {
            Some(signal) => kill_process(Pid::from_child(&child), signal).unwrap(),
            None => assert!(Command::new("umount").arg(&point.0).status().unwrap().success()),
        }
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success(), "{signal:?}");
        assert!(said.contains(" on ") && said.contains("/mnt\n"), "{said}");
        assert!(!is_mounted(&point.0) && !point.0.exists(), "{signal:?}");
    }
    // With an open file it is not waited for for long.
    let mut child = start(&home, &point);
    let open = File::open(point.join("latest/dump")).unwrap();
    let began = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(!is_mounted(&point.0));
    assert!(open.read_at(&mut [0; 10], 2 << 20).is_err());
}

#[test]
fn the_default_place_is_told_and_goes_again() {
    if !can_mount("the_default_place_is_told_and_goes_again") {
        return;
    }
    let home = Home::with_repository();
    fs::create_dir(home.path("run")).unwrap();
    fs::create_dir(home.path("tmp")).unwrap();
    for (variable, value) in [("XDG_RUNTIME_DIR", "run"), ("TMPDIR", "tmp")] {
        let command = |words: &[&str]| {
            let mut command = home.command();
            command.args(words).env(variable, home.path(value));
            run(&mut command)
        };
        let mounted = command(&["mount", "--json"]);
        assert_eq!(mounted.code, 0, "{mounted:#?}");
        let document: serde_json::Value = serde_json::from_str(&mounted.stdout).unwrap();
        let point = MountPoint(document["directory"].as_str().unwrap().into());
        assert!(point.0.starts_with(home.path(value)) && is_mounted(&point.0), "{document}");
        assert_eq!(document["process"].as_i64().unwrap(), i64::from(point.process().as_raw_nonzero().get()));
        let twice = command(&["mount"]);
        twice.assert_failure(6, "mounted on");
        let open = File::open(point.join("README.txt")).unwrap();
        command(&["umount"]).assert_failure(1, "in use");
        drop(open);
        let process = point.process();
        assert_eq!(command(&["umount", "--json"]).code, 0);
        assert!(!point.0.exists() && ends(process));
    }
    // Somebody else's directory in a place that all write to is not used.
    let private = names(&home.path("tmp")).remove(0);
    fs::set_permissions(home.path("tmp").join(private), fs::Permissions::from_mode(0o777)).unwrap();
    run(home.command().arg("mount").env("TMPDIR", home.path("tmp"))).assert_failure(17, "others may write");
}

#[test]
fn what_can_not_be_mounted_is_told_with_its_reason() {
    if !can_mount("what_can_not_be_mounted_is_told_with_its_reason") {
        return;
    }
    let home = Home::new();
    home.fails(["mount", "--repo", "nowhere", "mnt"], 3, "no repository");
    let secret = "correct horse battery";
    let with = |words: &[&str], passphrase: &str| {
        run(home.command().args(words).env("DBVAULT_PASSPHRASE", passphrase))
    };
    assert_eq!(with(&["init", "repo"], secret).code, 0);
    with(&["mount", "mnt"], "wrong").assert_failure(7, "wrong passphrase");
    run(home.command().args(["mount", "mnt"]).env_remove("DBVAULT_PASSPHRASE"))
        .assert_failure(21, "passphrase");
    assert!(!home.path("mnt").exists(), "nothing is left");
    fs::write(home.path("file"), "x").unwrap();
    with(&["mount", "file"], secret).assert_failure(1, "not a directory");
    fs::create_dir_all(home.path("full/below")).unwrap();
    with(&["mount", "full"], secret).assert_failure(6, "is not empty");
    with(&["mount", "no/such"], secret).assert_failure(1, "cannot use");
    home.fails(["umount", "full"], 1, "no repository is mounted");
    home.fails(["umount", "/proc"], 1, "no repository is mounted");

    let point = MountPoint(home.path("mnt"));
    assert_eq!(with(&["mount", "mnt"], secret).code, 0);
    with(&["mount", "mnt"], secret).assert_failure(6, "mounted");
    let arguments = fs::read(format!("/proc/{}/cmdline", point.process().as_raw_nonzero())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains("horse"));
    home.ok(["umount", "mnt"]);
}

#[test]
fn hundreds_of_archives_are_listed_at_once() {
    if !can_mount("hundreds_of_archives_are_listed_at_once") {
        return;
    }
    let home = Home::with_repository();
    for number in 0..200 {
        store(&home, &format!("a{number:03}"), "dump", number.to_string().as_bytes());
    }
    let point = mount(&home);
    let began = Instant::now();
    let shown = names(&point.join("archives"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(shown, (0..200).map(|number| format!("a{number:03}")).collect::<Vec<_>>());
    assert_eq!(names(&point.join("by-date")).len(), 200);
    let contents: BTreeMap<String, String> = names(&point.join("by-database/dump"))
        .into_iter()
        .map(|name| (name.clone(), fs::read_to_string(point.join("by-database/dump").join(name)).unwrap()))
        .collect();
    let mut numbers: Vec<u32> = contents.values().map(|text| text.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<u32>>());
    home.ok(["umount", "mnt"]);
}

/// An ordinary user, on a system where users may mount, as is usual: in a namespace of mounts of its own.
#[test]
fn an_ordinary_user_mounts_and_unmounts() {
    let test = "an_ordinary_user_mounts_and_unmounts";
    if !can_mount(test) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {test}: this user can not become another");
        return;
    }
    if !Path::new("/usr/bin/fusermount3").exists() && !Path::new("/bin/fusermount3").exists() {
        println!("skipped: {test}: fusermount3 is not installed");
        return;
    }
    let home = Home::with_repository();
    store(&home, "a", "dump", b"bytes");
    let script = r#"
        set -eu
        cp "$1" program && mknod device c 10 229 && chmod 666 device
        mount --bind device /dev/fuse
        chown -R 65534:65534 . && chmod 755 .
        exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -eu -c '
            "$1" mount mnt
            test "$(cat mnt/latest/dump)" = bytes
            test "$(stat -c %u-%a mnt/archives/a/dump)" = 65534-400
            grep -q "^dbvault:.* fuse.dbvault ro" /proc/mounts
            "$1" umount mnt
            test ! -e mnt
            kill -9 "$("$1" mount mnt --json | sed -n "s/.*\"process\": \([0-9]*\).*/\1/p")"
            sleep 1
            "$1" umount mnt
            ! grep -q "^dbvault:.* $PWD/mnt " /proc/mounts
        ' sh ./program
    "#;
    let ran = run(home.in_world("unshare").args(["--mount", "sh", "-c", script, "sh", cli_support::DBVAULT]));
    assert_eq!(ran.code, 0, "{ran:#?}");
}

//! Child processes: every way in which one can end, and how it is stopped.

mod common;

use std::fs;
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use dbvault_source::process::{Program, TERMINATE_GRACE_MS};
use dbvault_source::{CommandOptions, CommandSource, Error, Interrupt, Secret, Source, StdinSource};

fn shell(script: &str) -> Program {
    Program::new("/bin/sh").arg("-c").arg(script)
}

fn command(script: &str) -> CommandOptions {
    CommandOptions { command: script.to_owned(), entry_name: "c".to_owned(), ..CommandOptions::default() }
}

/// How long a program that was asked to end is waited for before it is killed: what ends at once takes less.
const PATIENCE: Duration = Duration::from_millis(TERMINATE_GRACE_MS - 500);

fn set_after(interrupt: &Interrupt, delay_ms: u64) {
    let interrupt = interrupt.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(delay_ms));
        interrupt.store(true, Ordering::Relaxed);
    });
}

#[test]
fn output_and_warnings_of_a_good_command_arrive() {
    let (meta, bytes, report) =
        common::read_all(CommandSource::new(command("echo one; echo careful >&2; echo two"))).unwrap();
    assert_eq!((meta.name.as_str(), bytes.as_slice()), ("c", b"one\ntwo\n".as_slice()));
    assert_eq!(report.warnings, ["careful"]);
}

#[test]
fn a_command_that_fails_after_all_its_output_has_failed() {
    match common::read_all(CommandSource::new(command("echo data; echo why >&2; exit 3"))) {
        Err(Error::ProgramFailed { program, how, stderr }) => {
            assert_eq!((how.as_str(), stderr.as_str()), ("exit status 3", "why"));
            assert!(program.contains("echo data"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_that_dies_of_a_signal_has_failed() {
    match common::read_all(CommandSource::new(command("echo data; kill -SEGV $$"))) {
        Err(Error::ProgramFailed { how, .. }) => assert_eq!(how, "killed by signal 11"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_that_writes_nothing_is_empty() {
    assert!(matches!(common::read_all(CommandSource::new(command("true"))), Err(Error::Empty { .. })));
}

#[test]
fn an_end_marker_and_a_timeout_are_kept_to() {
    let marked = |script: &str, marker: &str| {
        let options = CommandOptions { end_marker: Some(marker.to_owned()), ..command(script) };
        common::read_all(CommandSource::new(options)).map(drop)
    };
    marked("seq 100000; echo '# end'", "# end").unwrap();
    marked("echo '# end'; seq 10", "# end").unwrap();
    for cut in ["seq 100000", "echo '# end'; seq 100000", "echo '# en'"] {
        assert!(matches!(marked(cut, "# end"), Err(Error::Incomplete { .. })), "{cut}");
    }
    let timeout = Some(Duration::from_millis(300));
    let slow = CommandOptions { timeout, ..command("echo a; sleep 600") };
    let error = common::read_all(CommandSource::new(slow)).map(drop).unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
}

#[test]
fn a_body_that_was_not_read_to_its_end_is_not_good() {
    let mut source: Box<dyn Source> = Box::new(CommandSource::new(command("yes")));
    let mut entry = source.open().unwrap();
    entry.body.read_exact(&mut [0; 100]).unwrap();
    assert!(matches!(source.finish(), Err(Error::Incomplete { .. })));
}

#[test]
fn a_flood_of_standard_error_neither_blocks_nor_grows() {
    let script = "i=0; while [ $i -lt 3000 ]; do echo \"line $i ....................................................................................................\" >&2; i=$((i+1)); done; echo done; exit 1";
    match common::read_all(CommandSource::new(command(script))) {
        Err(Error::ProgramFailed { stderr, .. }) => {
            assert!(stderr.len() <= (64 << 10) + 10, "{}", stderr.len());
            assert!(stderr.starts_with("[…]") && stderr.contains("line 2999"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_silent_command_is_interrupted_promptly_with_all_its_children() {
    let interrupt = Interrupt::default();
    let options = CommandOptions { interrupt: interrupt.clone(), ..command("sleep 98765; echo no") };
    let mut source: Box<dyn Source> = Box::new(CommandSource::new(options));
    let mut entry = source.open().unwrap();
    set_after(&interrupt, 150);
    let start = Instant::now();
    let error = entry.body.read(&mut [0; 10]).unwrap_err();
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert_ne!(error.kind(), io::ErrorKind::Interrupted, "it would be tried again for ever");
    assert!(matches!(Error::from_io("read", error), Error::Interrupted));
    drop(source);
    assert!(common::none_left(&["sleep", "98765"]));
}

#[test]
fn one_that_ignores_the_polite_signal_is_killed() {
    let (process, mut output) =
        shell("trap '' TERM; echo up; sleep 87654; sleep 87654").spawn_reader().unwrap();
    output.read_exact(&mut [0; 3]).unwrap();
    let start = Instant::now();
    drop(process);
    assert!(start.elapsed() > PATIENCE && start.elapsed() < Duration::from_secs(4));
    assert!(common::none_left(&["sleep", "87654"]));
}

#[test]
fn the_time_out_ends_a_hanging_program() {
    let start = Instant::now();
    let outcome = shell("echo hint >&2; sleep 76543").timeout(Duration::from_millis(300)).run_captured();
    match outcome {
        Err(Error::ProgramFailed { how, .. }) => assert_eq!(how, "timed out after 0.3 s"),
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(common::none_left(&["sleep", "76543"]));
}

#[test]
fn a_grandchild_that_holds_standard_error_open_does_not_hold_us() {
    let start = Instant::now();
    let (process, mut output) = shell("sleep 5 >/dev/null & echo x").spawn_reader().unwrap();
    io::copy(&mut output, &mut io::sink()).unwrap();
    process.finish().unwrap();
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_missing_program_is_told_with_its_package() {
    match Program::new("no-such-program-at-all").package("somewhere").spawn_reader() {
        Err(Error::ProgramMissing { program, package }) => {
            assert_eq!((program.as_str(), package), ("no-such-program-at-all", Some("somewhere")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn secrets_reach_the_environment_and_nothing_else() {
    let program = shell("printf %s \"$KEY\"").secret_env("KEY", Secret::new("hunter2"));
    assert!(!format!("{program:?}").contains("hunter2"));
    assert_eq!(program.run_captured().unwrap().into_success().unwrap(), b"hunter2");
}

#[test]
fn a_child_is_fed_and_its_failure_explains_a_broken_pipe() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = shell(&format!("cat > {}", file.path().display())).spawn_writer().unwrap();
    let data = vec![7; 5 << 20];
    assert_eq!(writer.feed(&mut &data[..]).unwrap(), 5 << 20);
    writer.finish().unwrap();
    assert_eq!(fs::read(file.path()).unwrap(), data);

    let mut writer = shell("head -c 10 >/dev/null; echo 'no more' >&2; exit 4").spawn_writer().unwrap();
    writer.feed(&mut io::repeat(1).take(50 << 20)).unwrap();
    match writer.finish() {
        Err(Error::ProgramFailed { how, stderr, .. }) => {
            assert_eq!((how.as_str(), stderr.as_str()), ("exit status 4", "no more"));
        }
        other => panic!("{other:?}"),
    }

    let mut writer = shell("exec <&-; exit 0").spawn_writer().unwrap();
    writer.feed(&mut io::repeat(1).take(50 << 20)).unwrap();
    assert!(matches!(writer.finish(), Err(Error::ProgramFailed { .. })));
}

#[test]
fn a_child_that_does_not_read_can_be_interrupted() {
    let interrupt = Interrupt::default();
    // A time that no other run of this test sleeps.
    let seconds = (10_000_000 + std::process::id()).to_string();
    let mut writer = shell(&format!("sleep {seconds}")).interrupt(&interrupt).spawn_writer().unwrap();
    set_after(&interrupt, 100);
    let start = Instant::now();
    assert!(matches!(writer.feed(&mut io::repeat(1)), Err(Error::Interrupted)));
    drop(writer);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert!(common::none_left(&["sleep", &seconds]));
}

#[test]
fn a_child_never_takes_our_failure_for_the_end_of_its_input() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the repository is gone"))
        }
    }
    let marker = tempfile::tempdir().unwrap();
    let path = marker.path().join("ended");
    let mut writer = shell(&format!("cat >/dev/null; touch {}", path.display())).spawn_writer().unwrap();
    assert!(writer.feed(&mut Broken).is_err());
    drop(writer);
    thread::sleep(Duration::from_millis(100));
    assert!(!path.exists());
}

#[test]
fn standard_input_is_good_at_its_end_unless_empty() {
    let (meta, bytes, _) = common::read_all(StdinSource::with_reader("in", Box::new(&b"bytes"[..]))).unwrap();
    assert_eq!((meta.name.as_str(), bytes.as_slice()), ("in", b"bytes".as_slice()));
    let outcome = common::read_all(StdinSource::with_reader("in", Box::new(io::empty())));
    assert!(matches!(outcome, Err(Error::Empty { .. })));
}

//! Commands of the user, monitors and metrics, through the program and its configuration.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

mod cli_support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use cli_support::{Home, Run, run};

/// A home whose configuration says `more` beside its repository, and where `story` is a file that commands write.
fn home(more: &str) -> Home {
    let home = Home::with_repository();
    let repository = format!("path: {}, label: local", home.path("repo").display());
    configure(&home, &format!("repositories: [{{{repository}}}]\n{more}"));
    home.make_sqlite("a.db", 10);
    home
}

fn configure(home: &Home, text: &str) {
    let text = text.replace("STORY", home.path("story").to_str().unwrap());
    let text = text.replace("PLACE", home.path("").to_str().unwrap());
    let key_file = format!("key_file: {}\n", home.path("key").display());
    fs::write(home.path("config/dbvault/config.yaml"), key_file + &text).unwrap();
}

fn story(home: &Home) -> String {
    let text = fs::read_to_string(home.path("story")).unwrap_or_default();
    let _ = fs::remove_file(home.path("story"));
    text
}

fn back_up(home: &Home) -> Run {
    run(home.command().args(["backup", "--sqlite", "a.db", "--archive", "one"]))
}

const COMMANDS: &str = "
commands:
    - before: action
      when: [backup]
      run: ['echo before {action} of {repository_label} >> STORY']
    - after: action
      states: [finish]
      run: ['echo \"finish {action} {archive} {exit_code}\" >> STORY']
    - after: action
      states: [fail]
      run: ['echo \"fail {action} {exit_code}\" >> STORY']
    - after: error
      run: ['echo \"error: {error}; {output}\" >> STORY']
";

#[test]
fn commands_run_before_and_after_and_know_what_happened() {
    let home = home(COMMANDS);
    assert_eq!(back_up(&home).code, 0);
    assert_eq!(story(&home), "before backup of local\nfinish backup one 0\n");
    home.ok(["list"]);
    assert_eq!(story(&home), "finish list  0\n");
    home.fails(
        ["backup", "--command", "echo 'no way; $(touch harmed)' >&2; exit 3", "--name", "x"],
        10,
        "cannot back up x",
    );
    let told = story(&home);
    assert!(told.starts_with("before backup of local\nfail backup 10\nerror: cannot back up x: "), "{told}");
    assert!(told.ends_with("; no way; $(touch harmed)\n") && !home.path("harmed").exists(), "{told}");
    home.ok(["init", "other", "--key-file", "key"]);
    home.ok(["list", "--repo", "other", "--key-file", "key"]);
    assert_eq!(story(&home), "", "what is said of one repository is not for another");
}

#[test]
fn a_command_that_fails_keeps_the_action_from_beginning() {
    let home = home("commands: [{before: action, when: [backup], run: ['echo not mounted >&2; exit 1']}]\n");
    let run = back_up(&home);
    run.assert_failure(24, "command 1 before the action failed");
    assert!(run.stderr.contains("not mounted"), "{run:#?}");
    assert!(home.archives().is_empty());
}

#[test]
fn exit_status_75_leaves_a_repository_out() {
    let home = home("");
    home.ok(["init", "second", "--key-file", "key"]);
    let skip = "commands: [{before: repository, when: [backup], run: ['test {repository_label} != local || exit 75']}]";
    configure(
        &home,
        &format!(
            "repositories: [{{path: PLACErepo, label: local}}, {{path: PLACEsecond, label: second}}]\n{skip}\n"
        ),
    );
    let run = back_up(&home);
    assert_eq!(run.code, 0, "{run:#?}");
    let names = |repository: &str| {
        home.json(["list", "--repo", repository, "--json"])["archives"].as_array().unwrap().len()
    };
    assert_eq!((names("repo"), names("second")), (0, 1));
    let run = cli_support::run(home.command().args(["backup", "--repo", "local", "--sqlite", "a.db"]));
    assert!(run.code == 0 && run.stderr.contains("Left out"), "{run:#?}");
    assert_eq!(names("repo"), 0);
}

#[test]
fn healthchecks_is_pinged_with_the_log_and_its_failure_is_a_warning() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/uuid", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let answer = |_| {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            while !ends(&request) {
                let count = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..count]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            String::from_utf8_lossy(&request).into_owned()
        };
        (0..2).map(answer).collect::<Vec<String>>()
    });
    let home =
        home(&format!("healthchecks: {{ping_url: '{url}', send_logs: true, states: [start, fail]}}\n"));
    home.fails(["backup", "--sqlite", "none.db"], 13, "none.db");
    let requests = server.join().unwrap();
    assert!(requests[0].starts_with("POST /uuid/start "), "{requests:?}");
    assert!(requests[1].starts_with("POST /uuid/fail ") && requests[1].contains("none.db"), "{requests:?}");
    // Nobody listens there any more.
    home.ok(["list"]);
    let run = back_up(&home);
    assert!(run.code == 0 && run.stderr.contains("warning: Healthchecks could not be told"), "{run:#?}");
    assert!(!run.stderr.contains("uuid"), "{run:#?}");
}

/// Whether all of a request is there.
fn ends(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

#[test]
fn metrics_are_written_after_each_action() {
    let home = home("prometheus: {textfile: PLACEdbvault.prom}\n");
    assert_eq!(back_up(&home).code, 0);
    let metrics = || fs::read_to_string(home.path("dbvault.prom")).unwrap();
    let action = |action: &str, value: u8| {
        let location = home.path("repo").display().to_string();
        format!("dbvault_action_success{{repository=\"{location}\",action=\"{action}\"}} {value}\n")
    };
    let sample = "dbvault_database_bytes{repository=";
    for words in [action("backup", 1).as_str(), "/a.db\",kind=\"sqlite\"} ", "dbvault_archives{", sample] {
        assert!(metrics().contains(words), "{words}: {}", metrics());
    }
    home.ok(["check"]);
    home.fails(["backup", "--sqlite", "none.db"], 13, "none.db");
    let text = metrics();
    assert!(text.contains(&action("check", 1)) && text.contains(&action("backup", 0)), "{text}");
    assert!(text.contains("/a.db\",kind=\"sqlite\"} ") && text.contains(sample), "{text}");
}

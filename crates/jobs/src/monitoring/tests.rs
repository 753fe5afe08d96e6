#![allow(clippy::print_stdout, reason = "a skipped test says its name")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dbvault_source::Secret;

use super::*;
use crate::config::monitoring::{Email, Healthchecks, Ntfy, NtfyMessage, Webhook};

/// A request as it arrived.
#[derive(Debug)]
struct Arrived {
    line: String,
    headers: String,
    body: String,
}

/// A server that answers one request with each of `statuses`; its URL, and in the end what it was sent.
fn server(statuses: &'static [u16]) -> (String, thread::JoinHandle<Vec<Arrived>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |status: &u16| {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut line, mut headers) = (String::new(), String::new());
        reader.read_line(&mut line).unwrap();
        while !headers.ends_with("\r\n\r\n") && headers != "\r\n" {
            reader.read_line(&mut headers).unwrap();
        }
        let headers = headers.to_ascii_lowercase();
        let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        reader.get_mut().write_all(head.as_bytes()).unwrap();
        Arrived { line: line.trim_end().into(), headers, body: String::from_utf8(body).unwrap() }
    };
    (url, thread::spawn(move || statuses.iter().map(answer).collect()))
}

fn message(event: Event) -> Message {
    Message {
        event,
        action: "backup".into(),
        host: "db1".into(),
        repositories: vec!["/srv/backup".into()],
        archive: Some("nächtlich".into()),
        started: "2026-11-21T03:04:05Z".parse().unwrap(),
        duration_ms: Some(61_000),
        error: (event == Event::Fail).then(|| "cannot back up users".into()),
        exit_code: Some(if event == Event::Fail { 10 } else { 0 }),
        log: "a line of the log\n".into(),
    }
}

fn check(url: &str) -> Healthchecks {
    Healthchecks {
        ping_url: Secret::new(format!("{url}/secret-uuid")),
        verify_tls: true,
        send_logs: false,
        ping_body_limit_bytes: 100_000,
        states: Vec::new(),
        create_slug: false,
    }
}

fn told(monitoring: &Monitoring, event: Event) -> Vec<String> {
    let undelivered = tell(monitoring, &message(event), &Interrupt::default());
    undelivered.iter().map(ToString::to_string).collect()
}

#[test]
fn healthchecks_hears_of_start_finish_and_failure() {
    let (url, server) = server(&[200, 200, 200]);
    let monitoring = Monitoring { healthchecks: Some(check(&url)), ..Monitoring::default() };
    for event in [Event::Start, Event::Finish, Event::Fail] {
        assert!(told(&monitoring, event).is_empty());
    }
    let arrived = server.join().unwrap();
    let lines: Vec<&str> = arrived.iter().map(|arrived| arrived.line.as_str()).collect();
    let uuid = "POST /secret-uuid";
    assert_eq!(
        lines,
        [format!("{uuid}/start HTTP/1.1"), format!("{uuid} HTTP/1.1"), format!("{uuid}/fail HTTP/1.1")]
    );
    assert!(arrived.iter().all(|arrived| arrived.body.is_empty()), "nothing is told that is not asked for");
    assert!(arrived[0].headers.contains("user-agent: dbvault/"), "{arrived:?}");
}

#[test]
fn the_end_of_the_log_goes_along_where_it_is_wanted() {
    let (url, server) = server(&[200, 200, 200]);
    let wanted = Healthchecks { send_logs: true, create_slug: true, ..check(&url) };
    let all = Monitoring { healthchecks: Some(wanted.clone()), ..Monitoring::default() };
    assert!(wants_log(&all) && told(&all, Event::Fail).is_empty());
    let only_log = Healthchecks { states: vec![Event::Log], ..wanted.clone() };
    let only_log = Monitoring { healthchecks: Some(only_log), ..Monitoring::default() };
    assert!(told(&only_log, Event::Start).is_empty());
    let little = Healthchecks { ping_body_limit_bytes: 14, ..wanted };
    let little = Monitoring { healthchecks: Some(little), ..Monitoring::default() };
    assert!(told(&little, Event::Fail).is_empty());
    assert!(told(&only_log, Event::Fail).is_empty());
    let arrived = server.join().unwrap();
    assert!(arrived[2].line.contains("/log?create=1 ") && arrived[2].body.contains("a line of the log"));
    assert!(arrived[0].line.contains("/fail?create=1 "), "{arrived:?}");
    for words in ["a line of the log", "failed on db1", "Error: cannot back up users", "Seconds: 61"] {
        assert!(arrived[0].body.contains(words), "{words}: {arrived:?}");
    }
    assert_eq!(arrived[1].body, "Exit code: 10\n");
}

#[test]
fn a_failing_server_is_asked_twice_and_never_named() {
    let (url, server) = server(&[503, 200, 404]);
    let monitoring = Monitoring { healthchecks: Some(check(&url)), ..Monitoring::default() };
    assert!(told(&monitoring, Event::Finish).is_empty());
    assert_eq!(
        told(&monitoring, Event::Finish),
        ["Healthchecks could not be told: the server answered with status 404"]
    );
    assert_eq!(server.join().unwrap().len(), 3);
    for broken in [url.as_str(), "http://not a url", "https://127.0.0.1:1"] {
        let monitoring = Monitoring { healthchecks: Some(check(broken)), ..Monitoring::default() };
        let told = told(&monitoring, Event::Finish);
        assert!(told.len() == 1 && !told[0].contains("secret") && !told[0].contains("127.0"), "{told:?}");
    }
}

#[test]
fn ntfy_gets_json_and_what_proves_who_sends_it() {
    let (url, server) = server(&[200, 200]);
    let own = NtfyMessage {
        title: Some("Sicherung kaputt ☠".into()),
        priority: Some("urgent".into()),
        tags: Some("a, b".into()),
        ..NtfyMessage::default()
    };
    let topic = Ntfy {
        topic: "backups".into(),
        server: url,
        username: Some("me".into()),
        password: Some(Secret::new("pässword")),
        access_token: None,
        start: NtfyMessage::default(),
        finish: NtfyMessage::default(),
        fail: own,
        states: vec![Event::Fail],
    };
    let by_token = Ntfy { access_token: Some(Secret::new("tk_1")), ..topic.clone() };
    let monitoring = |ntfy| Monitoring { ntfy: Some(ntfy), ..Monitoring::default() };
    assert!(told(&monitoring(topic.clone()), Event::Finish).is_empty(), "nobody asked for it");
    assert!(told(&monitoring(topic), Event::Fail).is_empty());
    assert!(told(&monitoring(by_token), Event::Fail).is_empty());
    let arrived = server.join().unwrap();
    assert_eq!(arrived[0].line, "POST / HTTP/1.1");
    let basic = STANDARD.encode("me:pässword").to_ascii_lowercase();
    assert!(arrived[0].headers.contains(&format!("authorization: basic {basic}\r\n")), "{arrived:?}");
    assert!(arrived[1].headers.contains("authorization: bearer tk_1\r\n"), "{arrived:?}");
    let document: serde_json::Value = serde_json::from_str(&arrived[0].body).unwrap();
    assert_eq!((&document["topic"], &document["priority"]), (&"backups".into(), &5.into()));
    assert_eq!(document["title"], "Sicherung kaputt ☠");
    assert_eq!(document["tags"], serde_json::json!(["a", "b"]));
    assert!(document["message"].as_str().unwrap().contains("cannot back up users"), "{document}");
}

#[test]
fn a_webhook_is_signed() {
    let (url, server) = server(&[204]);
    let webhook = Webhook {
        url: Secret::new(format!("{url}/hook?token=x")),
        secret: Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
        states: Vec::new(),
    };
    let monitoring = Monitoring { webhook: Some(webhook), ..Monitoring::default() };
    assert!(told(&monitoring, Event::Fail).is_empty());
    let arrived = server.join().unwrap().remove(0);
    assert_eq!(arrived.line, "POST /hook?token=x HTTP/1.1");
    for header in ["webhook-id: dbv_", "webhook-timestamp: ", "webhook-signature: v1,"] {
        assert!(arrived.headers.contains(header), "{header}: {arrived:?}");
    }
    let document: serde_json::Value = serde_json::from_str(&arrived.body).unwrap();
    assert_eq!(document["type"], "dbvault.backup.fail");
    let data = &document["data"];
    assert_eq!((&data["archive"], &data["exit_code"]), (&"nächtlich".into(), &10.into()));
    assert_eq!(data["started"], "2026-11-21T03:04:05.000Z");
}

/// A stand-in for sendmail, with what it does.
fn sendmail(directory: &std::path::Path, script: &str) -> Monitoring {
    let path = directory.join("sendmail");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let email = Email {
        to: vec!["admin@db1.example".into(), "other@db1.example\nBcc: everybody".into()],
        from: Some("dbvault@db1.example".into()),
        sendmail_command: vec![path.to_str().unwrap().into(), "-t".into(), "-i".into()],
        states: vec![Event::Fail],
    };
    Monitoring { email: Some(email), ..Monitoring::default() }
}

#[test]
fn mail_goes_through_sendmail() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("mail");
    let monitoring = sendmail(directory.path(), &format!("echo \"$@\" > {0}; cat >> {0}", out.display()));
    assert!(told(&monitoring, Event::Finish).is_empty() && !out.exists());
    assert!(told(&monitoring, Event::Fail).is_empty());
    let mail = std::fs::read_to_string(out).unwrap();
    let (head, body) = mail.split_once("\n\n").unwrap();
    let head: Vec<&str> = head.lines().collect();
    assert_eq!(
        head[..4],
        [
            "-t -i",
            "From: dbvault@db1.example",
            "To: admin@db1.example, other@db1.example Bcc: everybody",
            "Subject: dbvault backup failed on db1",
        ]
    );
    let text = STANDARD.decode(body.replace('\n', "")).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), message(Event::Fail).text().replace('\n', "\r\n"));
}

#[test]
fn sendmail_that_fails_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let monitoring = sendmail(directory.path(), "cat > /dev/null; echo no route >&2; exit 69");
    assert_eq!(
        told(&monitoring, Event::Fail),
        ["the reader of mail could not be told: sendmail failed (exit status 69) no route"]
    );
}

/// A server whose certificate nobody trusts, for two connections; none where no certificate can be made.
fn tls_server(directory: &std::path::Path) -> Option<(String, thread::JoinHandle<usize>)> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args("req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost".split(' '));
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).stderr(std::process::Stdio::null());
    if !openssl.status().is_ok_and(|status| status.success()) {
        return None;
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(
        vec![CertificateDer::from_pem_file(certificate).unwrap()],
        PrivateKeyDer::from_pem_file(key).unwrap(),
    );
    let config = std::sync::Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let serve = move || {
        let served = (0..3).filter(|_| {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, listener.accept().unwrap().0);
            // A client that does not trust us goes away here.
            let mut buffer = [0; 4096];
            stream.read(&mut buffer).is_ok_and(|count| count > 0)
                && stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .is_ok()
        });
        served.count()
    };
    Some((url, thread::spawn(serve)))
}

#[test]
fn a_certificate_must_be_trusted_unless_the_user_says_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let Some((url, server)) = tls_server(directory.path()) else {
        println!(
            "skipped: a_certificate_must_be_trusted_unless_the_user_says_otherwise: openssl makes no certificate"
        );
        return;
    };
    let strict = Monitoring { healthchecks: Some(check(&url)), ..Monitoring::default() };
    let refused = told(&strict, Event::Finish);
    assert!(refused.len() == 1 && refused[0].contains("invalid peer certificate"), "{refused:?}");
    let lenient = Healthchecks { verify_tls: false, ..check(&url) };
    let lenient = Monitoring { healthchecks: Some(lenient), ..Monitoring::default() };
    assert!(told(&lenient, Event::Finish).is_empty());
    assert_eq!(server.join().unwrap(), 1, "nothing was sent to whom nobody trusts");
}

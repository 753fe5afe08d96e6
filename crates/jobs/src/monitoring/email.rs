//! Mail, handed to `sendmail`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dbvault_source::process::Program;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::Message;
use crate::config::monitoring::Email;

/// How long `sendmail` may take; it has its own queue for what takes longer.
const SENDMAIL_TIMEOUT: Duration = Duration::from_secs(30);
/// Where `sendmail` is if it is not in `PATH`, as under many schedulers.
const SENDMAIL_PLACES: [&str; 2] = ["/usr/sbin/sendmail", "/usr/lib/sendmail"];
/// Letters of a line of base64.
const LINE_BYTES: usize = 76;

pub(super) fn send(mail: &Email, message: &Message) -> Result<(), String> {
    let (program, args) = match mail.sendmail_command.split_first() {
        Some((program, args)) => (program.clone(), args.to_vec()),
        None => (found(), vec!["-t".to_owned(), "-i".to_owned()]),
    };
    let text = letter(mail, message, Timestamp::now())?;
    // Not with the interrupt: a mail that tells of it is wanted all the more.
    let program = Program::new(program).label("sendmail").args(args).timeout(SENDMAIL_TIMEOUT);
    let sent = program.spawn_writer().and_then(|mut writer| {
        writer.feed(&mut text.as_bytes())?;
        writer.finish()
    });
    sent.map(drop).map_err(|error| match error {
        dbvault_source::Error::ProgramFailed { how, stderr, .. } => {
            format!("sendmail failed ({how}) {}", stderr.trim_end())
        }
        other => other.to_string(),
    })
}

fn found() -> String {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&paths).any(|directory| directory.join("sendmail").is_file());
    let elsewhere = || SENDMAIL_PLACES.iter().find(|place| std::path::Path::new(place).is_file());
    if in_path { "sendmail" } else { elsewhere().unwrap_or(&"sendmail") }.to_owned()
}

/// The whole letter with its head.
fn letter(mail: &Email, message: &Message, now: Timestamp) -> Result<String, String> {
    let date =
        rfc2822::to_string(&now.to_zoned(jiff::tz::TimeZone::UTC)).map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    if let Some(from) = &mail.from {
        lines.push(format!("From: {}", one_line(from)));
    }
    lines.push(format!("To: {}", one_line(&mail.to.join(", "))));
    lines.push(format!("Subject: {}", subject(&message.title())));
    lines.push(format!("Date: {date}"));
    lines.push("MIME-Version: 1.0".to_owned());
    lines.push("Content-Type: text/plain; charset=utf-8".to_owned());
    lines.push("Content-Transfer-Encoding: base64".to_owned());
    lines.push("Auto-Submitted: auto-generated".to_owned());
    lines.push(String::new());
    let body = STANDARD.encode(message.text().replace('\n', "\r\n"));
    lines.extend(body.as_bytes().chunks(LINE_BYTES).map(|line| String::from_utf8_lossy(line).into_owned()));
    Ok(lines.join("\n") + "\n")
}

/// Without what would begin a header of its own.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// As it is where it is plain, else as encoded words (RFC 2047).
fn subject(text: &str) -> String {
    let text = one_line(text);
    if text.is_ascii() && text.len() < 200 {
        return text;
    }
    // At most 75 letters each, and no character in two of them.
    let mut words = vec![String::new()];
    for letter in text.chars() {
        if words.last().is_some_and(|word| word.len() + letter.len_utf8() > 42) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    let words: Vec<String> =
        words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word))).collect();
    words.join("\n ")
}

//! Telling others how it went: Healthchecks, ntfy, a webhook, mail.
//!
//! Nobody's backup fails because nobody could be told: what can't be delivered is an [`Undelivered`], for a warning.
//! No URL is in an error, for a URL may be all that is needed to speak in the user's name.

mod email;
mod healthchecks;
mod http;
mod ntfy;
mod webhook;

use dbvault_source::Interrupt;
use jiff::Timestamp;

use crate::config::monitoring::{Event, Monitoring};

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What happened.
    pub event: Event,
    /// What is done: `backup`, `prune` …
    pub action: String,
    /// Host that it is done on.
    pub host: String,
    /// Repositories that it is done to.
    pub repositories: Vec<String>,
    /// The archive that was made or read, where it is known.
    pub archive: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, milliseconds; at its end only.
    pub duration_ms: Option<u64>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// The exit code of the program; at its end only.
    pub exit_code: Option<u8>,
    /// What was printed and logged; empty where nobody asks for it.
    pub log: String,
}

impl Message {
    /// In a line.
    pub fn title(&self) -> String {
        let (action, host) = (&self.action, &self.host);
        match self.event {
            Event::Start => format!("dbvault {action} began on {host}"),
            Event::Finish => format!("dbvault {action} ended well on {host}"),
            Event::Log => format!("dbvault {action} ended on {host}"),
            Event::Fail => format!("dbvault {action} failed on {host}"),
        }
    }

    /// In a few lines.
    pub fn text(&self) -> String {
        let facts = [
            ("Error", self.error.clone()),
            ("Archive", self.archive.clone()),
            ("Repository", Some(self.repositories.join(", "))),
            ("Began", Some(self.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())),
            ("Seconds", self.duration_ms.map(|took_ms| (took_ms / 1000).to_string())),
            ("Exit code", self.exit_code.map(|code| code.to_string())),
        ];
        let facts = facts.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        facts
            .filter(|(_, value)| !value.is_empty())
            .fold(self.title() + "\n", |text, (name, value)| text + &format!("{name}: {value}\n"))
    }
}

/// Somebody who could not be told.
#[derive(Debug, thiserror::Error)]
#[error("{service} could not be told: {reason}")]
pub struct Undelivered {
    /// Who, in a word.
    pub service: &'static str,
    /// Why. Holds no secret and no URL.
    pub reason: String,
}

/// Tells everybody who wants to know, one after the other; at most half a minute each. Once `interrupt` is set, at
/// most 10 seconds each.
pub fn tell(monitoring: &Monitoring, message: &Message, interrupt: &Interrupt) -> Vec<Undelivered> {
    let event = message.event;
    let wants = |states: &[Event]| states.is_empty() || states.contains(&event);
    let mut undelivered = Vec::new();
    let mut note = |service, outcome: Result<(), String>| match outcome {
        Ok(()) => tracing::debug!(service, ?event, "told"),
        Err(reason) => undelivered.push(Undelivered { service, reason }),
    };
    if let Some(check) = &monitoring.healthchecks {
        // The log, for those who want it but not how it ended.
        let only_log = event != Event::Start && check.states.contains(&Event::Log);
        if wants(&check.states) {
            note("Healthchecks", healthchecks::ping(check, message, interrupt));
        } else if only_log {
            let message = Message { event: Event::Log, ..message.clone() };
            note("Healthchecks", healthchecks::ping(check, &message, interrupt));
        }
    }
    if let Some(topic) = monitoring.ntfy.as_ref().filter(|topic| wants(&topic.states)) {
        note("ntfy", ntfy::publish(topic, message, interrupt));
    }
    if let Some(hook) = monitoring.webhook.as_ref().filter(|hook| wants(&hook.states)) {
        note("the webhook", webhook::post(hook, message, interrupt));
    }
    if let Some(mail) = monitoring.email.as_ref().filter(|mail| wants(&mail.states)) {
        note("the reader of mail", email::send(mail, message));
    }
    undelivered
}

/// Whether somebody wants what was printed and logged.
pub fn wants_log(monitoring: &Monitoring) -> bool {
    monitoring.healthchecks.as_ref().is_some_and(|check| check.send_logs)
}

#[cfg(test)]
mod tests;

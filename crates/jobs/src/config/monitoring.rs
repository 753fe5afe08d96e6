//! Who is told of what dbvault did.

use std::path::PathBuf;

use dbvault_source::Secret;

/// Everybody who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Monitoring {
    /// healthchecks.io, or a server of its kind.
    pub healthchecks: Option<Healthchecks>,
    /// ntfy.sh, or a server of its kind.
    pub ntfy: Option<Ntfy>,
    /// A server of the user's own.
    pub webhook: Option<Webhook>,
    /// Mail.
    pub email: Option<Email>,
    /// A file for Prometheus' node exporter.
    pub prometheus: Option<Prometheus>,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Work begins.
    Start,
    /// Work ended without an error.
    Finish,
    /// Work ended with an error.
    Fail,
    /// What was logged (Healthchecks).
    Log,
}

/// A check of healthchecks.io.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthchecks {
    /// URL of the check; it is all that is needed to ping it, so it is a secret.
    pub ping_url: Secret,
    /// Whether the server's certificate must be good; by default true.
    pub verify_tls: bool,
    /// Whether what was logged is sent along; by default false.
    pub send_logs: bool,
    /// Most bytes of it that are sent, the last ones; 0 is no limit. By default 100,000.
    pub ping_body_limit_bytes: usize,
    /// What is told; none: everything.
    pub states: Vec<Event>,
    /// Whether the server makes a check that is not there yet, for URLs that end in a name; by default false.
    pub create_slug: bool,
}

/// A topic of ntfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ntfy {
    /// The topic.
    pub topic: String,
    /// The server's URL; by default `https://ntfy.sh`.
    pub server: String,
    /// User, where there is no token.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// Token, in place of user and password.
    pub access_token: Option<Secret>,
    /// What is said when work begins.
    pub start: NtfyMessage,
    /// What is said when it ended well.
    pub finish: NtfyMessage,
    /// What is said when it failed.
    pub fail: NtfyMessage,
    /// What is told; by default only [`Event::Fail`].
    pub states: Vec<Event>,
}

/// A message to ntfy; what is not given is dbvault's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NtfyMessage {
    /// Title.
    pub title: Option<String>,
    /// Text.
    pub message: Option<String>,
    /// `min`, `low`, `default`, `high`, `max` or `urgent`, or 1 to 5.
    pub priority: Option<String>,
    /// Tags, separated by commas.
    pub tags: Option<String>,
}

/// An URL that is sent a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The URL; it may hold a token, so it is a secret.
    pub url: Secret,
    /// Key of the HMAC that proves who sent the document.
    pub secret: Option<Secret>,
    /// What is told; none: everything but [`Event::Log`].
    pub states: Vec<Event>,
}

/// A mail by `sendmail` or what is called like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// Whom it goes to.
    pub to: Vec<String>,
    /// Whom it comes from; by default what `sendmail` says.
    pub from: Option<String>,
    /// Words of the command; by default `sendmail -t -i`.
    pub sendmail_command: Vec<String>,
    /// What is told; by default only [`Event::Fail`].
    pub states: Vec<Event>,
}

/// A file that Prometheus' node exporter reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    /// The file; its name ends in `.prom`.
    pub textfile: PathBuf,
}

//! Pings of Healthchecks: `/start`, the URL itself, `/fail`, `/log`.

use dbvault_source::Interrupt;

use super::Message;
use super::http::{Post, post};
use crate::config::monitoring::{Event, Healthchecks};

/// Server of checks that are given by their id alone.
const SERVER: &str = "https://hc-ping.com/";

pub(super) fn ping(check: &Healthchecks, message: &Message, interrupt: &Interrupt) -> Result<(), String> {
    let body = if check.send_logs { body(message, check.ping_body_limit_bytes) } else { String::new() };
    let url = url(check, message.event);
    let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
    post(&Post { url: &url, headers, body: body.as_bytes(), verify_tls: check.verify_tls }, interrupt)
}

fn url(check: &Healthchecks, event: Event) -> String {
    let given = check.ping_url.expose();
    let server = if given.contains("://") { "" } else { SERVER };
    let end = match event {
        Event::Start => "/start",
        Event::Finish => "",
        Event::Fail => "/fail",
        Event::Log => "/log",
    };
    let create = if check.create_slug { "?create=1" } else { "" };
    format!("{server}{}{end}{create}", given.trim_end_matches('/'))
}

/// What happened and what was logged; of more than `limit_bytes` the end.
fn body(message: &Message, limit_bytes: usize) -> String {
    let all = message.log.clone() + &message.text();
    let start = if limit_bytes == 0 { 0 } else { all.len().saturating_sub(limit_bytes) };
    all[all.ceil_char_boundary(start)..].to_owned()
}

//! Messages to a topic of ntfy, as JSON: its headers know no other letters than those of ASCII.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dbvault_source::Interrupt;
use serde_json::{Value, json};

use super::Message;
use super::http::{Post, post};
use crate::config::monitoring::{Event, Ntfy, NtfyMessage};

pub(super) fn publish(topic: &Ntfy, message: &Message, interrupt: &Interrupt) -> Result<(), String> {
    let own = match message.event {
        Event::Start => &topic.start,
        Event::Finish | Event::Log => &topic.finish,
        Event::Fail => &topic.fail,
    };
    let body = document(topic, own, message).to_string();
    let mut headers = vec![("content-type", "application/json".to_owned())];
    if let Some(token) = &topic.access_token {
        headers.push(("authorization", format!("Bearer {}", token.expose())));
    } else if let (Some(user), Some(password)) = (&topic.username, &topic.password) {
        let both = STANDARD.encode(format!("{user}:{}", password.expose()));
        headers.push(("authorization", format!("Basic {both}")));
    }
    let url = topic.server.trim_end_matches('/').to_owned() + "/";
    post(&Post { url: &url, headers, body: body.as_bytes(), verify_tls: true }, interrupt)
}

fn document(topic: &Ntfy, own: &NtfyMessage, message: &Message) -> Value {
    let mut document = json!({
        "topic": topic.topic,
        "title": own.title.clone().unwrap_or_else(|| message.title()),
        "message": own.message.clone().unwrap_or_else(|| message.text()),
    });
    if let Some(priority) = own.priority.as_deref().and_then(priority) {
        document["priority"] = priority.into();
    }
    if let Some(tags) = &own.tags {
        document["tags"] = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect();
    }
    document
}

fn priority(word: &str) -> Option<u8> {
    match word {
        "min" => Some(1),
        "low" => Some(2),
        "default" => Some(3),
        "high" => Some(4),
        "max" | "urgent" => Some(5),
        number => number.parse().ok().filter(|number| (1..=5).contains(number)),
    }
}

//! A JSON document, signed as Standard Webhooks asks for: see `docs/monitoring.md`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dbvault_source::Interrupt;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;

use super::Message;
use super::http;
use crate::config::monitoring::{Event, Webhook};

/// What a secret begins with whose key is written in base64.
const BASE64_PREFIX: &str = "whsec_";

pub(super) fn post(hook: &Webhook, message: &Message, interrupt: &Interrupt) -> Result<(), String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
    let id = random.iter().fold("dbv_".to_owned(), |id, byte| id + &format!("{byte:02x}"));
    post_at(hook, message, &id, Timestamp::now(), interrupt)
}

fn post_at(
    hook: &Webhook,
    message: &Message,
    id: &str,
    now: Timestamp,
    interrupt: &Interrupt,
) -> Result<(), String> {
    let body = document(message, now);
    let seconds = now.as_second().to_string();
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.clone()),
    ];
    if let Some(secret) = &hook.secret {
        let code = sign(secret.expose(), &[id, &seconds, &body])?;
        headers.push(("webhook-signature", format!("v1,{code}")));
    }
    let url = hook.url.expose();
    http::post(&http::Post { url, headers, body: body.as_bytes(), verify_tls: true }, interrupt)
}

fn document(message: &Message, now: Timestamp) -> String {
    let word = match message.event {
        Event::Start => "start",
        Event::Finish => "finish",
        Event::Fail => "fail",
        Event::Log => "log",
    };
    let document = json!({
        "type": format!("dbvault.{}.{word}", message.action),
        "timestamp": format!("{now:.3}"),
        "data": {
            "event": word,
            "action": message.action,
            "host": message.host,
            "repositories": message.repositories,
            "archive": message.archive,
            "started": format!("{:.3}", message.started),
            "duration_ms": message.duration_ms,
            "error": message.error,
            "exit_code": message.exit_code,
            "program_version": env!("CARGO_PKG_VERSION"),
        },
    });
    document.to_string()
}

/// HMAC-SHA256 of the parts with dots between them, in base64.
fn sign(secret: &str, parts: &[&str]) -> Result<String, String> {
    let key = match secret.strip_prefix(BASE64_PREFIX) {
        Some(text) => STANDARD.decode(text).map_err(|_| "what follows whsec_ is not base64".to_owned())?,
        None => secret.as_bytes().to_vec(),
    };
    let mut code = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| error.to_string())?;
    code.update(parts.join(".").as_bytes());
    Ok(STANDARD.encode(code.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let body = r#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let code = sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &[id, "1614265330", body]);
        assert_eq!(code.as_deref(), Ok("g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        assert!(sign("whsec_not base64!", &[]).is_err());
        assert!(sign("any words", &[id]).is_ok());
    }
}

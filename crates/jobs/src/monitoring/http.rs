//! One HTTP request, tried twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use dbvault_source::Interrupt;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// How long one try may take, from the look-up of the name to the end of the answer.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is tried.
const TRIES_MAX: u32 = 2;
/// Pause before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// A body and where it goes.
pub(super) struct Post<'a> {
    pub(super) url: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: &'a [u8],
    /// Whether the server's certificate must be one that this machine trusts.
    pub(super) verify_tls: bool,
}

/// Sends it. A server that fails, or can't be reached, is asked once more, but not when the user wants to stop.
///
/// Errors: why nobody took it, in words without the URL.
pub(super) fn post(post: &Post<'_>, interrupt: &Interrupt) -> Result<(), String> {
    let agent = agent(post.verify_tls);
    let mut tried = 1;
    loop {
        let (reason, again) = match send(&agent, post) {
            Ok(200..=299) => return Ok(()),
            Ok(status) => (format!("the server answered with status {status}"), status >= 500),
            Err(error) => (words(&error), true),
        };
        if !again || tried == TRIES_MAX || interrupt.load(Ordering::Relaxed) {
            return Err(reason);
        }
        tried += 1;
        sleep(PAUSE);
    }
}

fn agent(verify_tls: bool) -> ureq::Agent {
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    // The certificates of the system: those of a company's own authority are among them.
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .disable_verification(!verify_tls)
        .unversioned_rustls_crypto_provider(crypto);
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(TRY_TIMEOUT))
        .http_status_as_error(false)
        .user_agent(concat!("dbvault/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls.build());
    config.build().new_agent()
}

fn send(agent: &ureq::Agent, post: &Post<'_>) -> Result<u16, ureq::Error> {
    let request = agent.post(post.url);
    let request =
        post.headers.iter().fold(request, |request, (name, value)| request.header(*name, value.as_str()));
    Ok(request.send(post.body)?.status().as_u16())
}

/// Most errors of the client are fine to show; some hold the URL.
fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => format!("no answer within {} s", TRY_TIMEOUT.as_secs()),
        ureq::Error::HostNotFound => "the host was not found".into(),
        ureq::Error::ConnectionFailed => "the host can't be reached".into(),
        ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => "redirected without an end".into(),
        ureq::Error::Tls(what) => format!("TLS: {what}"),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the URL or a header is not well-formed".into(),
        ureq::Error::InvalidProxyUrl | ureq::Error::ConnectProxyFailed(_) => "the proxy failed".into(),
        _ => "the request failed".into(),
    }
}

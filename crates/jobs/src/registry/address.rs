//! Addresses of servers on the command line: `mariadb://user@host:3306/shop`, or only the name of a database.

use std::path::PathBuf;

use dbvault_format::entry::EntryKind;
use dbvault_source::Secret;

use super::Server;
use crate::database::{Connection, Database};

/// The item that `text` means. What it does not say is taken from `server`.
pub(super) fn item(kind: EntryKind, text: &str, server: &Server) -> Database {
    let Server { host, port, user } = server.clone();
    let given = Connection { hostname: host, port, username: user, ..Connection::default() };
    let Some((_, rest)) = text.split_once("://") else {
        return Database { source: given, ..Database::new(kind, text) };
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = match user.split_once(':') {
        Some((user, password)) => (user, Some(Secret::new(decoded(password)))),
        None => (user, None),
    };
    // The address of version 6 is in brackets, which hold colons.
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (place, None),
    };
    let some = |text: &str| Some(decoded(text)).filter(|text| !text.is_empty());
    let host = some(host.trim_start_matches('[').trim_end_matches(']'));
    let name = decoded(path.split('?').next().unwrap_or_default());
    let is_socket = host.as_deref().is_some_and(|host| host.starts_with('/'));
    let source = Connection {
        socket_path: host.clone().filter(|_| is_socket).map(PathBuf::from),
        hostname: host.filter(|_| !is_socket).or(given.hostname),
        port: port.or(given.port),
        username: some(user).or(given.username),
        password,
        tls: text.split_once("://").is_some_and(|(scheme, _)| scheme == "rediss").then_some(true),
        ..Connection::default()
    };
    Database { source, ..Database::new(kind, name) }
}

/// True where `text` is an address with a password in it.
pub(super) fn holds_password(text: &str) -> bool {
    item(EntryKind::Mariadb, text, &Server::default()).source.password.is_some()
}

/// Undoes percent signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let server = Server { host: Some("db1".into()), port: Some(1), user: Some("me".into()) };
        let plain = item(EntryKind::Mariadb, "shop", &server);
        assert_eq!((plain.name.as_str(), plain.source.hostname.as_deref()), ("shop", Some("db1")));
        let whole = item(EntryKind::Mariadb, "mariadb://a%40b:p%3Aw@[::1]:33/sh%20op?x=1", &server);
        assert_eq!(whole.name, "sh op");
        assert_eq!((whole.source.hostname.as_deref(), whole.source.port), (Some("::1"), Some(33)));
        assert_eq!(whole.source.username.as_deref(), Some("a@b"));
        assert_eq!(whole.source.password.as_ref().map(Secret::expose), Some("p:w"));
        let socket = item(EntryKind::Redis, "redis://%2Frun%2Fredis.sock", &Server::default());
        assert_eq!(socket.source.socket_path, Some("/run/redis.sock".into()));
        assert!(holds_password("redis://:x@h") && !holds_password("redis://u@h") && !holds_password("a:b@c"));
    }
}

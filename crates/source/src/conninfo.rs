//! Where a PostgreSQL server is: names, connection strings and URIs, with the secrets taken out.
//!
//! Follows "Connection Strings" in the libpq chapter of PostgreSQL's manual. What is not given stays out, so that
//! libpq's own rules (PGHOST, ~/.pgpass, PGSERVICEFILE, ...) fill it in.

use crate::secret::Secret;

/// Words that name a secret; none of these may reach a command line.
const SECRET_KEYWORDS: [&str; 3] = ["password", "sslpassword", "oauth_client_secret"];

/// Parameters of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conninfo {
    /// Keyword and value, in the order they were given, without any secret.
    parameters: Vec<(String, String)>,
    pub(crate) password: Option<Secret>,
}

impl Conninfo {
    /// Parses a database's name, a `keyword=value` string or a `postgresql://` URI, told apart as libpq does.
    /// Errors say in words what can't be understood; they hold no part of the text, which may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Conninfo, String> {
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let given = match rest {
            Some(rest) => parse_uri(rest)?,
            None if text.contains('=') => parse_keywords(text)?,
            None => vec![("dbname".to_owned(), text.to_owned())],
        };
        let mut conninfo = Conninfo::default();
        for (keyword, value) in given {
            if keyword == "password" {
                conninfo.password = Some(Secret::new(value));
            } else if SECRET_KEYWORDS.contains(&keyword.as_str()) {
                return Err(format!("{keyword} is only taken from a service file (PGSERVICEFILE)"));
            } else {
                conninfo.set(&keyword, value);
            }
        }
        Ok(conninfo)
    }

    pub(crate) fn get(&self, keyword: &str) -> Option<&str> {
        self.parameters.iter().find(|(name, _)| name == keyword).map(|(_, value)| value.as_str())
    }

    /// Sets a parameter, in place of an earlier value.
    pub(crate) fn set(&mut self, keyword: &str, value: impl Into<String>) {
        self.parameters.retain(|(name, _)| name != keyword);
        self.parameters.push((keyword.to_owned(), value.into()));
    }

    /// The same server, another database.
    pub(crate) fn with_database(&self, name: &str) -> Conninfo {
        let mut other = self.clone();
        other.set("dbname", name);
        other
    }

    /// As one argument for `-d`; without secrets.
    pub(crate) fn to_argument(&self) -> String {
        let quote = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let words = self.parameters.iter().map(|(keyword, value)| format!("{keyword}='{}'", quote(value)));
        words.collect::<Vec<_>>().join(" ")
    }

    /// Words for messages: host and port, or what is known of them.
    pub(crate) fn server(&self) -> String {
        let from_env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host =
            self.get("host").or(self.get("hostaddr")).map(str::to_owned).or_else(|| from_env("PGHOST"));
        let port = self.get("port").map(str::to_owned).or_else(|| from_env("PGPORT"));
        if let Some(service) = self.get("service") {
            return format!("service {service}");
        }
        server_words(host.as_deref().unwrap_or(""), port.as_deref().unwrap_or("5432"))
    }
}

/// Host and port in words, as `psql` names them.
pub(crate) fn server_words(host: &str, port: &str) -> String {
    match host {
        "" => format!("local socket, port {port}"),
        path if path.starts_with('/') => format!("socket {path}, port {port}"),
        host => format!("{host}:{port}"),
    }
}

/// `keyword = value` pairs; values may be quoted with `'`, and `\` takes the next character as it is.
fn parse_keywords(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (keyword, after) = rest.split_once('=').ok_or("a word without \"=\" in the connection string")?;
        let keyword = keyword.trim_end();
        if keyword.is_empty() || keyword.contains(char::is_whitespace) {
            return Err("a word without \"=\" in the connection string".to_owned());
        }
        let after = after.trim_start();
        let (value, used) = match after.strip_prefix('\'') {
            Some(quoted) => take_value(quoted, Some('\'')).map(|(value, used)| (value, used + 1))?,
            None => take_value(after, None)?,
        };
        pairs.push((keyword.to_owned(), value));
        rest = after[used..].trim_start();
    }
    Ok(pairs)
}

/// The value at the start of `text` and how many bytes it takes with its closing quote.
fn take_value(text: &str, quote: Option<char>) -> Result<(String, usize), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ if Some(character) == quote => return Ok((value, at + 1)),
            _ if quote.is_none() && character.is_whitespace() => return Ok((value, at)),
            _ => value.push(character),
        }
    }
    match quote {
        Some(_) => Err("an unended quote in the connection string".to_owned()),
        None => Ok((value, text.len())),
    }
}

/// `[user[:password]@][host[:port][,...]][/dbname][?keyword=value[&...]]`, every part percent-encoded.
fn parse_uri(rest: &str) -> Result<Vec<(String, String)>, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // The host may be a percent-encoded path, so the first bare slash ends it.
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    // More often than not this is a password with a character that needed encoding: it must not become a host.
    if database.contains(['/', '@']) || query.contains('@') {
        return Err("a \"/\", \"?\" or \"@\" in the address that is not percent-encoded".to_owned());
    }
    let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut pairs = Vec::new();
    let mut add = |keyword: &str, value: &str| -> Result<(), String> {
        if !value.is_empty() {
            pairs.push((decode(keyword)?, decode(value)?));
        }
        Ok(())
    };
    add("user", user)?;
    add("password", password)?;
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = split_host(host)?;
        names.push(name);
        ports.push(port);
    }
    if names.iter().any(|name| !name.is_empty()) {
        add("host", &names.join(","))?;
    }
    if ports.iter().any(|port| !port.is_empty()) {
        add("port", &ports.join(","))?;
    }
    add("dbname", database)?;
    for word in query.split('&').filter(|word| !word.is_empty()) {
        let (keyword, value) = word.split_once('=').ok_or("a word without \"=\" in the address")?;
        match (keyword, value) {
            ("ssl", "true") => add("sslmode", "require")?,
            _ => add(keyword, value)?,
        }
    }
    Ok(pairs)
}

fn split_host(host: &str) -> Result<(&str, &str), String> {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, port) = rest.split_once(']').ok_or("an unended \"[\" in the address")?;
        return Ok((name, port.strip_prefix(':').unwrap_or("")));
    }
    Ok(host.split_once(':').unwrap_or((host, "")))
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let decoded = digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|&code| code != 0);
        bytes.push(decoded.ok_or("a bad \"%\" code in the address")?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "text that is not UTF-8 in the address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, Option<String>) {
        let conninfo = Conninfo::parse(text).expect("parses");
        let password = conninfo.password.as_ref().map(|password| password.expose().to_owned());
        (conninfo.to_argument(), password)
    }

    #[test]
    fn a_name_is_a_database() {
        assert_eq!(parse("Odd 'name\\"), (r"dbname='Odd \'name\\'".to_owned(), None));
    }

    #[test]
    fn keywords_are_read_as_libpq_does_and_lose_the_password() {
        let (argument, password) = parse(r"host = /tmp  dbname='a \'b\\c' password='p w' port=5433");
        assert_eq!(argument, r"host='/tmp' dbname='a \'b\\c' port='5433'");
        assert_eq!(password.as_deref(), Some("p w"));
    }

    #[test]
    fn uris_are_decoded_and_lose_the_password() {
        let (argument, password) = parse("postgresql://bob:p%40ss@h1:1,[::1]:2/my%20db?sslmode=require");
        assert_eq!(argument, "user='bob' host='h1,::1' port='1,2' dbname='my db' sslmode='require'");
        assert_eq!(password.as_deref(), Some("p@ss"));
        let (argument, password) = parse("postgres://%2Fvar%2Frun/db?password=x&user=u");
        assert_eq!(argument, "host='/var/run' dbname='db' user='u'");
        assert_eq!(password.as_deref(), Some("x"));
        assert_eq!(parse("postgresql:///db").0, "dbname='db'");
    }

    #[test]
    fn errors_never_repeat_the_text() {
        for text in [
            "password='hunter2",
            "postgresql://u:%zzhunter2@h/d",
            "postgresql://u:/hunter2@h/d",
            "postgresql://u:?x=hunter2@h/d",
            "sslpassword=hunter2",
            "x hunter2=1",
        ] {
            let message = Conninfo::parse(text).expect_err("refused");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}

//! Names of archives, made of a format that the configuration gives.

use jiff::Zoned;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

/// How a time is written where the format does not say.
const TIME: &str = "%Y-%m-%dT%H:%M:%S";

/// A name by `format`: `{hostname}`, `{user}`, `{now}` and `{utcnow}`, the last two also with a format of their own,
/// as in `{now:%Y-%m-%d}`. Anything else stays as it is.
pub fn archive_name(format: &str, host: &str, user: &str, now: &Zoned) -> String {
    let (mut name, mut rest) = (String::new(), format);
    while let Some((before, behind)) = rest.split_once('{') {
        name += before;
        let placed =
            behind.split_once('}').and_then(|(word, after)| Some((place(word, host, user, now)?, after)));
        match placed {
            Some((value, after)) => {
                name += &value;
                rest = after;
            }
            None => {
                name.push('{');
                rest = behind;
            }
        }
    }
    name + rest
}

fn place(word: &str, host: &str, user: &str, now: &Zoned) -> Option<String> {
    let (word, format) = word.split_once(':').unwrap_or((word, TIME));
    match word {
        "hostname" | "fqdn" => Some(host.to_owned()),
        "user" => Some(user.to_owned()),
        "now" => strtime::format(format, now).ok(),
        "utcnow" => strtime::format(format, &now.with_time_zone(TimeZone::UTC)).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled() {
        let now: Zoned = "2026-11-21T03:04:05.5+01:00[+01:00]".parse().unwrap();
        for (format, name) in [
            ("{hostname}-{now}", "db1-2026-11-21T03:04:05"),
            ("{hostname}-documents-{now:%Y-%m-%d}", "db1-documents-2026-11-21"),
            ("{user}@{fqdn} {utcnow:%H:%M}", "me@db1 02:04"),
            ("{now:%Y-%m-%dT%H:%M:%S.%6f}", "2026-11-21T03:04:05.500000"),
            ("{other} {", "{other} {"),
        ] {
            assert_eq!(archive_name(format, "db1", "me", &now), name);
        }
    }
}

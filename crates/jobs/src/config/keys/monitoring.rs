//! Keys about who is told of what was done.

use super::{Groups, Key, Kind, key, missing, required};
use Kind::{Anything, Flag, Map, Number, OneOf, Path, Secret, SomeOf, Text, Texts, Words};

const STATES: Kind = SomeOf(&["start", "finish", "fail", "log"]);
const UNKNOWN: &str = "this service is not told of anything; `webhook`, `healthchecks`, `ntfy`, `email` and \
                       `prometheus` are what there is";

const HEALTHCHECKS: &[Key] = &[
    required("ping_url", Secret, "URL of the check"),
    key("states", STATES, "all", "what is told"),
    key("verify_tls", Flag, "true", "whether the server's certificate must be good"),
    key("send_logs", Flag, "false", "whether what was logged is sent along"),
    key("ping_body_limit", Number(1 << 30), "100000", "most bytes of it, the last ones; 0 is all"),
    key("create_slug", Flag, "false", "make the check where it is not there, for URLs that end in a name"),
];

const MESSAGE: &[Key] = &[
    key("title", Text, "dbvault's own", "title"),
    key("message", Text, "dbvault's own", "text"),
    key(
        "priority",
        OneOf(&["min", "low", "default", "high", "max", "urgent", "1", "2", "3", "4", "5"]),
        "default",
        "how urgent it is",
    ),
    key("tags", Text, "", "tags, separated by commas"),
];
const MESSAGES: Groups = &[MESSAGE];

const NTFY: &[Key] = &[
    required("topic", Text, "the topic"),
    key("server", Text, "https://ntfy.sh", "URL of the server"),
    key("username", Text, "", "user"),
    key("password", Secret, "", "the user's password"),
    key("access_token", Secret, "", "a token, in place of user and password"),
    key("start", Map(MESSAGES, None), "", "what is said when work begins"),
    key("finish", Map(MESSAGES, None), "", "what is said when it ended well"),
    key("fail", Map(MESSAGES, None), "", "what is said when it failed"),
    key("states", STATES, "fail", "what is told"),
];

const WEBHOOK: &[Key] = &[
    required("url", Secret, "URL that is sent a JSON document"),
    key("secret", Secret, "", "key of the HMAC that proves who sent it"),
    key("states", STATES, "all but log", "what is told"),
];

const EMAIL: &[Key] = &[
    required("to", Texts, "whom it goes to"),
    key("from", Text, "what `sendmail` says", "whom it comes from"),
    key("sendmail_command", Words, "sendmail -t -i", "the program that sends it"),
    key("states", STATES, "fail", "what is told"),
];

const PROMETHEUS: &[Key] = &[required(
    "textfile",
    Path,
    "file for the textfile collector of the node exporter; its name ends in `.prom`",
)];

/// All of them.
pub(super) const MONITORING: &[Key] = &[
    key(
        "healthchecks",
        Map(&[HEALTHCHECKS], Some("ping_url")),
        "",
        "a check of Healthchecks; a text alone is its URL",
    ),
    key("ntfy", Map(&[NTFY], None), "", "a topic of ntfy"),
    key("webhook", Map(&[WEBHOOK], Some("url")), "", "a server of your own; a text alone is its URL"),
    key("email", Map(&[EMAIL], Some("to")), "", "mail; a text alone is the address"),
    key(
        "prometheus",
        Map(&[PROMETHEUS], Some("textfile")),
        "",
        "a file of metrics; a text alone is its path",
    ),
    missing("pushover", Anything, UNKNOWN),
    missing("zabbix", Anything, UNKNOWN),
    missing("apprise", Anything, UNKNOWN),
    missing("uptime_kuma", Anything, UNKNOWN),
    missing("cronitor", Anything, UNKNOWN),
    missing("cronhub", Anything, UNKNOWN),
    missing("pagerduty", Anything, UNKNOWN),
    missing("loki", Anything, UNKNOWN),
    missing("sentry", Anything, UNKNOWN),
    missing("watchgoose", Anything, UNKNOWN),
];

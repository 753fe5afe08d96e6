//! Users, roles and grants of a MariaDB or MySQL server: an entry of their own, as SQL text.
//!
//! MariaDB's dump program writes them; for MySQL they are asked for account by account, and the text has the same
//! shape: a statement a line, and the last line of a whole dump. Put back, accounts that are there already stay as
//! they are, unless the user wants them as they were.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::{self, Read};

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, attribute, part};

use crate::interrupt;
use crate::mariadb_stream::{SqlDump, finish};
use crate::mariadb_tools::{Family, MariadbServer, Session, Tool, identifier};
use crate::process::Process;
use crate::{Error, Result, Target};

/// Most that is read of users and grants, bytes.
const TEXT_BYTES_MAX: u64 = 64 << 20;
/// Accounts that servers make for themselves.
const SYSTEM_ACCOUNTS: &str = "'mysql.sys', 'mysql.session', 'mysql.infoschema', 'mariadb.sys'";

/// A dump of users and grants that has begun.
pub(crate) enum Globals {
    /// Written by the dump program.
    Program(Process, Box<dyn Read + Send>),
    /// Put together here.
    Text(Box<dyn Read + Send>),
}

/// Begins the dump, and tells what the user should know of it.
pub(crate) fn dump(
    session: &Session,
    tool: &Tool,
    server_is_mariadb: bool,
) -> Result<(Globals, Vec<String>)> {
    if server_is_mariadb && tool.family == Family::Mariadb {
        let args = [
            "--system=users",
            "--insert-ignore",
            "--default-character-set=utf8mb4",
            "--skip-dump-date",
            "--comments",
        ];
        let session = session.clone().with_dump_options(Vec::new());
        let (process, output) = session.dump_program(tool, &args).spawn_reader()?;
        return Ok((Globals::Program(process, Box::new(output)), Vec::new()));
    }
    let text = ask(session, server_is_mariadb)?;
    let mut warnings = Vec::new();
    if server_is_mariadb {
        warnings.push("roles are not kept: that needs mariadb-dump".to_owned());
    }
    Ok((Globals::Text(Box::new(io::Cursor::new(text.into_bytes()))), warnings))
}

fn ask(session: &Session, server_is_mariadb: bool) -> Result<String> {
    let accounts = |from: &str| session.query(from);
    let no_roles = if server_is_mariadb { " AND is_role <> 'Y'" } else { "" };
    let users = accounts(&format!(
        "SELECT User, Host FROM mysql.user WHERE User NOT IN ({SYSTEM_ACCOUNTS}){no_roles} ORDER BY User, Host"
    ))?;
    // Servers without roles don't have the table.
    let roles = accounts("SELECT DISTINCT FROM_USER, FROM_HOST FROM mysql.role_edges").unwrap_or_default();
    // Roles go first: others are created with them.
    let (first, rest): (Vec<_>, Vec<_>) = users.into_iter().partition(|user| roles.contains(user));
    let mut created = String::new();
    let mut granted = String::new();
    for account in first.iter().chain(&rest) {
        let [user, host] = account.as_slice() else { continue };
        let account = format!("{}@{}", identifier(user), identifier(host));
        let create = session.query(&format!(
            "/*!80017 SET SESSION print_identified_with_as_hex = ON */; SHOW CREATE USER {account}"
        ))?;
        for statement in create.into_iter().flatten() {
            let statement = statement.replacen("CREATE USER ", "CREATE USER IF NOT EXISTS ", 1);
            let _ = writeln!(created, "{};", one_line(&statement));
        }
        for grant in session.query(&format!("SHOW GRANTS FOR {account}"))?.into_iter().flatten() {
            let _ = writeln!(granted, "{};", one_line(&grant));
        }
    }
    Ok(format!("-- Users and grants of {}\n{created}{granted}-- Dump completed\n", session.server().place()))
}

/// In these statements a line break is only ever part of a text.
fn one_line(statement: &str) -> String {
    statement.replace('\n', "\\n")
}

/// Where users and grants are restored to.
#[derive(Clone, Debug)]
pub struct MariadbGlobalsTargetOptions {
    /// The server. Its user must be allowed to create users.
    pub server: MariadbServer,
    /// Accounts that are there already get the passwords and grants that they had, beside those they have.
    pub replace: bool,
}

/// Restores users, roles and grants.
#[derive(Debug)]
pub struct MariadbGlobalsTarget {
    options: MariadbGlobalsTargetOptions,
    session: Option<Session>,
    text: Option<String>,
}

impl MariadbGlobalsTarget {
    /// Connects to nothing yet.
    pub fn new(options: MariadbGlobalsTargetOptions) -> MariadbGlobalsTarget {
        MariadbGlobalsTarget { options, session: None, text: None }
    }

    fn session(&mut self) -> Result<Session> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let session = Session::new(&self.options.server, &[], &[])?;
        self.session = Some(session.clone());
        Ok(session)
    }
}

impl Target for MariadbGlobalsTarget {
    fn occupied(&mut self) -> Result<Option<String>> {
        let session = self.session()?;
        let accounts = accounts(&session)?;
        let place = session.server().place();
        Ok(self.options.replace.then(|| format!("users and grants on {place} ({} accounts)", accounts.len())))
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        let right_part = meta.attributes.get(attribute::PART).is_some_and(|value| value == part::GLOBALS);
        if !matches!(meta.kind, EntryKind::Mariadb | EntryKind::Mysql) || !right_part {
            let detail = "it does not hold the users and grants of MariaDB or MySQL".to_owned();
            return Err(Error::Unsuitable { name: meta.name.clone(), detail });
        }
        let mut bytes = Vec::new();
        let read = body.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::from_io("read what is to be restored", error))?;
        if bytes.len() as u64 > TEXT_BYTES_MAX {
            let detail = format!("it has more than {TEXT_BYTES_MAX} bytes");
            return Err(Error::Unsuitable { name: meta.name.clone(), detail });
        }
        let mut dump = SqlDump::default();
        dump.feed(&bytes);
        finish(dump, &meta.name)?;
        self.text = Some(String::from_utf8_lossy(&bytes).into_owned());
        self.session().map(drop)
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        interrupt::check(&self.options.server.interrupt)?;
        let session = self.session()?;
        let Some(text) = self.text.take() else {
            let detail = "nothing was loaded".to_owned();
            return Err(Error::Unsuitable { name: "globals".to_owned(), detail });
        };
        let there = accounts(&session)?;
        let (script, wanted) = script(&text, &there, self.options.replace);
        let mut writer = session.loader(None, &["--force".to_owned()]).spawn_writer()?;
        writer.feed(&mut script.as_bytes())?;
        // It goes on after an error, and tells at its end that there was one.
        let said = match writer.finish() {
            Ok(lines) => lines,
            Err(Error::ProgramFailed { stderr, .. }) => stderr.lines().map(str::to_owned).collect(),
            Err(other) => return Err(other),
        };
        let errors: Vec<String> = said.into_iter().filter(|line| line.starts_with("ERROR ")).collect();
        let now = accounts(&session)?;
        let missing: Vec<String> = wanted.difference(&now).map(words).collect();
        if !missing.is_empty() {
            return Err(Error::Database {
                what: format!("create {}", missing.join(", ")),
                message: errors.join("; "),
            });
        }
        let mut warnings = errors;
        let stayed = wanted.intersection(&there).count();
        if stayed > 0 && !self.options.replace {
            warnings.push(format!("{stayed} accounts were there already and are as they were"));
        }
        Ok(EntryReport { warnings, ..EntryReport::default() })
    }
}

/// Name and host; a role has no host.
type Account = (String, String);

fn words((name, host): &Account) -> String {
    if host.is_empty() { format!("'{name}'") } else { format!("'{name}'@'{host}'") }
}

fn accounts(session: &Session) -> Result<BTreeSet<Account>> {
    let rows = session.query("SELECT User, Host FROM mysql.user")?;
    let account = |row: Vec<String>| <[String; 2]>::try_from(row).ok().map(<(String, String)>::from);
    Ok(rows.into_iter().filter_map(account).collect())
}

/// The statements that are to be run, and the accounts that the text creates.
fn script(text: &str, there: &BTreeSet<Account>, replace: bool) -> (String, BTreeSet<Account>) {
    let mut script = String::new();
    let mut created = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with("/*M!999999")) {
        let account = account_of(line);
        let exists = account.as_ref().is_some_and(|account| there.contains(account));
        let creates = line.contains("CREATE USER ") || line.contains("CREATE ROLE ");
        if let (Some(account), true) = (&account, creates) {
            created.insert(account.clone());
        }
        if exists && !replace {
            continue;
        }
        if exists && line.starts_with("CREATE USER IF NOT EXISTS ") {
            script += &line.replacen("CREATE USER IF NOT EXISTS ", "ALTER USER ", 1);
        } else {
            script += line;
        }
        script.push('\n');
    }
    (script, created)
}

/// The account that a statement is about: names that are not quoted are not those of accounts.
fn account_of(line: &str) -> Option<Account> {
    let words = tokens(line);
    let statement =
        words.iter().position(|word| matches!(word, Token::Word("CREATE" | "ALTER" | "GRANT" | "SET")))?;
    let keywords: &[&str] = match words[statement] {
        Token::Word("CREATE" | "ALTER") => &["USER", "ROLE"],
        Token::Word("GRANT") => &["TO"],
        _ => &["FOR"],
    };
    let rest = &words[statement + 1..];
    let keyword =
        rest.iter().position(|word| matches!(word, Token::Word(word) if keywords.contains(word)))?;
    let mut rest =
        rest[keyword + 1..].iter().skip_while(|word| matches!(word, Token::Word("IF" | "NOT" | "EXISTS")));
    let Some(Token::Quoted(name)) = rest.next() else { return None };
    match (rest.next(), rest.next()) {
        (Some(Token::Word("@")), Some(Token::Quoted(host))) => Some((name.clone(), host.clone())),
        _ => Some((name.clone(), String::new())),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Quoted(String),
}

fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if first == '`' || first == '\'' || first == '"' {
            let mut text = String::new();
            let mut characters = rest.char_indices().skip(1).peekable();
            let mut end = rest.len();
            while let Some((at, character)) = characters.next() {
                if character == '\\' && first != '`' {
                    text.extend(characters.next().map(|(_, next)| next));
                } else if character != first {
                    text.push(character);
                } else if characters.next_if(|(_, next)| *next == first).is_some() {
                    text.push(first);
                } else {
                    end = at + 1;
                    break;
                }
            }
            tokens.push(Token::Quoted(text));
            rest = &rest[end..];
        } else if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if first == '@' {
            tokens.push(Token::Word("@"));
            rest = &rest[1..];
        } else {
            let ends = |character: char| character.is_whitespace() || "`'\"@".contains(character);
            let end = rest.find(ends).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..end]));
            rest = &rest[end..];
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, host: &str) -> Account {
        (name.to_owned(), host.to_owned())
    }

    #[test]
    fn statements_belong_to_accounts() {
        for (line, want) in [
            ("CREATE USER IF NOT EXISTS `u`@`%` IDENTIFIED BY PASSWORD '*D8 TO';", Some(("u", "%"))),
            ("/*!80001 CREATE ROLE IF NOT EXISTS 'r1' */;", Some(("r1", ""))),
            (
                "/*M!100005 CREATE ROLE IF NOT EXISTS 'r1' WITH ADMIN mariadb_dump_import_role */;",
                Some(("r1", "")),
            ),
            (
                "/*M!100005 GRANT 'r1' TO 'root'@'localhost' WITH ADMIN OPTION */;",
                Some(("root", "localhost")),
            ),
            ("GRANT PROXY ON ``@`%` TO `ro``ot`@`::1` WITH GRANT OPTION;", Some(("ro`ot", "::1"))),
            (
                "/*M!100005 SET DEFAULT ROLE NONE FOR 'mariadb.sys'@'localhost' */;",
                Some(("mariadb.sys", "localhost")),
            ),
            ("/*!80001 ALTER USER 'u'@'%' DEFAULT ROLE 'r1' */;", Some(("u", "%"))),
            ("GRANT SELECT ON `TO`.* TO `r1`;", Some(("r1", ""))),
            ("GRANT mariadb_dump_import_role TO CURRENT_USER();", None),
            ("SET ROLE mariadb_dump_import_role;", None),
            ("/*!40101 SET NAMES utf8mb4 */;", None),
        ] {
            assert_eq!(account_of(line), want.map(|(name, host)| account(name, host)), "{line}");
        }
    }

    #[test]
    fn accounts_that_are_there_stay_unless_asked() {
        let text = "CREATE USER IF NOT EXISTS `a`@`%` IDENTIFIED BY 'x';\nGRANT ALL ON *.* TO `a`@`%`;\n\
                    CREATE USER IF NOT EXISTS `b`@`%`;\nGRANT `r` TO `b`@`%`;\n";
        let there = BTreeSet::from([account("a", "%")]);
        let (stay, created) = script(text, &there, false);
        assert_eq!(stay, "CREATE USER IF NOT EXISTS `b`@`%`;\nGRANT `r` TO `b`@`%`;\n");
        assert_eq!(created, BTreeSet::from([account("a", "%"), account("b", "%")]));
        let (replaced, _) = script(text, &there, true);
        assert!(replaced.starts_with("ALTER USER `a`@`%` IDENTIFIED BY 'x';\nGRANT ALL"), "{replaced}");
    }
}

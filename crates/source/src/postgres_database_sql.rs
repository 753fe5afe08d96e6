//! SQL about a database as a whole, made to speak of a database of another name.
//!
//! A restore goes to a database with a temporary name first, and may end in one that is named otherwise than the
//! one that was dumped; but the dump holds `CREATE DATABASE "users" ...`, `COMMENT ON DATABASE "users" ...` and so
//! on. The statements are cut into tokens, only known shapes are taken, and only the token that names the database
//! is replaced. What has no known shape is left out and told.

use dbvault_dump::DatabaseEntry;

use crate::postgres_tools::identifier;

/// The statements of a dump that concern the database itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DatabaseSql {
    /// Makes the database; none when the dump has no such statement.
    pub(crate) create: Option<String>,
    /// Settings, to be made before anything is loaded: what is loaded may depend on them.
    pub(crate) before: Vec<String>,
    /// Comment, limits and privileges, to be made last: they may forbid the load.
    pub(crate) after: Vec<String>,
    /// The role that owns the database.
    pub(crate) owner: Option<String>,
    /// What was left out, in words.
    pub(crate) warnings: Vec<String>,
}

/// What to leave out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leave {
    pub(crate) owner: bool,
    pub(crate) privileges: bool,
    pub(crate) tablespaces: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Create,
    /// `ALTER DATABASE x SET ...`
    Setting,
    /// `ALTER ROLE r IN DATABASE x SET ...`
    RoleSetting,
    /// `ALTER DATABASE x CONNECTION LIMIT = n`, `IS_TEMPLATE = true`, ...
    Limit,
    Comment,
    /// `GRANT`, `REVOKE`, `SECURITY LABEL`
    Privilege,
    /// `SET SESSION AUTHORIZATION r` around a grant by another role: names no database.
    Session,
}

/// Rewrites all statements of `entries` for the database `new_name`.
pub(crate) fn rewrite(entries: &[DatabaseEntry], new_name: &str, leave: Leave) -> DatabaseSql {
    let mut sql = DatabaseSql::default();
    let old_name = entries.iter().filter(|entry| entry.kind == "DATABASE").find_map(|entry| {
        let tokens = tokens(entry.sql.as_deref()?);
        matches_words(&tokens, &["CREATE", "DATABASE"]).then(|| tokens.get(2).and_then(Token::name)).flatten()
    });
    let Some(old_name) = old_name else {
        sql.warnings
            .push("the dump does not say how its database was made; the server's defaults were used".into());
        return sql;
    };
    for entry in entries {
        if entry.kind == "DATABASE" && !leave.owner {
            sql.owner = entry.owner.clone().filter(|owner| !owner.is_empty());
        }
        let Some(text) = &entry.sql else {
            sql.warnings.push(format!("left out, too long or not UTF-8: {} of the database", entry.kind));
            continue;
        };
        for statement in statements(text) {
            take(&mut sql, &statement, &old_name, new_name, leave);
        }
    }
    sql
}

fn take(sql: &mut DatabaseSql, statement: &[Token<'_>], old_name: &str, new_name: &str, leave: Leave) {
    let Some((shape, at)) = shape(statement) else {
        sql.warnings.push(format!("left out, not understood: {}", join(statement)));
        return;
    };
    if shape != Shape::Session && statement.get(at).and_then(Token::name).as_deref() != Some(old_name) {
        sql.warnings.push(format!("left out, about another database: {}", join(statement)));
        return;
    }
    let new_name = identifier(new_name);
    let mut renamed = statement.to_vec();
    if shape != Shape::Session {
        renamed[at] = Token { text: &new_name, ..renamed[at] };
    }
    if shape == Shape::Create && leave.tablespaces {
        remove_tablespace(&mut renamed);
    }
    match shape {
        Shape::Create => sql.create = Some(join(&renamed)),
        Shape::Setting => sql.before.push(join(&renamed)),
        Shape::RoleSetting if leave.privileges => {}
        Shape::RoleSetting => sql.before.push(join(&renamed)),
        Shape::Privilege | Shape::Session if leave.privileges => {}
        Shape::Limit | Shape::Comment | Shape::Privilege | Shape::Session => sql.after.push(join(&renamed)),
    }
}

/// The shape of a statement and the index of the token that names the database.
fn shape(tokens: &[Token<'_>]) -> Option<(Shape, usize)> {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is(word));
    let on_database = |at: usize| is(at, "ON") && is(at + 1, "DATABASE");
    if matches_words(tokens, &["CREATE", "DATABASE"]) {
        Some((Shape::Create, 2))
    } else if matches_words(tokens, &["ALTER", "DATABASE"]) {
        let setting = is(3, "SET") || is(3, "RESET");
        Some((if setting { Shape::Setting } else { Shape::Limit }, 2))
    } else if matches_words(tokens, &["ALTER", "ROLE"]) && is(3, "IN") && is(4, "DATABASE") {
        Some((Shape::RoleSetting, 5))
    } else if matches_words(tokens, &["COMMENT"]) && on_database(1) {
        Some((Shape::Comment, 3))
    } else if matches_words(tokens, &["SECURITY", "LABEL", "FOR"]) && on_database(4) {
        Some((Shape::Privilege, 6))
    } else if is(0, "GRANT") || is(0, "REVOKE") {
        let at = (1..tokens.len()).find(|&at| is(at, "ON"))?;
        on_database(at).then_some((Shape::Privilege, at + 2))
    } else if is(1, "SESSION") && is(2, "AUTHORIZATION") && (is(0, "SET") || is(0, "RESET")) {
        Some((Shape::Session, 0))
    } else {
        None
    }
}

fn matches_words(tokens: &[Token<'_>], words: &[&str]) -> bool {
    tokens.len() > words.len() && words.iter().zip(tokens).all(|(word, token)| token.is(word))
}

/// Takes `TABLESPACE = name` out of a `CREATE DATABASE`.
fn remove_tablespace(tokens: &mut Vec<Token<'_>>) {
    if let Some(at) = tokens.iter().position(|token| token.is("TABLESPACE"))
        && tokens.get(at + 1).is_some_and(|token| token.text == "=")
        && tokens.len() > at + 2
    {
        tokens.drain(at..at + 3);
    }
}

fn join(tokens: &[Token<'_>]) -> String {
    tokens.iter().map(|token| token.text).collect::<Vec<_>>().join(" ")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    Word,
    QuotedName,
    Literal,
    Symbol,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: TokenKind,
    text: &'a str,
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// The name this token stands for, if it is one.
    fn name(&self) -> Option<String> {
        match self.kind {
            TokenKind::Word => Some(self.text.to_lowercase()),
            TokenKind::QuotedName => Some(self.text[1..self.text.len() - 1].replace("\"\"", "\"")),
            TokenKind::Literal | TokenKind::Symbol => None,
        }
    }
}

fn statements(sql: &str) -> Vec<Vec<Token<'_>>> {
    let tokens = tokens(sql);
    let cut = tokens.split(|token| token.kind == TokenKind::Symbol && token.text == ";");
    cut.filter(|statement| !statement.is_empty()).map(<[Token<'_>]>::to_vec).collect()
}

/// Cuts SQL as `pg_dump` writes it. Text that does not end (which it never writes) becomes one last symbol, so that
/// its statement has no known shape.
fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let escapes = matches!(first, 'E' | 'e') && rest[1..].starts_with('\'');
        let (kind, length) = match first {
            '\'' => (TokenKind::Literal, quoted_length(rest, '\'', false)),
            _ if escapes => {
                (TokenKind::Literal, quoted_length(&rest[1..], '\'', true).map(|length| length + 1))
            }
            '"' => (TokenKind::QuotedName, quoted_length(rest, '"', false)),
            _ if is_word(first) => {
                (TokenKind::Word, Some(rest.find(|character| !is_word(character)).unwrap_or(rest.len())))
            }
            _ => (TokenKind::Symbol, Some(first.len_utf8())),
        };
        let (kind, length) = match length {
            Some(length) => (kind, length),
            None => (TokenKind::Symbol, rest.len()),
        };
        tokens.push(Token { kind, text: &rest[..length] });
        rest = rest[length..].trim_start();
    }
    tokens
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '$' | '.')
}

/// Bytes of a quoted text at the start of `text`, with its quotes; a doubled quote stands for one.
fn quoted_length(text: &str, quote: char, backslash_escapes: bool) -> Option<usize> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == '\\' && backslash_escapes {
            characters.next();
        } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, sql: &str) -> DatabaseEntry {
        DatabaseEntry { kind: kind.to_owned(), sql: Some(sql.to_owned()), owner: Some("bob".to_owned()) }
    }

    #[test]
    fn every_statement_that_pg_dump_writes_gets_the_new_name() {
        let entries = [
            entry(
                "DATABASE",
                "CREATE DATABASE \"We \"\"ird\" WITH TEMPLATE = template0 ENCODING = 'UTF8' TABLESPACE = \"t s\";\n",
            ),
            entry("COMMENT", "COMMENT ON DATABASE \"We \"\"ird\" IS 'of \"We \"\"ird\"; it''s';\n"),
            entry("ACL", "REVOKE CONNECT,TEMPORARY ON DATABASE \"We \"\"ird\" FROM PUBLIC;\n"),
            entry(
                "ACL",
                "SET SESSION AUTHORIZATION al;\nGRANT ALL ON DATABASE \"We \"\"ird\" TO bob;\nRESET SESSION AUTHORIZATION;",
            ),
            entry(
                "DATABASE PROPERTIES",
                "ALTER DATABASE \"We \"\"ird\" CONNECTION LIMIT = 7;\n\
                 ALTER DATABASE \"We \"\"ird\" SET search_path TO 'a', 'B c';\n\
                 ALTER ROLE bob IN DATABASE \"We \"\"ird\" SET work_mem TO '6MB';\n\
                 UPDATE pg_catalog.pg_database SET datistemplate = true WHERE datname = 'x';\n",
            ),
        ];
        let sql = rewrite(&entries, "new", Leave::default());
        let created =
            "CREATE DATABASE \"new\" WITH TEMPLATE = template0 ENCODING = 'UTF8' TABLESPACE = \"t s\"";
        assert_eq!(sql.create.as_deref(), Some(created));
        assert_eq!(
            sql.before,
            [
                "ALTER DATABASE \"new\" SET search_path TO 'a' , 'B c'",
                "ALTER ROLE bob IN DATABASE \"new\" SET work_mem TO '6MB'"
            ]
        );
        assert_eq!(
            sql.after,
            [
                "COMMENT ON DATABASE \"new\" IS 'of \"We \"\"ird\"; it''s'",
                "REVOKE CONNECT , TEMPORARY ON DATABASE \"new\" FROM PUBLIC",
                "SET SESSION AUTHORIZATION al",
                "GRANT ALL ON DATABASE \"new\" TO bob",
                "RESET SESSION AUTHORIZATION",
                "ALTER DATABASE \"new\" CONNECTION LIMIT = 7",
            ]
        );
        assert_eq!((sql.owner.as_deref(), sql.warnings.len()), (Some("bob"), 1));
        let leave = Leave { owner: true, privileges: true, tablespaces: true };
        let sql = rewrite(&entries, "new", leave);
        assert_eq!(
            sql.create.as_deref(),
            Some("CREATE DATABASE \"new\" WITH TEMPLATE = template0 ENCODING = 'UTF8'")
        );
        assert_eq!((sql.before.len(), sql.after.len(), sql.owner), (1, 2, None));
    }

    #[test]
    fn what_is_not_certain_is_left_out() {
        let entries = [
            entry("DATABASE", "CREATE DATABASE users WITH TEMPLATE = template0;"),
            entry("COMMENT", "COMMENT ON DATABASE other IS 'x';"),
            entry("ACL", "GRANT ALL ON TABLE users TO bob; GRANT users TO x"),
            entry("COMMENT", "COMMENT ON DATABASE users IS 'no end"),
            entry("DATABASE PROPERTIES", "DROP DATABASE users;"),
        ];
        let sql = rewrite(&entries, "new", Leave::default());
        assert_eq!(sql.before.len(), 0, "{sql:?}");
        assert_eq!(sql.warnings.len(), 4, "{sql:?}");
    }
}

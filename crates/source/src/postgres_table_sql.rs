//! The commands that put one table back, around the rows. What comes of the dump is in its encoding; all of our own is
//! UTF-8, and says so before.

use crate::postgres_table::{DumpedTable, TableCommand};
use crate::postgres_tools::{identifier, literal};

/// Our own commands are in it, whatever the dump is in.
const OWN_ENCODING: &str = "SET client_encoding = 'UTF8';\n";
/// What is raised by us begins so, so that it is not taken for the server's.
pub(crate) const RAISED: &str = "dbvault: ";

/// Before everything.
pub(crate) fn begin(settings: &[u8]) -> Vec<u8> {
    let own = "BEGIN READ WRITE;\nSET LOCAL statement_timeout = 0;\nSET LOCAL lock_timeout = 0;\n\
               SET LOCAL idle_in_transaction_session_timeout = 0;\n";
    let after = "SET LOCAL row_security = off;\nSET LOCAL check_function_bodies = false;\n\
                 SET LOCAL client_min_messages = warning;\n";
    [own.as_bytes(), settings, b"\n", after.as_bytes()].concat()
}

/// After everything.
pub(crate) const COMMIT: &str = "COMMIT;\n";

/// A table's full name.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// A command of ours, done by the server's own language.
fn own_block(declare: &str, body: &str) -> String {
    // A mark that no name in it has.
    let mut mark = "$dbvault$".to_owned();
    while body.contains(&mark) {
        mark.insert(1, 'x');
    }
    format!("{OWN_ENCODING}DO {mark} DECLARE {declare} BEGIN {body} END {mark};\n")
}

/// Makes the table of the dump under a name of ours: as it was, but without its parents, and without defaults that
/// count in sequences of the live one. `None` where its definition is not understood.
pub(crate) fn make_beside(table: &DumpedTable, temporary: &str) -> Option<Vec<u8>> {
    let definition = &table.definition[..first_command(&table.definition)];
    let mut sql = with_name(definition, b"TABLE", temporary)?;
    let name = literal(&qualified(&table.schema, temporary));
    let plain = own_block(
        "found record;",
        &format!(
            "FOR found IN SELECT a.attname FROM pg_catalog.pg_attrdef d \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
             JOIN pg_catalog.pg_depend p ON p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass \
             AND p.objid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
             JOIN pg_catalog.pg_class s ON s.oid = p.refobjid AND s.relkind = 'S' \
             WHERE d.adrelid = {name}::pg_catalog.regclass LOOP \
             EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', {name}, found.attname); \
             END LOOP; \
             FOR found IN SELECT inhparent::pg_catalog.regclass AS parent FROM pg_catalog.pg_inherits \
             WHERE inhrelid = {name}::pg_catalog.regclass LOOP \
             EXECUTE pg_catalog.format('ALTER TABLE %s NO INHERIT %s', {name}, found.parent); END LOOP;"
        ),
    );
    sql.push(b'\n');
    sql.extend_from_slice(plain.as_bytes());
    Some(sql)
}

/// The command that the rows follow, into another name.
pub(crate) fn copy(table: &DumpedTable, name: Option<&str>) -> Option<Vec<u8>> {
    let mut sql = match name {
        Some(name) => with_name(&table.copy_sql, b"COPY", name)?,
        None => table.copy_sql.clone(),
    };
    while sql.last().is_some_and(u8::is_ascii_whitespace) {
        sql.pop();
    }
    if sql.last() != Some(&b';') {
        sql.push(b';');
    }
    sql.push(b'\n');
    Some(sql)
}

/// Gives what was made beside its name and its owner.
pub(crate) fn end_beside(table: &DumpedTable, temporary: &str, name: &str, with_owner: bool) -> String {
    let from = qualified(&table.schema, temporary);
    let owner = match &table.owner {
        Some(owner) if with_owner => format!("ALTER TABLE {from} OWNER TO {};\n", identifier(owner)),
        _ => String::new(),
    };
    format!("{OWN_ENCODING}{owner}ALTER TABLE {from} RENAME TO {};\n", identifier(name))
}

/// Locks the live table; compares it with what the dump would make, column by column; remembers what is taken away for
/// the time being, and takes it away: keys of other tables that refer to it, and its triggers. `number` tells several
/// tables apart.
pub(crate) fn prepare_live(table: &DumpedTable, temporary: &str, number: usize) -> String {
    let live = qualified(&table.schema, &table.name);
    let (live_text, temporary) = (literal(&live), literal(&qualified(&table.schema, temporary)));
    let columns = |name: &str| {
        format!(
            "(SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) || CASE \
             coalesce(pg_catalog.to_jsonb(a)->>'attgenerated', '') WHEN '' THEN '' ELSE ' generated' END AS type \
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = {name}::pg_catalog.regclass AND a.attnum > 0 \
             AND NOT a.attisdropped)"
        )
    };
    let compare = format!(
        "SELECT pg_catalog.string_agg(pg_catalog.format('%I is %s in the dump and %s in the database', attname, \
         coalesce(d.type, 'missing'), coalesce(l.type, 'missing')), '; ' ORDER BY attname) INTO differences \
         FROM {} d FULL JOIN {} l USING (attname) WHERE d.type IS DISTINCT FROM l.type; \
         IF differences IS NOT NULL THEN \
         RAISE EXCEPTION '{RAISED}the columns of % are not those of the dump: %', {live_text}, differences; END IF; \
         EXECUTE 'DROP TABLE ' || {temporary};",
        columns(&temporary),
        columns(&live_text),
    );
    let keys = format!(
        "PERFORM pg_catalog.set_config('dbvault.keys_{number}', (SELECT coalesce(pg_catalog.json_agg(\
         pg_catalog.json_build_object('relation', conrelid::pg_catalog.regclass::text, 'name', conname, \
         'definition', pg_catalog.pg_get_constraintdef(oid), \
         'comment', pg_catalog.obj_description(oid, 'pg_constraint'))), '[]')::text FROM pg_catalog.pg_constraint c \
         WHERE contype = 'f' AND confrelid = {live_text}::pg_catalog.regclass AND conrelid <> confrelid \
         AND coalesce((pg_catalog.to_jsonb(c)->>'conparentid')::bigint, 0) = 0), true); \
         FOR item IN SELECT * FROM pg_catalog.json_array_elements(\
         pg_catalog.current_setting('dbvault.keys_{number}')::json) LOOP \
         EXECUTE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', item->>'relation', item->>'name'); END LOOP;"
    );
    let triggers = format!(
        "PERFORM pg_catalog.set_config('dbvault.triggers_{number}', (SELECT coalesce(pg_catalog.json_agg(\
         pg_catalog.json_build_object('name', tgname, 'state', tgenabled)), '[]')::text FROM pg_catalog.pg_trigger \
         WHERE tgrelid = {live_text}::pg_catalog.regclass AND NOT tgisinternal), true); \
         EXECUTE 'ALTER TABLE ' || {live_text} || ' DISABLE TRIGGER USER';"
    );
    let lock = format!("{OWN_ENCODING}LOCK TABLE {live} IN ACCESS EXCLUSIVE MODE;\n");
    lock + &own_block("differences text; item json;", &format!("{compare} {keys} {triggers}"))
}

/// Takes the rows away that are there.
pub(crate) fn empty(table: &DumpedTable) -> String {
    format!("{OWN_ENCODING}TRUNCATE ONLY {};\n", qualified(&table.schema, &table.name))
}

/// Gives back what [`prepare_live`] took.
pub(crate) fn end_live(table: &DumpedTable, number: usize) -> String {
    let live = literal(&qualified(&table.schema, &table.name));
    let body = format!(
        "FOR item IN SELECT * FROM pg_catalog.json_array_elements(\
         pg_catalog.current_setting('dbvault.triggers_{number}')::json) LOOP \
         EXECUTE pg_catalog.format('ALTER TABLE %s %s TRIGGER %I', {live}, CASE item->>'state' WHEN 'D' THEN 'DISABLE' \
         WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END, item->>'name'); END LOOP; \
         FOR item IN SELECT * FROM pg_catalog.json_array_elements(\
         pg_catalog.current_setting('dbvault.keys_{number}')::json) LOOP \
         EXECUTE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', item->>'relation', item->>'name', \
         item->>'definition'); \
         IF item->>'comment' IS NOT NULL THEN EXECUTE pg_catalog.format('COMMENT ON CONSTRAINT %I ON %s IS %L', \
         item->>'name', item->>'relation', item->>'comment'); END IF; END LOOP;"
    );
    own_block("item json;", &body)
}

/// Fails where there are not `rows` rows in the table.
pub(crate) fn count(schema: &str, name: &str, rows: u64) -> String {
    let table = qualified(schema, name);
    let words = literal(&table);
    own_block(
        "found bigint;",
        &format!(
            "SELECT count(*) INTO found FROM ONLY {table}; IF found <> {rows} THEN \
             RAISE EXCEPTION '{RAISED}% has % rows in place of {rows}', {words}, found; END IF;"
        ),
    )
}

/// A command of the dump, and who owns what it makes.
pub(crate) fn command(command: &TableCommand, with_owner: bool) -> Vec<u8> {
    let mut sql = command.sql.clone();
    sql.push(b'\n');
    // An identity's sequence is made by altering its table, and has its owner.
    let made = sql.starts_with(b"CREATE ").then_some(match command.kind.as_str() {
        "TABLE" => "TABLE",
        "SEQUENCE" => "SEQUENCE",
        _ => "",
    });
    if let (Some(owner), Some(kind @ ("TABLE" | "SEQUENCE"))) =
        (command.owner.as_ref().filter(|_| with_owner), made)
    {
        let name = qualified(&command.schema, &command.name);
        sql.extend_from_slice(OWN_ENCODING.as_bytes());
        sql.extend_from_slice(format!("ALTER {kind} {name} OWNER TO {};\n", identifier(owner)).as_bytes());
    }
    sql
}

/// `sql` with another name, in the same schema, behind the first `keyword`.
pub(crate) fn with_name(sql: &[u8], keyword: &[u8], name: &str) -> Option<Vec<u8>> {
    let mark = [keyword, b" "].concat();
    let mut at = sql.windows(mark.len()).position(|window| window == mark)? + mark.len();
    for skipped in [&b"IF NOT EXISTS "[..], b"ONLY "] {
        if sql[at..].starts_with(skipped) {
            at += skipped.len();
        }
    }
    let mut begin = at;
    at += name_bytes(&sql[at..])?;
    while sql.get(at) == Some(&b'.') {
        begin = at + 1;
        at = begin + name_bytes(&sql[begin..])?;
    }
    Some([&sql[..begin], identifier(name).as_bytes(), &sql[at..]].concat())
}

/// Bytes of the name that comes first.
fn name_bytes(sql: &[u8]) -> Option<usize> {
    if sql.first() == Some(&b'"') {
        let mut at = 1;
        loop {
            at += sql[at..].iter().position(|byte| *byte == b'"')? + 1;
            if sql.get(at) != Some(&b'"') {
                return Some(at);
            }
            at += 1;
        }
    }
    let plain = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_$".contains(byte) || **byte >= 0x80;
    Some(sql.iter().take_while(plain).count()).filter(|count| *count > 0)
}

/// Bytes up to the end of the first command, with its semicolon.
fn first_command(sql: &[u8]) -> usize {
    let mut at = 0;
    while at < sql.len() {
        match sql[at] {
            b';' => return at + 1,
            quote @ (b'\'' | b'"') => {
                let backslashes = quote == b'\'' && at > 0 && matches!(sql[at - 1], b'E' | b'e');
                at += 1;
                while at < sql.len() && sql[at] != quote {
                    at += if backslashes && sql[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'-' if sql[at..].starts_with(b"--") => {
                at += sql[at..].iter().position(|byte| *byte == b'\n').unwrap_or(sql.len() - at);
            }
            b'$' => {
                let tag = sql[at + 1..].iter().position(|byte| *byte == b'$').map(|end| at + end + 2);
                let tag = tag.map(|end| &sql[at..end]).filter(|tag| {
                    tag[1..tag.len() - 1].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                });
                if let Some(tag) = tag {
                    let rest = &sql[at + tag.len()..];
                    let end = rest.windows(tag.len()).position(|window| window == tag);
                    at += tag.len() + end.map_or(rest.len(), |end| end + tag.len()) - 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    sql.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_nothing_else() {
        let replaced = |sql: &str, keyword: &[u8]| {
            with_name(sql.as_bytes(), keyword, "n\"").map(|sql| String::from_utf8(sql).unwrap())
        };
        for (sql, want) in [
            ("CREATE TABLE public.a (\n    x int);", "CREATE TABLE public.\"n\"\"\" (\n    x int);"),
            ("CREATE UNLOGGED TABLE \"a.\"\"b\".\"c d\" (", "CREATE UNLOGGED TABLE \"a.\"\"b\".\"n\"\"\" ("),
            ("CREATE TABLE bare (", "CREATE TABLE \"n\"\"\" ("),
        ] {
            assert_eq!(replaced(sql, b"TABLE").as_deref(), Some(want));
        }
        let copied = replaced("COPY public.\"ü\"  FROM stdin;", b"COPY").unwrap();
        assert_eq!(copied, "COPY public.\"n\"\"\"  FROM stdin;");
        assert_eq!(replaced("CREATE VIEW x", b"TABLE"), None);
        assert_eq!(replaced("CREATE TABLE \"x", b"TABLE"), None);
    }

    #[test]
    fn the_first_command_ends_where_it_ends() {
        for (first, rest) in [
            ("CREATE TABLE a (x text DEFAULT ';' CHECK (x <> E'\\';'));", "\nALTER TABLE a;"),
            ("CREATE TABLE \";\" (x text DEFAULT $q$;$q$);", " x"),
            ("-- a; comment\nCREATE TABLE a (b int DEFAULT f($$;$$));", ""),
            ("CREATE TABLE a$b (x int);", "y;"),
        ] {
            assert_eq!(first_command([first, rest].concat().as_bytes()), first.len(), "{first}");
        }
        assert_eq!(first_command(b"no end"), 6);
    }
}

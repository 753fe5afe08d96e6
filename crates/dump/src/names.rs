//! Names of tables, as SQL writes them.

/// Quotes a name for SQL.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What row counts call a table: its schema and its name, with quotation marks only where they are needed.
pub fn table_name(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// A name as `quote_ident` writes it, but for keywords: with quotation marks only where they are needed.
pub fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if first && name.chars().all(plain) { name.to_owned() } else { identifier(name) }
}

/// The names in `a.b`, where each may be in quotation marks; `None` where it is not such a list. With `fold`, letters
/// outside of quotation marks become small ones, as PostgreSQL does it.
pub fn parse(text: &str, fold: bool) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => end_of_quoted(quoted)?,
            None => {
                let end = rest.find(['.', '"']).unwrap_or(rest.len());
                let name = if fold { rest[..end].to_lowercase() } else { rest[..end].to_owned() };
                (name, &rest[end..])
            }
        };
        if name.is_empty() {
            return None;
        }
        names.push(name);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(names),
            None => return None,
        }
    }
}

fn end_of_quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                name.push('"');
                rest = next;
            }
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (schema, name) in [("public", "orders"), ("Odd", "a.b"), ("ü", "say \"x\""), ("1", "_")] {
            assert_eq!(parse(&table_name(schema, name), true).unwrap(), [schema, name]);
        }
        assert_eq!(parse("Public.Orders", true).unwrap(), ["public", "orders"]);
        assert_eq!(parse("Orders", false).unwrap(), ["Orders"]);
        for wrong in ["", ".", "a.", ".a", "\"a", "\"a\"b", "\"\"", "a\"b\""] {
            assert_eq!(parse(wrong, true), None, "{wrong}");
        }
    }
}

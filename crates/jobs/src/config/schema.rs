//! The table of keys as a JSON Schema, for editors.

use serde_json::{Map, Value, json};

use super::keys::{Effect, Groups, Key, Kind, ROOT, SECTIONS};

/// A value with something in braces, which stands for something else.
const STANDS_FOR: &str = "\\{";

/// The schema of a configuration file. What `!include` stands for is not known to it.
pub fn schema() -> Value {
    let Value::Object(mut properties) = properties(ROOT) else { return Value::Null };
    let references: Map<String, Value> = properties
        .keys()
        .map(|name| (name.clone(), json!({ "$ref": format!("#/properties/{name}") })))
        .collect();
    let section = json!({
        "description": "Section of older files; its keys are those of the highest level.",
        "deprecated": true,
        "type": ["object", "null"],
        "properties": references,
        "additionalProperties": false,
    });
    for name in SECTIONS {
        properties.insert(name.into(), section.clone());
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of dbvault",
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    })
}

fn properties(groups: Groups) -> Value {
    let keys = groups.iter().flat_map(|group| group.iter());
    // What is refused is not a key that there is.
    let keys = keys.filter(|key| key.effect != Effect::Refused);
    Value::Object(keys.map(|key| (key.name.to_owned(), property(key))).collect())
}

fn property(key: &Key) -> Value {
    let kind = if key.effect == Effect::Yes { key.kind } else { Kind::Anything };
    let Value::Object(mut schema) = of_kind(kind) else { return Value::Null };
    let description = match key.effect {
        Effect::Yes if key.default.is_empty() => format!("{}.", capital(key.meaning)),
        Effect::Yes => format!("{}. Default: {}.", capital(key.meaning), key.default),
        Effect::Missing => format!("Not done: {}.", key.meaning),
        _ => format!("Has no effect: {}.", key.meaning),
    };
    schema.insert("description".into(), description.into());
    if key.effect != Effect::Yes {
        schema.insert("deprecated".into(), true.into());
    }
    Value::Object(schema)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn of_kind(kind: Kind) -> Value {
    match kind {
        Kind::Anything => json!({}),
        Kind::Secret => json!({ "type": ["string", "number", "null"], "writeOnly": true }),
        Kind::Number(max) => json!({
            "type": ["integer", "string", "null"],
            "minimum": 0,
            "maximum": max,
            "pattern": format!("^[0-9]+$|{STANDS_FOR}"),
        }),
        Kind::Flag => json!({
            "type": ["boolean", "string", "null"],
            "pattern": format!("^([Tt]rue|TRUE|[Ff]alse|FALSE|[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF)$|{STANDS_FOR}"),
        }),
        Kind::OneOf(words) => one_of(words),
        Kind::Commands | Kind::Texts | Kind::Paths => list_or_one(of_kind(Kind::Text)),
        Kind::SomeOf(words) => list_or_one(one_of(words)),
        Kind::Map(groups, short) => {
            let mut map = object(groups);
            map["type"] = json!(["object", "null"]);
            if short.is_some() { json!({ "anyOf": [of_kind(Kind::Text), map] }) } else { map }
        }
        Kind::Maps(groups, short) => json!({
            "type": ["array", "null"],
            "items": of_kind(Kind::Map(groups, short)),
        }),
        Kind::Path | Kind::Words | Kind::Command => json!({ "type": ["string", "null"] }),
        Kind::Text | Kind::Age | Kind::Time => json!({ "type": ["string", "number", "boolean", "null"] }),
    }
}

fn one_of(words: &[&str]) -> Value {
    let mut all: Vec<Value> = words.iter().map(|word| (*word).into()).collect();
    all.extend(words.iter().filter_map(|word| word.parse::<u64>().ok()).map(Value::from));
    all.push(Value::Null);
    json!({ "anyOf": [{ "enum": all }, { "type": "string", "pattern": STANDS_FOR }] })
}

fn list_or_one(each: Value) -> Value {
    json!({ "anyOf": [each, { "type": "array", "items": each }] })
}

fn object(groups: Groups) -> Value {
    let keys = groups.iter().flat_map(|group| group.iter());
    let required: Vec<&str> = keys.filter(|key| key.required).map(|key| key.name).collect();
    json!({
        "type": "object",
        "properties": properties(groups),
        "required": required,
        "additionalProperties": false,
    })
}

//! `--format`: a small part of Go's templates, over the object that `--json` prints.
//!
//! `{{.Name}}` is a field, `{{.OCI.Config.Env}}` one inside another, `{{.}}` the whole object;
//! before it may stand `json`, `lower`, `upper`, `len` or `join SEPARATOR`: `{{json .Mounts}}`,
//! `{{join ", " .Mounts}}`. `\t` and `\n` are tab and newline. `json` alone, as docker's, prints
//! the object on one line.

use crate::base::{Error, Result};
use serde_json::Value;

/// A template, understood.
#[derive(Debug)]
pub struct Template(Vec<Piece>);

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Field { how: How, path: Vec<String> },
}

#[derive(Debug, PartialEq, Clone)]
enum How {
    Plain,
    Json,
    Lower,
    Upper,
    Len,
    Join(String),
}

fn bad(what: String) -> Error {
    Error::Invalid(format!("--format: {what}"))
}

impl Template {
    pub fn parse(text: &str) -> Result<Template> {
        if text == "json" {
            return Ok(Template(vec![Piece::Field {
                how: How::Json,
                path: Vec::new(),
            }]));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            let (before, after) = rest.split_at(start);
            let after = after.get(2..).unwrap_or_default();
            let Some(end) = after.find("}}") else {
                return Err(bad(format!("'{{{{{after}' is not closed by '}}}}'")));
            };
            let (inside, tail) = after.split_at(end);
            if !before.is_empty() {
                pieces.push(Piece::Text(unescape(before)));
            }
            pieces.push(action(inside)?);
            rest = tail.get(2..).unwrap_or_default();
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(unescape(rest)));
        }
        Ok(Template(pieces))
    }

    pub fn render(&self, object: &Value) -> Result<String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(t) => out.push_str(t),
                Piece::Field { how, path } => out.push_str(&how.show(find(object, path)?)?),
            }
        }
        Ok(out)
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn action(inside: &str) -> Result<Piece> {
    let text = inside.trim().trim_matches('-').trim();
    let unknown = || {
        bad(format!(
            "'{{{{{inside}}}}}' is not understood; known are {{{{.Field}}}} and json, lower, upper, len, join \"SEPARATOR\" before it"
        ))
    };
    let (how, field) = match text.split_once(char::is_whitespace) {
        None => (How::Plain, text),
        Some(("json", f)) => (How::Json, f),
        Some(("lower", f)) => (How::Lower, f),
        Some(("upper", f)) => (How::Upper, f),
        Some(("len", f)) => (How::Len, f),
        Some(("join", more)) => {
            // Both orders: ours, and docker's `join .Field ", "`.
            let more = more.trim();
            let (before, quoted) = more.split_once('"').ok_or_else(unknown)?;
            let (separator, after) = quoted.rsplit_once('"').ok_or_else(unknown)?;
            let field = if before.trim().is_empty() {
                after
            } else {
                before
            };
            (How::Join(unescape(separator)), field)
        }
        Some(_) => return Err(unknown()),
    };
    let field = field.trim();
    let Some(path) = field.strip_prefix('.') else {
        return Err(unknown());
    };
    if path.is_empty() {
        return Ok(Piece::Field {
            how,
            path: Vec::new(),
        });
    }
    let path: Vec<String> = path.split('.').map(str::to_owned).collect();
    if path.iter().any(|p| {
        p.is_empty()
            || !p
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    }) {
        return Err(unknown());
    }
    Ok(Piece::Field { how, path })
}

fn find<'a>(object: &'a Value, path: &[String]) -> Result<&'a Value> {
    let mut at = object;
    for name in path {
        let inside = at.as_object().and_then(|o| o.get(name)).or_else(|| {
            // Names differ in case between docker, podman and us: Id, ID.
            at.as_object().and_then(|o| {
                o.iter()
                    .find(|(k, _)| k.eq_ignore_ascii_case(name))
                    .map(|(_, v)| v)
            })
        });
        at = match (inside, at) {
            (Some(v), _) => v,
            (None, Value::Object(o)) => {
                let known: Vec<&str> = o.keys().map(String::as_str).collect();
                return Err(bad(format!(
                    "there is no field .{}; there are {}",
                    path.join("."),
                    known.join(", ")
                )));
            }
            // What is empty has nothing inside.
            (None, Value::Null) => return Ok(&Value::Null),
            (None, _) => {
                return Err(bad(format!(
                    "there is no field .{}: .{name} would be inside a plain value",
                    path.join(".")
                )));
            }
        };
    }
    Ok(at)
}

impl How {
    fn show(&self, v: &Value) -> Result<String> {
        Ok(match self {
            How::Plain => plain(v),
            How::Json => v.to_string(),
            How::Lower => plain(v).to_lowercase(),
            How::Upper => plain(v).to_uppercase(),
            How::Len => match v {
                Value::Array(a) => a.len(),
                Value::Object(o) => o.len(),
                Value::String(s) => s.chars().count(),
                Value::Null => 0,
                _ => return Err(bad("'len' needs a list, an object or a text".into())),
            }
            .to_string(),
            How::Join(separator) => match v {
                Value::Array(a) => a.iter().map(plain).collect::<Vec<_>>().join(separator),
                Value::Null => String::new(),
                _ => return Err(bad("'join' needs a list".into())),
            },
        })
    }
}

/// As Go prints it: lists in brackets, objects as JSON.
fn plain(v: &Value) -> String {
    match v {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Array(a) => format!("[{}]", a.iter().map(plain).collect::<Vec<_>>().join(" ")),
        v => v.to_string(),
    }
}

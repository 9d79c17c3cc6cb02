//! The file against the schema: finds everything that has the wrong form, and hands on, as JSON,
//! what has the right one. Entries of lists that were refused become null, so that indices stay.

mod scalars;

use super::document::{Document, KeyPath};
use super::error::{Position, Problem};
use super::forms;
use serde_json::{Map, Value};
use std::borrow::Cow;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Names that differ by more than this are not worth a guess.
const SIMILARITY_MIN: f64 = 0.75;
/// Longer lists of known keys are not shown.
const KEYS_SHOWN_MAX: usize = 16;
/// Longer texts are cut in messages.
const FOUND_CHARS_MAX: usize = 60;
/// More errors of syntax say no more: most of them follow from the first.
const SYNTAX_ERRORS_MAX: usize = 20;

/// What came of the check.
pub(super) struct Checked {
    /// What has the right form.
    pub(super) value: Value,
    /// What has not.
    pub(super) problems: Vec<Problem>,
    /// False when errors of syntax leave open what the file says.
    pub(super) complete: bool,
}

/// Checks the file against the schema.
pub(super) fn check(document: &Document<'_>, schema: &Value) -> Checked {
    let mut check = Check {
        document,
        schema,
        problems: Vec::new(),
        missing: Vec::new(),
    };
    let value = check.value(schema, &document.root, &KeyPath::default(), false);
    let mut problems = check.problems;
    let complete = document.syntax.is_empty();
    if let Some((_, first)) = document.syntax.first() {
        // What stands behind an error of syntax may have been read as something else, and what seems
        // to be missing may be what could not be read.
        let first = document.position(*first).line;
        problems.retain(|problem| {
            problem
                .position
                .is_some_and(|position| position.line < first)
        });
        problems.extend(syntax_problems(document));
    } else {
        problems.extend(check.missing);
    }
    Checked {
        value: value.unwrap_or_default(),
        problems,
        complete,
    }
}

fn syntax_problems(document: &Document<'_>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for (message, offset) in &document.syntax {
        let position = document.position(*offset);
        let line = |problem: &Problem| problem.position.map(|position| position.line);
        if problems
            .last()
            .is_some_and(|last| line(last) == Some(position.line))
        {
            continue;
        }
        if problems.len() == SYNTAX_ERRORS_MAX {
            break;
        }
        problems.push(document.problem(&KeyPath::default(), position, message.as_str(), None));
    }
    problems
}

/// The name among `known` that was probably meant.
pub fn closest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let name = name.to_lowercase();
    known
        .map(|candidate| (candidate, strsim::jaro_winkler(&name, candidate)))
        .filter(|(_, similarity)| *similarity >= SIMILARITY_MIN)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(candidate, _)| candidate)
}

/// A hint that names it.
pub(super) fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

struct Check<'d> {
    document: &'d Document<'d>,
    schema: &'d Value,
    problems: Vec<Problem>,
    /// What is required and is not there.
    missing: Vec<Problem>,
}

impl<'d> Check<'d> {
    fn report(
        &mut self,
        path: &KeyPath,
        position: Position,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.problems
            .push(self.document.problem(path, position, message, hint));
    }

    /// The schema behind `$ref`, with what stands beside the reference.
    fn resolve(&self, schema: &'d Value) -> (&'d Value, bool) {
        let write_only = |schema: &Value| schema["writeOnly"].as_bool().unwrap_or(false);
        let Some(reference) = schema["$ref"].as_str() else {
            return (schema, write_only(schema));
        };
        let target = self
            .schema
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or(&Value::Null);
        (target, write_only(schema) || write_only(target))
    }

    fn value(
        &mut self,
        schema: &'d Value,
        value: &Spanned<DeValue<'_>>,
        path: &KeyPath,
        secret: bool,
    ) -> Option<Value> {
        let (schema, write_only) = self.resolve(schema);
        let at = At {
            path,
            position: self.document.position(value.span().start),
            secret: secret || write_only,
        };
        if let Some(choices) = choices(schema) {
            return self.choice(&choices, value.get_ref(), &at);
        }
        let accepts = |name: &str| match &schema["type"] {
            Value::String(only) => only == name,
            Value::Array(several) => several.iter().any(|one| one == name),
            _ => false,
        };
        match value.get_ref() {
            DeValue::Table(table) if accepts("object") => Some(self.table(schema, table, &at)),
            DeValue::Array(array) if accepts("array") => Some(self.array(schema, array, &at)),
            DeValue::String(text) if accepts("string") => self.text(schema, text, &at),
            DeValue::Datetime(moment) if schema["format"] == "date-time" => {
                self.text(schema, &moment.to_string(), &at)
            }
            DeValue::Integer(number) if accepts("integer") => self.integer(schema, number, &at),
            DeValue::Integer(number) if accepts("number") => {
                let text = i128::from_str_radix(number.as_str(), number.radix());
                self.decimal(schema, &text.unwrap_or(i128::MAX).to_string(), &at)
            }
            DeValue::Float(number) if accepts("number") => {
                self.decimal(schema, number.as_str(), &at)
            }
            DeValue::Boolean(truth) if accepts("boolean") => Some(Value::Bool(*truth)),
            other => {
                self.wrong_type(schema, other, &at);
                None
            }
        }
    }

    fn wrong_type(&mut self, schema: &Value, found: &DeValue<'_>, at: &At<'_>) {
        let expected = match &schema["type"] {
            Value::Array(several) => {
                let names: Vec<_> = several
                    .iter()
                    .filter_map(Value::as_str)
                    .map(type_name)
                    .collect();
                names.join(" or ")
            }
            one => type_name(one.as_str().unwrap_or_default()).to_owned(),
        };
        let hint = schema["x-hint"].as_str().map(str::to_owned).or_else(|| {
            let is_list = schema["type"] == "array";
            match found {
                DeValue::Table(_) if is_list => Some(format!("write `[[{}]]`", at.path)),
                DeValue::String(_) if is_list => Some("put it in brackets: `[ … ]`".to_owned()),
                DeValue::Array(_) if schema["type"] == "object" => {
                    Some(format!("write `[{}]`, once", at.path))
                }
                DeValue::Integer(_) if schema["format"] == "period" => {
                    Some("a duration has a unit and stands in quotes: \"10s\"".to_owned())
                }
                _ => None,
            }
        });
        let message = format!("expected {expected}, found {}", found_name(found));
        self.report(at.path, at.position, message, hint);
    }

    fn choice(&mut self, choices: &[&str], found: &DeValue<'_>, at: &At<'_>) -> Option<Value> {
        let expected = choices
            .iter()
            .map(|choice| format!("\"{choice}\""))
            .collect::<Vec<_>>();
        let expected = expected.join(" or ");
        let DeValue::String(text) = found else {
            let message = format!("expected {expected}, found {}", found_name(found));
            self.report(at.path, at.position, message, None);
            return None;
        };
        if choices.contains(&text.as_ref()) {
            return Some(Value::from(text.as_ref()));
        }
        let hint = closest(text, choices.iter().copied()).map(did_you_mean);
        self.report(
            at.path,
            at.position,
            format!("expected {expected}{}", at.found(text)),
            hint,
        );
        None
    }

    fn table(&mut self, schema: &'d Value, table: &DeTable<'_>, at: &At<'_>) -> Value {
        let mut result = Map::new();
        let names = schema["propertyNames"]["format"].as_str();
        let properties = schema["properties"].as_object();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let property = properties.and_then(|properties| properties.get(name));
            let position = self.document.position(key.span().start);
            let path = at.path.key(name);
            if let Some(expected) = names.and_then(|format| forms::fault(format, name)) {
                self.report(
                    &path,
                    position,
                    format!("expected {expected}{}", at.found(name)),
                    None,
                );
                continue;
            }
            let rest = schema
                .get("additionalProperties")
                .filter(|rest| rest.is_object());
            let Some(property) = property.or(rest) else {
                self.unknown_key(schema, name, position, at);
                continue;
            };
            if let Some(value) = self.value(property, value, &path, at.secret) {
                result.insert(name.to_owned(), value);
            }
        }
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        for name in required.iter().filter_map(Value::as_str) {
            if !table.contains_key(name) {
                self.missing(&schema["properties"][name], name, at);
            }
        }
        self.count(
            schema,
            ["minProperties", "maxProperties"],
            table.len(),
            ["key", "keys"],
            at,
        );
        Value::Object(result)
    }

    fn missing(&mut self, schema: &'d Value, name: &str, at: &At<'_>) {
        let (items, _) = self.resolve(&schema["items"]);
        let message = if items["type"] == "object" && *at.path == KeyPath::default() {
            format!("at least one `[[{name}]]` is required")
        } else {
            "this key is required and missing".to_owned()
        };
        let path = at.path.key(name);
        let problem = self.document.problem(&path, at.position, message, None);
        self.missing.push(problem);
    }

    fn unknown_key(&mut self, schema: &Value, name: &str, position: Position, at: &At<'_>) {
        let known = schema["properties"].as_object();
        let known = || {
            known
                .into_iter()
                .flat_map(|known| known.keys())
                .map(String::as_str)
        };
        let guess = closest(name, known());
        let hint = guess.map(did_you_mean).or_else(|| {
            let known: Vec<_> = known().map(|name| format!("`{name}`")).collect();
            (known.len() <= KEYS_SHOWN_MAX).then(|| format!("known here: {}", known.join(", ")))
        });
        // Somebody may have put a secret where a key belongs.
        let path = if at.secret {
            Cow::Borrowed(at.path)
        } else {
            Cow::Owned(at.path.key(name))
        };
        self.report(&path, position, "unknown key", hint);
    }

    fn array(&mut self, schema: &'d Value, array: &[Spanned<DeValue<'_>>], at: &At<'_>) -> Value {
        self.count(
            schema,
            ["minItems", "maxItems"],
            array.len(),
            ["entry", "entries"],
            at,
        );
        let entries = array.iter().enumerate().map(|(index, entry)| {
            let entry = self.value(&schema["items"], entry, &at.path.index(index), at.secret);
            entry.unwrap_or(Value::Null)
        });
        entries.collect()
    }

    fn count(
        &mut self,
        schema: &Value,
        bounds: [&str; 2],
        count: usize,
        of: [&str; 2],
        at: &At<'_>,
    ) {
        let [min, max] = bounds.map(|name| schema[name].as_u64());
        let (min, max, count) = (min.unwrap_or(0), max.unwrap_or(u64::MAX), count as u64);
        if (min..=max).contains(&count) {
            return;
        }
        let expected = match (min, max) {
            (1, 1) => format!("exactly one of {}", key_names(schema)),
            _ if count < min => format!("at least {min} {}", of[usize::from(min != 1)]),
            _ => format!("at most {max} {}", of[usize::from(max != 1)]),
        };
        let hint = schema["x-hint"].as_str().map(str::to_owned);
        self.report(
            at.path,
            at.position,
            format!("expected {expected}, found {count}"),
            hint,
        );
    }
}

/// The place that is being checked.
struct At<'p> {
    path: &'p KeyPath,
    position: Position,
    /// What stands here may be a secret, written here by mistake: it is never shown.
    secret: bool,
}

impl At<'_> {
    fn found(&self, text: &str) -> String {
        if self.secret {
            return String::new();
        }
        let shown: String = text.chars().take(FOUND_CHARS_MAX).collect();
        let dots = if shown.len() < text.len() { "…" } else { "" };
        format!(", found {shown:?}{dots}")
    }
}

/// The texts of a schema that allows only some.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(list) = schema["oneOf"].as_array() {
        return list.iter().map(|one| one["const"].as_str()).collect();
    }
    schema["enum"]
        .as_array()?
        .iter()
        .map(Value::as_str)
        .collect()
}

fn key_names(schema: &Value) -> String {
    let names = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|known| known.keys());
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(" and ")
}

fn type_name(name: &str) -> &str {
    match name {
        "object" => "a table",
        "array" => "a list",
        "string" => "a text in quotes",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        other => other,
    }
}

fn found_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

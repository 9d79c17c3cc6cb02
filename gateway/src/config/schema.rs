//! The JSON Schema of the file. It is made from the types of `raw`, and it is what a file is checked
//! against, so what an editor accepts and what the gateway accepts cannot differ.

use super::raw;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::Value;

/// The JSON Schema (draft 2020-12) of the configuration file.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(Tidy);
    settings
        .into_generator()
        .into_root_schema_for::<raw::File>()
        .to_value()
}

/// Takes out what says nothing about a TOML file: there is no null in it, and the default of a table
/// only repeats the defaults of its keys.
#[derive(Clone)]
struct Tidy;

impl Transform for Tidy {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        if object
            .get("default")
            .is_some_and(|default| default.is_object() || default.is_null())
        {
            object.remove("default");
        }
        let alternatives = object.get_mut("anyOf").and_then(Value::as_array_mut);
        let only = alternatives.and_then(|alternatives| {
            alternatives.retain(|schema| schema.get("type").is_none_or(|name| name != "null"));
            (alternatives.len() == 1).then(|| alternatives.remove(0))
        });
        if let Some(Value::Object(only)) = only {
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
}

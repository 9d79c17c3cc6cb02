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

/// Takes out what says nothing about a TOML file: there is no null in it, the default of a table only
/// repeats the defaults of its keys, and an empty list is no default where one entry is the least.
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
        // The form of an optional choice: itself, or null.
        if let Some(Value::Array(forms)) = object.get_mut("anyOf") {
            forms.retain(|form| form["type"] != "null");
            if let [Value::Object(only)] = forms.as_mut_slice() {
                let only = std::mem::take(only);
                object.remove("anyOf");
                object.extend(only);
            }
        }
        let says_nothing = |default: &Value| match default {
            Value::Array(entries) => entries.is_empty() && object.contains_key("minItems"),
            other => other.is_object() || other.is_null(),
        };
        if object.get("default").is_some_and(says_nothing) {
            object.remove("default");
        }
    }
}

//! Texts and numbers: their form and their bounds.

use super::{At, Check};
use crate::config::forms;
use crate::config::units::{self, DecimalFault};
use serde_json::Value;
use std::time::Duration;
use toml::de::DeInteger;

impl Check<'_> {
    pub(super) fn text(&mut self, schema: &Value, text: &str, at: &At<'_>) -> Option<Value> {
        let format = schema["format"].as_str().unwrap_or_default();
        if let Some(expected) = forms::fault(format, text) {
            let message = format!("expected {expected}{}", at.found(text));
            let hint = forms::suggestion(format, text);
            self.report(at.path, at.position, message, hint);
            return None;
        }
        let in_bounds = match format {
            "period" => {
                let bound = |name: &str| schema[name].as_str().and_then(units::parse_period);
                let show = |ms| units::show_period(Duration::from_millis(ms));
                let value = units::parse_period(text)?;
                self.bounds(
                    value,
                    bound("formatMinimum"),
                    bound("formatMaximum"),
                    show,
                    at,
                )
            }
            "bytes" => {
                let bound = |name: &str| schema[name].as_u64();
                let value = units::parse_bytes(text)?;
                self.bounds(
                    value,
                    bound("minimum"),
                    bound("maximum"),
                    units::show_bytes,
                    at,
                )
            }
            _ => true,
        };
        in_bounds.then(|| Value::from(text))
    }

    pub(super) fn integer(
        &mut self,
        schema: &Value,
        number: &DeInteger<'_>,
        at: &At<'_>,
    ) -> Option<Value> {
        let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.unwrap_or(i128::MAX);
        let bound = |name: &str| schema[name].as_u64();
        let (min, max) = (bound("minimum"), bound("maximum"));
        let show = |number: u64| match schema["format"].as_str() {
            Some("bytes") => units::show_bytes(number),
            _ => number.to_string(),
        };
        let value = u64::try_from(value.max(-1)).ok().or_else(|| {
            let (min, max) = (show(min.unwrap_or(0)), show(max.unwrap_or(u64::MAX)));
            self.report(
                at.path,
                at.position,
                format!("must be from {min} to {max}"),
                None,
            );
            None
        })?;
        self.bounds(value, min, max, show, at)
            .then(|| Value::from(value))
    }

    /// A number with a fraction, handed on as a text, in which it is exact.
    pub(super) fn decimal(&mut self, schema: &Value, text: &str, at: &At<'_>) -> Option<Value> {
        let digits = u32::try_from(schema["x-digits"].as_u64()?).ok()?;
        let show = |value| units::show_decimal(value, digits);
        let bound = |name: &str| {
            let written = schema[name].as_f64()?;
            units::parse_decimal(&format!("{written:.0$}", digits as usize), digits).ok()
        };
        let (min, max) = (bound("minimum"), bound("maximum"));
        let value = match units::parse_decimal(text, digits) {
            Ok(value) => value,
            Err(DecimalFault::Bounds) => {
                let (min, max) = (show(min.unwrap_or(0)), show(max.unwrap_or(u64::MAX)));
                let message = format!("must be from {min} to {max}");
                self.report(at.path, at.position, message, None);
                return None;
            }
            Err(DecimalFault::Form) => {
                let message =
                    format!("expected a number with at most {digits} digits behind the point");
                self.report(
                    at.path,
                    at.position,
                    format!("{message}{}", at.found(text)),
                    None,
                );
                return None;
            }
        };
        self.bounds(value, min, max, show, at)
            .then(|| Value::from(show(value)))
    }

    fn bounds(
        &mut self,
        value: u64,
        min: Option<u64>,
        max: Option<u64>,
        show: impl Fn(u64) -> String,
        at: &At<'_>,
    ) -> bool {
        let (min, max) = (min.unwrap_or(0), max.unwrap_or(u64::MAX));
        let good = (min..=max).contains(&value);
        if !good {
            let (min, max, value) = (show(min), show(max), show(value));
            let message = format!("must be from {min} to {max}, is {value}");
            self.report(at.path, at.position, message, None);
        }
        good
    }
}

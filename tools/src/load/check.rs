//! `--fail-if`: comparisons of the result's figures, by name.
//!
//! A figure of the JSON document is named by its path with `_` between the parts and the unit last: `lost`,
//! `response_p99_ns` (which is `response_ns.p99`), `stalls_count`, `knee_rate_achieved`. The path with dots is
//! understood too. Yes and no are 1 and 0.

use serde::Serialize;
use serde_json::Value;

use super::error::LoadError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// An expression that fails the run when it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    expression: String,
    field: String,
    operator: Operator,
    value: f64,
}

/// An expression, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// The expression.
    pub expression: String,
    /// The field's value; nothing when this result has none, which fails.
    pub value: Option<f64>,
    /// Whether the run failed by it.
    pub has_failed: bool,
}

impl Check {
    /// Parses `FIELD OPERATOR NUMBER` for results like `template`.
    ///
    /// # Errors
    /// [`LoadError::BadCheck`] with all fields of the template.
    pub fn parse(expression: &str, template: &Value) -> Result<Self, LoadError> {
        let fields = fields(template);
        let bad = |why: String| LoadError::BadCheck {
            expression: expression.to_owned(),
            why,
            fields: fields.iter().map(|field| field.name.clone()).collect(),
        };
        let no_comparison = || bad("it is no comparison; write FIELD, one of > >= < <=, and a number".into());
        let at = expression.find(['<', '>']).ok_or_else(no_comparison)?;
        let (name, rest) = expression.split_at(at);
        let (operator, number) = match (&rest[..1], rest[1..].strip_prefix('=')) {
            (">", Some(number)) => (Operator::AtLeast, number),
            (">", None) => (Operator::Above, &rest[1..]),
            (_, Some(number)) => (Operator::AtMost, number),
            (_, None) => (Operator::Below, &rest[1..]),
        };
        let (name, number) = (name.trim(), number.trim());
        let value = number.parse().ok().filter(|value: &f64| value.is_finite());
        let value = value.ok_or_else(|| bad(format!("`{number}` is no number")))?;
        let field = fields.iter().find(|field| field.name == name || field.path == name);
        let kind = if template["mode"] == "closed" { " of a closed loop; --rate makes an open one" } else { "" };
        let field = field.ok_or_else(|| bad(format!("there is no field `{name}`{kind}")))?;
        Ok(Self { expression: expression.to_owned(), field: field.path.clone(), operator, value })
    }

    /// Compares.
    pub fn apply(&self, result: &Value) -> Checked {
        let value = fields(result).into_iter().find(|field| field.path == self.field).map(|field| field.value);
        let has_failed = value.is_none_or(|value| match self.operator {
            Operator::Above => value > self.value,
            Operator::AtLeast => value >= self.value,
            Operator::Below => value < self.value,
            Operator::AtMost => value <= self.value,
        });
        Checked { expression: self.expression.clone(), value, has_failed }
    }
}

struct Field {
    /// With dots.
    path: String,
    name: String,
    value: f64,
}

/// All figures of a result but those in lists.
fn fields(result: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    collect(result, &mut Vec::new(), &mut found);
    found
}

fn collect<'v>(value: &'v Value, path: &mut Vec<&'v str>, found: &mut Vec<Field>) {
    let figure = match value {
        Value::Object(members) => {
            for (key, member) in members {
                path.push(key);
                collect(member, path, found);
                path.pop();
            }
            return;
        }
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        other => other.as_f64(),
    };
    if let Some(value) = figure {
        found.push(Field { path: path.join("."), name: name_of(path), value });
    }
}

/// The parts with `_` between them; the unit of a group goes to the end, unless it is a count, which has none.
fn name_of(path: &[&str]) -> String {
    const UNIT: &str = "_ns";
    let Some((last, groups)) = path.split_last() else { return String::new() };
    let has_unit = groups.iter().any(|group| group.ends_with(UNIT)) && *last != "count" && !last.ends_with(UNIT);
    let mut parts: Vec<&str> = groups.iter().map(|group| group.strip_suffix(UNIT).unwrap_or(group)).collect();
    parts.push(last);
    parts.join("_") + if has_unit { UNIT } else { "" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        json!({
            "backend": "cpu", "lost": 2, "rate_achieved": 99.5, "interrupted": false, "fallback": null,
            "response_ns": { "p99": 4000, "count": 7 },
            "stalls": { "count": 3, "total_ns": 500 },
            "spread": { "response_p99_ns": { "max": 6000.0 } },
            "runs": [{ "lost": 1 }],
        })
    }

    fn holds(expression: &str) -> bool {
        Check::parse(expression, &result()).unwrap().apply(&result()).has_failed
    }

    #[test]
    fn figures_are_compared_by_name() {
        for expression in [
            "response_p99_ns>3000",
            "response_ns.p99>3000",
            " response_p99_ns >= 4000 ",
            "response_count<8",
            "stalls_count<=3",
            "stalls_total_ns>499.5",
            "spread_response_p99_max_ns>5e3",
            "lost>0",
            "rate_achieved<100",
            "interrupted<1",
        ] {
            assert!(holds(expression), "{expression}");
        }
        for expression in ["response_p99_ns>4000", "response_p99_ns<4000", "lost>=3", "lost<=1.5", "interrupted>=1"] {
            assert!(!holds(expression), "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused_with_the_fields() {
        for (expression, word) in [
            ("latency>3", "`latency`"),
            ("lost", "no comparison"),
            ("lost=3", "no comparison"),
            ("", "no comparison"),
            (">3", "no field"),
            ("lost>", "no number"),
            ("lost>three", "`three`"),
            ("lost>inf", "`inf`"),
            ("lost=>3", "no field"),
            ("backend>1", "`backend`"),
            ("runs>1", "`runs`"),
            ("fallback>1", "`fallback`"),
        ] {
            let error = Check::parse(expression, &result()).unwrap_err();
            let LoadError::BadCheck { fields, .. } = &error else { panic!("{expression}: {error}") };
            assert!(fields.contains(&"response_p99_ns".to_owned()) && fields.contains(&"lost".to_owned()));
            let text = error.to_string();
            assert!(text.contains(word) && text.contains("stalls_total_ns"), "{expression}: {text}");
        }
    }

    #[test]
    fn a_figure_that_is_missing_fails() {
        let check = Check::parse("lost>9", &result()).unwrap();
        let checked = check.apply(&json!({ "lost": null }));
        assert_eq!((checked.value, checked.has_failed), (None, true));
    }
}

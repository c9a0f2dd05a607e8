//! What a plain scalar means in YAML 1.1. The patterns are those of PyYAML's resolver.

use super::Value;
use regex::Regex;
use std::sync::LazyLock;

/// What a plain scalar is.
pub(super) enum Plain {
    Value(Value),
    /// `<<`, which merges another mapping where it is a key.
    Merge,
    /// Something that PyYAML itself fails on.
    Refused(&'static str),
}

/// Tells what a plain scalar without a tag is.
pub(super) fn resolve(text: &str) -> Plain {
    let value = match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "<<" => return Plain::Merge,
        "=" => {
            return Plain::Refused(
                "a lone `=` has a meaning of its own in YAML 1.1: put it in quotes",
            );
        }
        _ => match boolean(text) {
            Some(bool) => Value::Bool(bool),
            None if INT.is_match(text) => return int(text),
            None if FLOAT.is_match(text) => return float(text),
            None if DATE.is_match(text) => Value::Date,
            None => Value::Text(text.to_owned()),
        },
    };
    Plain::Value(value)
}

/// Whether text without quotes is text.
pub(in crate::kind) fn is_plain_text(text: &str) -> bool {
    matches!(resolve(text), Plain::Value(Value::Text(_)))
}

/// Reads a boolean.
pub(super) fn boolean(text: &str) -> Option<bool> {
    // Not `y` and `n`, and no other mixture of cases.
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Reads what looks like an integer: also `0x1F`, `0b101`, `017` (octal), `1_000` and `1:30` (sexagesimal).
pub(super) fn int(text: &str) -> Plain {
    let digits: String = text.chars().filter(|&char| char != '_').collect();
    let (negative, digits) = sign(&digits);
    let parsed = if digits.contains(':') {
        digits.split(':').try_fold(0_i128, |sum, part| {
            sum.checked_mul(60)?.checked_add(part.parse().ok()?)
        })
    } else {
        let (digits, radix) = if let Some(rest) = digits.strip_prefix("0b") {
            (rest, 2)
        } else if let Some(rest) = digits.strip_prefix("0x") {
            (rest, 16)
        } else if digits.starts_with('0') {
            (digits, 8)
        } else {
            (digits, 10)
        };
        if digits.is_empty() {
            return Plain::Refused("a number without digits: put it in quotes if it is text");
        }
        i128::from_str_radix(digits, radix).ok()
    };
    Plain::Value(match parsed {
        Some(int) => Value::Int(if negative { -int } else { int }),
        None => Value::HugeInt,
    })
}

pub(super) fn float(text: &str) -> Plain {
    let digits: String = text.chars().filter(|&char| char != '_').collect();
    let digits = digits.to_ascii_lowercase();
    let (negative, digits) = sign(&digits);
    let parsed = match digits {
        ".inf" => Ok(f64::INFINITY),
        ".nan" => Ok(f64::NAN),
        _ if digits.contains(':') => digits.split(':').try_fold(0.0, |sum, part| {
            part.parse::<f64>().map(|part| sum * 60.0 + part)
        }),
        _ => digits.parse(),
    };
    match parsed {
        Ok(float) => Plain::Value(Value::Float(if negative { -float } else { float })),
        Err(_) => Plain::Refused("not a number: put it in quotes if it is text"),
    }
}

fn sign(digits: &str) -> (bool, &str) {
    match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    }
}

static INT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$",
    )
});

static FLOAT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    )
});

static DATE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?)$",
    )
});

#[expect(clippy::expect_used, reason = "constant patterns, which tests compile")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

#[cfg(test)]
mod tests {
    use super::{Plain, resolve};
    use crate::kind::yaml::Value;

    fn value(text: &str) -> Value {
        match resolve(text) {
            Plain::Value(value) => value,
            Plain::Merge => panic!("{text} merges"),
            Plain::Refused(why) => panic!("{text}: {why}"),
        }
    }

    /// Each value is what PyYAML 6 says.
    #[test]
    fn plain_scalars_are_what_python_takes_them_for() {
        for (text, expected) in [
            ("yes", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("", Value::Null),
            ("~", Value::Null),
            ("0x10", Value::Int(16)),
            ("-0b11", Value::Int(-3)),
            ("010", Value::Int(8)),
            ("0", Value::Int(0)),
            ("0_", Value::Int(0)),
            ("1_000", Value::Int(1000)),
            ("1:30", Value::Int(90)),
            ("190:20:30", Value::Int(685_230)),
            ("+12", Value::Int(12)),
            (&"9".repeat(40), Value::HugeInt),
            ("1.5", Value::Float(1.5)),
            ("1.", Value::Float(1.0)),
            ("1_0.5e+3", Value::Float(10500.0)),
            ("1:30.5", Value::Float(90.5)),
            ("-.inf", Value::Float(f64::NEG_INFINITY)),
            ("2024-01-02", Value::Date),
            ("2024-1-2 3:04:05Z", Value::Date),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_more_is_text() {
        for text in [
            "y",
            "n",
            "yEs",
            "tRUE",
            "nUll",
            "08",
            "09",
            "1e5",
            "0o17",
            "1.2.3",
            "1:60",
            "2024-1-2",
            "0123456789abcdef",
            "-",
            "+",
            ".",
            "_1",
            "--1",
            "0b2",
            "0x",
            "1,000",
        ] {
            assert_eq!(value(text), Value::Text(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_python_fails_on_is_refused() {
        for text in ["=", "0x_", "0b_"] {
            assert!(matches!(resolve(text), Plain::Refused(_)), "{text}");
        }
        assert!(matches!(resolve("<<"), Plain::Merge));
    }
}

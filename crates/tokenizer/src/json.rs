//! JSON as Python's `json.dumps(ensure_ascii=False)` writes it: templates are written against that.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// `", "` and `": "`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// `value` in one line, or indented by `indent` spaces.
pub(crate) fn dumps(value: &Value, indent: Option<usize>) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced))?,
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))?;
        }
    }
    // serde_json writes UTF-8 only.
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_writes_it() {
        let value =
            serde_json::json!({"b": [1, 2.5, null, true], "a": "<é\"\n>", "e": {}, "l": []});
        assert_eq!(
            dumps(&value, None).unwrap(),
            "{\"b\": [1, 2.5, null, true], \"a\": \"<é\\\"\\n>\", \"e\": {}, \"l\": []}"
        );
        assert_eq!(
            dumps(&serde_json::json!({"a": [1]}), Some(2)).unwrap(),
            "{\n  \"a\": [\n    1\n  ]\n}"
        );
    }
}

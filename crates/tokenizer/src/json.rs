//! JSON as Python's `json.dumps` writes it: chat templates are written against that.

use crate::special::MARKS;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, Write};

/// The options of `json.dumps`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    /// Other characters as `\uXXXX`.
    pub(crate) ensure_ascii: bool,
    /// Over several lines, indented by so many spaces.
    pub(crate) indent: Option<usize>,
    /// Between items, and behind a key.
    pub(crate) separators: Option<(String, String)>,
    /// Keys in order of their characters.
    pub(crate) sort_keys: bool,
}

/// Wider is no layout but an attack on memory.
const INDENT_MAX: usize = 16;

/// `value` as text.
pub(crate) fn dumps(value: &Value, layout: Layout) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    let item = if layout.indent.is_some() { "," } else { ", " };
    let python = Python {
        ensure_ascii: layout.ensure_ascii,
        indent: layout.indent.map(|width| " ".repeat(width.min(INDENT_MAX))),
        separators: layout.separators.unwrap_or_else(|| (item.into(), ": ".into())),
        depth: 0,
        has_items: false,
    };
    let mut serializer = Serializer::with_formatter(&mut out, python);
    if layout.sort_keys {
        let mut sorted = value.clone();
        sorted.sort_all_objects();
        sorted.serialize(&mut serializer)?;
    } else {
        value.serialize(&mut serializer)?;
    }
    // serde_json writes UTF-8 only.
    Ok(String::from_utf8_lossy(&out).into_owned())
}

struct Python {
    ensure_ascii: bool,
    indent: Option<String>,
    separators: (String, String),
    depth: usize,
    /// The list or object that was left last had some.
    has_items: bool,
}

impl Python {
    fn begin<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_items = false;
        out.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_items {
            self.new_line(out)?;
        }
        self.has_items = true;
        out.write_all(bracket)
    }

    fn item<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.separators.0.as_bytes())?;
        }
        self.has_items = true;
        self.new_line(out)
    }

    fn new_line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(indent.as_bytes()))
    }
}

impl Formatter for Python {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.separators.1.as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, number: f64) -> io::Result<()> {
        out.write_all(repr(number).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if !self.ensure_ascii {
            return out.write_all(text.as_bytes());
        }
        for c in text.chars() {
            // A mark is taken out again after rendering, which it could not be as an escape.
            if c.is_ascii() || MARKS.contains(&c) {
                write!(out, "{c}")?;
            } else {
                c.encode_utf16(&mut [0; 2]).iter().try_for_each(|u| write!(out, "\\u{u:04x}"))?;
            }
        }
        Ok(())
    }
}

/// Python's `repr`: as few digits as tell the number, with an exponent below 1e-4 and from 1e16 on.
fn repr(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests;

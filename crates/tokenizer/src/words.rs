//! Cuts a text into words as GPT-2's expression does, without an engine for expressions.
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//! Every character is a letter, a number, a space or something else, and each alternative is a run of one class: where a word
//! ends can be told by reading on once. Only the last character of several spaces before a word is not theirs: the negative
//! lookahead gives it back. The classes are read from the tables that the library's expressions use.

use crate::error::TokenizerError;
use regex_syntax::hir::{Class as HirClass, HirKind};

/// What the expression tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

/// Cuts texts.
#[derive(Debug)]
pub(crate) struct Cutter {
    ascii: [Class; 128],
    /// Sorted; what is in none of them is [`Class::Other`].
    ranges: Vec<(char, char, Class)>,
    /// Every digit is cut off before the expression sees the rest.
    digits: bool,
}

impl Cutter {
    /// `digits`: every numeric character is a word, as the library's `Digits` has it.
    ///
    /// # Errors
    /// When the classes are not to be had.
    pub(crate) fn new(digits: bool) -> Result<Self, TokenizerError> {
        let mut ranges = Vec::new();
        let classes = [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)];
        for (expression, class) in classes {
            ranges.extend(ranges_of(expression)?.into_iter().map(|(from, to)| (from, to, class)));
        }
        ranges.sort_unstable_by_key(|(from, ..)| *from);
        let mut cutter = Self { ascii: [Class::Other; 128], ranges, digits };
        cutter.ascii = std::array::from_fn(|i| cutter.look_up(char::from(i as u8)));
        Ok(cutter)
    }

    /// The words of `text`, none empty; together they are the text.
    pub(crate) fn words<'a>(&'a self, text: &'a str) -> Words<'a> {
        Words { cutter: self, stretch: "", rest: text }
    }

    fn class(&self, c: char) -> Class {
        self.ascii.get(c as usize).copied().unwrap_or_else(|| self.look_up(c))
    }

    fn look_up(&self, c: char) -> Class {
        let after = self.ranges.partition_point(|(from, ..)| *from <= c);
        match after.checked_sub(1).map(|i| self.ranges[i]) {
            Some((_, to, class)) if c <= to => class,
            _ => Class::Other,
        }
    }

    /// Bytes of the characters of `class` at the start of `text`.
    fn run(&self, text: &str, class: Class) -> usize {
        text.char_indices().find(|(_, c)| self.class(*c) != class).map_or(text.len(), |(i, _)| i)
    }

    /// Bytes of the first word of `text`, which is not empty.
    fn first(&self, text: &str) -> usize {
        if let Some(bytes) = contraction(text) {
            return bytes;
        }
        let blank = usize::from(text.starts_with(' '));
        let word = &text[blank..];
        match word.chars().next().map(|c| self.class(c)) {
            None | Some(Class::Space) => self.spaces(text),
            Some(class) => blank + self.run(word, class),
        }
    }

    /// Bytes of the spaces at the start of `text`: without the last one when something follows, unless it is the only one.
    fn spaces(&self, text: &str) -> usize {
        let all = self.run(text, Class::Space);
        let last = text[..all].chars().next_back().map_or(0, char::len_utf8);
        if all == text.len() || all == last { all } else { all - last }
    }

    /// Bytes up to the first digit of `text`, or of that digit.
    fn stretch(&self, text: &str) -> usize {
        if !self.digits {
            return text.len();
        }
        match text.char_indices().find(|(_, c)| c.is_numeric()) {
            None => text.len(),
            Some((0, digit)) => digit.len_utf8(),
            Some((i, _)) => i,
        }
    }
}

/// Bytes of the English ending at the start of `text`.
fn contraction(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [b'\'', b's' | b't' | b'm' | b'd', ..] => Some(2),
        [b'\'', b'r' | b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => Some(3),
        _ => None,
    }
}

fn ranges_of(expression: &'static str) -> Result<Vec<(char, char)>, TokenizerError> {
    let wrong = || TokenizerError::Vocabulary(format!("`{expression}` is no class of characters"));
    let parsed = regex_syntax::parse(expression).map_err(|_| wrong())?;
    match parsed.kind() {
        HirKind::Class(HirClass::Unicode(class)) => {
            Ok(class.ranges().iter().map(|range| (range.start(), range.end())).collect())
        }
        _ => Err(wrong()),
    }
}

/// See [`Cutter::words`].
#[derive(Debug)]
pub(crate) struct Words<'a> {
    cutter: &'a Cutter,
    /// What the expression sees.
    stretch: &'a str,
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.stretch.is_empty() {
            if self.rest.is_empty() {
                return None;
            }
            (self.stretch, self.rest) = self.rest.split_at(self.cutter.stretch(self.rest));
        }
        let (word, rest) = self.stretch.split_at(self.cutter.first(self.stretch));
        self.stretch = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests;

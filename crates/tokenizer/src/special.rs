//! Special tokens in a text: finding them, and keeping text from outside from looking like them.

use aho_corasick::{AhoCorasick, MatchKind};
use estafette_types::TokenId;

/// Noncharacters: never assigned, not meant for interchange. One that is not in the input marks broken tokens.
pub(crate) const MARKS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    /// To be merged from bytes.
    Plain(&'a str),
    /// One token.
    Special(TokenId),
}

/// Finds special tokens, the longest first.
#[derive(Debug)]
pub(crate) struct Specials {
    split: Option<AhoCorasick>,
    every: Option<AhoCorasick>,
    ids: Vec<TokenId>,
}

impl Specials {
    pub(crate) fn new(tokens: &[(&str, TokenId)]) -> Result<Self, aho_corasick::BuildError> {
        let texts = || tokens.iter().map(|(text, _)| *text).filter(|text| !text.is_empty());
        let ids = tokens.iter().filter(|(text, _)| !text.is_empty()).map(|(_, id)| *id).collect();
        if texts().next().is_none() {
            return Ok(Self { split: None, every: None, ids });
        }
        let build = |kind| AhoCorasick::builder().match_kind(kind).build(texts());
        let split = Some(build(MatchKind::LeftmostLongest)?);
        Ok(Self { split, every: Some(build(MatchKind::Standard)?), ids })
    }

    /// Cuts `text` at its special tokens. A token that `mark` follows is a broken one, and plain.
    pub(crate) fn split<'a>(&self, text: &'a str, mark: Option<char>) -> Vec<Segment<'a>> {
        let mut segments = Vec::new();
        let mut plain_from = 0;
        for found in self.split.iter().flat_map(|split| split.find_iter(text)) {
            if mark.is_some_and(|mark| text[found.end()..].starts_with(mark)) {
                continue;
            }
            if plain_from < found.start() {
                segments.push(Segment::Plain(&text[plain_from..found.start()]));
            }
            segments.push(Segment::Special(self.ids[found.pattern().as_usize()]));
            plain_from = found.end();
        }
        if plain_from < text.len() {
            segments.push(Segment::Plain(&text[plain_from..]));
        }
        segments
    }

    /// A mark for texts that contain the text of a special token; `None` when none does.
    pub(crate) fn mark_for<'a>(
        &self,
        texts: &(impl Iterator<Item = &'a str> + Clone),
    ) -> Option<char> {
        let every = self.every.as_ref()?;
        texts.clone().any(|text| every.is_match(text)).then(|| {
            let free = MARKS.into_iter().find(|mark| !texts.clone().any(|t| t.contains(*mark)));
            // A text with all 32 of them is an attack: one of them is lost from it.
            free.unwrap_or(*MARKS.start())
        })
    }

    /// `text` with `mark` behind the first character of every special token's text in it.
    pub(crate) fn broken(&self, text: &str, mark: char) -> String {
        let Some(every) = &self.every else { return text.to_owned() };
        let mut starts: Vec<usize> =
            every.find_overlapping_iter(text).map(|found| found.start()).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut starts = starts.into_iter().peekable();
        let mut out = String::with_capacity(text.len() + 8);
        for (i, c) in text.char_indices() {
            out.push(c);
            if starts.next_if_eq(&i).is_some() {
                out.push(mark);
            }
        }
        out
    }
}

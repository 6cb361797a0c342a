//! The vocabulary of a GGUF file.

use crate::bytes::ByteTable;
use crate::error::TokenizerError;
use estafette_gguf::{GgufError, GgufFile, Value};
use estafette_types::TokenId;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// llama.cpp's token types that matter here.
const TYPE_CONTROL: i128 = 3;
const TYPE_USER_DEFINED: i128 = 4;

/// How a token is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Part of ordinary text.
    Normal,
    /// Never part of text: marks turns and ends.
    Control,
    /// Ordinary text that is always one token.
    UserDefined,
}

/// Tokens by id.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// As the file writes them; the merger takes them away.
    pub(crate) texts: Vec<String>,
    pub(crate) kinds: Vec<Kind>,
    /// What each one stands for.
    pub(crate) bytes: Vec<Vec<u8>>,
    pub(crate) merges: Vec<(String, String)>,
    /// Sampling one of these ends an answer.
    pub(crate) stops: Vec<TokenId>,
    /// Put before every text.
    pub(crate) bos: Option<TokenId>,
    /// Named in templates.
    pub(crate) bos_text: String,
    pub(crate) eos_text: String,
}

impl Vocabulary {
    pub(crate) fn read(file: &GgufFile, bos_by_default: bool) -> Result<Self, TokenizerError> {
        let texts = texts(file, TOKENS)?;
        let kinds = kinds(file, texts.len())?;
        let table = ByteTable::new();
        let bytes = texts
            .iter()
            .zip(&kinds)
            .map(|(text, kind)| match kind {
                Kind::Normal => table.bytes_of(text),
                Kind::Control | Kind::UserDefined => text.clone().into_bytes(),
            })
            .collect();
        let merges = texts_of_merges(file)?;
        let id = |name: &str| special_id(file, name, texts.len());
        let bos = id("bos")?;
        let eos = id("eos")?;
        let mut stops: Vec<TokenId> = [eos, id("eot")?, id("eom")?].into_iter().flatten().collect();
        stops.sort_unstable();
        stops.dedup();
        let text_of =
            |id: Option<TokenId>| id.map_or(String::new(), |id| texts[id as usize].clone());
        let (bos_text, eos_text) = (text_of(bos), text_of(eos));
        let add_bos = file.integer("tokenizer.ggml.add_bos_token")?;
        let add_bos = add_bos.map_or(bos_by_default, |add| add != 0);
        let bos = bos.filter(|_| add_bos);
        Ok(Self { kinds, bytes, merges, stops, bos, bos_text, eos_text, texts })
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn list<'a>(file: &'a GgufFile, key: &str) -> Result<&'a [Value], TokenizerError> {
    match file.value(key) {
        Some(Value::List(list)) => Ok(list),
        Some(_) => Err(GgufError::metadata(key, "must be a list").into()),
        None => Err(GgufError::metadata(key, "is missing").into()),
    }
}

fn texts(file: &GgufFile, key: &str) -> Result<Vec<String>, TokenizerError> {
    list(file, key)?
        .iter()
        .map(|value| match value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(GgufError::metadata(key, "must be a list of texts").into()),
        })
        .collect()
}

fn kinds(file: &GgufFile, count: usize) -> Result<Vec<Kind>, TokenizerError> {
    if file.value(TYPES).is_none() {
        return Ok(vec![Kind::Normal; count]);
    }
    let kinds: Vec<Kind> = list(file, TYPES)?
        .iter()
        .map(|value| match value {
            Value::Integer(TYPE_CONTROL) => Kind::Control,
            Value::Integer(TYPE_USER_DEFINED) => Kind::UserDefined,
            _ => Kind::Normal,
        })
        .collect();
    if kinds.len() != count {
        let problem = format!("has {} entries for {count} tokens", kinds.len());
        return Err(GgufError::metadata(TYPES, problem).into());
    }
    Ok(kinds)
}

/// Each merge is written as two tokens with a space between; neither holds a space, which has a character of its own.
fn texts_of_merges(file: &GgufFile) -> Result<Vec<(String, String)>, TokenizerError> {
    texts(file, MERGES)?
        .into_iter()
        .map(|merge| {
            merge
                .split_once(' ')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .ok_or_else(|| GgufError::metadata(MERGES, format!("`{merge}` is no pair")).into())
        })
        .collect()
}

fn special_id(
    file: &GgufFile,
    name: &str,
    count: usize,
) -> Result<Option<TokenId>, TokenizerError> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    match file.integer(&key)? {
        None => Ok(None),
        Some(id) if id < count => Ok(Some(id as TokenId)),
        Some(id) => Err(GgufError::metadata(&key, format!("{id} is not in the vocabulary")).into()),
    }
}

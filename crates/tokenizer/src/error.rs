//! Why there is no tokenizer, or no tokens.

use estafette_gguf::GgufError;
use thiserror::Error;

/// The first four are about the file, the others about a request.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// A key is missing or has another type.
    #[error(transparent)]
    File(#[from] GgufError),
    /// The vocabulary is of a kind that nobody has written.
    #[error("tokenizer `{key}` = `{found}` is not supported, only {supported}")]
    Unsupported {
        /// The key in the file.
        key: &'static str,
        /// Its value.
        found: String,
        /// What there is.
        supported: &'static str,
    },
    /// The vocabulary contradicts itself.
    #[error("the vocabulary is damaged: {0}")]
    Vocabulary(String),
    /// The chat template is no template.
    #[error("the chat template is damaged: {0}")]
    BadTemplate(String),
    /// The file has no chat template.
    #[error("this model has no chat template: use completions instead")]
    NoChatTemplate,
    /// The chat template refuses this conversation.
    #[error("the chat template refuses this conversation: {0}")]
    Template(String),
    /// The text cannot be encoded.
    #[error("the text cannot be tokenised: {0}")]
    Encode(String),
}

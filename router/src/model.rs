//! The model that this router serves: what is in the file, without its weights.

use crate::error::RouterError;
use estafette_config::RouterSettings;
use estafette_gguf::GgufFile;
use estafette_tokenizer::Tokenizer;
use estafette_types::HashSeed;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Fixed for the life of the process.
#[derive(Debug)]
pub(crate) struct ServedModel {
    /// Clients ask for this name.
    pub(crate) name: String,
    /// Shared with the detokenisers of running answers.
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// The identity of the file: workers must have the same one.
    pub(crate) digest: [u8; 32],
    /// Parent of every first block.
    pub(crate) seed: HashSeed,
    /// Positions that the model was made for.
    pub(crate) context_length: u32,
    /// Start of the process, in seconds since 1970: what `/v1/models` calls `created`.
    pub(crate) created: u64,
}

impl ServedModel {
    /// Reads the file's header.
    ///
    /// # Errors
    /// When it is damaged, or has no tokenizer that can be used.
    pub(crate) fn load(settings: &RouterSettings) -> Result<Self, RouterError> {
        let file = GgufFile::open(&settings.model)?;
        let tokenizer = Arc::new(Tokenizer::from_gguf(&file)?);
        let architecture = file.text("general.architecture")?;
        let context = file.integer(&format!("{architecture}.context_length"))?.unwrap_or(0);
        let digest = file.digest();
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Ok(Self {
            name: settings.served_model_name.clone().unwrap_or_else(|| file_name(settings)),
            tokenizer,
            digest,
            seed: HashSeed::new(&digest, "", ""),
            context_length: u32::try_from(context).unwrap_or(u32::MAX),
            created,
        })
    }

    /// Whether a client that asks for `name` means this model. An empty name means the only one.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        name.is_empty() || name == self.name
    }
}

/// The file's name without its ending: what people call a model, unlike `general.name`, which converters fill.
fn file_name(settings: &RouterSettings) -> String {
    let stem = settings.model.file_stem().and_then(|stem| stem.to_str());
    stem.unwrap_or("default").to_owned()
}

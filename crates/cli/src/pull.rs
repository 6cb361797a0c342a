//! `estafette pull ORG/REPO[:file]`: a model from the Hugging Face hub into its usual cache.

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use estafette_gguf::GgufFile;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use indicatif::ProgressBar;

/// A broken connection is taken up again where it broke, this many times.
const RETRIES: usize = 5;

/// Flags of `estafette pull`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PullArgs {
    /// The repository, and the file in it when it has several GGUF files: ORG/REPO[:file].
    model: String,
}

#[expect(clippy::print_stdout, reason = "the path is the command's result")]
pub(crate) fn run(args: &PullArgs) -> Result<()> {
    let (repo, file) = parse(&args.model)?;
    let api: Api = ApiBuilder::from_env().with_retries(RETRIES).build()?;
    let repo_api = api.model(repo.to_owned());
    let file = match file {
        Some(file) => file.to_owned(),
        None => only_gguf(&repo_api, repo)?,
    };
    let path = repo_api.download_with_progress(&file, ProgressBar::new(0)).with_context(|| {
        format!("cannot get {file} of {repo} from the hub (is there a network?)")
    })?;
    GgufFile::open(&path).with_context(|| format!("{} was loaded", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// `ORG/REPO` and the file, if one is named.
fn parse(model: &str) -> Result<(&str, Option<&str>)> {
    let (repo, file) = match model.split_once(':') {
        Some((repo, file)) => (repo, Some(file)),
        None => (model, None),
    };
    let parts: Vec<&str> = repo.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    ensure!(
        parts.len() == 2 && parts.iter().all(plain),
        "`{model}` is not ORG/REPO or ORG/REPO:file.gguf"
    );
    if let Some(file) = file {
        let inside = !file.split('/').any(|part| part == ".." || part.is_empty());
        ensure!(file.ends_with(".gguf") && inside, "`{file}` is no GGUF file of a repository");
    }
    Ok((repo, file))
}

/// The repository's GGUF file when there is one only; otherwise the choice is the user's.
fn only_gguf(api: &ApiRepo, repo: &str) -> Result<String> {
    let info = api
        .info()
        .with_context(|| format!("cannot ask the hub about {repo} (is there a network?)"))?;
    let mut files: Vec<String> = info
        .siblings
        .into_iter()
        .map(|sibling| sibling.rfilename)
        .filter(|name| name.ends_with(".gguf"))
        .collect();
    match files.len() {
        0 => bail!("{repo} has no GGUF file"),
        1 => Ok(files.remove(0)),
        _ => {
            let choices: Vec<String> = files.iter().map(|f| format!("  {repo}:{f}")).collect();
            bail!("{repo} has several GGUF files, name one:\n{}", choices.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_repository_and_maybe_a_file() {
        assert_eq!(parse("org/repo").unwrap(), ("org/repo", None));
        assert_eq!(parse("org/repo:a/b.gguf").unwrap(), ("org/repo", Some("a/b.gguf")));
        for bad in ["repo", "a/b/c", "../x", "org/", "org/repo:x.bin", "org/repo:../x.gguf"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

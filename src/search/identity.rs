//! What a study is about, and whether a journal is about the same.

use std::path::Path;

use super::candidate::fnv1a;
use super::error::StudyError;
use super::journal::{FORMAT, Header};
use super::space::SearchSpace;
use super::study::StudyOptions;

/// The header of a study of `space` with results of the evaluator of `version`.
pub(super) fn header(space: &SearchSpace, options: &StudyOptions, version: u64) -> Header {
    let texts = options.sources.iter().map(|source| format!("{:?} {}\n", source.role, source.text));
    // Wall time stops a search and never steers it; everything else does.
    let mut steering = space.clone();
    steering.budget.wall = None;
    let hashed = format!("{steering:?}\n{}", texts.collect::<String>());
    Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        study: space.name.clone(),
        seed: space.seeds.base,
        proposer: options.proposer.name().to_owned(),
        evaluator: format!("{version:016x}"),
        hash: format!("{:016x}", fnv1a(hashed.as_bytes())),
        sources: options.sources.clone(),
    }
}

/// Whether a journal begun with `found` may go on under `wanted`.
pub(super) fn same(folder: &Path, found: &Header, wanted: &Header) -> Result<(), StudyError> {
    let what = if found.format != wanted.format {
        format!("journal format {} instead of {}", found.format, wanted.format)
    } else if found.version != wanted.version {
        format!("version {} of this program instead of {}", found.version, wanted.version)
    } else if found.seed != wanted.seed {
        format!("seed {} instead of {}", found.seed, wanted.seed)
    } else if found.proposer != wanted.proposer {
        format!("proposer `{}` instead of `{}`", found.proposer, wanted.proposer)
    } else if found.hash != wanted.hash {
        format!("other {}", differing(found, wanted))
    } else if found.study != wanted.study || found.evaluator != wanted.evaluator {
        "other defaults or another run length".to_owned()
    } else {
        return Ok(());
    };
    Err(StudyError::Different { folder: folder.to_owned(), what })
}

/// Which input files are not as they were.
fn differing(found: &Header, wanted: &Header) -> String {
    let changed = wanted.sources.iter().filter(|source| {
        !found.sources.iter().any(|old| old.role == source.role && old.text == source.text)
    });
    let names: Vec<String> = changed.map(|source| format!("text in `{}`", source.file)).collect();
    if names.is_empty() { "settings (budget, seeds)".to_owned() } else { names.join(" and ") }
}

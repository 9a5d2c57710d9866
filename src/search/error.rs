//! What can go wrong with a study that is not about the text of an input file.

use std::path::PathBuf;

/// Why a study cannot go on. Whatever happened, its journal stays readable.
#[derive(Debug)]
#[non_exhaustive]
pub enum StudyError {
    /// The folder holds a study and neither resuming nor overwriting was asked for.
    Exists {
        /// The study's folder.
        folder: PathBuf,
    },
    /// Another process works on the study.
    Locked {
        /// The study's folder.
        folder: PathBuf,
    },
    /// The journal was written under other inputs.
    Different {
        /// The study's folder.
        folder: PathBuf,
        /// What is not the same, in words.
        what: String,
    },
    /// A line in the middle of the journal is damaged.
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder cannot be read or written.
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}

impl StudyError {
    /// What to do about it, where something can be pasted or said.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Exists { .. } => "go on with `--resume`, or start anew with `--overwrite`",
            Self::Locked { .. } => "wait for the other process to end, or stop it",
            Self::Different { .. } => {
                "restore the inputs of the study, or start anew with `--overwrite`"
            }
            Self::Corrupt { .. } => {
                "restore the journal from a copy, or start anew with `--overwrite`"
            }
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    "make room, then go on with `--resume`"
                }
                _ => return None,
            },
        })
    }
}

impl std::fmt::Display for StudyError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exists { folder } => {
                write!(formatter, "`{}` already holds a study", folder.display())
            }
            Self::Locked { folder } => {
                write!(formatter, "another process works on the study in `{}`", folder.display())
            }
            Self::Different { folder, what } => {
                write!(formatter, "the study in `{}` was begun with {what}", folder.display())
            }
            Self::Corrupt { path, line, reason } => {
                write!(formatter, "line {line} of `{}` is damaged: {reason}", path.display())
            }
            Self::Io { path, action, source } => {
                write!(formatter, "cannot {action} `{}`: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for StudyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

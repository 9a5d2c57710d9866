//! The journal of a study: the only truth, one checked line per event.
//!
//! A line is `{"sum":"<16 hex digits>","entry":<JSON>}`; the sum is FNV-1a (64 bit) of the entry's
//! bytes. Lines are flushed to the disk one by one. A process that dies can tear the last line
//! only: a damaged last line is cut off when the journal is opened again, a damaged line before
//! it is an error.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::candidate::fnv1a;
use super::error::StudyError;
use super::evaluate::Run;
use super::fresh::Finding;
use super::propose::Origin;
use super::read::Source;

/// The version of the journal's format.
pub const FORMAT: u32 = 3;

/// An event of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// The first line: what the study is about.
    Header(Header),
    /// A batch of candidates to evaluate.
    Proposed {
        /// Counts from 0.
        batch: u64,
        /// In order; trials are numbered in this order throughout the study.
        candidates: Vec<ProposedCandidate>,
    },
    /// The runs of one candidate.
    Evaluated {
        /// The trial's number, from 0.
        trial: usize,
        /// The candidate's active knobs.
        knobs: Json,
        /// One per search seed that it met.
        runs: Vec<Run>,
        /// Why it met no more of them, where it did not meet all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dropped: Option<String>,
        /// What they amount to; derived, for readers of the journal.
        score: Json,
    },
    /// No more candidates will be proposed.
    Searched {
        /// Why.
        why: SearchEnd,
    },
    /// A candidate met fresh seeds, or more of them.
    Verified {
        /// Which trial.
        trial: usize,
        /// 0: as a finalist; from 1 on in that round of the certificate.
        round: u32,
        /// One per fresh seed that it met since it was last looked at.
        runs: Vec<Run>,
        /// Runs of the winner under fresh seeds of the round that it had not met before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rival: Vec<Run>,
        /// What all its runs on fresh seeds amount to; derived.
        score: Json,
        /// What became of it; derived.
        found: Finding,
    },
    /// A round of the certificate: what lies one step from the winner so far.
    Neighbours {
        /// Counts from 1.
        round: u32,
        /// The winner so far.
        winner: usize,
        /// In the order in which they are tried; those to simulate are proposed hereafter, unless
        /// they are trials already.
        neighbours: Vec<ListedNeighbour>,
    },
    /// Points of the frontier that are to meet fresh seeds.
    Frontier {
        /// Counts from 1.
        wave: u32,
        /// The trials, in the order in which they are told.
        trials: Vec<usize>,
    },
    /// A point of the frontier met fresh seeds, or more of them.
    Retested {
        /// Which trial; it is of the last wave.
        trial: usize,
        /// One per fresh seed that it met since it was last looked at.
        runs: Vec<Run>,
        /// What all its runs on fresh seeds amount to; derived.
        score: Json,
        /// What became of it; derived.
        found: Finding,
    },
    /// The last line.
    Finished {
        /// The trial that kept its promises on fresh seeds, where one did.
        winner: Option<usize>,
    },
}

/// What a study is about; the same inputs give the same header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The version of the format.
    pub format: u32,
    /// The version of this program.
    pub version: String,
    /// The study's name.
    pub study: String,
    /// The first seed.
    pub seed: u64,
    /// Who proposes.
    pub proposer: String,
    /// The evaluator's version, in hex.
    pub evaluator: String,
    /// FNV-1a of all sources, in hex.
    pub hash: String,
    /// The input files with their texts: whoever has the journal can read the study.
    pub sources: Vec<Source>,
}

/// A candidate of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposedCandidate {
    /// Who proposed it.
    pub by: Origin,
    /// Its active knobs.
    pub knobs: Json,
}

/// A candidate one step from a winner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedNeighbour {
    /// Its active knobs.
    pub knobs: Json,
    /// Why it need not be simulated, where it is certain that it is no better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<String>,
}

/// Why a search stopped proposing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SearchEnd {
    /// All evaluations of the budget were spent.
    Evaluations,
    /// The wall time of the budget was spent.
    Wall,
    /// The requests of the budget were simulated.
    Requests,
    /// One more evaluation was expected to gain too little.
    Gain,
    /// Every candidate of the space was evaluated.
    Exhausted,
}

/// An open journal, at its end.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
}

impl Journal {
    /// Opens or creates the journal at `path`, cuts a damaged last line off, and gives what it
    /// tells.
    ///
    /// # Errors
    /// [`StudyError::Corrupt`] for a damaged line in the middle, [`StudyError::Io`].
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>), StudyError> {
        let io = |action| move |source| StudyError::Io { path: path.to_owned(), action, source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        let (entries, length) = read(path, &bytes)?;
        if length < bytes.len() {
            file.set_len(length as u64).map_err(io("repair"))?;
        }
        file.seek(SeekFrom::Start(length as u64)).map_err(io("open"))?;
        Ok((Self { file, path: path.to_owned(), length: length as u64 }, entries))
    }

    /// Appends `entry` and flushes it to the disk. After an error the journal holds the entries
    /// before it.
    ///
    /// # Errors
    /// [`StudyError::Io`].
    pub fn append(&mut self, entry: &Entry) -> Result<(), StudyError> {
        let line = line(entry);
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Should this fail too, opening cuts the torn line off.
                let _ = self.file.set_len(self.length);
                let _ = self.file.seek(SeekFrom::Start(self.length));
                Err(StudyError::Io { path: self.path.clone(), action: "write", source })
            }
        }
    }
}

/// Reads the entries of a journal without touching it; a damaged last line is left out.
///
/// # Errors
/// [`StudyError::Corrupt`] for a damaged line in the middle, [`StudyError::Io`].
pub fn read_file(path: &Path) -> Result<Vec<Entry>, StudyError> {
    let bytes = std::fs::read(path).map_err(|source| StudyError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    read(path, &bytes).map(|(entries, _)| entries)
}

const HEAD: &str = "{\"sum\":\"";
const MIDDLE: &str = "\",\"entry\":";

fn line(entry: &Entry) -> String {
    let payload = serde_json::to_string(entry).expect("entries hold nothing JSON cannot carry");
    format!("{HEAD}{:016x}{MIDDLE}{payload}}}\n", fnv1a(payload.as_bytes()))
}

/// The entries in `bytes`, and how many bytes their lines are.
fn read(path: &Path, bytes: &[u8]) -> Result<(Vec<Entry>, usize), StudyError> {
    let mut entries = Vec::new();
    let mut length = 0;
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match read_line(line) {
            Ok(entry) => entries.push(entry),
            Err(_) if length + line.len() == bytes.len() => break,
            Err(reason) => {
                return Err(StudyError::Corrupt { path: path.to_owned(), line: index + 1, reason });
            }
        }
        length += line.len();
    }
    Ok((entries, length))
}

fn read_line(line: &[u8]) -> Result<Entry, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not text".to_owned())?;
    let shape = || "it does not look like a line of a journal".to_owned();
    let rest = text.strip_suffix("}\n").and_then(|text| text.strip_prefix(HEAD));
    let (sum, payload) = rest.and_then(|rest| rest.split_once(MIDDLE)).ok_or_else(shape)?;
    if sum != format!("{:016x}", fnv1a(payload.as_bytes())) {
        return Err("its checksum does not fit".to_owned());
    }
    serde_json::from_str(payload).map_err(|error| format!("it cannot be understood ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::Searched { why: SearchEnd::Evaluations },
            Entry::Proposed { batch: 3, candidates: vec![] },
            Entry::Finished { winner: Some(2) },
        ]
    }

    fn text(entries: &[Entry]) -> String {
        entries.iter().map(line).collect()
    }

    fn read_back(bytes: &[u8]) -> Result<(Vec<Entry>, usize), StudyError> {
        read(Path::new("journal.jsonl"), bytes)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let text = text(&entries());
        let (read, length) = read_back(text.as_bytes()).expect("whole");
        assert_eq!((read, length), (entries(), text.len()));
    }

    #[test]
    fn every_line_is_json_for_other_tools() {
        for line in text(&entries()).lines() {
            let json: Json = serde_json::from_str(line).expect("JSON");
            assert!(json["entry"]["kind"].is_string());
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_is_torn() {
        let text = text(&entries());
        let two = self::text(&entries()[..2]).len();
        for cut in two..text.len() {
            let (read, length) = read_back(&text.as_bytes()[..cut]).expect("torn tail");
            assert_eq!((read.len(), length), (2, two), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_byte_in_the_middle_names_its_line_and_in_the_last_line_is_cut_off() {
        let text = text(&entries());
        let first = self::text(&entries()[..1]).len();
        let two = self::text(&entries()[..2]).len();
        for at in first..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            match read_back(&bytes) {
                Err(StudyError::Corrupt { line, .. }) => assert_eq!(line, 2, "byte {at}"),
                Ok((read, length)) => {
                    assert!(at >= two - 1, "byte {at}");
                    assert!(length <= two && read.len() <= 2);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

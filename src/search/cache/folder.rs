//! Checked texts by name in a folder that several processes share.
//!
//! One small file each, in 256 folders. A file is written beside its place and renamed into it:
//! whoever reads sees all of it or nothing, whenever a process dies. What a machine tears that
//! loses its power is found out by the checksum, which covers the name too. There is nothing to
//! read at the start, nothing to lock and nothing to repair.
//!
//! Each of the folders keeps its share of the space: whoever has filled one up drops its oldest
//! files. Names are hashes, so that all folders fill alike.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::base::Hash128;

/// Raised when the texts mean something else.
const FORMAT: &str = "runs-1";
const SHARDS: usize = 256;
/// File systems keep files in blocks of about this size.
const BLOCK: u64 = 4096;
/// A folder that is full is emptied down to this share.
const KEPT: f64 = 0.75;
/// Numbers the files that this process writes.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// What a cache holds on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries.
    pub entries: u64,
    /// Bytes on disk, with the room that file systems leave at the end of each file.
    pub bytes: u64,
}

/// A folder of checked texts by name.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The most bytes in one of its folders.
    shard_max: u64,
    /// Bytes in each of its folders, once this process has put something there.
    shards: Vec<Mutex<Option<u64>>>,
    trouble: Mutex<Option<String>>,
}

/// A file in one of the folders.
struct Item {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl Folder {
    /// The folder at `path`, which keeps about `bytes_max` bytes. Nothing is touched yet.
    pub fn new(path: &Path, bytes_max: u64) -> Self {
        Self {
            path: path.to_owned(),
            shard_max: bytes_max / SHARDS as u64,
            shards: (0..SHARDS).map(|_| Mutex::new(None)).collect(),
            trouble: Mutex::new(None),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What first went wrong; from then on nothing is written.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The text called `name`, where it is there and whole.
    pub fn get(&self, name: u128) -> Option<String> {
        let path = self.file(name);
        match fs::read_to_string(&path) {
            Ok(text) => unwrapped(name, &text).map(str::to_owned),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => None,
            // What is no text is torn, and written again.
            Err(problem) if problem.kind() == io::ErrorKind::InvalidData => None,
            Err(problem) => {
                self.note("read", &path, &problem);
                None
            }
        }
    }

    /// Keeps `payload`, one line, under `name`, unless something went wrong before.
    pub fn put(&self, name: u128, payload: &str) {
        if self.trouble().is_some() {
            return;
        }
        let path = self.file(name);
        if let Err(problem) = self.try_put(name, payload, &path) {
            self.note("write", &path, &problem);
        }
    }

    fn try_put(&self, name: u128, payload: &str, path: &Path) -> io::Result<()> {
        let text = wrapped(name, payload);
        let shard = self.shard(name);
        fs::create_dir_all(&shard)?;
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_extension(format!("{}-{number}", std::process::id()));
        let put = OpenOptions::new().write(true).create_new(true).open(&beside).and_then(|file| {
            let mut file = file;
            file.write_all(text.as_bytes())?;
            fs::rename(&beside, path)
        });
        match put {
            Ok(()) => self.keep_small(shard_of(name), &shard, on_disk(text.len() as u64)),
            // Another process took it for something old, or left one of the same name behind.
            Err(problem)
                if [io::ErrorKind::NotFound, io::ErrorKind::AlreadyExists]
                    .contains(&problem.kind()) =>
            {
                Ok(())
            }
            Err(problem) => {
                // Half a file is of no use; the first problem is the one to tell.
                let _ = fs::remove_file(&beside);
                Err(problem)
            }
        }
    }

    /// Counts `added` bytes more in folder `index`, and drops its oldest files where it is full.
    fn keep_small(&self, index: usize, shard: &Path, added: u64) -> io::Result<()> {
        let mut known = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = known.as_mut() {
            *bytes += added;
            if *bytes <= self.shard_max {
                return Ok(());
            }
        }
        let mut items = items(shard)?;
        items.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        let mut bytes: u64 = items.iter().map(|item| item.bytes).sum();
        if bytes > self.shard_max {
            let kept = (self.shard_max as f64 * KEPT) as u64;
            for item in &items {
                if bytes <= kept {
                    break;
                }
                removed(&item.path)?;
                bytes -= item.bytes;
            }
        }
        *known = Some(bytes);
        Ok(())
    }

    /// Counts what is there.
    pub fn usage(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        for shard in (0..SHARDS).map(|index| self.shard_at(index)) {
            for item in items(&shard)? {
                usage.entries += 1;
                usage.bytes += item.bytes;
            }
        }
        Ok(usage)
    }

    /// Removes what is there, and tells what it was.
    pub fn clear(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        for shard in (0..SHARDS).map(|index| self.shard_at(index)) {
            for item in items(&shard)? {
                removed(&item.path)?;
                usage.entries += 1;
                usage.bytes += item.bytes;
            }
            // Somebody may have put something there meanwhile.
            let _ = fs::remove_dir(shard);
        }
        let _ = fs::remove_dir(self.path.join(FORMAT));
        Ok(usage)
    }

    fn note(&self, action: &str, path: &Path, problem: &io::Error) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.get_or_insert_with(|| format!("cannot {action} `{}`: {problem}", path.display()));
    }

    fn shard(&self, name: u128) -> PathBuf {
        self.shard_at(shard_of(name))
    }

    fn shard_at(&self, index: usize) -> PathBuf {
        self.path.join(FORMAT).join(format!("{index:02x}"))
    }

    fn file(&self, name: u128) -> PathBuf {
        self.shard(name).join(format!("{name:032x}"))
    }
}

fn shard_of(name: u128) -> usize {
    (name >> 120) as usize
}

/// The room that a file of `length` bytes takes.
fn on_disk(length: u64) -> u64 {
    length.div_ceil(BLOCK).max(1) * BLOCK
}

/// The files in `shard`; none where it is not there. What vanishes meanwhile is left out.
fn items(shard: &Path) -> io::Result<Vec<Item>> {
    let entries = match fs::read_dir(shard) {
        Ok(entries) => entries,
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(problem) => return Err(problem),
    };
    let mut items = Vec::new();
    for entry in entries {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_hexdigit());
        let Ok(metadata) = entry.metadata() else { continue };
        if ours && metadata.is_file() {
            let (bytes, modified) = (on_disk(metadata.len()), metadata.modified()?);
            items.push(Item { path: entry.path(), bytes, modified });
        }
    }
    Ok(items)
}

/// Removes a file that another process may have removed already.
fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(problem),
        _ => Ok(()),
    }
}

const HEAD: &str = "{\"sum\":\"";
const MIDDLE: &str = "\",\"run\":";
const TAIL: &str = "}\n";

fn wrapped(name: u128, payload: &str) -> String {
    format!("{HEAD}{}{MIDDLE}{payload}{TAIL}", sum(name, payload))
}

fn unwrapped(name: u128, text: &str) -> Option<&str> {
    let rest = text.strip_prefix(HEAD)?.strip_suffix(TAIL)?;
    let (found, payload) = rest.split_once(MIDDLE)?;
    (found == sum(name, payload)).then_some(payload)
}

fn sum(name: u128, payload: &str) -> String {
    let mut hash = Hash128::new();
    hash.update(&name.to_le_bytes());
    hash.update(payload.as_bytes());
    format!("{:032x}", hash.finish())
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

//! Runs remembered across studies: nobody simulates the same policy twice.
//!
//! What is remembered is what one run of one policy told, figures and stability, before anything
//! that belongs to a search space: its fitness, its mix of scenarios, its limits. Whoever asks
//! for the same run gets the same figures to the last bit, so that a study has the same bytes
//! with a cache that knows all of its runs, some or none.
//!
//! A run of a search that was stopped is remembered beside, under a name that its limits are part
//! of. A whole run serves in its place only where its figures are within those limits: then it
//! cannot have been stopped.
//!
//! # What names a run
//!
//! A hash of 128 bits over all that a run is a function of: the policy bundle with prices and
//! coefficients resolved, the workload with the content of its traces, the seed, what befalls the
//! fleet, where the run begins and ends and what is measured of it, and [`simulator`].
//!
//! # What names the simulator
//!
//! The content of the program that is running: any change of its sources, of a dependency, of the
//! compiler or of its flags is a change of that. A version number, a commit or a time would be
//! wrong as soon as somebody forgets it. What lies outside of the program is the mathematics
//! library of the system, which may differ in last bits from one machine to another: what it
//! answers to a few hundred questions is part of the hash too.

mod folder;
mod maths;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::metric::Figures;
use crate::base::Hash128;
use folder::Folder;

pub use folder::Usage;

/// The most that a cache keeps on disk, in bytes, about; the oldest runs go first.
pub const BYTES_MAX: u64 = 256 << 20;

/// What one run told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// Whether its queue stopped growing.
    pub stable: bool,
    /// Everything measured; nothing where it was stopped.
    pub figures: Figures,
    /// Where it was stopped: by which line, after which share of its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<(usize, f64)>,
}

/// Runs in a folder that several processes may share. Nothing that goes wrong with it is an
/// error: what cannot be read is simulated, what cannot be written is forgotten.
#[derive(Debug)]
pub struct RunCache {
    folder: Folder,
    simulator: u128,
    asked: AtomicU64,
    found: AtomicU64,
}

impl RunCache {
    /// The cache in `folder`, which is made when something is put into it.
    ///
    /// # Errors
    /// Where the running program cannot be read, so that nothing says whose runs these are.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self::of(folder, simulator()?))
    }

    /// The cache in `folder` of runs by the simulator of this name.
    pub fn of(folder: &Path, simulator: u128) -> Self {
        let folder = Folder::new(folder, BYTES_MAX);
        Self { folder, simulator, asked: AtomicU64::new(0), found: AtomicU64::new(0) }
    }

    /// The hash that names a run begins with this one.
    pub(super) fn hash(&self) -> Hash128 {
        let mut hash = Hash128::new();
        hash.update(&self.simulator.to_le_bytes());
        hash
    }

    /// What the run called `name` told, where it is known.
    pub(super) fn get(&self, name: u128) -> Option<Remembered> {
        serde_json::from_str(&self.folder.get(name)?).ok()
    }

    /// Counts a run that was asked for, and whether it was `found`.
    pub(super) fn count(&self, found: bool) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.found.fetch_add(u64::from(found), Ordering::Relaxed);
    }

    /// Remembers what the run called `name` told.
    pub(super) fn put(&self, name: u128, run: &Remembered) {
        let payload = serde_json::to_string(run).expect("figures are finite numbers with names");
        self.folder.put(name, &payload);
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How many runs were asked for since it was opened.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many of them were known.
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// What first went wrong with its files, in a sentence.
    pub fn trouble(&self) -> Option<String> {
        self.folder.trouble()
    }

    /// What it holds on disk.
    ///
    /// # Errors
    /// Where the folder is there and cannot be listed.
    pub fn usage(folder: &Path) -> io::Result<Usage> {
        Folder::new(folder, BYTES_MAX).usage()
    }

    /// Forgets everything, and tells what that was. Other files in the folder stay.
    ///
    /// # Errors
    /// Where something cannot be listed or removed.
    pub fn clear(folder: &Path) -> io::Result<Usage> {
        Folder::new(folder, BYTES_MAX).clear()
    }
}

/// The default folder: `blis-opt` in `$XDG_CACHE_HOME`, else in `$HOME/.cache`; `None` where
/// neither is set to a path from the root.
pub fn default_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let rooted = |path: &PathBuf| path.is_absolute();
    let cache = variable("XDG_CACHE_HOME").filter(rooted);
    let cache = cache.or_else(|| Some(variable("HOME").filter(rooted)?.join(".cache")));
    cache.map(|cache| cache.join("blis-opt"))
}

/// A hash of everything that decides what a run tells besides its arguments: the content of the
/// running program, and the mathematics of this machine.
///
/// # Errors
/// Where the program cannot be read.
pub fn simulator() -> io::Result<u128> {
    let mut hash = Hash128::new();
    let mut program = program()?;
    let mut piece = vec![0; 1 << 18];
    loop {
        match program.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    maths::answers(|answer| hash.update(&answer.to_bits().to_le_bytes()));
    Ok(hash.finish())
}

/// The file of the running program. Where the system gives it by itself, that is the program that
/// runs even if another one was installed in its place since.
fn program() -> io::Result<File> {
    File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulator_keeps_its_name() {
        assert_eq!(simulator().expect("readable"), simulator().expect("readable"));
    }

    #[test]
    fn what_was_put_is_found_to_the_last_bit_and_by_its_simulator_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = RunCache::of(folder.path(), 1);
        let mut figures = Figures::default();
        for (index, value) in [0.1 + 0.2, -0.0, 1e-310, f64::MAX, 1.0 / 3.0].iter().enumerate() {
            figures.set(&format!("figure {index}"), *value);
        }
        let run = Remembered { stable: true, figures, stopped: None };
        let name = |cache: &RunCache| cache.hash().finish();
        assert_eq!(cache.get(name(&cache)), None);
        cache.put(name(&cache), &run);
        let known = RunCache::of(folder.path(), 1);
        let found = known.get(name(&known)).expect("it was put");
        let bits = |run: &Remembered| -> Vec<u64> {
            run.figures.iter().map(|(_, value)| value.to_bits()).collect()
        };
        assert_eq!((found.stable, bits(&found)), (true, bits(&run)));
        assert_eq!(found.stopped, None);
        let other = RunCache::of(folder.path(), 2);
        assert_eq!(other.get(name(&other)), None);
    }

    #[test]
    fn the_default_folder_is_the_users_cache_or_nowhere() {
        let of = |cache: Option<&str>, home: Option<&str>| {
            default_folder(|name| {
                let value = if name == "HOME" { home } else { cache };
                value.map(PathBuf::from)
            })
        };
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(of(Some("/c"), Some("/home/a")), path("/c/blis-opt"));
        assert_eq!(of(None, Some("/home/a")), path("/home/a/.cache/blis-opt"));
        assert_eq!(of(Some("here"), None), None);
        assert_eq!(of(Some(""), Some("/home/a")), path("/home/a/.cache/blis-opt"));
        assert_eq!(of(None, None), None);
    }
}

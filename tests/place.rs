//! The built program in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A folder of its own for one test, and the program in it.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a written file");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|problem| panic!("{name}: {problem}"))
    }

    /// The program with these arguments, separated by blanks.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blis-opt"));
        command
            .env_clear()
            .current_dir(self.0.path())
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &str) -> Ended {
        Ended::of(&self.command(arguments).output().expect("the program runs"))
    }

    pub fn start(&self, arguments: &str) -> Child {
        self.command(arguments).spawn().expect("the program starts")
    }
}

/// How a run ended and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub talk: String,
}

impl Ended {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self { code: output.status.code(), out: text(&output.stdout), talk: text(&output.stderr) }
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.talk);
        self
    }
}

/// Waits until the journals of the studies in `folders` have `lines` lines together; panics when
/// the search ends before, since there is nothing left to disturb then.
pub fn wait_for_lines(child: &mut Child, folders: &[PathBuf], lines: usize) {
    let journal =
        |folder: &PathBuf| fs::read_to_string(folder.join("journal.jsonl")).unwrap_or_default();
    while folders.iter().map(|folder| journal(folder).lines().count()).sum::<usize>() < lines {
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none(), "the search ended before line {lines}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends what Ctrl-C sends.
pub fn interrupt(child: &Child) {
    let line = format!("kill -INT {}", child.id());
    let sent = Command::new("sh").args(["-c", &line]).status().expect("a shell");
    assert!(sent.success());
}

/// Every file of a finished study but the lock, with its text.
pub fn files_of(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .expect("a study")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.file_name().is_some_and(|name| name != "lock"))
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("UTF-8"))
        })
        .collect();
    files.sort();
    files
}

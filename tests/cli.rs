//! The built program from end to end: cleared environment, a temporary folder, real signals.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A folder of its own for one test, and the program in it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a written file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|problem| panic!("{name}: {problem}"))
    }

    /// The program with these arguments, separated by blanks.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blis-opt"));
        command
            .env_clear()
            .current_dir(self.folder.path())
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &str) -> Ended {
        Ended::of(&self.command(arguments).output().expect("the program runs"))
    }

    fn start(&self, arguments: &str) -> Child {
        self.command(arguments).spawn().expect("the program starts")
    }
}

/// How a run ended and what it printed.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    talk: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self { code: output.status.code(), out: text(&output.stdout), talk: text(&output.stderr) }
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.talk);
        self
    }
}

#[test]
fn help_says_what_there_is() {
    let place = Place::new();
    insta::assert_snapshot!("help", place.run("--help").expect(0).out);
    for command in ["search", "run", "check", "pareto", "report", "completions"] {
        let help = place.run(&format!("{command} --help")).expect(0).out;
        insta::assert_snapshot!(format!("help-{command}"), help);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    let place = Place::new();
    for line in [
        "",
        "serach x.yaml",
        "search",
        "search x.yaml --resume --overwrite",
        "search x.yaml --budget 0",
        "run x.yaml",
        "run x.yaml --rate -3",
        "run x.yaml --rate NaN",
        "run x.yaml --rate 3 --workload y.yaml",
        "run x.yaml --rate 3 --duration 5parsecs",
        "run x.yaml --rate 3 --num-requests 5 --duration 5s",
        "run x.yaml --workload w.yaml --preset chatbot",
        "run x.yaml --rate 3 --fitness-weights p99_ttft",
        "check x.yaml --threads 0",
        "check x.yaml -q -v",
        "completions tcsh",
    ] {
        let ended = place.run(line).expect(2);
        assert!(ended.out.is_empty(), "{line}: talk belongs to stderr");
        assert!(!ended.talk.is_empty(), "{line}: must say what is wrong");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let place = Place::new();
    for line in ["check x.yaml", "run x.yaml --rate 3", "search x.yaml", "report x", "pareto x"] {
        let ended = place.run(line).expect(1);
        assert!(ended.talk.contains("`x") || ended.talk.contains(" x"), "{line}: {}", ended.talk);
        assert!(ended.out.is_empty());
    }
}

#[test]
fn every_shell_gets_a_script() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = place.run(&format!("completions {shell}")).expect(0).out;
        assert!(script.contains("--resume"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut child = place.start("completions bash");
    drop(child.stdout.take());
    let ended = Ended::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(ended.expect(0).talk, "");
}

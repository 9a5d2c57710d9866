//! The shape of the source: arrows between rooms, sizes, strictness, samples that are valid.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_PER_FILE_MAX: usize = 600;
const LINES_PER_FUNCTION_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// Rooms from the right end of the arrows to the left; rooms of one rank do not know each other.
const RANKS: [(&str, u8); 10] = [
    ("base", 0),
    ("config", 1),
    ("workload", 2),
    ("latency", 2),
    ("policy", 2),
    ("scenario", 2),
    ("sim", 3),
    ("search", 4),
    ("report", 5),
    ("cli", 6),
];

/// Edges between rooms of one rank: a bundle names a latency model, a view shows a request.
const EDGES_BESIDES: [(&str, &str); 2] = [("policy", "latency"), ("policy", "workload")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` whose name ends in `ending`, in order of path; none if the folder
/// does not exist.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn rust_files() -> Vec<PathBuf> {
    ["src", "tests", "benches"].iter().flat_map(|folder| files(folder, ".rs")).collect()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("readable UTF-8")
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn rank(room: &str) -> u8 {
    RANKS.iter().find(|(name, _)| *name == room).map_or_else(
        || panic!("room `{room}` has no rank: add it to RANKS and to src/lib.rs"),
        |(_, rank)| *rank,
    )
}

/// Rooms that a line of source names as `crate::room`, also in `use crate::{a::x, b::y}`.
fn rooms_named(source: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for part in source.split("crate::").skip(1) {
        if let Some(group) = part.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut word = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => rooms.push(std::mem::take(&mut word)),
                    _ if depth == 0 => word.push(letter),
                    _ => {}
                }
            }
            rooms.push(word);
        } else {
            rooms.push(part.to_owned());
        }
    }
    let first_word = |text: String| {
        let name = |c: &char| c.is_ascii_lowercase() || *c == '_';
        text.trim_start().chars().take_while(name).collect::<String>()
    };
    rooms.into_iter().map(first_word).filter(|room| !room.is_empty()).collect()
}

#[test]
fn arrows_between_rooms_go_one_way() {
    let mut findings = Vec::new();
    for path in files("src", ".rs") {
        let inside = path.strip_prefix(root().join("src")).expect("a file of src");
        let Some(room) = inside.iter().next().filter(|_| inside.iter().count() > 1) else {
            continue;
        };
        let room = room.to_string_lossy().into_owned();
        let code: String = text(&path)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        for other in rooms_named(&code) {
            let besides = EDGES_BESIDES.contains(&(room.as_str(), other.as_str()));
            if room != other && !besides && rank(&room) <= rank(&other) {
                findings.push(format!("{}: {room} must not use {other}", shown(&path)));
            }
        }
    }
    none(&findings);
}

#[test]
fn rooms_are_found_in_every_way_to_write_a_path() {
    let source = "use crate::base::{a, b};\nuse crate::{sim::{x, y}, policy, latency::z};\n\
                  crate::workload::Trace";
    assert_eq!(rooms_named(source), ["base", "sim", "policy", "latency", "workload"]);
}

#[test]
fn files_and_lines_are_short() {
    let mut findings = Vec::new();
    for path in rust_files() {
        let text = text(&path);
        let lines = text.lines().count();
        if lines > LINES_PER_FILE_MAX {
            findings.push(format!("{}: {lines} lines", shown(&path)));
        }
        for (index, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                findings.push(format!("{}:{}: {columns} columns", shown(&path), index + 1));
            }
        }
    }
    none(&findings);
}

/// Functions as (line, length): from `fn` to the closing brace in the same column, as rustfmt
/// writes them.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let head = ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "]
            .iter()
            .fold(code, |code, word| code.strip_prefix(word).unwrap_or(code));
        if !head.starts_with("fn ") || line.trim_end().ends_with(['}', ';']) {
            continue;
        }
        let indent = line.len() - code.len();
        let close = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|line| **line == *close);
        if let Some(length) = length {
            found.push((start + 1, length + 1));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut findings = Vec::new();
    for path in rust_files() {
        for (line, length) in functions(&text(&path)) {
            if length > LINES_PER_FUNCTION_MAX {
                findings.push(format!("{}:{line}: a function of {length} lines", shown(&path)));
            }
        }
    }
    none(&findings);
}

#[test]
fn a_function_reaches_to_its_closing_brace() {
    assert_eq!(functions("fn a() {}\n  pub fn b(\n  ) {\n    x\n  }\n}\n"), [(2, 4)]);
}

#[test]
fn every_test_file_is_compiled() {
    let main = text(&root().join("tests/main.rs"));
    let mut findings = Vec::new();
    for path in files("tests", ".rs") {
        let direct = path.parent() == Some(&root().join("tests"));
        let name = path.file_stem().expect("a file name").to_string_lossy();
        if direct && name != "main" && !main.contains(&format!("mod {name};")) {
            findings.push(format!("tests/{name}.rs is not named in tests/main.rs"));
        }
    }
    none(&findings);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut findings = Vec::new();
    for path in files("src", ".rs") {
        for (index, line) in text(&path).lines().enumerate() {
            // Tests end a file, and a file of tests is declared under cfg(test).
            if line.trim() == "#[cfg(test)]" || path.ends_with("tests.rs") {
                break;
            }
            let comment = line.trim_start().starts_with("//");
            if !comment && line.contains(".unwrap()") {
                findings.push(format!("{}:{}: .unwrap()", shown(&path), index + 1));
            }
        }
    }
    none(&findings);
}

/// The cache of runs names them by what `Debug` says of policies, workloads and conditions: what a
/// text leaves out by hand has to be hashed by hand.
#[test]
fn what_names_a_run_says_everything_of_itself() {
    let hashed_by_hand = ["src/workload/replay.rs"];
    let mut findings = Vec::new();
    for path in rust_files() {
        let name = shown(&path);
        let rooms = ["base", "config", "latency", "policy", "scenario", "sim", "workload"];
        let of_a_run = rooms.iter().any(|room| name.starts_with(&format!("src/{room}/")));
        let by_hand = text(&path).lines().any(|l| l.contains("impl") && l.contains("Debug for"));
        if of_a_run && by_hand && !hashed_by_hand.contains(&name.as_str()) {
            findings.push(format!("{name}: a `Debug` of its own"));
        }
    }
    none(&findings);
}

#[test]
fn nothing_is_left_to_do() {
    let words = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "todo".to_owned() + "!("];
    let mut findings = Vec::new();
    for path in rust_files() {
        for (index, line) in text(&path).lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                findings.push(format!("{}:{}: {}", shown(&path), index + 1, line.trim()));
            }
        }
    }
    none(&findings);
}

#[test]
fn shipped_policies_and_search_spaces_pass_the_check() {
    let samples: Vec<PathBuf> =
        ["policies", "search-spaces"].iter().flat_map(|folder| files(folder, ".yaml")).collect();
    assert!(!samples.is_empty(), "no sample files were found");
    let checked = Command::new(env!("CARGO_BIN_EXE_blis-opt"))
        .current_dir(root())
        .arg("check")
        .args(samples.iter().map(|path| shown(path)))
        .output()
        .expect("the binary runs");
    let talk = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{}{talk}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn the_first_line_of_a_sample_says_what_it_is() {
    let mut findings = Vec::new();
    for folder in ["policies", "search-spaces"] {
        for path in files(folder, ".yaml") {
            if !text(&path).starts_with("# ") {
                findings.push(format!("{}: begins without a comment", shown(&path)));
            }
        }
    }
    none(&findings);
}

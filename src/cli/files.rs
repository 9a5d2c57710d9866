//! Files, with errors that name them.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::exit::Failure;

/// Files larger than this are not configuration; refused before they fill the memory.
const BYTES_MAX: u64 = 64 << 20;

/// The text of a file.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let size = fs::metadata(path).map_err(|problem| unreadable(path, &problem))?.len();
    if size > BYTES_MAX {
        return Err(Failure::input(format!("`{shown}` is larger than 64 MiB")));
    }
    let bytes = fs::read(path).map_err(|problem| unreadable(path, &problem))?;
    String::from_utf8(bytes).map_err(|problem| {
        let before = &problem.as_bytes()[..problem.utf8_error().valid_up_to()];
        let line = String::from_utf8_lossy(before).split('\n').count();
        Failure::input(format!("`{shown}` is not UTF-8 text: see line {line}"))
    })
}

fn unreadable(path: &Path, problem: &io::Error) -> Failure {
    let shown = path.display();
    match problem.kind() {
        io::ErrorKind::NotFound => Failure::input(format!("there is no file `{shown}`")),
        io::ErrorKind::IsADirectory => Failure::input(format!("`{shown}` is a folder")),
        _ => Failure::input(format!("cannot read `{shown}`: {problem}")),
    }
}

/// Writes a whole file or nothing: a temporary neighbour is renamed into place.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let neighbour = path.with_file_name(name);
    let written = fs::File::create(&neighbour)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&neighbour, path));
    written.map_err(|problem| {
        // Half a temporary file is of no use; the first problem is the one to report.
        let _ = fs::remove_file(&neighbour);
        Failure::input(format!("cannot write `{}`: {problem}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).expect("a folder");
        assert!(write_whole(&taken, b"text").is_err());
        let left: Vec<_> = fs::read_dir(folder.path()).expect("a listing").collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn text_that_is_not_utf8_is_named_with_its_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.yaml");
        fs::write(&path, b"a: 1\nb: \xff\n").expect("written");
        let Err(Failure::Message { message, .. }) = read_text(&path) else {
            panic!("must be refused")
        };
        assert!(message.ends_with("is not UTF-8 text: see line 2"), "{message}");
    }
}

//! The lines of a file, compressed or not, and what it held.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use super::{OpenFile, line_at, placed};
use crate::config::{Position, Problems};
use crate::workload::spec::FileDigest;

/// Wrong rows beyond these are not looked for.
const WRONG_MAX: usize = 10;
/// No row of any format is longer, in bytes.
const LINE_MAX: u64 = 1 << 26;

/// Length and FNV-1a of what was read so far.
type Seen = Rc<Cell<(u64, u64)>>;

/// Takes note of what it reads.
struct Watched {
    inner: Box<dyn Read>,
    seen: Seen,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let (bytes, hash) = self.seen.get();
        let hash = buffer[..count]
            .iter()
            .fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        self.seen.set((bytes + count as u64, hash));
        Ok(count)
    }
}

/// The lines of a file.
pub(super) struct Lines {
    file: String,
    /// Where the workload names it.
    named_at: Position,
    reader: Box<dyn BufRead>,
    seen: Seen,
    line: Vec<u8>,
    number: u32,
}

impl Lines {
    /// Opens `file`; gzip is recognised by its first bytes.
    pub fn open(
        file: &str,
        at: Position,
        open: OpenFile<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let seen = Rc::new(Cell::new((0, 0xcbf2_9ce4_8422_2325)));
        let watched = |inner| Watched { inner, seen: Rc::clone(&seen) };
        let opened = open(file).and_then(|inner| {
            let mut plain = BufReader::with_capacity(1 << 16, watched(inner));
            let start = plain.fill_buf().map_err(|error| error.to_string())?;
            let reader: Box<dyn BufRead> = if start.starts_with(&[0x1f, 0x8b]) {
                Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(plain)))
            } else {
                Box::new(plain)
            };
            Ok(reader)
        });
        match opened {
            Ok(reader) => {
                let (file, line) = (file.to_owned(), Vec::new());
                Some(Self { file, named_at: at, reader, seen, line, number: 0 })
            }
            Err(reason) => {
                let message = format!("cannot read `{file}`: {reason}");
                problems.error(at, message).label("named here");
                None
            }
        }
    }

    /// The first line that is not blank.
    pub fn first(&mut self, problems: &mut Problems) -> Option<String> {
        loop {
            match self.advance() {
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => return Some(line.to_owned()),
                Ok(None) => {
                    let message = format!("`{}` is empty", self.file);
                    problems.error(self.named_at, message).label("named here");
                    return None;
                }
                Err(reason) => {
                    placed(&self.file, problems, |problems| {
                        problems.error(line_at(self.number), reason);
                    });
                    return None;
                }
            }
        }
    }

    /// Gives all further lines that are not blank, with their numbers, to `row`. What is wrong
    /// with them is reported with its place; `None` where anything is.
    pub fn rows(
        &mut self,
        problems: &mut Problems,
        mut row: impl FnMut(&str, u32) -> Result<(), String>,
    ) -> Option<()> {
        let mut wrong = 0;
        while wrong < WRONG_MAX {
            let number = self.number + 1;
            let (reason, torn) = match self.advance() {
                Ok(None) => break,
                Ok(Some(line)) if line.trim().is_empty() => continue,
                Ok(Some(line)) => match row(line, number) {
                    Ok(()) => continue,
                    Err(reason) => (reason, false),
                },
                Err(reason) => (reason, true),
            };
            wrong += 1;
            placed(&self.file, problems, |problems| {
                let problem = problems.error(line_at(number), reason);
                if wrong == WRONG_MAX {
                    problem.hint("this is the last row that was looked at");
                }
            });
            if torn {
                break;
            }
        }
        (wrong == 0).then_some(())
    }

    /// The number of the line last read, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What the file held; to be asked at its end.
    pub fn digest(&self) -> FileDigest {
        let (bytes, fnv1a) = self.seen.get();
        FileDigest { file: self.file.clone(), bytes, fnv1a }
    }

    /// The next line without its end.
    fn advance(&mut self) -> Result<Option<&str>, String> {
        self.line.clear();
        self.number += 1;
        let mut limited = (&mut self.reader).take(LINE_MAX);
        let count = limited
            .read_until(b'\n', &mut self.line)
            .map_err(|error| format!("cannot be read from here on: {error}"))?;
        if count == 0 {
            return Ok(None);
        }
        if count as u64 == LINE_MAX {
            return Err("this line does not end".to_owned());
        }
        let line = std::str::from_utf8(&self.line).map_err(|_| "this is not text".to_owned())?;
        let line = line.trim_end_matches(['\n', '\r']);
        Ok(Some(if self.number == 1 { line.trim_start_matches('\u{feff}') } else { line }))
    }
}

/// The fields of a line of CSV: quotes may enclose commas and doubled quotes, not line ends.
pub(super) fn split<'l>(line: &'l str, fields: &mut Vec<std::borrow::Cow<'l, str>>) {
    fields.clear();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let Some((field, behind)) = rest.split_once(',') else {
                fields.push(rest.trim().into());
                return;
            };
            fields.push(field.trim().into());
            rest = behind;
            continue;
        };
        let mut end = 0;
        while let Some(at) = quoted[end..].find('"') {
            end += at;
            if !quoted[end + 1..].starts_with('"') {
                break;
            }
            end += 2;
        }
        let end = if quoted[end..].starts_with('"') { end } else { quoted.len() };
        fields.push(match &quoted[..end] {
            text if text.contains("\"\"") => text.replace("\"\"", "\"").into(),
            text => text.into(),
        });
        let behind = quoted.get(end + 1..).unwrap_or("");
        match behind.split_once(',') {
            Some((_, next)) => rest = next,
            None => return,
        }
    }
}

/// Where the columns of a CSV file are.
pub(super) struct Columns(Vec<String>);

impl Columns {
    /// From the first line.
    pub fn of(header: &str) -> Self {
        let mut fields = Vec::new();
        split(header, &mut fields);
        Self(fields.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// The place of a column, by its name in small letters.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| column == name)
    }

    /// The places of all `names`, or the first that is missing.
    pub fn all<const N: usize>(&self, names: [&'static str; N]) -> Result<[usize; N], String> {
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            *place = self.find(name).ok_or_else(|| format!("there is no column `{name}`"))?;
        }
        Ok(places)
    }
}

/// The number in `text`, called `what`.
pub(super) fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{what}` must be a whole number, not `{text}`"))
}

/// The finite number of at least 0 in `text`, called `what`.
pub(super) fn decimal(text: &str, what: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("`{what}` must be a number of at least 0, not `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_enclose_commas_and_quotes() {
        let mut fields = Vec::new();
        for (line, parts) in [
            ("a, b ,c", &["a", "b", "c"][..]),
            ("", &[""]),
            ("a,,", &["a", "", ""]),
            ("\"x,y\",2", &["x,y", "2"]),
            ("1,\"say \"\"hi\"\", you\",", &["1", "say \"hi\", you", ""]),
            ("\"\",b", &["", "b"]),
            ("\"open", &["open"]),
        ] {
            split(line, &mut fields);
            assert_eq!(fields, parts, "{line}");
        }
    }
}

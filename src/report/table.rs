//! Tables: plain columns for people, CSV for programs.

use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Modify, Padding, Style};

/// Rows under a header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    left: Vec<usize>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self {
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            left: vec![0],
        }
    }

    /// Aligns column `index` to the left: words rather than numbers.
    #[must_use]
    pub fn words(mut self, index: usize) -> Self {
        self.left.push(index);
        self
    }

    /// Appends a row; it has one cell per column.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.header.len(), "a row has one cell per column");
        self.rows.push(cells);
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Columns aligned with blanks: the first and those of words to the left, the others to the
    /// right, each line indented by two and without blanks at its end.
    pub fn to_text(&self) -> String {
        let mut builder = Builder::default();
        builder.push_record(&self.header);
        for row in &self.rows {
            builder.push_record(row);
        }
        let mut table = builder.build();
        table.with(Style::empty()).with(Padding::new(2, 0, 0, 0)).with(Alignment::right());
        for &index in &self.left {
            table.with(Modify::new(Columns::one(index)).with(Alignment::left()));
        }
        let mut text = String::new();
        for line in table.to_string().lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Comma-separated values with a header line (RFC 4180, but lines end with a bare newline).
    pub fn to_csv(&self) -> String {
        let mut text = String::new();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let cells: Vec<String> = row.iter().map(|cell| quote(cell)).collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }
}

/// Quotes a cell where a reader would misread it otherwise.
pub(super) fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_blanks_at_the_end() {
        let mut table = Table::new(["name", "ms", ""]);
        table.row(["a", "1.00", ""]);
        table.row(["longer", "12.00", ""]);
        assert_eq!(table.to_text(), "  name       ms\n  a        1.00\n  longer  12.00\n");
    }

    #[test]
    fn cells_with_commas_and_quotes_survive_csv() {
        let mut table = Table::new(["a", "b"]);
        table.row(["x, \"y\"", "1"]);
        assert_eq!(table.to_csv(), "a,b\n\"x, \"\"y\"\"\",1\n");
    }
}

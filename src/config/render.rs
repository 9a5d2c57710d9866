//! Problems as text: message, place, source line, caret, hint.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::problem::Source;
use super::{Problem, Problems, Severity};

/// More problems than this are counted but not shown.
const SHOWN: usize = 50;
/// Longer source lines are cut to this many characters around the caret.
const WIDTH: usize = 96;

impl Problems {
    /// All problems as text, with a line that counts them at the end; empty without problems.
    /// `colour` adds ANSI colours; the text is understandable without.
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        for problem in self.list().iter().take(SHOWN) {
            self.render_one(problem, colour, &mut out);
            out.push('\n');
        }
        if !self.is_empty() {
            out.push_str(&self.count_line());
            out.push('\n');
        }
        out
    }

    fn render_one(&self, problem: &Problem, colour: bool, out: &mut String) {
        let (word, shade) = match problem.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        let word = paint(word, shade, colour);
        line(out, &format!("{word}: {}", printable(&problem.message)));
        if !problem.file.is_empty() {
            let source = self.sources.iter().find(|source| source.name == problem.file);
            place(problem, source, shade, colour, out);
        }
        if !problem.hint.is_empty() {
            let word = paint("hint", "1;36", colour);
            line(out, &format!("{word}: {}", printable(&problem.hint)));
        }
    }

    fn count_line(&self) -> String {
        let errors = self.errors();
        let warnings = self.list().len() - errors;
        let files: BTreeSet<&str> = self.list().iter().map(|p| p.file.as_str()).collect();
        let mut counts = Vec::new();
        if errors > 0 {
            counts.push(count(errors, "problem"));
        }
        if warnings > 0 {
            counts.push(count(warnings, "warning"));
        }
        let hidden = self.list().len().saturating_sub(SHOWN);
        let hidden = if hidden > 0 { format!(" ({hidden} not shown)") } else { String::new() };
        let end = if errors > 0 { "; nothing was simulated" } else { "" };
        format!("{}{hidden} in {}{end}", counts.join(" and "), count(files.len(), "file"))
    }
}

fn place(problem: &Problem, source: Option<&Source>, shade: &str, colour: bool, out: &mut String) {
    let blue = |text: &str| paint(text, "1;34", colour);
    let at = problem.position;
    let text = source.and_then(|source| source.text.lines().nth(at.line.checked_sub(1)? as usize));
    let digits = if text.is_some() { at.line.to_string().len() } else { 1 };
    let margin = " ".repeat(digits);
    let column =
        if at.is_somewhere() { format!(":{}:{}", at.line, at.column) } else { String::new() };
    line(out, &format!("{margin}{} {}{column}", blue("-->"), printable(&problem.file)));
    let Some(text) = text else {
        if !problem.label.is_empty() {
            line(out, &format!("  = {}", printable(&problem.label)));
        }
        return;
    };
    let (shown, caret) = window(text, at.column as usize);
    line(out, &format!("{margin} {}", blue("|")));
    line(out, &format!("{} {} {shown}", blue(&at.line.to_string()), blue("|")));
    let mark = format!("^ {}", printable(&problem.label));
    let mark = paint(mark.trim_end(), shade, colour);
    line(out, &format!("{margin} {} {}{mark}", blue("|"), " ".repeat(caret)));
}

/// The part of a source line round `column` (1-based) and the caret's offset in it.
fn window(text: &str, column: usize) -> (String, usize) {
    let length = text.chars().count();
    let caret = column.saturating_sub(1).min(length);
    let start = if length <= WIDTH { 0 } else { caret.saturating_sub(WIDTH / 2) };
    let shown: String = text.chars().skip(start).take(WIDTH).map(printable_char).collect();
    (shown.trim_end().to_owned(), caret - start)
}

/// Text without control characters, at most a few lines long.
fn printable(text: &str) -> String {
    text.chars().take(6 * WIDTH).map(printable_char).collect()
}

fn printable_char(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{FFFD}',
        c => c,
    }
}

fn paint(text: &str, shade: &str, colour: bool) -> String {
    if colour { format!("\x1b[{shade}m{text}\x1b[0m") } else { text.to_owned() }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", text.trim_end()).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Position;

    fn one(text: &str, line: u32, column: u32) -> Problems {
        let mut problems = Problems::new();
        problems.add_file("x.yaml", text);
        problems.error(Position { line, column }, "`a` is wrong").label("this").hint("try `b`");
        problems
    }

    #[test]
    fn a_problem_shows_its_line_with_a_caret() {
        let text = one("# one\n  a: 5\n", 2, 6).render(false);
        let expected = "error: `a` is wrong\n --> x.yaml:2:6\n  |\n2 |   a: 5\n  |      ^ this\n\
                        hint: try `b`\n\n1 problem in 1 file; nothing was simulated\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn colour_changes_nothing_but_escapes() {
        let problems = one("a: 5\n", 1, 4);
        let mut coloured = problems.render(true);
        for shade in ["1;31", "1;33", "1;34", "1;36", "0"] {
            coloured = coloured.replace(&format!("\x1b[{shade}m"), "");
        }
        assert_eq!(coloured, problems.render(false));
    }

    #[test]
    fn places_outside_the_text_do_no_harm() {
        for (line, column) in [(0, 0), (1, 0), (1, 99), (99, 1), (u32::MAX, u32::MAX)] {
            assert!(one("a: 5\n", line, column).render(false).contains("x.yaml"));
        }
    }

    #[test]
    fn a_long_line_is_cut_round_the_caret() {
        let text =
            one(&format!("{}!{}", "a".repeat(5000), "b".repeat(5000)), 1, 5001).render(false);
        assert!(text.lines().all(|line| line.chars().count() < 120));
        assert!(text.contains("a!b"));
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let text = one("a: \x1b[31m\u{7}\n", 1, 1).render(false);
        assert!(!text.contains('\x1b') && !text.contains('\u{7}'));
    }

    #[test]
    fn warnings_are_counted_apart() {
        let mut problems = one("a: 5\n", 1, 1);
        problems.warning(Position::NOWHERE, "odd");
        problems.warning(Position::NOWHERE, "odder");
        let text = problems.render(false);
        assert!(text.ends_with("1 problem and 2 warnings in 1 file; nothing was simulated\n"));
    }
}

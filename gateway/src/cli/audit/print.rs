//! Requests in the form that was asked for, as they come.

use super::super::output::Format;
use super::super::table::Table;
use super::columns::{csv_head, csv_line, json_line};
use super::show::{self, Row};
use codex_relay::journal::Entry;
use std::io::{self, Write};

/// Lines of a table that are laid out together: a journal is longer than memory.
const PAGE_ROWS: usize = 1_000;

/// Writes each request; of a table a page at a time.
pub(super) struct Printer<W> {
    out: W,
    form: Form,
    /// Requests so far.
    pub(super) count: u64,
}

enum Form {
    Table { table: Table, page: Vec<Row> },
    Json,
    Csv { has_head: bool },
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, format: Format) -> Self {
        let form = match format {
            Format::Table => Form::Table {
                table: show::table(),
                page: Vec::new(),
            },
            Format::Json => Form::Json,
            Format::Csv => Form::Csv { has_head: false },
        };
        Self {
            out,
            form,
            count: 0,
        }
    }

    pub(super) fn push(&mut self, entry: &Entry<&str>) -> io::Result<()> {
        self.count += 1;
        match &mut self.form {
            Form::Table { page, .. } => {
                page.push(show::row(entry));
                if page.len() >= PAGE_ROWS {
                    self.lay_out()?;
                }
                Ok(())
            }
            Form::Json => self.out.write_all(json_line(entry).as_bytes()),
            Form::Csv { .. } => {
                self.lay_out()?;
                self.out.write_all(csv_line(entry).as_bytes())
            }
        }
    }

    /// Everything so far is to be seen, and the head also before the first one.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.lay_out()?;
        self.out.flush()
    }

    fn lay_out(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Table { table, page } => {
                let text = table.lay_out(page);
                page.clear();
                self.out.write_all(text.as_bytes())
            }
            Form::Csv { has_head } if !*has_head => {
                *has_head = true;
                self.out.write_all(csv_head().as_bytes())
            }
            Form::Json | Form::Csv { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn printed(format: Format, count: u64) -> String {
        let mut printer = Printer::new(Vec::new(), format);
        for _ in 0..count {
            printer.push(&samples::answered()).unwrap();
        }
        printer.flush().unwrap();
        // What follows needs no second head.
        printer.flush().unwrap();
        assert_eq!(printer.count, count);
        String::from_utf8(printer.out).unwrap()
    }

    #[test]
    fn there_is_one_head_however_many_pages_there_are() {
        let pages = 2 * PAGE_ROWS as u64 + 1;
        for (format, heads) in [(Format::Table, 1), (Format::Csv, 1), (Format::Json, 0)] {
            assert_eq!(printed(format, 0).lines().count(), heads, "{format:?}");
            let lines = printed(format, pages).lines().count();
            assert_eq!(lines, pages as usize + heads, "{format:?}");
        }
        assert!(printed(Format::Table, pages).starts_with("TIME "));
        assert!(printed(Format::Csv, pages).starts_with("time,"));
    }

    #[test]
    fn a_page_of_a_table_does_not_wait_for_the_end() {
        let mut printer = Printer::new(Vec::new(), Format::Table);
        for _ in 0..PAGE_ROWS {
            printer.push(&samples::answered()).unwrap();
        }
        assert_eq!(
            printer.out.iter().filter(|&&byte| byte == b'\n').count(),
            PAGE_ROWS + 1
        );
    }
}

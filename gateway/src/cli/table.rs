//! Tables for people to read.

use std::fmt::Write as _;

/// Columns as wide as what is in them; the last one is not filled up.
pub(super) fn table<const COLUMNS: usize>(
    head: [&'static str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> String {
    Table::new(head).lay_out(rows)
}

/// A table that comes in pieces, because all of it could be more than memory: columns become wider where a piece needs
/// that, and never narrower.
pub(super) struct Table {
    columns: Vec<Column>,
    has_head: bool,
}

struct Column {
    head: &'static str,
    width: usize,
    is_figure: bool,
}

impl Table {
    pub(super) fn new(head: impl IntoIterator<Item = &'static str>) -> Self {
        let column = |head: &'static str| Column {
            head,
            width: head.chars().count(),
            is_figure: false,
        };
        Self {
            columns: head.into_iter().map(column).collect(),
            has_head: false,
        }
    }

    /// These columns stand at the right.
    pub(super) fn with_figures(mut self, heads: &[&str]) -> Self {
        for column in &mut self.columns {
            column.is_figure = heads.contains(&column.head);
        }
        self
    }

    /// The next rows; before the first ones, the head.
    pub(super) fn lay_out<R: AsRef<[String]>>(&mut self, rows: &[R]) -> String {
        for row in rows {
            for (column, cell) in self.columns.iter_mut().zip(row.as_ref()) {
                column.width = column.width.max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if !self.has_head {
            self.has_head = true;
            self.line(&mut text, self.columns.iter().map(|column| column.head));
        }
        for row in rows {
            self.line(&mut text, row.as_ref().iter().map(String::as_str));
        }
        text
    }

    fn line<'c>(&self, text: &mut String, cells: impl Iterator<Item = &'c str>) {
        let begin = text.len();
        for (column, cell) in self.columns.iter().zip(cells) {
            let width = column.width;
            // Writing to a string cannot fail.
            let _ = if column.is_figure {
                write!(text, "{cell:>width$}  ")
            } else {
                write!(text, "{cell:<width$}  ")
            };
        }
        text.truncate(begin + text[begin..].trim_end().len());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::{Table, table};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "long cell".to_owned(), String::new()],
            ["→ b".to_owned(), "c".to_owned(), "d".to_owned()],
        ];
        let expected = "x    y          last\na    long cell\n→ b  c          d\n";
        assert_eq!(table(["x", "y", "last"], &rows), expected);
    }

    #[test]
    fn a_later_piece_has_no_head_and_columns_only_grow() {
        let row = |of: &str, count: &str| [of.to_owned(), count.to_owned(), "end".to_owned()];
        let mut table = Table::new(["OF", "COUNT", "LAST"]).with_figures(&["COUNT"]);
        let first = table.lay_out(&[row("a", "7")]);
        assert_eq!(first, "OF  COUNT  LAST\na       7  end\n");
        assert_eq!(
            table.lay_out(&[row("longer", "123456")]),
            "longer  123456  end\n"
        );
        assert_eq!(table.lay_out(&[row("b", "1")]), "b            1  end\n");
    }
}

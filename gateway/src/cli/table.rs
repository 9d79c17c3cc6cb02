//! Tables for people to read.

use std::fmt::Write as _;

/// Columns as wide as what is in them; the last one is not filled up.
pub(super) fn table<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> String {
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max()
    };
    let widths: Vec<usize> = (0..COLUMNS).filter_map(widest).collect();
    let mut text = String::new();
    let mut line = |cells: [&str; COLUMNS]| {
        let mut filled = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(filled, "{cell:<width$}  ");
        }
        text.push_str(filled.trim_end());
        text.push('\n');
    };
    line(head);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "long cell".to_owned(), String::new()],
            ["→ b".to_owned(), "c".to_owned(), "d".to_owned()],
        ];
        let expected = "x    y          last\na    long cell\n→ b  c          d\n";
        assert_eq!(table(["x", "y", "last"], &rows), expected);
    }
}

//! Lines of CSV (RFC 4180).

/// A line, with its end.
pub(super) fn line<'c>(cells: impl IntoIterator<Item = &'c str>) -> String {
    let mut line = String::new();
    for (number, cell) in cells.into_iter().enumerate() {
        if number > 0 {
            line.push(',');
        }
        push_cell(&mut line, cell);
    }
    line.push_str("\r\n");
    line
}

/// A field, in quotes where it needs them.
fn push_cell(line: &mut String, cell: &str) {
    if !cell.contains(['"', ',', '\r', '\n']) {
        line.push_str(cell);
        return;
    }
    line.push('"');
    line.push_str(&cell.replace('"', "\"\""));
    line.push('"');
}

/// What a client has written: a spreadsheet must not take it for a formula, nor a terminal for a command.
pub(super) fn foreign(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@']) {
        "'"
    } else {
        ""
    };
    format!("{guard}{}", super::printable(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        let cells = ["plain", "", "a,b", "say \"it\"", "two\nlines", "cr\r", "é "];
        let expected = "plain,,\"a,b\",\"say \"\"it\"\"\",\"two\nlines\",\"cr\r\",é \r\n";
        assert_eq!(line(cells), expected);
    }

    #[test]
    fn what_clients_write_is_no_formula_and_no_command() {
        for (text, expected) in [
            ("gpt-5", "gpt-5"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-x", "'-x"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("a=b", "a=b"),
            (
                "a\r\nb\u{1b}[2J\u{9b}",
                "a\u{fffd}\u{fffd}b\u{fffd}[2J\u{fffd}",
            ),
            ("", ""),
        ] {
            assert_eq!(foreign(text), expected, "{text:?}");
        }
    }
}

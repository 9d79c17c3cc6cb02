//! A file for each tenant and day: what it has used, for the operator's bookkeeping.

use super::{Day, Known, Row};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const HEAD: &str = "key,model,requests,refused,input_tokens,cached_tokens,output_tokens,reasoning_tokens,cost,\
                    partial,estimated\r\n";

/// Whoever may collect the files is in the group.
const MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// Bytes of a tenant's name that a file system takes as one name, escaped.
const NAME_BYTES_MAX: usize = 200;

/// Writes what one tenant has used on one day, unless it is there already; `false`: it was.
///
/// # Errors
/// It cannot be written; what was there before still is.
pub fn write(directory: &Path, tenant: &str, day: Day, rows: &[Row]) -> io::Result<bool> {
    let path = path(directory, tenant, day);
    let text = table(rows);
    if fs::read(&path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        let mut directories = DirBuilder::new();
        directories
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(parent)?;
    }
    // Whoever collects the files finds whole ones only.
    let unfinished = path.with_extension("csv.new");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(MODE);
    let written = options.open(&unfinished).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&unfinished, &path))
        .inspect_err(|_| {
            // It is written anew the next time, if it cannot be removed now.
            let _ = fs::remove_file(&unfinished);
        })?;
    Ok(true)
}

/// Is there a file of this tenant and day?
pub fn is_there(directory: &Path, tenant: &str, day: Day) -> bool {
    path(directory, tenant, day).exists()
}

fn path(directory: &Path, tenant: &str, day: Day) -> PathBuf {
    directory
        .join(directory_name(tenant))
        .join(format!("{day}.csv"))
}

/// A name that is one component of a path, whatever the tenant is called; other tenants have other ones.
fn directory_name(tenant: &str) -> String {
    // No other name becomes this.
    if tenant.is_empty() {
        return "%".to_owned();
    }
    let mut name = String::new();
    for (at, byte) in tenant.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if is_plain || (byte == b'.' && at > 0) {
            name.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(name, "%{byte:02x}");
        }
    }
    if name.len() > NAME_BYTES_MAX {
        let checksum = crc32c::crc32c(tenant.as_bytes());
        name.truncate(NAME_BYTES_MAX);
        let _ = write!(name, "%{checksum:08x}");
    }
    name
}

fn table(rows: &[Row]) -> String {
    let mut text = HEAD.to_owned();
    for row in rows {
        let totals = &row.sum.totals;
        let key = row
            .key
            .map(|key| format!("{:08x}", u32::from_be_bytes(key)));
        let model = row.model.as_deref().unwrap_or_default();
        let _ = write!(
            text,
            "{},{},{},{},{},{},{},{},{},{},{}\r\n",
            key.unwrap_or_default(),
            cell(model),
            totals.requests,
            row.sum.refused,
            totals.input_tokens,
            totals.cached_tokens,
            totals.output_tokens,
            totals.reasoning_tokens,
            totals.cost,
            row.sum.known(Known::Partial),
            row.sum.known(Known::Estimated),
        );
    }
    text
}

/// A value from a client, as RFC 4180 has it. What a spreadsheet would take for a formula gets a quote in front.
fn cell(value: &str) -> String {
    let value = match value.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{value}"),
        false => value.to_owned(),
    };
    match value.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sum, Totals};
    use super::*;
    use crate::config::policy::Money;
    use std::collections::HashSet;
    use std::os::unix::fs::PermissionsExt;

    fn row(model: Option<&str>) -> Row {
        Row {
            day: day(),
            tenant: "acme".into(),
            key: Some([0x0a, 0, 0, 1]),
            model: model.map(Into::into),
            sum: Sum {
                totals: Totals {
                    requests: 3,
                    input_tokens: 100,
                    cached_tokens: 20,
                    output_tokens: 50,
                    reasoning_tokens: 5,
                    cost: Money::from_nano(1_250_000),
                },
                refused: 2,
                known: [1, 0, 2],
            },
        }
    }

    fn day() -> Day {
        "2026-03-01".parse().unwrap()
    }

    #[test]
    fn a_file_says_what_was_used() {
        let directory = tempfile::tempdir().unwrap();
        let rows = [row(Some("gpt-5")), row(Some("=1+\"a\",b")), row(None)];
        assert!(!is_there(directory.path(), "acme", day()));
        assert!(write(directory.path(), "acme", day(), &rows).unwrap());
        assert!(is_there(directory.path(), "acme", day()));
        let text = fs::read_to_string(directory.path().join("acme/2026-03-01.csv")).unwrap();
        let expected = "key,model,requests,refused,input_tokens,cached_tokens,output_tokens,\
             reasoning_tokens,cost,partial,estimated\r\n\
             0a000001,gpt-5,3,2,100,20,50,5,0.00125,0,2\r\n\
             0a000001,\"'=1+\"\"a\"\",b\",3,2,100,20,50,5,0.00125,0,2\r\n\
             0a000001,,3,2,100,20,50,5,0.00125,0,2\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_file_that_is_right_is_left_alone_and_one_that_is_not_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let rows = [row(Some("gpt-5")), row(None)];
        assert!(write(directory.path(), "acme", day(), &rows[..1]).unwrap());
        assert!(!write(directory.path(), "acme", day(), &rows[..1]).unwrap());
        assert!(write(directory.path(), "acme", day(), &rows).unwrap());
        let kept = fs::read_dir(directory.path().join("acme")).unwrap();
        assert_eq!(kept.count(), 1);
        let modes = ["acme", "acme/2026-03-01.csv"].map(|name| {
            let metadata = fs::metadata(directory.path().join(name)).unwrap();
            metadata.permissions().mode() & 0o777 & !(DIRECTORY_MODE | MODE)
        });
        assert_eq!(modes, [0, 0]);
    }

    #[test]
    fn no_name_of_a_tenant_leads_out_of_the_directory_or_into_anothers() {
        let long = "é".repeat(200);
        let longer = format!("{long}x");
        let names = [
            "acme", "a.b", ".", "..", "../x", "a/b", "a%2fb", "", "A b", "é", "%", &long, &longer,
        ];
        let made: HashSet<_> = names.iter().map(|name| directory_name(name)).collect();
        assert_eq!(made.len(), names.len());
        assert_eq!(directory_name("a.b"), "a.b");
        for name in made {
            assert!(!name.is_empty() && !name.starts_with('.') && !name.contains('/'));
            assert!(name.len() < 255);
        }
    }
}

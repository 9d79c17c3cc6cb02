//! A disk that loses, tears and reorders what was not synced, and fails.

use super::super::append::{Appender, Batch};
use super::super::disk::Step;
use super::super::recover::Repair;
use super::super::segment::NEXT_NAME;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// What is written at once, or not.
const SECTOR_BYTES: usize = 512;

/// A disk, and what the kernel holds of it.
pub(super) struct Disk {
    pub(super) rng: Rng,
    /// One of so many steps fails.
    pub(super) fails_one_in: Option<usize>,
    files: Vec<File>,
    /// As programs see them.
    names: BTreeMap<String, usize>,
    /// As they are after a loss of power.
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<Rename>,
    open: Option<usize>,
}

#[derive(Clone)]
enum Rename {
    Create { file: usize },
    Name { name: String },
    Remove,
}

#[derive(Clone, Default)]
struct File {
    /// As programs see it.
    seen: Vec<u8>,
    /// As it is after a loss of power.
    durable: Vec<u8>,
    /// Sectors, or parts of them, that wait to be written: where they begin, and what is written there.
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl File {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.seen, at, bytes);
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = (SECTOR_BYTES - at % SECTOR_BYTES).min(rest.len());
            let (sector, behind) = rest.split_at(length);
            self.unsynced.push((at, sector.to_vec()));
            (at, rest) = (at + length, behind);
        }
    }

    fn sync(&mut self) {
        for (at, sector) in std::mem::take(&mut self.unsynced) {
            put(&mut self.durable, at, &sector);
        }
    }

    /// Some of what waits is written, in any order, and not always all of a sector; the rest is forgotten.
    fn lose(&mut self, rng: &mut Rng) {
        let mut unsynced = std::mem::take(&mut self.unsynced);
        let written = rng.u8(..=4);
        rng.shuffle(&mut unsynced);
        for (at, mut sector) in unsynced {
            if rng.u8(..4) < written {
                if rng.u8(..8) == 0 {
                    sector.truncate(rng.usize(..=sector.len()));
                }
                put(&mut self.durable, at, &sector);
            }
        }
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Disk {
    /// An empty one.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            fails_one_in: None,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            open: None,
        }
    }

    /// Does what a batch asks for.
    pub(super) fn carry_out(&mut self, batch: &Batch) -> io::Result<()> {
        let mut steps = batch.steps.iter();
        steps.try_for_each(|step| self.carry_out_step(step, &batch.bytes))
    }

    /// Does some of it: in the middle of it the process dies.
    pub(super) fn carry_out_in_part(&mut self, batch: &Batch) {
        let steps = self.rng.usize(..=batch.steps.len());
        let written = self.rng.usize(..=batch.bytes.len());
        for step in &batch.steps[..steps] {
            // Nobody learns how far a write had come.
            let is_cut = matches!(step, Step::Write { .. }) && self.rng.bool();
            let bytes = if is_cut {
                &batch.bytes[..written]
            } else {
                &batch.bytes[..]
            };
            if self.carry_out_step(step, bytes).is_err() || is_cut {
                return;
            }
        }
    }

    fn carry_out_step(&mut self, step: &Step, bytes: &[u8]) -> io::Result<()> {
        let fails = self
            .fails_one_in
            .is_some_and(|number| self.rng.usize(..number) == 0);
        let failed = || Err(ErrorKind::StorageFull.into());
        match step {
            Step::Create if fails => return failed(),
            Step::Create => {
                self.files.push(File::default());
                let file = self.files.len() - 1;
                self.open = Some(file);
                self.rename(Rename::Create { file });
            }
            Step::Write { at } => {
                let written = if fails {
                    self.rng.usize(..=bytes.len())
                } else {
                    bytes.len()
                };
                self.opened().write(*at as usize, &bytes[..written]);
                if fails {
                    return failed();
                }
            }
            Step::Sync if fails => {
                // What could not be written is not tried again, and a later sync does not tell.
                let mut rng = self.rng.fork();
                self.opened().lose(&mut rng);
                return failed();
            }
            Step::Sync => self.opened().sync(),
            Step::Name(_) if fails => return failed(),
            Step::Name(name) => self.rename(Rename::Name { name: name.clone() }),
            Step::SyncDirectory if fails => return failed(),
            Step::SyncDirectory => self.sync_names(),
        }
        Ok(())
    }

    fn opened(&mut self) -> &mut File {
        let open = self.open.unwrap();
        &mut self.files[open]
    }

    fn rename(&mut self, rename: Rename) {
        apply(&rename, &mut self.names);
        self.unsynced_names.push(rename);
    }

    fn sync_names(&mut self) {
        for rename in self.unsynced_names.drain(..) {
            apply(&rename, &mut self.durable_names);
        }
    }

    /// The power fails: what was not synced is there or not.
    pub(super) fn lose_power(&mut self) {
        // File systems bring names to the disk in their order, if at all.
        let kept = self.rng.usize(..=self.unsynced_names.len());
        for rename in self.unsynced_names.drain(..).take(kept) {
            apply(&rename, &mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        for file in &mut self.files {
            file.lose(&mut self.rng);
            file.seen = file.durable.clone();
        }
    }

    /// Another process finds this directory.
    pub(super) fn show(&self, directory: &Path) {
        for (name, &file) in &self.names {
            fs::write(directory.join(name), &self.files[file].seen).unwrap();
        }
    }

    /// Does what a start asks for.
    pub(super) fn repair(&mut self, repair: &Repair) {
        self.open = None;
        match repair {
            Repair::RemoveUnfinished => self.rename(Rename::Remove),
            Repair::WriteAgain { segment, range } => {
                let name = segment.file_name().and_then(|name| name.to_str()).unwrap();
                let file = &mut self.files[self.names[name]];
                let bytes = file.seen[range.start as usize..range.end as usize].to_vec();
                file.write(range.start as usize, &bytes);
                file.sync();
            }
            Repair::SyncDirectory => self.sync_names(),
        }
    }

    /// So many bytes are seen in this file.
    pub(super) fn content(&mut self, name: &str) -> &mut Vec<u8> {
        let file = self.names[name];
        &mut self.files[file].seen
    }

    pub(super) fn segment_names(&self) -> Vec<String> {
        let names = self.names.keys().filter(|name| *name != NEXT_NAME);
        names.cloned().collect()
    }
}

fn apply(rename: &Rename, names: &mut BTreeMap<String, usize>) {
    match rename {
        Rename::Create { file } => {
            names.insert(NEXT_NAME.to_owned(), *file);
        }
        Rename::Name { name } => {
            let file = names.remove(NEXT_NAME).unwrap();
            names.insert(name.clone(), file);
        }
        Rename::Remove => {
            names.remove(NEXT_NAME);
        }
    }
}

/// The next batch, in the order of `second`s.
pub(super) fn next_batch(appender: &mut Appender, second: u64, rng: &mut Rng) -> Option<Batch> {
    let now = UNIX_EPOCH + Duration::from_secs(second);
    appender.next_batch(now, rng.u64(..).to_le_bytes(), Vec::new())
}

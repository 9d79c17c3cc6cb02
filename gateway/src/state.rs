//! What survives a restart: how the accounts are, what the operator wants of them, and who stores which response.
//!
//! It is kept in a database that is trusted with nothing: everything in it can be learned again, every record proves itself
//! ([`image`]), a seal says what the files must be ([`seal`]), it is read by a child first ([`read`]), and whatever is in
//! doubt is put away and begun anew ([`recover`], [`quarantine`]). A start is neither stopped nor held up by it. It is
//! written by a thread of its own ([`writer`]); where nothing can be written, the gateway serves all the same.

mod files;
mod image;
mod lock;
mod owners;
mod problem;
mod quarantine;
mod read;
mod record;
mod recover;
mod seal;
mod tree;
mod writer;

pub use read::{READER_SUBCOMMAND, Reader, read_for_parent};

use crate::accounts::Accounts;
use crate::affinity::{self, Learned};
use crate::config::Policy;
use crate::config::policy::{Account, AccountId};
use crate::control::log::Log;
use crate::health::{BreakerRecord, Record};
use image::{Changes, Image, Key};
use owners::{Owner, Ring};
use problem::{Damage, Problem};
use recover::{Places, PutAway};
use std::collections::HashMap;
use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use writer::{Progress, Report, Shared, Writer};

/// What is on the disk is waited for, but not longer. What comes later is taken over later.
const START_TIMEOUT: Duration = Duration::from_millis(700);

/// How often owners that were learned are handed to the writer. A crash loses those of the last moment.
const OWNERS_INTERVAL: Duration = Duration::from_secs(1);

/// How often all accounts are looked at, also those of which nothing was noted: for what changes with every answer.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Whoever waits until something is saved does not wait longer.
const SAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// So many owners are kept at most, whatever is remembered: a restart has to read them all.
const OWNERS_MAX: usize = 65_536;

/// A writer that has come no further for so long hangs, or its disk does.
const WAIT_MAX: Duration = Duration::from_secs(10);

const UNANSWERED: &str = "the disk does not answer";

const ACCOUNT_PREFIX: &str = "account/";

/// Something is not on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaved(Arc<str>);

impl fmt::Display for Unsaved {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What is kept. One per process; used by the control thread.
pub struct StateStore {
    policy: Arc<Policy>,
    accounts: &'static Accounts,
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    desk: Mutex<Desk>,
}

/// What the control thread goes by.
struct Desk {
    /// By account: what the writer was given last, or has found on the disk.
    noted: Vec<Noted>,
    ring: Ring,
    owners_at: Instant,
    sweep_at: Instant,
    saved: u64,
    saved_at: Option<SystemTime>,
    put_away: u64,
    waits: Waits,
}

/// Notices a writer that does not go on: a disk or a database that hangs says nothing.
#[derive(Default)]
struct Waits {
    /// What was saved, and since when no more is although there is more.
    since: Option<(u64, Instant)>,
    is_too_long: bool,
}

impl Waits {
    /// To be called again and again; true once for every time that it takes too long.
    fn look(&mut self, is_awaited: bool, progress: &Progress, now: Instant) -> bool {
        let waits = is_awaited && progress.unable.is_none();
        self.since = match self.since {
            _ if !waits => None,
            Some((saved, since)) if saved == progress.saved => Some((saved, since)),
            _ => Some((progress.saved, now)),
        };
        let was_too_long = self.is_too_long;
        let is_over = |(_, since): (u64, Instant)| now.duration_since(since) >= WAIT_MAX;
        self.is_too_long = self.since.is_some_and(is_over);
        self.is_too_long && !was_too_long
    }
}

/// What the disk is to hold of an account.
#[derive(Clone, Default)]
struct Noted {
    record: Record,
    /// Saved when the writer has come to this.
    number: u64,
}

impl StateStore {
    /// Takes over what the process before has kept, as far as it is beyond doubt, and begins to keep.
    ///
    /// Must come after the process has given up its rights: threads and a child have those of the process. It takes less than
    /// a second, whatever is on the disk and however slow that is. Where the system gives no thread, nothing is saved.
    pub fn open(
        policy: &Arc<Policy>,
        accounts: &'static Accounts,
        reader: Reader,
        log: &mut Log,
    ) -> Self {
        let shared = Arc::new(Shared::new());
        let store = Self {
            policy: policy.clone(),
            accounts,
            progress: shared.progress(),
            desk: Mutex::new(Desk::new(policy)),
            shared: shared.clone(),
        };
        let writer = Writer::new(Places::of(&policy.node.state_dir), reader, shared.clone());
        let (begins, begun) = mpsc::channel();
        let thread = thread::Builder::new().name("state".to_owned());
        if let Err(error) = thread.spawn(move || writer.run(begins)) {
            shared.tell_unable(&format!("the writer cannot be started: {error}"));
        }
        if begun.recv_timeout(START_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            log.warning("state_late", &[]);
        }
        store.hear(log);
        store
    }

    /// Has the health of these accounts written as it is now.
    pub fn note(&self, accounts: &[AccountId]) {
        let accounts = accounts.iter().copied();
        self.desk().note(self, accounts, Changes::new());
    }

    /// Has the health of an account written, and waits until it is on the disk.
    ///
    /// # Errors
    /// It is not, at least not yet.
    pub async fn save(&self, account: AccountId) -> Result<(), Unsaved> {
        let number = {
            let mut desk = self.desk();
            desk.note(self, [account], Changes::new());
            desk.noted(account).number
        };
        let mut progress = self.progress.clone();
        let is_decided =
            |progress: &Progress| progress.saved >= number || progress.unable.is_some();
        let waited = tokio::time::timeout(SAVE_TIMEOUT, progress.wait_for(is_decided)).await;
        match waited.map(|found| found.is_ok_and(|found| found.saved >= number)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.unsaved()),
            Err(_) => Err(Unsaved("it takes too long".into())),
        }
    }

    /// Whether the health of an account is on the disk as it is now. Latencies, which change with every answer, do not count.
    ///
    /// # Errors
    /// It is not.
    pub fn saved(&self, account: AccountId) -> Result<(), Unsaved> {
        let record = self.accounts.health.record(account);
        let Progress {
            saved, is_begun, ..
        } = *self.progress.borrow();
        let noted = self.desk().noted(account).clone();
        if is_begun && is_same(&noted.record, &record) && saved >= noted.number {
            Ok(())
        } else {
            Err(self.unsaved())
        }
    }

    fn unsaved(&self) -> Unsaved {
        let unable = self.progress.borrow().unable.clone();
        let is_stuck = self.desk().waits.is_too_long;
        let otherwise = match is_stuck {
            true => UNANSWERED,
            false => "it is being written",
        };
        Unsaved(unable.unwrap_or_else(|| otherwise.into()))
    }

    fn all_accounts(&self) -> impl Iterator<Item = AccountId> + use<> {
        (0..self.policy.accounts.len()).map(|index| AccountId(index as u16))
    }

    /// Hands to the writer what is due, and says in log and metrics what it has met. Cheap: to be called every few
    /// milliseconds.
    pub fn tick(&self, log: &mut Log) {
        self.hear(log);
        let mut desk = self.desk();
        let now = Instant::now();
        let is_awaited = self.shared.is_awaited();
        if desk.waits.look(is_awaited, &self.progress.borrow(), now) {
            let error = UNANSWERED.to_owned();
            log.warning("state_not_saved", &[("error", error)]);
        }
        if now >= desk.owners_at {
            desk.owners_at = now + OWNERS_INTERVAL;
            let learned = desk.learned(self);
            desk.note(self, [], learned);
            desk.show(&self.progress.borrow());
        }
        if now >= desk.sweep_at {
            desk.sweep_at = now + SWEEP_INTERVAL;
            desk.note(self, self.all_accounts(), Changes::new());
        }
    }

    /// Writes what is left and seals the files, unless that takes longer than `limit`: then the next start goes by what is
    /// in them. Nothing is written afterwards.
    pub async fn finish(&self, limit: Duration) {
        {
            let mut desk = self.desk();
            let learned = desk.learned(self);
            desk.note(self, self.all_accounts(), learned);
        }
        self.shared.finish();
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|progress| progress.has_ended);
        // The process ends whether it could be written or not.
        let _ = tokio::time::timeout(limit, ended).await;
    }

    /// What the writer has to tell.
    fn hear(&self, log: &mut Log) {
        for report in self.shared.take_reports() {
            match report {
                Report::PutAway(put_away) => self.desk().tell_put_away(&put_away, log),
                Report::Unable(why) => {
                    let members = [
                        ("error", why.to_string()),
                        ("meaning", problem::UNSAVED.to_owned()),
                    ];
                    log.warning("state_not_saved", &members);
                }
                Report::Able => log.event("state_saved_again", &[]),
                Report::Found { image, took } => self.take_over(&image, took, log),
            }
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found on the disk becomes what is known, except where more is known by now.
    fn take_over(&self, image: &Image, took: Duration, log: &mut Log) {
        let mut desk = self.desk();
        let health = &self.accounts.health;
        let now = health.clock().now();
        let mut restored = 0;
        for (index, account) in self.policy.accounts.iter().enumerate() {
            let id = AccountId(index as u16);
            // What was noted before it was known what is there is not written.
            desk.noted[index] = Noted {
                record: fresh(account),
                number: 0,
            };
            let Some(payload) = image.payload(&account_key(&account.name)) else {
                continue;
            };
            let (record, is_understood) = record::decode(account, payload);
            if !is_understood {
                let members = [("account", account.name.clone())];
                log.warning("state_record_not_understood", &members);
            }
            let record = record::within_its_time(record, now);
            // Part by part: what this process has learned by now stands.
            health.restore(id, &record, now);
            restored += 1;
            if record::encode(account, &record) == payload {
                desk.noted[index].record = record;
            }
        }
        let names = self.policy.accounts.iter().enumerate();
        let by_hash: HashMap<u64, AccountId> = names
            .map(|(index, account)| {
                let id = AccountId(index as u16);
                (affinity::account_hash(&account.name), id)
            })
            .collect();
        let (owners, foreign) = desk.ring.restore(image.records());
        for owner in &owners {
            if let Some(&account) = by_hash.get(&owner.account) {
                let response = owner.response;
                self.accounts
                    .affinity
                    .restore(Learned { response, account });
            }
        }
        let is_gone = |key: &Key| {
            let name = key.strip_prefix(ACCOUNT_PREFIX.as_bytes());
            let is_known = |name| {
                self.policy
                    .accounts
                    .iter()
                    .any(|account| account.name.as_bytes() == name)
            };
            name.is_some_and(|name| !is_known(name))
        };
        let keys = image.records().map(|(key, _)| key.to_vec());
        let gone = keys.filter(is_gone).chain(foreign);
        let gone: Changes = gone.map(|key| (key, None)).collect();
        // What was noted before goes: it was said without knowing what is on the disk.
        self.shared.resume();
        let changes = desk.learned(self).into_iter().chain(gone).collect();
        desk.note(self, self.all_accounts(), changes);
        let members = [
            ("accounts", restored.to_string()),
            ("stored_responses", owners.len().to_string()),
            ("took_ms", took.as_millis().to_string()),
        ];
        log.event("state_restored", &members);
    }
}

impl Desk {
    fn new(policy: &Policy) -> Self {
        let now = Instant::now();
        let fresh = policy.accounts.iter().map(|account| Noted {
            record: fresh(account),
            number: 0,
        });
        Self {
            noted: fresh.collect(),
            ring: Ring::new(policy.limits.stored_responses_max.min(OWNERS_MAX)),
            owners_at: now,
            sweep_at: now + SWEEP_INTERVAL,
            saved: 0,
            saved_at: None,
            put_away: 0,
            waits: Waits::default(),
        }
    }

    fn noted(&self, account: AccountId) -> &Noted {
        &self.noted[usize::from(account.0)]
    }

    /// Hands to the writer those of these accounts whose record has changed, and more.
    fn note(
        &mut self,
        store: &StateStore,
        accounts: impl IntoIterator<Item = AccountId>,
        more: Changes,
    ) {
        let mut changes = more;
        let mut changed = Vec::new();
        for id in accounts {
            let account = store.policy.account(id);
            let record = store.accounts.health.record(id);
            if self.noted(id).record != record {
                let payload = record::encode(account, &record);
                changes.insert(account_key(&account.name), Some(payload));
                changed.push((id, record));
            }
        }
        if changes.is_empty() {
            return;
        }
        let number = store.shared.note(changes);
        for (id, record) in changed {
            self.noted[usize::from(id.0)] = Noted { record, number };
        }
    }

    /// What was learned since about owners.
    fn learned(&mut self, store: &StateStore) -> Changes {
        for learned in store.accounts.affinity.take_learned() {
            let account = store.policy.account(learned.account);
            self.ring.add(Owner {
                response: learned.response,
                account: affinity::account_hash(&account.name),
            });
        }
        let changed = self.ring.take_changed();
        changed.map(|(key, payload)| (key, Some(payload))).collect()
    }

    /// In the metrics. Here because what happens at the start happens before there are any.
    fn show(&mut self, progress: &Progress) {
        if progress.saved != self.saved {
            self.saved = progress.saved;
            self.saved_at = Some(SystemTime::now());
        }
        metrics::counter!("relay_state_quarantined_total").absolute(self.put_away);
        let is_saving = progress.unable.is_none() && !self.waits.is_too_long;
        metrics::gauge!("relay_state_saving").set(if is_saving { 1.0 } else { 0.0 });
        let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        if let Some(saved_at) = self.saved_at.and_then(since_epoch) {
            metrics::gauge!("relay_state_saved_timestamp_seconds").set(saved_at.as_secs_f64());
        }
    }

    fn tell_put_away(&mut self, put_away: &PutAway, log: &mut Log) {
        self.put_away += 1;
        let members = [
            ("reason", put_away.damage.as_str().to_owned()),
            ("kept_as", put_away.path.display().to_string()),
            ("meaning", problem::PUT_AWAY.to_owned()),
        ];
        log.error("state_quarantined", &members);
    }
}

/// Apart from what changes with every answer.
fn is_same(one: &Record, other: &Record) -> bool {
    one.operator == other.operator
        && one.account == other.account
        && one.addresses == other.addresses
}

/// What there is to say of an account to which nothing has ever happened.
fn fresh(account: &Account) -> Record {
    let addresses = account.egress.iter();
    Record {
        addresses: addresses
            .map(|address| (*address, BreakerRecord::default()))
            .collect(),
        ..Record::default()
    }
}

fn account_key(name: &str) -> Key {
    format!("{ACCOUNT_PREFIX}{name}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_comes_no_further_is_noticed_once() {
        let (mut waits, start) = (Waits::default(), Instant::now());
        let mut progress = Progress::default();
        assert!(!waits.look(true, &progress, start));
        assert!(!waits.look(true, &progress, start + WAIT_MAX / 2));
        progress.saved = 1;
        assert!(!waits.look(true, &progress, start + WAIT_MAX), "it went on");
        assert!(waits.look(true, &progress, start + WAIT_MAX * 2));
        assert!(waits.is_too_long);
        assert!(!waits.look(true, &progress, start + WAIT_MAX * 3), "said");
        progress.unable = Some("the disk is full".into());
        assert!(!waits.look(true, &progress, start + WAIT_MAX * 4));
        assert!(!waits.is_too_long, "it says so itself");
        progress.unable = None;
        assert!(!waits.look(false, &progress, start + WAIT_MAX * 5));
        assert!(
            !waits.look(true, &progress, start + WAIT_MAX * 7),
            "there was nothing"
        );
    }
}

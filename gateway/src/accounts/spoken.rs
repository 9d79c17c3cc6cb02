//! What is spoken with the providers, by account: counted where connections are opened, by all workers together.

use crate::config::Policy;
use crate::config::policy::AccountId;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is spoken on a connection to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1
    Http1,
    /// HTTP/2
    Http2,
}

impl Spoken {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    /// A name for metrics and for the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// What was spoken on the connections of all accounts so far.
pub struct SpokenWith {
    by_account: Box<[OfAccount]>,
}

#[derive(Default)]
struct OfAccount {
    /// Connections, by what is spoken on them.
    opened: [AtomicU64; Spoken::ALL.len()],
    /// Of the latest one on which any might have been; 0: none yet, else one more than its place in `ALL`.
    latest: AtomicU8,
}

impl SpokenWith {
    pub(super) fn new(policy: &Policy) -> Self {
        let accounts = policy.accounts.iter();
        Self {
            by_account: accounts.map(|_| OfAccount::default()).collect(),
        }
    }

    /// A connection was opened. `is_free`: nothing but the configuration and the provider had a say in what is spoken on it.
    pub fn note_opened(&self, account: AccountId, spoken: Spoken, is_free: bool) {
        let own = &self.by_account[usize::from(account.0)];
        own.opened[spoken as usize].fetch_add(1, Ordering::Relaxed);
        if is_free {
            own.latest.store(spoken as u8 + 1, Ordering::Relaxed);
        }
    }

    /// Connections that were opened on which this is spoken.
    pub fn opened(&self, account: AccountId, spoken: Spoken) -> u64 {
        let own = &self.by_account[usize::from(account.0)];
        own.opened[spoken as usize].load(Ordering::Relaxed)
    }

    /// What is spoken where there was a choice, as far as it is known: with the connection that was opened last.
    pub fn latest(&self, account: AccountId) -> Option<Spoken> {
        let own = &self.by_account[usize::from(account.0)];
        let place = own.latest.load(Ordering::Relaxed).checked_sub(1)?;
        Spoken::ALL.get(usize::from(place)).copied()
    }
}

//! The journal that is meant: of a node that runs or does not.

use super::{EX_NOINPUT, Place};
use codex_relay::config::Policy;
use codex_relay::config::policy::JournalMode;
use jiff::tz::TimeZone;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// The journal that is meant.
#[derive(clap::Args)]
pub(super) struct Kept {
    /// The configuration file, which names the journal's directory and the time zone
    #[arg(short, long, value_name = "FILE", required_unless_present = "journal")]
    config: Option<PathBuf>,
    /// The journal's directory, if it is not the configured one
    #[arg(long, value_name = "DIRECTORY")]
    journal: Option<PathBuf>,
}

/// Where it is.
pub(super) struct Found {
    pub(super) directory: PathBuf,
    /// UTC, if there is no configuration.
    pub(super) zone: TimeZone,
    policy: Option<Policy>,
}

impl Kept {
    pub(super) fn find(&self) -> Result<Found, ExitCode> {
        let place = self.config.clone().map(|config| Place { config });
        let policy = place.map(|place| place.policy()).transpose()?;
        let directory = match (&self.journal, &policy) {
            (Some(journal), _) => journal.clone(),
            (None, Some(policy)) if policy.journal.mode == JournalMode::Off => {
                eprintln!(
                    "journal.mode is \"off\": nothing is kept of requests. What was kept before can be \
                     read with --journal {}",
                    policy.journal.directory.display()
                );
                return Err(EX_NOINPUT.into());
            }
            (None, Some(policy)) => policy.journal.directory.clone(),
            // `required_unless_present` leaves no such case.
            (None, None) => PathBuf::new(),
        };
        Ok(Found {
            directory,
            zone: policy
                .as_ref()
                .map_or(TimeZone::UTC, |policy| policy.usage.time_zone.clone()),
            policy,
        })
    }
}

impl Found {
    /// Names that the configuration does not know may be mistaken; or they were there once.
    pub(super) fn warn_of_names(&self, tenants: &[String], accounts: &[String]) {
        let Some(policy) = &self.policy else {
            return;
        };
        for name in tenants {
            if !policy.tenants.iter().any(|tenant| tenant.name == *name) {
                eprintln!("the configuration has no tenant `{name}`");
            }
        }
        for name in accounts {
            if !policy.accounts.iter().any(|account| account.name == *name) {
                eprintln!("the configuration has no account `{name}`");
            }
        }
    }

    /// Says why.
    pub(super) fn unreadable(&self, error: &io::Error) -> ExitCode {
        let directory = self.directory.display();
        if error.kind() == io::ErrorKind::NotFound {
            eprintln!("there is no journal in {directory}: has the gateway run yet?");
        } else {
            eprintln!("the journal in {directory} cannot be read: {error}");
        }
        EX_NOINPUT.into()
    }
}

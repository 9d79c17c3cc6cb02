//! Who has used what of today's and this month's quotas, by what the journal says.

use super::{Day, Row, Totals};
use crate::config::Policy;
use crate::config::policy::{KeyNumber, TenantId};
use crate::limits::{Allowances, Span};
use crate::request::authenticate::KeyId;
use std::collections::HashMap;

/// Counts what was used this month as if this process had served it. Tenants and keys that are no longer in the
/// configuration have no quotas; what a key has used that was taken from its tenant still is its tenant's use.
pub fn restore(policy: &Policy, allowances: &Allowances, rows: &[Row], today: Day) {
    for (whose, totals) in sums(policy, rows, today) {
        allowances.restore(whose.tenant, whose.key, whose.span, &totals);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Whose {
    tenant: TenantId,
    key: Option<KeyNumber>,
    span: Span,
}

fn sums(policy: &Policy, rows: &[Row], today: Day) -> HashMap<Whose, Totals> {
    let tenants = policy.tenants.iter().enumerate();
    let tenants: HashMap<&str, TenantId> = tenants
        .map(|(index, tenant)| (tenant.name.as_str(), TenantId(index as u16)))
        .collect();
    let keys = policy.keys.iter().filter_map(|(hash, key)| {
        let id: KeyId = *hash.first_chunk()?;
        Some(((key.tenant, id), key.number))
    });
    let keys: HashMap<_, _> = keys.collect();
    let mut sums: HashMap<Whose, Totals> = HashMap::new();
    let this_month = today.first_of_month()..=today;
    for row in rows.iter().filter(|row| this_month.contains(&row.day)) {
        let Some(&tenant) = tenants.get(&*row.tenant) else {
            continue;
        };
        let key = row.key.and_then(|id| keys.get(&(tenant, id)).copied());
        let scopes = [Some(None), key.map(Some)];
        for key in scopes.into_iter().flatten() {
            let mut count = |span| {
                let whose = Whose { tenant, key, span };
                sums.entry(whose).or_default().merge(&row.sum.totals);
            };
            count(Span::Month);
            if row.day == today {
                count(Span::Day);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::usage::Sum;
    use std::path::Path;

    fn policy() -> Policy {
        let key = |digit: &str| format!("{{ sha256 = \"{}\" }}", digit.repeat(64));
        let (own, other, another) = (key("1"), key("2"), key("3"));
        let text = format!(
            r#"
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            name = "provider"
            base_url = "http://127.0.0.1:1"
            [[account]]
            name = "first"
            upstream = "provider"
            credential = {{ env = "KEY" }}
            egress = ["127.0.0.1"]
            [[tenant]]
            name = "acme"
            keys = [{own}, {other}]
            upstreams = ["provider"]
            [[tenant]]
            name = "globex"
            keys = [{another}]
            upstreams = ["provider"]
            "#
        );
        let environment = |_: &str| Some("sk-test".into());
        let loaded = config::parse(&text, Path::new("test.toml"), &environment);
        loaded.unwrap_or_else(|errors| panic!("{errors}")).policy
    }

    fn row(day: &str, tenant: &str, key: Option<KeyId>, requests: u64) -> Row {
        let totals = Totals {
            requests,
            input_tokens: 10 * requests,
            ..Totals::default()
        };
        let refused = 100;
        Row {
            day: day.parse().unwrap(),
            tenant: tenant.into(),
            key,
            model: Some("m".into()),
            sum: Sum {
                totals,
                refused,
                ..Sum::default()
            },
        }
    }

    #[test]
    fn days_and_months_of_tenants_and_keys() {
        let policy = policy();
        let (own, other, gone) = ([0x11; 4], [0x22; 4], [0x44; 4]);
        let rows = [
            row("2026-02-28", "acme", Some(own), 1),
            row("2026-03-01", "acme", Some(own), 2),
            row("2026-03-09", "acme", Some(own), 4),
            row("2026-03-09", "acme", Some(other), 8),
            row("2026-03-09", "acme", Some(gone), 16),
            // Somebody else's key now.
            row("2026-03-09", "globex", Some(own), 32),
            row("2026-03-09", "gone", Some(own), 64),
            // From a clock that was wrong.
            row("2026-03-10", "acme", Some(own), 128),
        ];
        let sums = sums(&policy, &rows, "2026-03-09".parse().unwrap());
        let number = |id: KeyId| {
            let mut keys = policy.keys.iter();
            keys.find(|(hash, _)| hash.starts_with(&id))
                .map(|(_, key)| key.number)
                .unwrap()
        };
        let requests = |tenant, key, span| {
            let tenant = TenantId(tenant);
            let totals = sums.get(&Whose { tenant, key, span });
            totals.map(|totals| (totals.requests, totals.input_tokens))
        };
        let (day, month) = (Span::Day, Span::Month);
        assert_eq!(requests(0, None, day), Some((28, 280)));
        assert_eq!(requests(0, None, month), Some((30, 300)));
        assert_eq!(requests(0, Some(number(own)), day), Some((4, 40)));
        assert_eq!(requests(0, Some(number(own)), month), Some((6, 60)));
        assert_eq!(requests(0, Some(number(other)), day), Some((8, 80)));
        assert_eq!(requests(1, None, month), Some((32, 320)));
        assert_eq!(requests(1, Some(number(own)), month), None);
        assert_eq!(sums.len(), 8);
    }
}

//! `limits` of tenants and of keys, and the table of prices that budgets need.

use super::Meaning;
use crate::config::document::KeyPath;
use crate::config::forms::Text;
use crate::config::policy::{Allowance, Limit, LimitSet, ModelPattern, Money, Price, TokenPrice};
use crate::config::raw::{File, List, allowance};

/// Limits of the same thing, in growing time: a larger one of a shorter time never refuses anything.
const NESTED: [&[Limit]; 2] = [
    &[
        Limit::RequestsPerMinute,
        Limit::RequestsPerDay,
        Limit::RequestsPerMonth,
    ],
    &[
        Limit::TokensPerMinute,
        Limit::TokensPerDay,
        Limit::TokensPerMonth,
    ],
];

impl Meaning<'_> {
    /// `limits` of a tenant or a key.
    pub(super) fn allowance(&mut self, raw: &allowance::Allowance, path: &KeyPath) -> Allowance {
        let mut allowance = Allowance {
            requests_per_second: raw.requests_per_second,
            burst: raw.burst.or(raw.requests_per_second).unwrap_or(1),
            requests_per_minute: raw.requests_per_minute,
            tokens_per_minute: raw.tokens_per_minute,
            concurrent_requests: raw.concurrent_requests,
            requests_per_day: raw.requests_per_day,
            tokens_per_day: raw.tokens_per_day,
            requests_per_month: raw.requests_per_month,
            tokens_per_month: raw.tokens_per_month,
            budget_per_month: raw
                .budget_per_month
                .map(|amount| Money::from_nano(amount.get())),
            shadow: LimitSet::EMPTY,
        };
        let is_written = |meaning: &Self, key: &str| meaning.document.holds(&path.key(key));
        if raw.burst.is_some() && !is_written(self, "requests_per_second") {
            let message = "without `requests_per_second` there is nothing that it could exceed";
            self.error(&path.key("burst"), message, None);
        }
        if raw.budget_per_month.is_some() && !self.document.holds(&KeyPath::of("price")) {
            let message = "there is no [[price]], so nothing has a cost";
            let hint = "add a [[price]] with `models`, `input` and `output`";
            self.error(
                &path.key("budget_per_month"),
                message,
                Some(hint.to_owned()),
            );
        }
        for (index, allowance::LimitName(limit)) in raw.shadow.iter() {
            let path = path.key("shadow").index(index);
            let name = limit.as_str();
            if allowance.shadow.contains(*limit) {
                self.error(&path, format!("`{name}` is named twice"), None);
            } else if !is_written(self, name) {
                let message = format!("`{name}` is not set beside it");
                self.error(
                    &path,
                    message,
                    Some("remove it, or set the limit".to_owned()),
                );
            }
            allowance.shadow = allowance.shadow.with(*limit);
        }
        self.nested(&allowance, path);
        allowance
    }

    fn nested(&mut self, allowance: &Allowance, path: &KeyPath) {
        for limits in NESTED {
            let refusing: Vec<_> = limits
                .iter()
                .filter(|limit| !allowance.shadow.contains(**limit))
                .filter_map(|limit| Some((limit.as_str(), count(allowance, *limit)?)))
                .collect();
            for pair in refusing.windows(2) {
                let [(short, short_max), (long, long_max)] = pair else {
                    continue;
                };
                if short_max > long_max {
                    let message = format!(
                        "`{short}` ({short_max}) is greater than `{long}` ({long_max}) and never refuses anything"
                    );
                    self.warn(&path.key(short), message, None);
                }
            }
        }
    }

    /// `[[price]]`
    pub(super) fn prices(&mut self, prices: &List<allowance::Price>) -> Vec<Price> {
        let mut made: Vec<(usize, Price)> = Vec::new();
        for (index, price) in prices.iter() {
            let path = KeyPath::of("price").index(index).key("models");
            let patterns = || price.models.iter();
            for (at, Text(pattern)) in patterns() {
                let earlier = made.iter().find(|(_, price)| price.covers(pattern));
                if let Some((earlier, _)) = earlier {
                    let first = self.place(&KeyPath::of("price").index(*earlier));
                    let message = format!("the price of `{pattern}` is decided by {first} already");
                    let hint = "put what is special before what is general";
                    self.warn(&path.index(at), message, Some(hint.to_owned()));
                }
            }
            let (Some(input), Some(output)) = (price.input, price.output) else {
                continue;
            };
            let token = |amount: allowance::MillionPrice| TokenPrice(amount.get());
            let made_of_it = Price {
                models: patterns()
                    .map(|(_, Text(pattern))| ModelPattern(pattern.clone()))
                    .collect(),
                input: token(input),
                cached_input: token(price.cached_input.unwrap_or(input)),
                output: token(output),
            };
            made.push((index, made_of_it));
        }
        made.into_iter().map(|(_, price)| price).collect()
    }

    /// Requests for a model without a price are refused where there is a budget.
    pub(super) fn priced(&mut self, file: &File, prices: &[Price]) {
        for (index, tenant) in file.tenant.iter() {
            let budgets = tenant.keys.iter().map(|(_, key)| &key.limits);
            let mut budgets = budgets.chain([&tenant.limits]);
            if prices.is_empty() || !budgets.any(|limits| limits.budget_per_month.is_some()) {
                continue;
            }
            for (at, Text(model)) in tenant.models.iter() {
                let is_name = !model.contains('*');
                if is_name && !prices.iter().any(|price| price.covers(model)) {
                    let path = KeyPath::of("tenant").index(index).key("models").index(at);
                    let message = format!(
                        "there is a budget, and no [[price]] covers `{model}`: it will be refused"
                    );
                    self.warn(&path, message, None);
                }
            }
        }
    }
}

fn count(allowance: &Allowance, limit: Limit) -> Option<u64> {
    match limit {
        Limit::RequestsPerMinute => allowance.requests_per_minute.map(u64::from),
        Limit::RequestsPerDay => allowance.requests_per_day,
        Limit::RequestsPerMonth => allowance.requests_per_month,
        Limit::TokensPerMinute => allowance.tokens_per_minute,
        Limit::TokensPerDay => allowance.tokens_per_day,
        Limit::TokensPerMonth => allowance.tokens_per_month,
        _ => None,
    }
}

//! Sums over entries of the journal.

use super::{Calendar, Day, Known, Totals};
use crate::journal::Entry;
use crate::request::authenticate::KeyId;
use foldhash::fast::RandomState;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::sync::Arc;

/// Models of a tenant that are told apart in one sheet: their names come from clients.
const MODELS_PER_TENANT_MAX: usize = 256;

/// What the others are counted under.
const OTHER_MODELS: &str = "(other)";

/// What requests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// What was charged.
    pub totals: Totals,
    /// Requests that the gateway has answered itself: refused, failed, or left by their clients.
    pub refused: u64,
    /// Of those that were charged for tokens: how many were known how, in the order of `Known::ALL`.
    pub known: [u64; Known::ALL.len()],
}

/// What requests of one day, tenant, key and model came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When they began.
    pub day: Day,
    /// Whose they were.
    pub tenant: Arc<str>,
    /// With which key.
    pub key: Option<KeyId>,
    /// For which model, where they named one.
    pub model: Option<Arc<str>>,
    /// What they came to.
    pub sum: Sum,
}

/// Sums, by day, tenant, key and model. Requests without a valid key are nobody's.
pub struct Sheet {
    calendar: Calendar,
    tenants: Names,
    /// Of each tenant, in the order of their numbers.
    models: Vec<Names>,
    sums: HashMap<Label, Sum, RandomState>,
}

/// Names have numbers here, so that a request is counted without a copy of any.
#[derive(Default)]
struct Names {
    list: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32, RandomState>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Label {
    /// See [`Day::number`].
    day: u64,
    /// Its number in `Sheet::tenants`.
    tenant: u32,
    /// Its number among the tenant's.
    model: Option<u32>,
    key: Option<u32>,
}

impl Sheet {
    /// An empty one, with the days of this zone.
    pub fn new(zone: &TimeZone) -> Self {
        Self {
            calendar: Calendar::new(zone),
            tenants: Names::default(),
            models: Vec::new(),
            sums: HashMap::default(),
        }
    }

    /// Counts one more request.
    pub fn add<N: AsRef<str>>(&mut self, entry: &Entry<N>) {
        let Some(tenant) = &entry.tenant else {
            return;
        };
        if !entry.charged && entry.code.is_none() {
            return;
        }
        let tenant = self.tenant(tenant.as_ref());
        let models = &mut self.models[tenant as usize];
        let model = entry.model.as_ref();
        let label = Label {
            day: self.calendar.day(entry.time_us).number(),
            tenant,
            model: model.map(|model| models.told_apart(model.as_ref())),
            key: entry.key.map(u32::from_be_bytes),
        };
        self.sums.entry(label).or_default().add(entry);
    }

    /// Counts what another sheet has counted.
    pub fn merge(&mut self, row: &Row) {
        let tenant = self.tenant(&row.tenant);
        let models = &mut self.models[tenant as usize];
        let label = Label {
            day: row.day.number(),
            tenant,
            model: row.model.as_ref().map(|model| models.number(model)),
            key: row.key.map(u32::from_be_bytes),
        };
        self.sums.entry(label).or_default().merge(&row.sum);
    }

    fn tenant(&mut self, name: &str) -> u32 {
        let number = self.tenants.number(name);
        if number as usize == self.models.len() {
            self.models.push(Names::default());
        }
        number
    }

    /// What was counted, by day, tenant, key and model.
    pub fn rows(&self) -> Vec<Row> {
        let rows = self.sums.iter().filter_map(|(label, sum)| {
            let models = &self.models[label.tenant as usize].list;
            Some(Row {
                day: Day::with_number(label.day)?,
                tenant: self.tenants.list[label.tenant as usize].clone(),
                key: label.key.map(u32::to_be_bytes),
                model: label.model.map(|number| models[number as usize].clone()),
                sum: *sum,
            })
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        rows
    }
}

impl Names {
    /// The number under which a model is counted whose name came from a client.
    fn told_apart(&mut self, model: &str) -> u32 {
        match self.numbers.get(model) {
            Some(&number) => number,
            None if self.list.len() < MODELS_PER_TENANT_MAX => self.add(model),
            None => self.number(OTHER_MODELS),
        }
    }

    fn number(&mut self, name: &str) -> u32 {
        match self.numbers.get(name) {
            Some(&number) => number,
            None => self.add(name),
        }
    }

    fn add(&mut self, name: &str) -> u32 {
        let number = self.list.len() as u32;
        let name: Arc<str> = name.into();
        self.list.push(name.clone());
        self.numbers.insert(name, number);
        number
    }
}

impl Row {
    fn order(&self) -> (Day, &str, Option<KeyId>, Option<&str>) {
        (self.day, &self.tenant, self.key, self.model.as_deref())
    }
}

impl Sum {
    fn add<N>(&mut self, entry: &Entry<N>) {
        if !entry.charged {
            self.refused += 1;
            return;
        }
        let usage = entry.usage.unwrap_or_default();
        self.totals.add(&usage, entry.cost);
        if let Some(position) = Known::ALL.iter().position(|&one| Some(one) == entry.known) {
            self.known[position] += 1;
        }
    }

    /// Those of another sum too.
    pub fn merge(&mut self, other: &Self) {
        self.totals.merge(&other.totals);
        self.refused = self.refused.saturating_add(other.refused);
        for (own, others) in self.known.iter_mut().zip(other.known) {
            *own = own.saturating_add(others);
        }
    }

    /// Of those that were charged for tokens: how many were known so.
    pub fn known(&self, known: Known) -> u64 {
        let position = Known::ALL.iter().position(|&one| one == known);
        position.map_or(0, |position| self.known[position])
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{DAY_US, entry};
    use super::*;
    use crate::config::policy::Money;

    #[test]
    fn each_day_tenant_key_and_model_is_summed_up_for_itself() {
        let mut sheet = Sheet::new(&TimeZone::UTC);
        let first = entry("a", "m");
        for changed in [
            first.clone(),
            first.clone(),
            entry("b", "m"),
            entry("a", "n"),
            Entry {
                key: None,
                ..first.clone()
            },
            Entry {
                time_us: first.time_us + DAY_US,
                known: Some(Known::Estimated),
                ..first.clone()
            },
        ] {
            sheet.add(&changed);
        }
        let rows = sheet.rows();
        let shown: Vec<_> = rows
            .iter()
            .map(|row| {
                let key = row.key.is_some();
                let model = row.model.as_deref().unwrap_or_default();
                (&*row.tenant, key, model, row.sum.totals.requests)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("a", false, "m", 1),
                ("a", true, "m", 2),
                ("a", true, "n", 1),
                ("b", true, "m", 1),
                ("a", true, "m", 1)
            ]
        );
        let totals = rows[1].sum.totals;
        assert_eq!((totals.input_tokens, totals.cached_tokens), (20, 8));
        assert_eq!((totals.output_tokens, totals.reasoning_tokens), (6, 2));
        assert_eq!(totals.cost, Money::from_nano(14));
        assert_eq!(rows[1].sum.known(Known::Final), 2);
        assert_eq!(rows[4].sum.known, [0, 0, 1]);
    }

    #[test]
    fn what_was_refused_is_counted_and_costs_nothing() {
        let mut sheet = Sheet::new(&TimeZone::UTC);
        let refused = Entry {
            charged: false,
            code: Some("tenant_rate_limited"),
            ..entry("a", "m")
        };
        let asked_for_its_use = Entry {
            charged: false,
            ..entry("a", "m")
        };
        let nobodys = Entry {
            tenant: None,
            ..refused.clone()
        };
        for entry in [&refused, &asked_for_its_use, &nobodys] {
            sheet.add(entry);
        }
        let rows = sheet.rows();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].sum.refused, 1);
        assert_eq!(rows[0].sum.totals, Totals::default());
    }

    #[test]
    fn clients_cannot_make_models_without_end() {
        let mut sheet = Sheet::new(&TimeZone::UTC);
        for number in 0..1_000 {
            sheet.add(&entry("a", &number.to_string()));
        }
        // Those that were told apart still are, on another day too.
        for time_us in [entry("a", "7").time_us, 0] {
            sheet.add(&Entry {
                time_us,
                ..entry("a", "7")
            });
        }
        sheet.add(&entry("b", "900"));
        let rows = sheet.rows();
        let find = |tenant: &str, model: &str| {
            let is_it = |row: &&Row| &*row.tenant == tenant && row.model.as_deref() == Some(model);
            let found = rows.iter().filter(is_it);
            found.map(|row| row.sum.totals.requests).collect::<Vec<_>>()
        };
        assert_eq!(rows.len(), MODELS_PER_TENANT_MAX + 3);
        assert_eq!(find("a", OTHER_MODELS), [744]);
        assert_eq!(find("a", "7"), [1, 2]);
        assert_eq!(find("b", "900"), [1]);
    }
}

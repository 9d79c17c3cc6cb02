//! Medians and their ratios, as a table.

use super::measure::Measured;
use super::proxies::Proxy;
use super::scenarios::Scenario;

pub(crate) const WIDTH: usize = 12;
const COLUMNS: [&str; WIDTH] = [
    "proxy",
    "CPU µs",
    "(min–max)",
    "of nginx",
    "of floor",
    "units/s",
    "core %",
    "waits %",
    "p50 µs",
    "p99 µs",
    "first byte p50/p99 µs",
    "PSS 5,000 MiB",
];

/// Everything there is to say of some results.
pub(crate) fn text(scenarios: &[&Scenario], results: &[Measured]) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        text.push_str(&table(scenario, results));
        for part in PARTS {
            text.push_str(&part.cost(scenario, results).unwrap_or_default());
        }
    }
    text + &floods(results)
}

/// The results of one scenario: one line for each proxy, medians over the rounds.
fn table(scenario: &Scenario, results: &[Measured]) -> String {
    let mut text = format!(
        "\n{}: {}\nCPU of the proxy per {}, latency as the client has it (`direct`: without a proxy), medians\n\n",
        scenario.name,
        scenario.about,
        scenario.unit.name()
    );
    text.push_str(&aligned(&rows(scenario, results)));
    let of_scenario = results.iter().filter(|it| it.scenario == scenario);
    let disturbed = of_scenario.clone().filter(|it| it.is_disturbed()).count();
    if disturbed > 0 {
        let all = of_scenario.count();
        text.push_str(&format!(
            "\n  DISTURBED: in {disturbed} of {all} measurements others used the cores\n"
        ));
    }
    text
}

/// The heads of the columns and a row for each proxy that was measured.
pub(crate) fn rows(scenario: &Scenario, results: &[Measured]) -> Vec<[String; WIDTH]> {
    let of_scenario = results.iter().filter(|it| it.scenario == scenario);
    let of_scenario: Vec<&Measured> = of_scenario.collect();
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    let mut seen: Vec<Proxy> = Vec::new();
    for measured in &of_scenario {
        if !seen.contains(&measured.proxy) {
            seen.push(measured.proxy);
            rows.push(row(measured.proxy, &of_scenario));
        }
    }
    rows[1..].sort_by_key(|row| order(&row[0]));
    rows
}

fn order(name: &str) -> usize {
    let names = [
        "gateway",
        "gateway-kernel",
        "nginx",
        "haproxy",
        "floor",
        "direct",
    ];
    names
        .iter()
        .position(|it| *it == name)
        .unwrap_or(names.len())
}

fn row(proxy: Proxy, results: &[&Measured]) -> [String; WIDTH] {
    let of = |proxy: Proxy, figure: &dyn Fn(&Measured) -> Option<f64>| -> Vec<f64> {
        let mut values: Vec<f64> = results
            .iter()
            .filter(|it| it.proxy == proxy)
            .filter_map(|it| figure(it))
            .collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let cpu = |proxy| of(proxy, &Measured::cpu_us_per_unit);
    let own = cpu(proxy);
    let range = match (own.first(), own.last()) {
        (Some(least), Some(most)) => format!("({}–{})", shown(Some(*least)), shown(Some(*most))),
        _ => String::new(),
    };
    let ratio = |base| {
        let (own, base) = (median(&own)?, median(&cpu(base))?);
        Some(format!("{:.2}", own / base))
    };
    let figure = |figure: &dyn Fn(&Measured) -> Option<f64>| shown(median(&of(proxy, figure)));
    let latency =
        |field: &'static str, quantile: &'static str| figure(&|it| it.latency_us(field, quantile));
    let field = results
        .first()
        .map_or("", |it| it.scenario.unit.latency_field());
    let first_byte = "first_byte_us";
    let rate = median(&of(proxy, &|it| Some(it.units_per_second())));
    [
        proxy.name().to_owned(),
        shown(median(&own)),
        range,
        ratio(Proxy::Nginx).unwrap_or_default(),
        ratio(Proxy::Floor).unwrap_or_default(),
        rate.map(|rate| format!("{rate:.0}")).unwrap_or_default(),
        figure(&|it| Some(it.cost?.usage.running * 100.0)),
        figure(&|it| Some(it.cost?.usage.waiting * 100.0)),
        latency(field, "p50"),
        latency(field, "p99"),
        format!(
            "{}/{}",
            latency(first_byte, "p50"),
            latency(first_byte, "p99")
        ),
        figure(&Measured::pss_of_5000_mib),
    ]
}

/// A part of the gateway whose cost is told where it was measured with and without it.
struct Part {
    name: &'static str,
    with: Proxy,
    without: Proxy,
}

/// All such parts.
const PARTS: [Part; 2] = [
    Part {
        name: "Kernel programs",
        with: Proxy::GatewayKernel,
        without: Proxy::Gateway,
    },
    Part {
        name: "Limits, prices and journal",
        with: Proxy::Gateway,
        without: Proxy::GatewayBare,
    },
];

impl Part {
    /// What it adds to a unit's CPU time: medians of the differences within each round, and their range. `None` if the gateway
    /// was not measured with and without it.
    fn cost(&self, scenario: &Scenario, results: &[Measured]) -> Option<String> {
        let added = |figure: &dyn Fn(&Measured) -> Option<f64>| {
            let of = |proxy: Proxy| {
                let all = results.iter();
                all.filter(move |it| it.scenario == scenario && it.proxy == proxy)
                    .filter_map(figure)
            };
            let pairs: Vec<(f64, f64)> = of(self.without).zip(of(self.with)).collect();
            let sorted = |difference: &dyn Fn(&(f64, f64)) -> f64| {
                let mut values: Vec<f64> = pairs.iter().map(difference).collect();
                values.sort_by(f64::total_cmp);
                values
            };
            let us = sorted(&|(without, with)| with - without);
            let percent = sorted(&|(without, with)| (with / without - 1.0) * 100.0);
            let (least, most) = (us.first()?, us.last()?);
            Some(format!(
                "{:+.2} µs ({least:+.2} to {most:+.2}), {:+.1} %",
                median(&us)?,
                median(&percent)?
            ))
        };
        let unit = match scenario.is_fresh() {
            true => "request, which is a new connection on each side",
            false => scenario.unit.name(),
        };
        Some(format!(
            "\n  {}, per {unit}: {} of the gateway's CPU; {} of all, load and upstream included\n",
            self.name,
            added(&Measured::cpu_us_per_unit)?,
            added(&Measured::cpu_us_per_unit_of_all)?
        ))
    }
}

/// What is felt beside a flood, and without it.
const FLOODS: [(&str, &str); 2] = [
    ("few-streams", "handshake-flood"),
    ("few-requests", "reset-flood"),
];

/// How much longer a hundredth of all others waits at least while a proxy is flooded: ratios of the medians over the rounds.
fn floods(results: &[Measured]) -> String {
    let mut text = String::new();
    for (quiet, flooded) in FLOODS {
        for proxy in [Proxy::Gateway, Proxy::Nginx, Proxy::Haproxy] {
            let p99 = |scenario| {
                let of_both = results
                    .iter()
                    .filter(|it| it.proxy == proxy && it.scenario.name == scenario);
                let mut values: Vec<f64> = of_both
                    .filter_map(|it| it.latency_us(it.scenario.unit.latency_field(), "p99"))
                    .collect();
                values.sort_by(f64::total_cmp);
                median(&values)
            };
            if let (Some(before), Some(during)) = (p99(quiet), p99(flooded)) {
                text.push_str(&format!(
                    "\n  {flooded}, {}: p99 of the others {before:.0} µs without, {during:.0} µs with it: {:.2}\n",
                    proxy.name(),
                    during / before
                ));
            }
        }
    }
    text
}

fn shown(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value < 1.0 => format!("{value:.3}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// The middle of sorted values, or of the two in the middle.
pub(crate) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted.get(middle).copied(),
        _ => Some((sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / 2.0),
    }
}

fn aligned(rows: &[[String; WIDTH]]) -> String {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let mut line = format!("  {:<width$}", row[0], width = width(0));
        for (column, cell) in row.iter().enumerate().skip(1) {
            line.push_str(&format!("  {cell:>width$}", width = width(column)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::measure::Cost;
    use crate::bench::process::Usage;
    use crate::bench::scenarios;
    use serde_json::json;

    pub(crate) fn measured(proxy: Proxy, running: f64) -> Measured {
        Measured {
            proxy,
            scenario: scenarios::named("json").unwrap()[0],
            load: json!({"duration_s": 1.0, "requests": 10_000, "request_us": {"p50": 300.0}}),
            flood: None,
            cost: Some(Cost {
                usage: Usage {
                    running,
                    waiting: running / 10.0,
                },
                others: 0.5,
                strangers: [0.0, running / 5.0],
                pss_idle_kib: 1_000,
                pss_loaded_kib: 2_000,
                threads_off_core: 0,
            }),
        }
    }

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(4.0));
        assert_eq!(median(&[1.0, 9.0]), Some(5.0));
        assert_eq!(median(&[1.0, 2.0, 100.0]), Some(2.0));
    }

    #[test]
    fn ratios_are_of_medians() {
        let results = [
            measured(Proxy::Nginx, 0.1),
            measured(Proxy::Floor, 0.05),
            measured(Proxy::Nginx, 0.9),
            measured(Proxy::Floor, 0.1),
            measured(Proxy::Nginx, 0.2),
            measured(Proxy::Floor, 0.2),
        ];
        let table = table(results[0].scenario, &results);
        let row = |name: &str| -> Vec<String> {
            let mut lines = table.lines();
            let line = lines.find(|line| line.trim_start().starts_with(name));
            line.unwrap()
                .split_whitespace()
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(
            row("nginx")[..5],
            ["nginx", "20.0", "(10.0–90.0)", "1.00", "2.00"]
        );
        assert_eq!(
            row("floor")[..5],
            ["floor", "10.0", "(5.0–20.0)", "0.50", "1.00"]
        );
    }

    #[test]
    fn a_part_is_compared_within_a_round() {
        let results = [
            measured(Proxy::Gateway, 0.1),
            measured(Proxy::GatewayKernel, 0.11),
            measured(Proxy::GatewayKernel, 0.21),
            measured(Proxy::Gateway, 0.2),
            measured(Proxy::Gateway, 0.4),
            measured(Proxy::GatewayKernel, 0.44),
        ];
        let scenario = results[0].scenario;
        let [kernel_programs, books] = PARTS;
        let text = kernel_programs.cost(scenario, &results).unwrap();
        let own = "per request: +1.00 µs (+1.00 to +4.00), +10.0 % of the gateway's";
        assert!(text.contains(own), "{text}");
        assert!(
            text.contains("+1.00 µs (+1.00 to +4.00), +1.7 % of all"),
            "{text}"
        );
        assert_eq!(kernel_programs.cost(scenario, &results[..1]), None);
        assert_eq!(books.cost(scenario, &results), None);
    }

    #[test]
    fn a_flood_is_compared_with_the_quiet() {
        let with_p99 = |scenario, p99: f64| Measured {
            scenario: scenarios::named(scenario).unwrap()[0],
            load: json!({"request_us": {"p99": p99}}),
            ..measured(Proxy::Gateway, 0.1)
        };
        let results = [
            with_p99("few-requests", 200.0),
            with_p99("reset-flood", 300.0),
        ];
        let text = floods(&results);
        assert!(
            text.contains("reset-flood, gateway") && text.contains(": 1.50"),
            "{text}"
        );
        assert_eq!(floods(&results[..1]), "");
    }

    #[test]
    fn disturbed_measurements_are_told_of() {
        let quiet = [measured(Proxy::Nginx, 0.4)];
        let scenario = quiet[0].scenario;
        assert!(!table(scenario, &quiet).contains("DISTURBED"));
        let disturbed = [measured(Proxy::Nginx, 0.4), measured(Proxy::Nginx, 0.9)];
        assert!(table(scenario, &disturbed).contains("DISTURBED: in 1 of 2"));
    }

    #[test]
    fn a_missing_base_leaves_its_ratio_out() {
        let results = [measured(Proxy::Floor, 0.1)];
        let table = table(results[0].scenario, &results);
        assert!(table.contains("floor"), "{table}");
        assert!(!table.contains("NaN"), "{table}");
    }
}

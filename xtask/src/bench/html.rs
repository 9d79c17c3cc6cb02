//! The results as one page with plots.

use std::fmt::Write as _;

use super::measure::Measured;
use super::report;
use super::scenarios::Scenario;

const STYLE: &str = "body{font:14px sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse}\
    td,th{padding:.2em .6em;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}\
    rect{fill:#4a7ab5}line{stroke:#222;stroke-width:1.5}svg text{font:12px sans-serif}pre{background:#f4f4f4;padding:1em}";

const BAR_WIDTH_MAX: f64 = 480.0;
const BAR_STEP: usize = 24;
const NAME_WIDTH: f64 = 120.0;

/// The whole page.
pub(crate) fn page(scenarios: &[&Scenario], results: &[Measured], title: &str) -> String {
    let mut page = format!(
        "<!doctype html><meta charset=utf-8><title>Cost of a gateway</title><style>{STYLE}</style>\n\
         <h1>Cost of a gateway</h1><p>{}</p>\n",
        escaped(title)
    );
    for scenario in scenarios {
        let _ = writeln!(
            page,
            "<h2>{}</h2><p>{}</p><p>CPU of the proxy per {}: median, and the range over the rounds</p>",
            scenario.name,
            escaped(scenario.about),
            scenario.unit.name()
        );
        page.push_str(&bars(scenario, results));
        page.push_str(&table(scenario, results));
    }
    let text = report::text(scenarios, results);
    let _ = writeln!(page, "<h2>As text</h2><pre>{}</pre>", escaped(&text));
    page
}

fn table(scenario: &Scenario, results: &[Measured]) -> String {
    let mut table = "<table>".to_owned();
    for (index, row) in report::rows(scenario, results).iter().enumerate() {
        let tag = if index == 0 { "th" } else { "td" };
        let cells = row
            .iter()
            .map(|it| format!("<{tag}>{}</{tag}>", escaped(it)));
        let _ = write!(table, "<tr>{}</tr>", cells.collect::<String>());
    }
    table + "</table>\n"
}

/// A bar for each proxy, with a line from the least to the most.
fn bars(scenario: &Scenario, results: &[Measured]) -> String {
    let mut proxies: Vec<(&str, Vec<f64>)> = Vec::new();
    for measured in results.iter().filter(|it| it.scenario == scenario) {
        let name = measured.proxy.name();
        let Some(us) = measured.cpu_us_per_unit() else {
            continue;
        };
        match proxies.iter_mut().find(|(it, _)| *it == name) {
            Some((_, values)) => values.push(us),
            None => proxies.push((name, vec![us])),
        }
    }
    for (_, values) in &mut proxies {
        values.sort_by(f64::total_cmp);
    }
    let most = proxies.iter().filter_map(|(_, values)| values.last());
    let scale = BAR_WIDTH_MAX / most.copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!(
        "<svg width={} height={}>",
        NAME_WIDTH + BAR_WIDTH_MAX + 80.0,
        proxies.len() * BAR_STEP
    );
    for (index, (name, values)) in proxies.iter().enumerate() {
        let top = index * BAR_STEP;
        let [Some(least), Some(middle), Some(most)] = [
            values.first().copied(),
            report::median(values),
            values.last().copied(),
        ] else {
            continue;
        };
        let at = |us: f64| NAME_WIDTH + us * scale;
        let _ = write!(
            svg,
            "<text x=0 y={0}>{name}</text><rect x={NAME_WIDTH} y={1} width={2:.1} height=16 />\
             <line x1={3:.1} x2={4:.1} y1={5} y2={5} /><text x={6:.1} y={0}>{middle:.1} µs</text>",
            top + 16,
            top + 4,
            middle * scale,
            at(least),
            at(most),
            top + 12,
            at(most) + 6.0,
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::proxies::Proxy;
    use crate::bench::scenarios;

    #[test]
    fn a_page_has_a_bar_and_a_row_for_each_proxy() {
        let scenarios = scenarios::named("json").unwrap();
        let results = [
            report::tests::measured(Proxy::Nginx, 0.2),
            report::tests::measured(Proxy::Gateway, 0.1),
        ];
        let page = page(&scenarios, &results, "a < b");
        assert!(page.contains("<p>a &lt; b</p>"));
        assert_eq!(page.matches("<rect ").count(), 2);
        assert!(page.contains("<td>gateway</td><td>10.0</td>"), "{page}");
        assert!(page.contains("20.0 µs"));
    }
}

//! The admin API, as far as the tests look into it.

use crate::client::{RawClient, Response};
use std::net::SocketAddr;

pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    let mut client = RawClient::connect(address);
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    ));
    client.read_response()
}

/// The sum of all samples of this name whose labels contain every `label="value"` of `labels`.
pub(crate) fn metric(text: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let rest = series.strip_prefix(name)?;
        let is_name = rest.is_empty() || rest.starts_with('{');
        let has_labels = labels.iter().all(|label| rest.contains(label));
        (is_name && has_labels).then(|| value.parse::<f64>().ok())?
    });
    samples.sum()
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn a_metric_is_the_sum_of_its_matching_samples() {
        let text =
            "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\nab 9\na_total 7\n";
        assert_eq!(metric(text, "a", &["x=\"1\""]), 7.0);
        assert_eq!(metric(text, "a", &["y=\"3\""]), 4.0);
        assert_eq!(metric(text, "ab", &[]), 9.0);
        assert_eq!(metric(text, "none", &[]), 0.0);
    }
}

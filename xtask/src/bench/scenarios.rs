//! What is asked of each proxy.

use std::error::Error;

/// One kind of load.
#[derive(Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What the CPU time is divided by.
    pub(crate) unit: Unit,
    /// Arguments of bench-load.
    pub(crate) args: &'static [&'static str],
    /// Streams that are open throughout, where memory is of interest.
    pub(crate) streams: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Request,
    Event,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Event => "event",
        }
    }

    /// The field of a result in which these are counted.
    pub(crate) fn count_field(self) -> &'static str {
        match self {
            Self::Request => "requests",
            Self::Event => "events",
        }
    }

    /// The field of a result that has their latency.
    pub(crate) fn latency_field(self) -> &'static str {
        match self {
            Self::Request => "request_us",
            Self::Event => "event_us",
        }
    }
}

/// Tells the load to open a connection for each request.
const FRESH: &str = "--fresh";

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "json",
        about: "JSON 1 KB, 32 keep-alive connections, saturated (for CPU; the latency is that of a queue)",
        unit: Unit::Request,
        args: &["json", "--connections=32", "--body-bytes=1024"],
        streams: None,
    },
    Scenario {
        name: "json-fresh",
        about: "JSON 1 KB, 32 at a time, each on a new connection to the proxy and from there to the upstream, saturated",
        unit: Unit::Request,
        args: &["json", "--connections=32", "--body-bytes=1024", FRESH],
        streams: None,
    },
    Scenario {
        name: "json-open",
        about: "JSON 1 KB, 10,000 requests/s sent on time over 64 keep-alive connections (for latency)",
        unit: Unit::Request,
        args: &[
            "json",
            "--connections=64",
            "--body-bytes=1024",
            "--rate=10000",
        ],
        streams: None,
    },
    Scenario {
        name: "sse",
        about: "SSE 200 B, 1,000 streams x 30 events/s, 300 events each",
        unit: Unit::Event,
        args: &[
            "sse",
            "--streams=1000",
            "--rate=30",
            "--payload-bytes=200",
            "--events=300",
        ],
        streams: Some(1_000),
    },
    Scenario {
        name: "sse-burst",
        about: "SSE 200 B, 32 streams of 10,000 events back to back",
        unit: Unit::Event,
        args: &[
            "sse",
            "--streams=32",
            "--rate=0",
            "--payload-bytes=200",
            "--events=10000",
        ],
        streams: None,
    },
    Scenario {
        name: "big",
        about: "JSON 1 MB, 8 keep-alive connections, saturated",
        unit: Unit::Request,
        args: &["json", "--connections=8", "--body-bytes=1048576"],
        streams: None,
    },
];

impl Scenario {
    /// Does each request open a connection, which the proxy too keeps for no other?
    pub(crate) fn is_fresh(&self) -> bool {
        self.args.contains(&FRESH)
    }
}

/// The scenarios of a list of names.
pub(crate) fn named(list: &str) -> Result<Vec<&'static Scenario>, Box<dyn Error>> {
    list.split(',')
        .map(|name| {
            let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
            found.ok_or_else(|| format!("there is no scenario `{name}`; see --help").into())
        })
        .collect()
}

/// All of them, for the help.
pub(crate) fn overview() -> String {
    SCENARIOS
        .iter()
        .map(|scenario| format!("  {:<10} {}\n", scenario.name, scenario.about))
        .collect()
}

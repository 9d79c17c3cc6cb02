//! What is asked of each proxy.

use std::error::Error;

/// One kind of load.
#[derive(Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What the CPU time is divided by.
    pub(crate) unit: Unit,
    /// Who makes the load.
    pub(crate) program: Program,
    /// Arguments of that program.
    pub(crate) args: &'static [&'static str],
    /// Where TLS is spoken.
    pub(crate) tls: Tls,
    /// Streams that are open throughout, where memory is of interest.
    pub(crate) streams: Option<u32>,
    /// Arguments of bench-flood, which runs beside the load.
    pub(crate) flood: Option<&'static [&'static str]>,
}

/// A program that makes load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// bench-load
    Load,
    /// bench-flood
    Flood,
    /// h2load of nghttp2, over HTTP/2
    H2load,
}

/// The sides of a proxy on which TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Neither,
    Upstream,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Request,
    Event,
    Handshake,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Event => "event",
            Self::Handshake => "handshake",
        }
    }

    /// The field of a result in which these are counted.
    pub(crate) fn count_field(self) -> &'static str {
        match self {
            Self::Request | Self::Handshake => "requests",
            Self::Event => "events",
        }
    }

    /// The field of a result that has their latency.
    pub(crate) fn latency_field(self) -> &'static str {
        match self {
            Self::Request | Self::Handshake => "request_us",
            Self::Event => "event_us",
        }
    }
}

/// Tells the load to open a connection for each request.
const FRESH: &str = "--fresh";

const JSON: &[&str] = &["json", "--connections=32", "--body-bytes=1024"];
const SSE: &[&str] = &[
    "sse",
    "--streams=1000",
    "--rate=30",
    "--payload-bytes=200",
    "--events=300",
];
/// What is measured while others flood: so little that the proxy has time for it.
const FEW_STREAMS: &[&str] = &[
    "sse",
    "--streams=200",
    "--rate=30",
    "--payload-bytes=200",
    "--events=300",
];
const FEW_REQUESTS: &[&str] = &[
    "json",
    "--connections=32",
    "--body-bytes=1024",
    "--rate=1000",
];

/// What the scenarios below change.
const PLAIN: Scenario = Scenario {
    name: "",
    about: "",
    unit: Unit::Request,
    program: Program::Load,
    args: JSON,
    tls: Tls::Neither,
    streams: None,
    flood: None,
};

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "json",
        about: "JSON 1 KB, 32 keep-alive connections, saturated (for CPU; the latency is that of a queue)",
        ..PLAIN
    },
    Scenario {
        name: "json-fresh",
        about: "JSON 1 KB, 32 at a time, each on a new connection to the proxy and from there to the upstream, saturated",
        args: &["json", "--connections=32", "--body-bytes=1024", FRESH],
        ..PLAIN
    },
    Scenario {
        name: "json-open",
        about: "JSON 1 KB, 10,000 requests/s sent on time over 64 keep-alive connections (for latency)",
        args: &[
            "json",
            "--connections=64",
            "--body-bytes=1024",
            "--rate=10000",
        ],
        ..PLAIN
    },
    Scenario {
        name: "sse",
        about: "SSE 200 B, 1,000 streams x 30 events/s, 300 events each",
        unit: Unit::Event,
        args: SSE,
        streams: Some(1_000),
        ..PLAIN
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
        ..PLAIN
    },
    Scenario {
        name: "big",
        about: "JSON 1 MB, 8 keep-alive connections, saturated",
        args: &["json", "--connections=8", "--body-bytes=1048576"],
        ..PLAIN
    },
    Scenario {
        name: "json-tls-up",
        about: "as json, with TLS to the upstream",
        tls: Tls::Upstream,
        ..PLAIN
    },
    Scenario {
        name: "json-tls",
        about: "as json, with TLS on both sides",
        tls: Tls::Both,
        ..PLAIN
    },
    Scenario {
        name: "sse-tls-up",
        about: "as sse, with TLS to the upstream",
        unit: Unit::Event,
        args: SSE,
        tls: Tls::Upstream,
        streams: Some(1_000),
        ..PLAIN
    },
    Scenario {
        name: "sse-tls",
        about: "as sse, with TLS on both sides",
        unit: Unit::Event,
        args: SSE,
        tls: Tls::Both,
        streams: Some(1_000),
        ..PLAIN
    },
    Scenario {
        name: "idle-tls",
        about: "5,000 streams with an event every 5 s, TLS on both sides (for memory)",
        unit: Unit::Event,
        args: &[
            "sse",
            "--streams=5000",
            "--rate=0.2",
            "--payload-bytes=200",
            "--events=1000",
        ],
        tls: Tls::Both,
        streams: Some(5_000),
        ..PLAIN
    },
    Scenario {
        name: "handshakes",
        about: "full TLS handshakes, 32 at a time, as many as there can be",
        unit: Unit::Handshake,
        program: Program::Flood,
        args: &["handshakes", "--connections=32"],
        tls: Tls::Both,
        ..PLAIN
    },
    Scenario {
        name: "json-h2",
        about: "JSON 1 KB over HTTP/2 with TLS, h2load, 8 connections of 4 streams, saturated; TLS to the upstream",
        program: Program::H2load,
        args: &["--clients=8", "--max-concurrent-streams=4"],
        tls: Tls::Both,
        ..PLAIN
    },
    Scenario {
        name: "few-streams",
        about: "SSE 200 B, 200 streams x 30 events/s, TLS on both sides",
        unit: Unit::Event,
        args: FEW_STREAMS,
        tls: Tls::Both,
        ..PLAIN
    },
    Scenario {
        name: "handshake-flood",
        about: "as few-streams, while others begin 4,000 handshakes/s",
        unit: Unit::Event,
        args: FEW_STREAMS,
        tls: Tls::Both,
        flood: Some(&["handshakes", "--replayed", "--rate=4000"]),
        ..PLAIN
    },
    Scenario {
        name: "few-requests",
        about: "JSON 1 KB, 1,000 requests/s sent on time over 32 keep-alive connections, TLS on both sides",
        args: FEW_REQUESTS,
        tls: Tls::Both,
        ..PLAIN
    },
    Scenario {
        name: "reset-flood",
        about: "as few-requests, while others begin and reset 20,000 HTTP/2 streams/s over 4 connections",
        args: FEW_REQUESTS,
        tls: Tls::Both,
        flood: Some(&["resets", "--rate=20000"]),
        ..PLAIN
    },
];

impl Scenario {
    /// Does each request open a connection, which the proxy too keeps for no other?
    pub(crate) fn is_fresh(&self) -> bool {
        self.args.contains(&FRESH)
    }

    /// Would bytes that a relay does not look at be understood by the other side?
    pub(crate) fn suits_blind(&self) -> bool {
        self.tls != Tls::Upstream && self.program == Program::Load && self.flood.is_none()
    }

    /// Does a proxy speak HTTP/2 with its clients?
    pub(crate) fn is_http2(&self) -> bool {
        self.program == Program::H2load || self.name == "reset-flood"
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
        .map(|scenario| format!("  {:<15} {}\n", scenario.name, scenario.about))
        .collect()
}

//! What clients speak, and how streams and connections of HTTP/2 end that do not come to their end.

use crate::worker::Figures;
use crate::worker::protocols::{FloodKind, Protocol, Protocols, StreamEnd};
use metrics::{counter, describe_counter};

pub(super) fn describe() {
    describe_counter!(
        "relay_client_connections_by_protocol_total",
        "Client connections on which something was said, by protocol and by whether it was over TLS"
    );
    describe_counter!(
        "relay_http2_streams_total",
        "Streams that clients have begun"
    );
    describe_counter!(
        "relay_http2_stream_resets_total",
        "Streams of clients that were reset, by why"
    );
    describe_counter!(
        "relay_http2_floods_total",
        "HTTP/2 connections of clients that were ended for how much came on them, by what came"
    );
}

pub(super) fn read(figures: &[&'static Figures]) {
    let sum = |of: &dyn Fn(&Protocols) -> u64| -> u64 {
        figures.iter().map(|figures| of(&figures.protocols)).sum()
    };
    for protocol in Protocol::ALL {
        for (is_secured, tls) in [(false, "false"), (true, "true")] {
            let count = sum(&|protocols| protocols.connections(protocol, is_secured));
            counter!(
                "relay_client_connections_by_protocol_total",
                "protocol" => protocol.as_str(),
                "tls" => tls,
            )
            .absolute(count);
        }
    }
    counter!("relay_http2_streams_total").absolute(sum(&Protocols::streams));
    for end in StreamEnd::ALL {
        counter!("relay_http2_stream_resets_total", "why" => end.as_str())
            .absolute(sum(&|protocols| protocols.ended(end)));
    }
    for kind in FloodKind::ALL {
        counter!("relay_http2_floods_total", "kind" => kind.as_str())
            .absolute(sum(&|protocols| protocols.floods(kind)));
    }
}

//! TLS, HTTP/2 and WebSocket, from the text to the policy.

use super::*;
use crate::config::policy::{CertificateFiles, ClientAuth, Protocol, TlsVersion};
use rustls::pki_types::ServerName;

const PAIR: &str = "certificates = [{ certificate_file = \"a.pem\", key_file = \"/keys/a.key\" }]";

/// `MINIMAL` with this in its listener.
fn listener(more: &str) -> String {
    MINIMAL.replace(
        "address = \"127.0.0.1:8080\"\n",
        &format!("address = \"127.0.0.1:8080\"\n{more}\n"),
    )
}

/// `MINIMAL` with an upstream over TLS, and this in it.
fn secured(more: &str) -> String {
    with(more).replace("http://api.example", "https://api.example")
}

fn warnings(text: &str) -> Vec<Problem> {
    load_text(text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .warnings
}

#[test]
fn http2_is_offered_with_tls_and_not_taken_without_unless_it_is_written() {
    for (more, http2) in [
        (String::new(), false),
        ("http2 = true".to_owned(), true),
        (format!("[listener.tls]\n{PAIR}"), true),
        (format!("http2 = false\n[listener.tls]\n{PAIR}"), false),
    ] {
        assert_eq!(policy(&listener(&more)).listeners[0].http2, http2, "{more}");
    }
}

#[test]
fn a_listener_names_its_files_and_its_rules() {
    let text = listener(&format!(
        "[listener.tls]\n{PAIR}\nmin_version = \"1.3\"\nclient_ca_file = \"clients.pem\"\n\
         client_certificates = \"optional\""
    ));
    let tls = policy(&text).listeners[0].tls.clone().unwrap();
    let pair = CertificateFiles {
        certificate: "/etc/relay/a.pem".into(),
        key: "/keys/a.key".into(),
    };
    assert_eq!(tls.certificates, [pair]);
    assert_eq!(tls.min_version, TlsVersion::Tls13);
    let auth = ClientAuth {
        ca_file: "/etc/relay/clients.pem".into(),
        required: false,
    };
    assert_eq!(tls.client_auth, Some(auth));

    let tls = policy(&listener(&format!("[listener.tls]\n{PAIR}")));
    let tls = tls.listeners[0].tls.clone().unwrap();
    assert_eq!(tls.min_version, TlsVersion::Tls12);
    assert_eq!(tls.client_auth, None);

    let asked = format!("[listener.tls]\n{PAIR}\nclient_ca_file = \"clients.pem\"");
    let tls = policy(&listener(&asked)).listeners[0].tls.clone().unwrap();
    assert!(
        tls.client_auth.unwrap().required,
        "the safe one is the default"
    );
}

#[test]
fn what_makes_no_sense_in_a_listener_is_refused_in_its_place() {
    for (tls, key) in [
        ("", "listener[0].tls.certificates"),
        ("certificates = []", "listener[0].tls.certificates"),
        (
            "certificates = [{ certificate_file = \"a\" }]",
            "listener[0].tls.certificates[0].key_file",
        ),
        (
            "certificates = [{ certificate_file = \"a\", key_file = \"b\" }, { certificate_file = \"./a\", key_file = \"c\" }]",
            "listener[0].tls.certificates[1].certificate_file",
        ),
        (
            &format!("{PAIR}\nmin_version = \"1.1\""),
            "listener[0].tls.min_version",
        ),
        (
            &format!("{PAIR}\nclient_certificates = \"required\""),
            "listener[0].tls.client_certificates",
        ),
        (
            &format!("{PAIR}\nclient_ca_file = \"\"\nclient_certificates = \"required\""),
            "listener[0].tls.client_ca_file",
        ),
        (
            &format!("{PAIR}\nclient_ca_file = \"c\"\nclient_certificates = \"maybe\""),
            "listener[0].tls.client_certificates",
        ),
    ] {
        let errors = errors(&listener(&format!("[listener.tls]\n{tls}")));
        assert_eq!(keys_of(&errors), [key], "{tls}");
    }
}

#[test]
fn an_upstream_over_tls_has_the_name_of_its_host_unless_it_is_given_another() {
    for (text, name) in [
        (secured(""), "api.example"),
        (secured("server_name = \"Other.Example\""), "other.example"),
        (
            with("").replace("http://api.example", "https://[::1]:8443"),
            "::1",
        ),
    ] {
        let upstream = &policy(&text).upstreams[0];
        let tls = upstream.tls.as_ref().unwrap();
        assert_eq!(tls.server_name, ServerName::try_from(name).unwrap());
        assert_eq!(tls.ca_file, None);
    }
    let text = secured("ca_file = \"ca.pem\"\nprotocol = \"auto\"\nwebsocket = true");
    assert_eq!(warnings(&text), []);
    let upstream = &policy(&text).upstreams[0];
    let tls = upstream.tls.as_ref().unwrap();
    assert_eq!(tls.ca_file, Some("/etc/relay/ca.pem".into()));
    assert_eq!((upstream.protocol, upstream.port), (Protocol::Auto, 443));
    assert!(upstream.websocket);
    let plain = &policy(MINIMAL).upstreams[0];
    assert_eq!((plain.tls.is_none(), plain.websocket), (true, false));
    assert_eq!(plain.protocol, Protocol::Http1);
}

#[test]
fn what_means_something_with_tls_alone_is_refused_without() {
    for (more, key) in [
        ("ca_file = \"ca.pem\"", "upstream[0].ca_file"),
        ("server_name = \"api.example\"", "upstream[0].server_name"),
    ] {
        let errors = errors(&with(more));
        assert_eq!(keys_of(&errors), [key]);
        assert!(errors.to_string().contains("write `https://`"), "{errors}");
    }
    let errors = errors(&secured("server_name = \"api.example:443\""));
    assert_eq!(keys_of(&errors), ["upstream[0].server_name"]);
}

#[test]
fn without_tls_nobody_can_choose_http2() {
    let found = warnings(&with("protocol = \"auto\""));
    assert_eq!(found[0].key, "upstream[0].protocol");
    assert_eq!(found.len(), 1);
    assert_eq!(warnings(&with("protocol = \"http2\"")), []);
    let found = warnings(&with("protocol = \"http2\"\nwebsocket = true"));
    assert_eq!(found[0].key, "upstream[0].websocket");
    assert_eq!(found.len(), 1);
    let policy = policy(&with("protocol = \"http2\""));
    assert_eq!(policy.upstreams[0].protocol, Protocol::Http2);
}

#[test]
fn a_cap_on_connections_is_one_on_requests_only_over_http1() {
    let capped = |protocol: &str, listener: &str| {
        let text = MINIMAL
            .replace(
                "egress = [\"127.0.0.2\"]",
                "egress = [\"127.0.0.2\"]\nmax_connections = 2",
            )
            .replace(
                "upstreams = [\"openai\"]",
                "upstreams = [\"openai\"]\nconnections = 2\nlimits = { concurrent_requests = 9 }",
            )
            .replace("8080\"\n", &format!("8080\"\n{listener}\n"));
        let text = format!("{text}protocol = \"{protocol}\"\n");
        let found = warnings(&text);
        found.into_iter().map(|one| one.key).collect::<Vec<_>>()
    };
    let (account, tenant) = ("account[0].max_connections", "tenant[0].connections");
    assert_eq!(capped("http1", "http2 = true"), [account, tenant]);
    assert_eq!(capped("http2", ""), [tenant]);
    assert_eq!(capped("http2", "http2 = true"), [""; 0]);
    let with_websocket = capped("http2\"\nwebsocket = true #\"", "http2 = true");
    assert_eq!(
        with_websocket,
        [account, "upstream[0].websocket", tenant],
        "each WebSocket has a connection"
    );
}

#[test]
fn defaults_yield_to_what_is_written() {
    let policy = policy(&with(
        "[timeouts]\nretry = \"4s\"\nwebsocket_total = \"1m\"",
    ));
    assert_eq!(policy.timeouts.upstream_tls, Duration::from_secs(2));
    assert_eq!(policy.timeouts.websocket_idle, Duration::from_secs(60));
}

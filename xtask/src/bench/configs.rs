//! Configurations of the proxies. All of them keep connections to the upstream, buffer no answer, verify the
//! upstream's certificate and resume its sessions, and speak TLS 1.3 with one cipher suite.

use std::path::Path;

use super::scenarios::{Scenario, Tls};

/// The tenant's key in the gateway's configuration, and its hash.
pub(crate) const TENANT_KEY: &str = "relay-bench-tenant-key-0123456789abcdef";
const TENANT_KEY_SHA256: &str = "dc9038faf32692f60afabf809ecf6167ef945ed2d2244892afac1ee739efb705";

/// The only one that bench-upstream and bench-load speak, so that the gateway cannot choose another either.
const CIPHERSUITE: &str = "TLS_AES_128_GCM_SHA256";

/// What a proxy is configured for.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) upstream: &'a str,
    /// Where ca.pem, server.pem, server.key and server-with-key.pem are.
    pub(crate) certificates: &'a Path,
    /// The proxy's own.
    pub(crate) dir: &'a Path,
}

impl Setting<'_> {
    /// Connections on both sides; what is kept for each of them counts as memory.
    fn connections_max(&self) -> u32 {
        let streams = self.scenario.streams.unwrap_or_default();
        (streams * 2 + 1_024).max(8_192)
    }
}

/// No kernel programs.
pub(crate) const KERNEL_OFF: &str = "mode = \"off\"";

/// What is counted and kept of requests.
pub(crate) struct Books {
    /// Limits of the tenant, and of its key.
    limits: &'static str,
    journal: &'static str,
    price: &'static str,
}

/// Every limit that there is, none of which is reached; that of tokens per minute, which a saturated gateway could exceed, refuses
/// nothing.
pub(crate) const BOOKS: Books = Books {
    limits: "{ requests_per_second = 1000000, burst = 1000000, requests_per_minute = 60000000, \
             tokens_per_minute = 1000000000, concurrent_requests = 1000000, requests_per_day = 1000000000000, \
             tokens_per_day = 1000000000000000, requests_per_month = 1000000000000, \
             tokens_per_month = 1000000000000000, budget_per_month = 1000000000, shadow = [\"tokens_per_minute\"] }",
    journal: "mode = \"best_effort\"",
    price: "[[price]]\nmodels = [\"bench-*\"]\ninput = 1.25\ncached_input = 0.125\noutput = 10.0\n",
};

/// None of them.
pub(crate) const NO_BOOKS: Books = Books {
    limits: "{}",
    journal: "mode = \"off\"",
    price: "",
};

/// The gateway's.
pub(crate) fn gateway(kernel: &str, books: &Books, setting: &Setting<'_>) -> String {
    let Books {
        limits,
        journal,
        price,
    } = books;
    let dir = setting.dir.display();
    let certificates = setting.certificates.display();
    let upstream = setting.upstream;
    let listener_tls = match setting.scenario.tls {
        Tls::Both => format!(
            "\n[listener.tls]\ncertificates = [{{ certificate_file = \"{certificates}/server.pem\", \
             key_file = \"{certificates}/server.key\" }}]\n"
        ),
        Tls::Neither | Tls::Upstream => String::new(),
    };
    let base = match setting.scenario.tls {
        Tls::Neither => format!("base_url = \"http://{upstream}\""),
        Tls::Upstream | Tls::Both => format!(
            "base_url = \"https://{upstream}\"\nca_file = \"{certificates}/ca.pem\"\nserver_name = \"localhost\""
        ),
    };
    // One address would run out of ports, since those of closed connections wait.
    let (egress, pool_idle_max) = match setting.scenario.is_fresh() {
        true => ((1..=32).map(|it| format!("\"127.0.8.{it}\"")).collect(), 0),
        false => (vec!["\"127.0.0.1\"".to_owned()], 1024),
    };
    let egress = egress.join(", ");
    format!(
        r#"[node]
name = "bench"
state_dir = "{dir}/state"
workers = 1

[admin]
address = "127.0.0.1:0"

[kernel]
{kernel}

[journal]
{journal}

{price}
[[listener]]
address = "127.0.0.1:0"
{listener_tls}
[[upstream]]
name = "bench"
{base}

[[account]]
name = "bench"
upstream = "bench"
credential = {{ file = "{dir}/credential" }}
egress = [{egress}]
max_concurrent = 100000
max_connections = 100000

[[tenant]]
name = "bench"
keys = [{{ sha256 = "{TENANT_KEY_SHA256}", limits = {limits} }}]
limits = {limits}
upstreams = ["bench"]
models = ["bench-*"]
connections = 100000

[limits]
pool_idle_max = {pool_idle_max}
"#
    )
}

/// nginx's.
pub(crate) fn nginx(listen: &str, setting: &Setting<'_>) -> String {
    let dir = setting.dir.display();
    let certificates = setting.certificates.display();
    let (upstream, tls) = (setting.upstream, setting.scenario.tls);
    let connections = setting.connections_max();
    let (listen_as, server_tls) = match (tls, setting.scenario.is_http2()) {
        (Tls::Both, http2) => (
            if http2 { " ssl http2" } else { " ssl" },
            format!(
                "ssl_certificate {certificates}/server.pem;
        ssl_certificate_key {certificates}/server.key;
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHERSUITE};
        ssl_ecdh_curve X25519;"
            ),
        ),
        _ => ("", String::new()),
    };
    let (scheme, upstream_tls) = match tls {
        Tls::Neither => ("http", String::new()),
        Tls::Upstream | Tls::Both => (
            "https",
            format!(
                "proxy_ssl_trusted_certificate {certificates}/ca.pem;
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_ssl_session_reuse on;
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_conf_command Ciphersuites {CIPHERSUITE};"
            ),
        ),
    };
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{
    worker_connections {connections};
}}
http {{
    access_log {dir}/access.log combined buffer=64k flush=1s;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    scgi_temp_path {dir}/scgi;
    uwsgi_temp_path {dir}/uwsgi;
    keepalive_requests 1000000000;
    upstream bench {{
        server {upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen} backlog=4096{listen_as};
        {server_tls}
        location / {{
            proxy_pass {scheme}://bench;
            {upstream_tls}
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"
    )
}

/// HAProxy's.
pub(crate) fn haproxy(listen: &str, setting: &Setting<'_>) -> String {
    let certificates = setting.certificates.display();
    let upstream = setting.upstream;
    let bind_tls = match setting.scenario.tls {
        Tls::Both => format!(
            " ssl crt {certificates}/server-with-key.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3 \
             ciphersuites {CIPHERSUITE} curves X25519"
        ),
        Tls::Neither | Tls::Upstream => String::new(),
    };
    let server_tls = match setting.scenario.tls {
        Tls::Neither => String::new(),
        Tls::Upstream | Tls::Both => format!(
            " ssl verify required ca-file {certificates}/ca.pem verifyhost localhost sni str(localhost) \
             ssl-min-ver TLSv1.3 ciphersuites {CIPHERSUITE}"
        ),
    };
    format!(
        "global
    nbthread 1
    maxconn 8000
defaults
    mode http
    http-reuse always
    # Else events may wait for more bytes to fill a segment.
    option http-no-delay
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend bench
    bind {listen} backlog 4096{bind_tls}
    default_backend bench
backend bench
    server upstream {upstream}{server_tls}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenarios;

    fn setting(scenario: &str) -> Setting<'static> {
        Setting {
            scenario: scenarios::named(scenario).unwrap()[0],
            upstream: "127.0.0.1:4001",
            certificates: Path::new("/certificates"),
            dir: Path::new("/somewhere/else"),
        }
    }

    #[test]
    fn configurations_name_upstream_address_and_directory() {
        let gateway = |scenario| gateway(KERNEL_OFF, &BOOKS, &setting(scenario));
        let plain = gateway("json");
        assert!(plain.contains("\n[kernel]\nmode = \"off\"\n"));
        assert!(plain.contains("\negress = [\"127.0.0.1\"]\n"));
        assert!(gateway("json-fresh").contains("\npool_idle_max = 0\n"));
        assert!(plain.contains("base_url = \"http://127.0.0.1:4001\"\n"));
        assert!(plain.contains("file = \"/somewhere/else/credential\""));
        assert!(plain.contains(&format!("sha256 = \"{TENANT_KEY_SHA256}\"")));
        assert!(!plain.contains("tls"));
        let nginx = nginx("127.0.0.1:4000", &setting("json"));
        assert!(nginx.contains("listen 127.0.0.1:4000 backlog=4096;"));
        assert!(nginx.contains("server 127.0.0.1:4001;"));
        assert_eq!(nginx.matches('{').count(), nginx.matches('}').count());
        assert_eq!(nginx.matches("/somewhere/else/").count(), 8);
        assert!(!nginx.contains("ssl"));
        let haproxy = haproxy("127.0.0.1:4000", &setting("json"));
        assert!(haproxy.contains("bind 127.0.0.1:4000 backlog 4096\n"));
        assert!(haproxy.contains("server upstream 127.0.0.1:4001\n"));
    }

    #[test]
    fn tls_is_spoken_on_the_sides_of_the_scenario() {
        for (scenario, on_listener) in [("json-tls-up", false), ("json-tls", true)] {
            let setting = setting(scenario);
            let all = [
                gateway(KERNEL_OFF, &BOOKS, &setting),
                nginx("127.0.0.1:4000", &setting),
                haproxy("127.0.0.1:4000", &setting),
            ];
            for config in all {
                assert!(config.contains("/certificates/ca.pem"), "{config}");
                assert_eq!(
                    config.contains("/certificates/server"),
                    on_listener,
                    "{config}"
                );
            }
        }
    }

    #[test]
    fn room_is_made_for_many_streams_where_there_are_many() {
        assert_eq!(setting("sse").connections_max(), 8_192);
        assert!(setting("idle-tls").connections_max() > 10_000);
    }
}

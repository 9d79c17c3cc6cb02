//! `[kernel]`, caps on connections, networks of tenants.

use super::*;
use crate::config::policy::{Kernel, KernelMode, Network};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// `MINIMAL` with more keys for its tenant.
fn tenant(more: &str) -> String {
    MINIMAL.replace("name = \"team\"\n", &format!("name = \"team\"\n{more}\n"))
}

/// `MINIMAL` with more keys for its account.
fn account(more: &str) -> String {
    MINIMAL.replace("name = \"one\"\n", &format!("name = \"one\"\n{more}\n"))
}

fn warnings(text: &str) -> Vec<Problem> {
    load_text(text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .warnings
}

#[test]
fn the_kernel_is_used_as_far_as_it_can_be_had() {
    let expected = Kernel {
        mode: KernelMode::Auto,
        cgroup: None,
        bpffs: "/sys/fs/bpf/codex-relay".into(),
    };
    assert_eq!(policy(MINIMAL).kernel, expected);
}

#[test]
fn what_is_written_is_meant() {
    for (mode, meant) in [
        ("required", KernelMode::Required),
        ("auto", KernelMode::Auto),
        ("off", KernelMode::Off),
    ] {
        let text = with(&format!(
            "[kernel]\nmode = \"{mode}\"\ncgroup = \"/cgroup/relay\"\nbpffs = \"/bpf/relay\"\n"
        ));
        let expected = Kernel {
            mode: meant,
            cgroup: Some("/cgroup/relay".into()),
            bpffs: "/bpf/relay".into(),
        };
        assert_eq!(policy(&text).kernel, expected);
    }
    let caps =
        tenant("connections = 1\nsources = [\"10.0.0.0/8\", \"2001:db8::/32\", \"0.0.0.0/0\"]");
    let caps = policy(&caps);
    let network = |address: &str, prefix_bits| Network {
        address: address.parse().unwrap(),
        prefix_bits,
    };
    assert_eq!(caps.tenants[0].connections, Some(1));
    assert_eq!(
        caps.tenants[0].sources,
        [
            network("10.0.0.0", 8),
            network("2001:db8::", 32),
            network("0.0.0.0", 0)
        ]
    );
    let caps = policy(&account("max_connections = 1_000_000"));
    assert_eq!(caps.accounts[0].max_connections, Some(1_000_000));
    for (number, meant) in [(0, None), (1, Some(1)), (1_000_000, Some(1_000_000))] {
        let caps = policy(&with(&format!(
            "[limits]\nconnections_per_source = {number}\n"
        )));
        assert_eq!(caps.limits.connections_per_source, meant);
    }
}

#[test]
fn caps_that_make_others_pointless_are_warned_of() {
    for (text, key) in [
        (
            account("max_connections = 63"),
            "account[0].max_connections",
        ),
        (
            account("max_connections = 4\nmax_concurrent = 5"),
            "account[0].max_connections",
        ),
        (
            tenant("connections = 4\nlimits = { concurrent_requests = 5 }"),
            "tenant[0].connections",
        ),
        (tenant("sources = [\"10.0.0.0/8\"]"), "tenant[0].sources"),
        (
            tenant("connections = 4\nsources = [\"10.0.0.0/8\"]") + "[kernel]\nmode = \"off\"\n",
            "tenant[0].sources",
        ),
    ] {
        let warnings = warnings(&text);
        let keys: Vec<_> = warnings.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, [key], "{text}");
    }
    for text in [
        account("max_connections = 64"),
        account("max_connections = 4\nmax_concurrent = 4"),
        tenant("connections = 4\nlimits = { concurrent_requests = 4 }"),
        tenant("connections = 4\nsources = [\"10.0.0.0/8\"]"),
    ] {
        assert_eq!(warnings(&text), [], "{text}");
    }
}

#[test]
fn a_network_may_lie_within_one_of_another_tenant() {
    let neighbour = r#"
[[tenant]]
name = "neighbour"
keys = [{ sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }]
upstreams = ["openai"]
connections = 5
sources = ["10.1.0.0/16", "10.0.0.0/9"]
"#;
    let text = tenant("connections = 5\nsources = [\"10.0.0.0/8\", \"10.1.2.0/24\"]") + neighbour;
    let Loaded { policy, warnings } = load_text(&text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(warnings, []);
    assert_eq!(policy.tenants[0].sources.len(), 2);
    assert_eq!(policy.tenants[1].sources.len(), 2);
    let same = text.replace("10.1.0.0/16", "10.1.2.0/24");
    assert_eq!(keys_of(&errors(&same)), ["tenant[1].sources[0]"]);
    let twice = text.replace("10.1.0.0/16", "10.0.0.0/9");
    assert_eq!(keys_of(&errors(&twice)), ["tenant[1].sources[1]"]);
}

/// This many accounts, each with as many addresses as an account can have.
fn accounts_with_256_addresses(accounts: u32) -> String {
    let mut text = String::new();
    for account in 0..accounts {
        let address = |host: u32| Ipv4Addr::from_bits(0x0a00_0000 + account * 256 + host);
        let egress: Vec<_> = (0..256).map(|host| address(host).to_string()).collect();
        let _ = write!(
            text,
            "[[account]]\nname = \"{account}\"\nupstream = \"openai\"\ncredential = {{ env = \"ONE\" }}\n\
             egress = {egress:?}\n"
        );
    }
    text
}

#[test]
fn more_addresses_than_the_kernels_table_holds() {
    // One account of `MINIMAL` with one address, and 255 with 256.
    let fits = with(&accounts_with_256_addresses(255));
    assert_eq!(policy(&fits).accounts.len(), 256);
    let more = with(&accounts_with_256_addresses(256));
    let found = errors(&more);
    assert_eq!(keys_of(&found), ["account[256].egress"]);
    assert!(found.to_string().contains("more than 65536"), "{found}");
    let off = more + "[kernel]\nmode = \"off\"\n";
    assert_eq!(policy(&off).accounts.len(), 257);
}

#[test]
fn more_networks_than_the_kernels_table_holds() {
    let tenants = |networks: u32| {
        let mut text = MINIMAL.to_owned();
        for tenant in 0..7 {
            let first = tenant * 10_000;
            let network = |at: u32| format!("{}/32", Ipv4Addr::from_bits(0x0a00_0000 + at));
            let last = networks.min(first + 10_000);
            let sources: Vec<_> = (first..last).map(network).collect();
            let _ = write!(
                text,
                "[[tenant]]\nname = \"{tenant}\"\nkeys = [{{ sha256 = \"{tenant:0<64}\" }}]\n\
                 upstreams = [\"openai\"]\nconnections = 5\nsources = {sources:?}\n"
            );
        }
        text
    };
    assert_eq!(policy(&tenants(65_536)).tenants.len(), 8);
    let found = errors(&tenants(65_537));
    assert_eq!(keys_of(&found), ["tenant[7].sources"]);
    assert!(found.to_string().contains("more than 65536"), "{found}");
}

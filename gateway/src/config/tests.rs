use super::*;
use std::ffi::OsString;

fn environment(name: &str) -> Option<OsString> {
    match name {
        "ONE" => Some("sk-one".into()),
        "TWO" => Some("sk-two\n".into()),
        "EMPTY" => Some("".into()),
        "LINES" => Some("sk\nsk".into()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Loaded, ConfigErrors> {
    read(text, Path::new("/etc/relay/relay.toml"), &environment)
}

const MINIMAL: &str = r#"
[[listener]]
address = "127.0.0.1:8080"

[[upstream]]
name = "openai"
base_url = "http://api.example"

[[account]]
name = "one"
upstream = "openai"
credential = { env = "ONE" }
egress = ["127.0.0.2"]

[[tenant]]
name = "team"
keys = [{ sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }]
upstreams = ["openai"]
"#;

#[test]
fn what_is_left_out_has_its_default() {
    let Loaded { policy, warnings } = parse(MINIMAL).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(warnings, []);
    assert_eq!(policy.accounts[0].credential.expose(), b"sk-one");
}

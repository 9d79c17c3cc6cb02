//! Which upstream and which region a request goes to.

use crate::{config, source};
use relay_tests::{Account, Config, Gateway, Request, Tenant, Upstream, openai};

#[test]
fn a_request_goes_to_the_upstream_that_serves_its_model() {
    let first = Upstream::answering(openai::plain());
    let second = Upstream::answering(openai::plain());
    let gateway = Gateway::start(
        &Config::bare()
            .upstream("first", &format!("http://{}", first.address()))
            .upstream_key("first", "models", r#"["gpt-*"]"#)
            .upstream("second", &format!("http://{}", second.address()))
            .upstream_key("second", "models", r#"["claude-*", "gpt-5-special"]"#)
            .account(Account::new("one", "127.0.7.1").upstream("first"))
            .account(Account::new("two", "127.0.7.2").upstream("second"))
            .tenant(Tenant::acme().upstreams(&["first", "second"])),
    );
    let ask = |body: &str| gateway.call(&Request::post("/v1/responses", body));
    assert_eq!(ask(r#"{"model":"gpt-5"}"#).status(), 200);
    assert_eq!((first.completed(), second.completed()), (1, 0));
    assert_eq!(ask(r#"{"model":"claude-5"}"#).status(), 200);
    assert_eq!((first.completed(), second.completed()), (1, 1));
    // Both serve it: the tenant's order of preference decides.
    assert_eq!(ask(r#"{"model":"gpt-5-special"}"#).status(), 200);
    assert_eq!((first.completed(), second.completed()), (2, 1));
    ask(r#"{"model":"o3"}"#).assert_refused(404, "no_upstream_for_request");
    // A model that cannot be read for certain must not choose.
    ask(r#"{"model":"gpt-5","model":"claude-5"}"#).assert_refused(400, "model_required");
    assert_eq!((first.completed(), second.completed()), (2, 1));
}

#[test]
fn the_nodes_own_region_comes_first() {
    let upstream = Upstream::answering(openai::plain());
    let accounts = [
        Account::new("far", "127.0.7.1").set("region", "\"elsewhere\""),
        Account::new("near", "127.0.7.2").set("region", "\"here\""),
    ];
    let gateway = Gateway::start(&config(&upstream, accounts).set("node", "region", "\"here\""));
    for _ in 0..6 {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    for request in upstream.requests() {
        assert_eq!(source(&request), "127.0.7.2");
    }
}

//! Conversations stay with their account, stored responses are asked for where they are.

use crate::{config, key, two};
use relay_tests::http::{LAST_CHUNK, chunk, response};
use relay_tests::{
    Account, Config, Exchange, Gateway, Request, Tenant, Upstream, eventually, openai,
};
use std::collections::{BTreeMap, BTreeSet};

const OTHER_KEY: &str = "rk-globex-90d1f2b34c5a67e8b1c2d3e4f5061728";

fn four() -> Vec<Account> {
    (1..=4)
        .map(|number| Account::new(&format!("ours-{number}"), &format!("127.0.7.{number}")))
        .collect()
}

fn with_key(cache_key: &str) -> Request {
    let body = format!(r#"{{"model":"gpt-5","prompt_cache_key":"{cache_key}","input":"say hi"}}"#);
    Request::post("/v1/responses", body)
}

/// The accounts that these requests come to.
fn asked(gateway: &Gateway, upstream: &Upstream, requests: &[Request]) -> Vec<String> {
    let before = upstream.completed();
    for request in requests {
        assert_eq!(gateway.call(request).status(), 200);
    }
    upstream.requests()[before..].iter().map(key).collect()
}

#[test]
fn a_conversation_stays_with_its_account_whatever_names_it() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&config(&upstream, four()).set("node", "workers", 2));
    let mut used = BTreeSet::new();
    for conversation in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
        let named = [
            Request::plain().field("session-id", conversation),
            Request::plain().field("session_id", conversation),
            Request::plain().field("Conversation_Id", conversation),
            with_key(conversation),
            with_key("of another").field("session-id", conversation),
        ];
        let accounts: BTreeSet<_> =
            asked(&gateway, &upstream, &[&named[..], &named, &named].concat())
                .into_iter()
                .collect();
        assert_eq!(accounts.len(), 1, "{conversation}: {accounts:?}");
        used.extend(accounts);
    }
    assert!(used.len() >= 3, "twelve conversations on {used:?}");
    eventually("the choices are counted", || {
        let counted = gateway.metric("relay_choices_total", &["conversation"]);
        (counted >= 12.0 * 15.0).then_some(())
    });
}

#[test]
fn requests_without_a_conversation_are_spread() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&config(&upstream, four()));
    let accounts: BTreeSet<_> = asked(&gateway, &upstream, &vec![Request::plain(); 60])
        .into_iter()
        .collect();
    assert_eq!(accounts.len(), 4, "{accounts:?}");
}

#[test]
fn tenants_with_the_same_conversation_are_independent() {
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, four()).tenant(Tenant::new("globex", OTHER_KEY));
    let gateway = Gateway::start(&config);
    let mut pairs = BTreeSet::new();
    for number in 0..24 {
        let request = with_key(&format!("same-{number}"));
        let accounts = asked(
            &gateway,
            &upstream,
            &[request.clone(), request.key(OTHER_KEY)],
        );
        pairs.insert(accounts[0] == accounts[1]);
    }
    assert!(pairs.contains(&false), "the tenant is no part of the hash");
}

#[test]
fn an_upstream_without_affinity_spreads_conversations_too() {
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, four()).upstream_key("openai", "affinity", "false");
    let gateway = Gateway::start(&config);
    let accounts: BTreeSet<_> = asked(&gateway, &upstream, &vec![with_key("one"); 60])
        .into_iter()
        .collect();
    assert_eq!(accounts.len(), 4, "{accounts:?}");
}

#[test]
fn conversations_are_where_they_were_after_a_restart_and_for_another_node() {
    let upstream = Upstream::answering(openai::plain());
    let requests: Vec<_> = (0..20)
        .map(|number| with_key(&format!("n-{number}")))
        .collect();
    let first = Gateway::start(&config(&upstream, four()));
    let before = asked(&first, &upstream, &requests);
    let other = config(&upstream, four()).set("node", "name", "\"another\"");
    let after = asked(&Gateway::start(&other), &upstream, &requests);
    assert_eq!(before, after);
}

/// Answers with a response that names its account, and knows only its own.
fn storing(exchange: &mut Exchange) {
    let account = key(&exchange.request);
    let id = format!("resp_{}_{}", account, exchange.request.number);
    let body = String::from_utf8(exchange.request.body.clone()).expect("UTF-8");
    let previous = body
        .split_once("\"previous_response_id\":\"")
        .and_then(|(_, rest)| rest.split('"').next());
    let in_path = exchange.request.target.strip_prefix("/v1/responses/");
    if let Some(wanted) = previous.or(in_path)
        && !wanted.starts_with(&format!("resp_{account}_"))
    {
        exchange.send(openai::error(404, "asked_in_the_wrong_place", &[]));
        return;
    }
    if body.contains("\"stream\":true") {
        let created = format!(
            "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"id\":\"{id}\"}}}}\n\n"
        );
        let events = [
            chunk(created.as_bytes()),
            chunk(&openai::delta("a")),
            chunk(&openai::completed()),
        ];
        exchange.send([openai::STREAM_HEAD, &events.concat(), LAST_CHUNK].concat());
    } else {
        let json =
            format!(r#"{{"id":"{id}","object":"response","status":"completed","output":[]}}"#);
        let fields = [("content-type", "application/json")];
        exchange.send(response(200, &fields, json.as_bytes()));
    }
}

fn new_response(gateway: &Gateway, more: &str) -> String {
    let body = format!(r#"{{"model":"gpt-5","input":"say hi"{more}}}"#);
    let answer = gateway.call(&Request::post("/v1/responses", body));
    assert_eq!(answer.status(), 200, "{answer:?}");
    if more.contains("stream") {
        let text = String::from_utf8(answer.payload).expect("UTF-8");
        let (_, rest) = text.split_once("\"id\":\"").expect("an id");
        rest.split('"').next().expect("an id").to_owned()
    } else {
        answer.json()["id"].as_str().expect("an id").to_owned()
    }
}

fn following(id: &str) -> Request {
    let body = format!(r#"{{"model":"gpt-5","previous_response_id":"{id}","input":"go on"}}"#);
    Request::post("/v1/responses", body)
}

#[test]
fn what_refers_to_a_stored_response_goes_to_its_account() {
    let upstream = Upstream::start(storing);
    let gateway = Gateway::start(&config(&upstream, four()).set("node", "workers", 2));
    let mut accounts = BTreeMap::new();
    for number in 0..12 {
        let id = new_response(
            &gateway,
            if number % 2 == 0 {
                ""
            } else {
                ",\"stream\":true"
            },
        );
        for request in [following(&id), Request::get(&format!("/v1/responses/{id}"))] {
            let answer = gateway.call(&request);
            assert_eq!(answer.status(), 200, "{id}: {answer:?}");
        }
        *accounts
            .entry(id.split('_').nth(1).map(str::to_owned))
            .or_insert(0) += 1;
    }
    assert!(
        accounts.len() > 1,
        "all of them at one account: {accounts:?}"
    );
    eventually("the choices are counted", || {
        let counted = gateway.metric("relay_choices_total", &["reason=\"owner\""]);
        (counted >= 24.0).then_some(())
    });
}

#[test]
fn a_stored_response_that_nobody_knows_is_not_looked_for_anywhere() {
    let upstream = Upstream::start(storing);
    let gateway = Gateway::start(&config(&upstream, two()));
    let error = gateway
        .call(&following("resp_unknown"))
        .assert_refused(400, "previous_response_not_found");
    assert_eq!(error.param.as_deref(), Some("previous_response_id"));
    assert!(!error.retryable);
    gateway
        .call(&Request::get("/v1/responses/resp_unknown"))
        .assert_refused(404, "previous_response_not_found");
    assert_eq!(upstream.completed(), 0);
}

#[test]
fn another_tenants_response_is_as_unknown_as_none() {
    let upstream = Upstream::start(storing);
    let config = config(&upstream, four()).tenant(Tenant::new("globex", OTHER_KEY));
    let gateway = Gateway::start(&config);
    let id = new_response(&gateway, "");
    assert_eq!(gateway.call(&following(&id)).status(), 200);
    gateway
        .call(&following(&id).key(OTHER_KEY))
        .assert_refused(400, "previous_response_not_found");
}

#[test]
fn what_is_not_stored_is_not_remembered() {
    let upstream = Upstream::start(storing);
    let gateway = Gateway::start(&config(&upstream, two()));
    let id = new_response(&gateway, ",\"store\":false");
    gateway
        .call(&following(&id))
        .assert_refused(400, "previous_response_not_found");
}

#[test]
fn where_there_is_one_account_it_is_asked_for_everything() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    assert_eq!(gateway.call(&following("resp_unknown")).status(), 200);
}

#[test]
fn where_tenants_share_the_only_account_none_is_asked_for_what_may_be_anothers() {
    let upstream = Upstream::start(storing);
    let config = Config::simple(upstream.address()).tenant(Tenant::new("globex", OTHER_KEY));
    let gateway = Gateway::start(&config);
    let id = new_response(&gateway, "");
    let path = format!("/v1/responses/{id}");
    for method in ["GET", "DELETE"] {
        gateway
            .call(&Request::new(method, &path).key(OTHER_KEY))
            .assert_refused(404, "previous_response_not_found");
    }
    gateway
        .call(&following(&id).key(OTHER_KEY))
        .assert_refused(400, "previous_response_not_found");
    assert_eq!(upstream.completed(), 1, "the provider would have answered");
    assert_eq!(gateway.call(&Request::get(&path)).status(), 200, "its own");
}

/// A reference behind more than is held before an account is chosen.
fn following_long(id: &str) -> Request {
    let body = format!(
        r#"{{"model":"gpt-5","input":"{}","previous_response_id":"{id}"}}"#,
        "x".repeat(300_000)
    );
    Request::post("/v1/responses", body)
}

#[test]
fn a_reference_that_turns_up_on_the_way_to_another_account_does_not_get_there() {
    let upstream = Upstream::start(storing);
    let config = config(&upstream, two()).limit("retry_body_bytes_max", 100_000);
    let gateway = Gateway::start(&config);
    gateway
        .call(&following_long("resp_unknown"))
        .assert_refused(400, "previous_response_not_found");
    assert_eq!(upstream.completed(), 0, "it has not become complete");
    let id = new_response(&gateway, "");
    let mut told = BTreeSet::new();
    for _ in 0..40 {
        let answer = gateway.call(&following_long(&id));
        if answer.status() != 200 {
            answer.assert_refused(400, "previous_response_not_found");
        }
        told.insert(answer.status());
    }
    // It goes to either, as nothing is known of it yet.
    assert_eq!(told, BTreeSet::from([200, 400]));
}

#[test]
fn a_long_reference_goes_to_the_only_account_that_can_have_it() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address()).limit("retry_body_bytes_max", 100_000);
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.call(&following_long("resp_any")).status(), 200);
}

#[test]
fn a_stored_response_whose_account_is_gone_is_refused_with_a_code_of_its_own() {
    let upstream = Upstream::start(storing);
    let gateway = Gateway::start(&config(&upstream, two()));
    let id = new_response(&gateway, "");
    let key_of_owner = id
        .strip_prefix("resp_")
        .and_then(|rest| rest.rsplit_once('_'));
    let (owner, _) = key_of_owner.expect("an account");
    let name = two().into_iter().position(|account| account.key() == owner);
    let name = ["first", "second"][name.expect("one of the two")];
    let admin = gateway.admin_address().to_string();
    let order = |word: &str| {
        let done = gateway.command(&["accounts", word, name, "--admin", &admin]);
        assert_eq!(done.code, Some(0), "{done:?}");
    };
    order("drain");
    assert_eq!(
        gateway.call(&following(&id)).status(),
        200,
        "draining: what only it can do goes on"
    );
    order("disable");
    let before = upstream.completed();
    let error = gateway
        .call(&following(&id))
        .assert_refused(503, "response_owner_unavailable");
    assert!(error.retryable);
    assert_eq!(upstream.completed(), before, "nobody else was asked");
    order("enable");
    assert_eq!(gateway.call(&following(&id)).status(), 200);
}

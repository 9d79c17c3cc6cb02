//! Records get to the disk and are read there, while the gateway runs and when it does not.

use super::*;

#[test]
fn what_was_used_is_read_from_a_running_and_from_a_stopped_node() {
    let directory = directory();
    let upstream = Upstream::answering(openai::plain());
    let price = "input = 1.25, cached_input = 0.125, output = 10.0";
    let config = config(&upstream, directory.path())
        .tenant(Tenant::acme().models(&["gpt-5*"]))
        .price(&["gpt-5*"], price);
    let mut gateway = Gateway::start(&config);
    call(&gateway, 3);
    gateway
        .call(&Request::plain().key("rk-nobody-0000000000"))
        .assert_refused(401, "invalid_api_key");
    let other_model = Request::post("/v1/responses", r#"{"model":"o3","input":"say hi"}"#);
    gateway
        .call(&other_model)
        .assert_refused(403, "model_not_allowed");
    wait_kept(&gateway, 5);
    let running = used(&gateway);
    // 8 × 1.25 µ + 3 × 0.125 µ + 7 × 10 µ for each.
    let expected = serde_json::json!({
        "tenant": "acme", "requests": 3, "refused": 1,
        "input_tokens": 33, "cached_tokens": 9, "output_tokens": 21, "reasoning_tokens": 6,
        "cost": "0.000241125", "partial": 0, "estimated": 0,
    });
    assert_eq!(running, expected);
    let known = ["tenant=\"acme\"", "known=\"final\""];
    assert_eq!(gateway.metric("relay_usage_records_total", &known), 3.0);
    assert_eq!(gateway.metric("relay_cost_nano_total", &[]), 241_125.0);
    gateway.terminate();
    assert!(gateway.wait_exit().success());
    assert_eq!(used(&gateway), expected);
}

#[test]
fn the_last_records_are_on_the_disk_when_the_gateway_ends() {
    let directory = directory();
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, directory.path());
    for round in 1..=5 {
        let mut gateway = Gateway::start(&config);
        call(&gateway, 20);
        gateway.terminate();
        assert!(gateway.wait_exit().success());
        assert_eq!(used(&gateway)["requests"], 20 * round);
    }
}

#[test]
fn one_gateway_at_a_time_writes_to_a_directory_and_the_second_takes_it_over() {
    let directory = directory();
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, directory.path());
    let first = Gateway::start(&config);
    let strict = config.clone().journal("mode", "\"strict\"");
    let mut refused = relay_tests::gateway::Launch::new().run(&strict);
    assert!(!refused.wait_exit().success());
    let said = refused.errors().text();
    assert!(said.contains("another gateway writes to it"), "{said}");
    assert!(
        said.contains(&directory.path().display().to_string()),
        "{said}"
    );

    let second = Gateway::start(&config);
    let told = second.log().wait_event("journal_failing")["error"].to_string();
    assert!(told.contains("another gateway writes to it"), "{told}");
    call(&second, 3);
    call(&first, 2);
    first.stop();
    second.log().wait_event("journal_recovered");
    wait_kept(&second, 3);
    assert_eq!(used(&second)["requests"], 5);
    second.stop();
}

#[test]
fn nothing_is_kept_where_nothing_is_to_be_kept() {
    let directory = directory();
    let path = directory.path().join("journal");
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, &path).journal("mode", "\"off\"");
    let gateway = Gateway::start(&config);
    call(&gateway, 2);
    gateway.stop();
    assert!(!path.exists());
}

//! Quotas are what they were when the gateway ended, however it did.

use super::*;

/// How a gateway ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Stopped,
    Killed,
}

fn end(gateway: Gateway, how: End) {
    match how {
        End::Stopped => gateway.stop(),
        End::Killed => drop(gateway),
    }
}

fn limited() -> Tenant {
    Tenant::acme()
        .limits("requests_per_day = 5")
        .key_with_limits(OTHER_KEY, "tokens_per_month = 60")
}

#[test]
fn used_quotas_stay_used() {
    for how in [End::Stopped, End::Killed] {
        let directory = directory();
        let upstream = Upstream::answering(openai::plain());
        // What is set aside is less than what is used: 9 tokens for the body and 1, of 18.
        let config = config(&upstream, directory.path())
            .tenant(limited())
            .usage("output_tokens_assumed", 1);
        let gateway = Gateway::start(&config);
        let other = Request::plain().key(OTHER_KEY);
        for _ in 0..3 {
            assert_eq!(gateway.call(&other).status(), 200);
        }
        wait_kept(&gateway, 3);
        end(gateway, how);

        let gateway = Gateway::start(&config);
        let refused = gateway.call(&other);
        refused.assert_refused(429, "tenant_quota_exceeded");
        let told = refused.json()["error"].clone();
        assert_eq!(
            (&told["limit"], &told["scope"]),
            (&"tokens_per_month".into(), &"key".into())
        );
        call(&gateway, 1);
        wait_kept(&gateway, 2);
        end(gateway, how);

        let gateway = Gateway::start(&config);
        call(&gateway, 1);
        let refused = gateway.call(&Request::plain());
        refused.assert_refused(429, "tenant_quota_exceeded");
        let told = refused.json()["error"].clone();
        assert_eq!(
            (&told["limit"], &told["scope"]),
            (&"requests_per_day".into(), &"tenant".into())
        );
        let own = gateway.call(&Request::get("/v1/relay/usage")).json();
        assert_eq!(own["day"]["requests"], 5, "{how:?}: {own}");
        assert_eq!(own["month"]["input_tokens"], 55, "{how:?}: {own}");
        let refusals = [
            "tenant=\"acme\"",
            "scope=\"tenant\"",
            "limit=\"requests_per_day\"",
        ];
        eventually("a metric", || {
            let refused = gateway.metric("relay_limit_refusals_total", &refusals);
            (refused == 1.0).then_some(())
        });
        let day = ["tenant=\"acme\"", "limit=\"requests_per_day\""];
        assert_eq!(gateway.metric("relay_limit_used", &day), 5.0);
        assert_eq!(gateway.metric("relay_limit_max", &day), 5.0);
        gateway.stop();
    }
}

#[test]
fn a_start_does_not_depend_on_summaries() {
    let directory = directory();
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream, directory.path());
    for _ in 0..3 {
        let gateway = Gateway::start(&config);
        call(&gateway, 2);
        gateway.stop();
    }
    // The first two segments are summed up as soon as there is a third.
    let gateway = Gateway::start(&config);
    let summaries = || {
        let names = std::fs::read_dir(directory.path()).expect("a directory");
        let paths = names.map(|entry| entry.expect("an entry").path());
        let is_one = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "usage");
        paths.filter(is_one).collect::<Vec<_>>()
    };
    let made = eventually("summaries", || {
        let made = summaries();
        (made.len() == 2).then_some(made)
    });
    assert_eq!(used(&gateway)["requests"], 6);
    std::fs::write(&made[0], "damaged").expect("a file");
    assert_eq!(used(&gateway)["requests"], 6);
    drop(gateway);
    let gateway = Gateway::start(&config);
    let own = gateway.call(&Request::get("/v1/relay/usage")).json();
    assert_eq!(own["month"]["requests"], 6, "{own}");
    gateway.stop();
}

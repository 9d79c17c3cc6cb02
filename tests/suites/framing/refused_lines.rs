//! Request lines and line breaks, and what is no request at all.

use crate::{
    BAD, Case, HEAD_LARGE, METHOD, NOT_A_METHOD, NOT_A_VERSION, TARGET_LONG, VERSION,
    assert_refused, case, line, post, request,
};

#[test]
fn methods() {
    let mut cases: Vec<Case> = [
        "CONNECT", "TRACE", "FOO", "PROPFIND", "G", "get", "post", "Post", "PURGE",
    ]
    .iter()
    .map(|method| {
        case(
            method,
            line(&format!("{method} /v1/responses HTTP/1.1")),
            METHOD,
        )
    })
    .collect();
    cases.push(case(
        "CONNECT authority",
        line("CONNECT gateway.test:443 HTTP/1.1"),
        &[405, 400],
    ));
    cases.push(case(
        "CONNECT elsewhere",
        line("CONNECT example.com:443 HTTP/1.1"),
        &[405, 400],
    ));
    let broken = [
        "P@ST",
        "PO(ST",
        "\"POST\"",
        "PO\u{e9}T",
        "POST\0",
        "POST:",
        "PO/ST",
        "PO\tST",
    ];
    for method in broken {
        let bytes = line(&format!("{method} /v1/responses HTTP/1.1"));
        cases.push(case(method.escape_debug(), bytes, NOT_A_METHOD));
    }
    assert_refused(cases);
}

#[test]
fn versions() {
    let mut cases: Vec<Case> = ["HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"]
        .iter()
        .map(|version| case(version, line(&format!("GET /v1/models {version}")), VERSION))
        .collect();
    #[rustfmt::skip]
    let broken = [
        "HTTP/1.10", "HTTP/01.1", "HTTP/1.", "HTTP/1", "HTTP/2", "http/1.1", "HTTP 1.1",
        "HTTPS/1.1", "ICY/1.1", "HTTP/1.1x", "HTTP/-1.1", "HTTP/+1.1", "HTTP/1,1", "HTTP/1.1\t",
        "HTTP/1.1 ", "HTTP/1.1 HTTP/1.1", "HTTP/", "HTTP/1.\0", "HTTP/\u{661}.1", "1.1",
    ];
    for version in broken {
        let bytes = line(&format!("GET /v1/models {version}"));
        cases.push(case(version.escape_debug(), bytes, NOT_A_VERSION));
    }
    cases.push(case(
        "HTTP/0.9 without a version",
        line("GET /v1/models"),
        NOT_A_VERSION,
    ));
    cases.push(case(
        "HTTP/0.9 alone",
        "GET /v1/models\r\n\r\n",
        NOT_A_VERSION,
    ));
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    cases.push(case("HTTP/2 preface", preface, &[400, 405, 505]));
    assert_refused(cases);
}

#[test]
fn white_space_in_the_request_line() {
    #[rustfmt::skip]
    let lines = [
        "GET  /v1/models HTTP/1.1", "GET /v1/models  HTTP/1.1", "GET\t/v1/models HTTP/1.1",
        "GET /v1/models\tHTTP/1.1", " GET /v1/models HTTP/1.1", "\tGET /v1/models HTTP/1.1",
        "GET /v1/ models HTTP/1.1", "GET /v1/models\u{b}HTTP/1.1", "GET /v1/mod\u{c}els HTTP/1.1",
        "GET", "GET ", "", " ", "GET HTTP/1.1", "GET  HTTP/1.1", "/v1/models HTTP/1.1",
    ];
    // An empty line may stand before a request line; three of them may not.
    let text = |text: &&str| {
        if text.is_empty() {
            "\r\n\r\n".to_owned()
        } else {
            (*text).to_owned()
        }
    };
    let cases = lines
        .iter()
        .map(|text_| case(text_.escape_debug(), line(&text(text_)), NOT_A_VERSION));
    assert_refused(cases.collect());
}

#[test]
fn targets() {
    #[rustfmt::skip]
    let targets = [
        "v1/responses", "*", "#", "/v1/responses#fragment", "gateway.test:80", "gateway.test",
        "http://other.test/v1/models", "https://other.test/v1/models",
        "http://user@gateway.test/v1/models", "http://user:password@gateway.test/v1/models",
        "http://gateway.test:81/v1/models", "http://gateway.test@other.test/v1/models",
        "http://gateway.test.other.test/v1/models", "http://gateway.tes/v1/models",
        "ftp://gateway.test/v1/models", "file:///etc/passwd", "http:///v1/models", "http://",
        "http:/v1", "http:gateway.test", "://gateway.test/", "/v1/mod\u{e8}les", "\\v1\\models",
        "/v1\\models", "/v1/<models>", "/v1/\"models\"", "/v1/{models}", "/v1/models|x",
        "/v1/models^x", "/v1/`models`", "/v1/models\0", "/v1/models\u{7f}", "/v1/models\u{1}", "?x",
        "",
    ];
    // Two servers may take these for two different paths.
    #[rustfmt::skip]
    let ambiguous = [
        "//v1/models", "/v1/../admin", "/v1/..", "/..", "/.", "/./v1/models", "/v1/./models",
        "/v1/%2e%2e/admin", "/v1/%2E./admin", "/v1/.%2e", "/%2e/v1", "http://gateway.test//v1",
        "http://gateway.test/v1/../x", "/v1//models", "/v1/models/", "/v1/models//", "/v1/models/?a",
        "/v1/%6Dodels", "/v1/mode%6cs", "/v1/models/gpt%2D5", "/v1/models/%7Ea", "/v1/[models]", "/v1/models%", "/v1/models%2",
    ];
    let cases = targets.iter().chain(&ambiguous).map(|target| {
        case(
            target.escape_debug(),
            line(&format!("GET {target} HTTP/1.1")),
            BAD,
        )
    });
    assert_refused(cases.collect());
}

#[test]
fn targets_that_are_too_long() {
    let target = |length: usize| format!("/{}", "x".repeat(length - 1));
    assert_refused(vec![
        case(
            "one byte too long",
            line(&format!("GET {} HTTP/1.1", target(4097))),
            TARGET_LONG,
        ),
        case(
            "long query",
            line(&format!("GET /?{} HTTP/1.1", target(5000))),
            TARGET_LONG,
        ),
        case(
            "longer than a head",
            line(&format!("GET {} HTTP/1.1", target(70_000))),
            &[414, 431],
        ),
        case("without end", target(300_000), &[400, 405, 414, 431]),
    ]);
}

#[test]
fn line_feeds_without_carriage_return() {
    let whole = post(&["Originator: x", "Content-Length: 5"]);
    let breaks = whole.matches("\r\n").count();
    let mut cases: Vec<Case> = (0..breaks)
        .map(|index| {
            case(
                format!("bare LF {index}"),
                replace_break(&whole, index, "\n"),
                BAD,
            )
        })
        .collect();
    cases.push(case("all LF", whole.replace("\r\n", "\n"), BAD));
    cases.push(case("LF first", format!("\n{whole}"), BAD));
    cases.push(case(
        "LF in a value",
        post(&["Originator: a\nb", "Content-Length: 5"]),
        BAD,
    ));
    cases.push(case(
        "LF in the target",
        line("GET /v1/\nmodels HTTP/1.1"),
        BAD,
    ));
    cases.push(case("LFCR", whole.replace("\r\n", "\n\r"), BAD));
    assert_refused(cases);
}

#[test]
fn carriage_returns_without_line_feed() {
    let whole = post(&["Originator: x", "Content-Length: 5"]);
    let breaks = whole.matches("\r\n").count();
    let mut cases = Vec::new();
    for index in 0..breaks {
        cases.push(case(
            format!("bare CR {index}"),
            replace_break(&whole, index, "\r"),
            BAD,
        ));
        cases.push(case(
            format!("CR CR LF {index}"),
            replace_break(&whole, index, "\r\r\n"),
            BAD,
        ));
    }
    cases.push(case("all CR", whole.replace("\r\n", "\r"), BAD));
    cases.push(case("CR first", format!("\r{whole}"), BAD));
    cases.push(case(
        "CR in a value",
        post(&["Originator: a\rb", "Content-Length: 5"]),
        BAD,
    ));
    cases.push(case(
        "CR in the target",
        line("GET /v1/\rmodels HTTP/1.1"),
        BAD,
    ));
    cases.push(case(
        "CR in the method",
        line("GE\rT /v1/models HTTP/1.1"),
        BAD,
    ));
    assert_refused(cases);
}

fn replace_break(text: &str, index: usize, by: &str) -> String {
    let at = text
        .match_indices("\r\n")
        .nth(index)
        .expect("a line break")
        .0;
    format!("{}{by}{}", &text[..at], &text[at + 2..])
}

#[test]
fn what_is_no_request() {
    let mut cases = vec![
        case(
            "TLS hello",
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
            NOT_A_METHOD,
        ),
        case("SSH", "SSH-2.0-OpenSSH_9.9\r\n\r\n", NOT_A_METHOD),
        case("SMTP", "EHLO gateway.test\r\n\r\n", NOT_A_METHOD),
        case(
            "PROXY protocol",
            format!(
                "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n{}",
                line("GET / HTTP/1.1")
            ),
            NOT_A_METHOD,
        ),
        case("NULs", [0; 64], NOT_A_METHOD),
        case(
            "byte order mark",
            format!("\u{feff}{}", line("GET /v1/models HTTP/1.1")),
            NOT_A_METHOD,
        ),
        case(
            "a response",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            &[400, 405, 505],
        ),
        case("a field", "Host: gateway.test\r\n\r\n", NOT_A_METHOD),
        case("JSON", "{\"model\":\"gpt-5\"}\r\n\r\n", NOT_A_METHOD),
        case("Redis", "*1\r\n$4\r\nPING\r\n", NOT_A_METHOD),
        case("high bytes", &b"\xff\xfe\xfd\xfc\r\n\r\n"[..], NOT_A_METHOD),
        case("only line breaks", "\r\n\r\n\r\n\r\n\r\n", NOT_A_METHOD),
    ];
    let endless = "x".repeat(40 * 1024);
    cases.push(case(
        "a method without end",
        endless.clone(),
        &[400, 405, 414, 431],
    ));
    let head = format!("GET /v1/models HTTP/1.1\r\nHost: gateway.test\r\nX: {endless}");
    cases.push(case("a value without end", head, HEAD_LARGE));
    cases.push(case(
        "no field at all",
        "GET /v1/models HTTP/1.1\r\n\r\n",
        BAD,
    ));
    cases.push(case(
        "no Host in a long head",
        request("GET / HTTP/1.1", &["A: b"; 20]),
        BAD,
    ));
    assert_refused(cases);
}

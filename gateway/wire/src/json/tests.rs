use super::*;

static PATHS: Paths = Paths::new(&[&["a"], &["b", "c"]]);

fn scan(text: &str) -> Result<JsonScan, JsonError> {
    let mut scan = JsonScan::new(&PATHS, 4, 20);
    scan.feed(text.as_bytes())?;
    Ok(scan)
}

#[test]
fn members_are_found_in_nested_objects() {
    let scan = scan(r#" {"x":[{"a":0}],"\u0061" : "q\n" ,"b":{"c":{"d":[1,2]},"a":3}} "#).unwrap();
    assert!(scan.is_complete());
    assert_eq!(scan.found(0).as_str().unwrap(), "q\n");
    assert_eq!(scan.found(0).times, 1);
    assert_eq!(&scan.found(1).raw[..], br#"{"d":[1,2]}"#);
    assert_eq!(scan.found(1).times, 1);
}

#[test]
fn paths_lead_through_objects_only() {
    let scan = scan(r#"{"b":[{"c":1}],"c":1,"x":{"a":1,"b":{"c":1}}}"#).unwrap();
    assert_eq!((scan.found(0).times, scan.found(1).times), (0, 0));
}

#[test]
fn an_array_is_a_text_where_a_path_says_so() {
    static PATHS: Paths = Paths::new(&[&[EVERY_ITEM, "a"], &["a"]]);
    let scanned = |text: &str| {
        let mut scan = JsonScan::new(&PATHS, 4, 20);
        let fed = scan.feed(text.as_bytes());
        let found = (scan.found(0).as_u64(), scan.found(1).as_u64());
        (fed.map(|()| scan.is_complete()), found)
    };
    assert_eq!(
        scanned(r#" [{"a":1},{"b":[{"a":2}]},{"a":3}] "#),
        (Ok(true), (Some(3), None))
    );
    assert_eq!(scanned(r#"{"a":1}"#), (Ok(true), (None, Some(1))));
    assert_eq!(scanned("[]"), (Ok(true), (None, None)));
    assert_eq!(scanned("[}").0, Err(JsonError::Invalid));
    assert_eq!(scanned("[{}]]").0, Err(JsonError::Invalid));
    assert_eq!(scanned("1").0, Err(JsonError::Invalid));
    assert_eq!(scanned("[[[[[").0, Err(JsonError::TooDeep));
    assert_eq!(scan("[]").err(), Some(JsonError::Invalid));
}

#[test]
fn where_a_value_stands_and_what_several_come_to() {
    let text = r#" {"l":[{"a":1},{"a" : 20},{"a":null},{"a":-3},{"a":300}],"b":"x"}"#;
    for piece_bytes in [1, 7, text.len()] {
        let mut scan = JsonScan::new(
            const { &Paths::new(&[&["l", EVERY_ITEM, "a"], &["b"]]) },
            9,
            99,
        );
        for piece in text.as_bytes().chunks(piece_bytes) {
            scan.feed(piece).unwrap();
        }
        assert_eq!((scan.found(0).times, scan.found(0).sum), (5, 321));
        for index in [0, 1] {
            let (start, raw) = (scan.found(index).start as usize, &scan.found(index).raw);
            assert!(text.as_bytes()[start..].starts_with(raw));
            assert_eq!(start, text.rfind(["300", "\"x\""][index]).unwrap());
        }
        scan.reset();
        scan.feed(br#"{"b":7}"#).unwrap();
        assert_eq!((scan.found(0).sum, scan.found(1).start), (0, 5));
    }
}

#[test]
fn items_of_arrays_can_be_asked_for() {
    let mut scan = JsonScan::new(
        const { &Paths::new(&[&["l", EVERY_ITEM, "a"], &["l"], &["l", EVERY_ITEM]]) },
        9,
        99,
    );
    scan.feed(br#"{"l":[{"a":1},2,[{"a":3}],{"b":{"a":4},"a":5}],"a":6}"#)
        .unwrap();
    assert_eq!((scan.found(0).times, scan.found(0).as_u64()), (2, Some(5)));
    assert_eq!(
        &scan.found(1).raw[..],
        br#"[{"a":1},2,[{"a":3}],{"b":{"a":4},"a":5}]"#
    );
    assert_eq!(
        (scan.found(2).times, &scan.found(2).raw[..]),
        (4, &br#"{"b":{"a":4},"a":5}"#[..])
    );
    // A key that is written like the sign for items is none.
    scan.reset();
    scan.feed(br#"{"l":{"[]":{"a":1}}}"#).unwrap();
    assert_eq!((scan.found(0).times, scan.found(2).times), (0, 0));
}

#[test]
fn of_duplicates_the_last_is_kept_and_all_are_counted() {
    let found = scan(r#"{"a":"long enough","b":{"c":1},"\u0061":2,"b":{"c":3},"a":4}"#).unwrap();
    assert_eq!(
        (found.found(0).times, found.found(0).as_u64()),
        (3, Some(4))
    );
    assert_eq!(
        (found.found(1).times, found.found(1).as_u64()),
        (2, Some(3))
    );
}

#[test]
fn keys_are_compared_after_unescaping() {
    for key in [
        r"\u00e9\ud83d\ude00",
        r"\u00E9\uD83D\uDE00",
        "\u{e9}\u{1f600}",
        "\u{e9}\\ud83d\\ude00",
    ] {
        let mut scan = JsonScan::new(const { &Paths::new(&[&["\u{e9}\u{1f600}"]]) }, 4, 20);
        scan.feed(format!(r#"{{"{key}":1}}"#).as_bytes()).unwrap();
        assert_eq!(scan.found(0).times, 1, "{key}");
    }
    // Halves of a pair are none if anything stands between them.
    let mut halves = JsonScan::new(const { &Paths::new(&[&["a\u{1f600}"]]) }, 4, 20);
    halves
        .feed(br#"{"\ud83da\ude00":1,"a\ud83d\ud83d\ude00":1}"#)
        .unwrap();
    assert_eq!(halves.found(0).times, 0);
    for key in [
        r"\ud83d",
        r"\ude00",
        r"\ud83d\u0061",
        r"\ud83da",
        r"\ud83d\ud83d\ude00",
        r"a\ud83d",
        r"\ude00a",
        "A",
        "a ",
        "",
        "aa",
        r"\u0000a",
        r"a\u0000",
        r"\n",
    ] {
        assert_eq!(
            scan(&format!(r#"{{"{key}":1}}"#)).unwrap().found(0).times,
            0,
            "{key}"
        );
    }
    for (escape, plain) in [
        (r#"\""#, "\""),
        (r"\\", "\\"),
        (r"\/", "/"),
        (r"\b", "\u{8}"),
        (r"\f", "\u{c}"),
        (r"\n", "\n"),
        (r"\r", "\r"),
        (r"\t", "\t"),
    ] {
        let path: Path = Box::leak(Box::new([&*plain.to_owned().leak()]));
        let mut scan = JsonScan::new(Box::leak(Box::new(Paths::new(&[path]))), 4, 20);
        scan.feed(format!(r#"{{"{escape}":1}}"#).as_bytes())
            .unwrap();
        assert_eq!(scan.found(0).times, 1, "{escape}");
    }
}

#[test]
fn nesting_is_limited() {
    scan(r#"{"x":[[[1]]]}"#).unwrap();
    scan(r#"{"b":{"c":{"x":{}}}}"#).unwrap();
    for text in [
        r#"{"x":[[[[1]]]]}"#,
        r#"{"x":[{"y":[{}]}]}"#,
        r#"{"b":{"c":{"x":{"y":{}}}}}"#,
    ] {
        assert_eq!(scan(text).unwrap_err(), JsonError::TooDeep, "{text}");
    }
    let mut scan = JsonScan::new(&PATHS, usize::MAX, 20);
    let deep = |levels: usize| {
        format!(
            "{{\"x\":{}{}}}",
            "[".repeat(levels - 1),
            "]".repeat(levels - 1)
        )
    };
    scan.feed(deep(DEPTH_CEILING).as_bytes()).unwrap();
    assert!(scan.is_complete());
    scan.reset();
    assert_eq!(
        scan.feed(deep(DEPTH_CEILING + 1).as_bytes()),
        Err(JsonError::TooDeep)
    );
}

#[test]
fn long_keys_are_refused_where_keys_are_looked_at() {
    let key = "k".repeat(1024);
    scan(&format!(r#"{{"{key}":1}}"#)).unwrap();
    assert_eq!(
        scan(&format!(r#"{{"{key}k":1}}"#)).unwrap_err(),
        JsonError::KeyTooLong
    );
    assert_eq!(
        scan(&format!(r#"{{"{}\n":1}}"#, &key)).unwrap_err(),
        JsonError::KeyTooLong
    );
    assert_eq!(
        scan(&format!(r#"{{"b":{{"{key}k":1}}}}"#)).unwrap_err(),
        JsonError::KeyTooLong
    );
    scan(&format!(r#"{{"x":{{"{key}k":1}}}}"#)).unwrap();
}

#[test]
fn captures_are_limited() {
    let twenty = format!("\"{}\"", "x".repeat(18));
    let found = scan(&format!(r#"{{"a":{twenty}}}"#)).unwrap();
    assert_eq!(found.found(0).as_str().unwrap().len(), 18);
    let found = scan(&format!(r#"{{"a":"x{}}}"#, &twenty[1..])).unwrap();
    assert!(found.found(0).truncated && found.found(0).as_str().is_none());
    assert_eq!(found.found(0).raw.len(), 20);
    // The next occurrence begins anew.
    let found = scan(&format!(r#"{{"a":"x{},"a":true}}"#, &twenty[1..])).unwrap();
    assert_eq!(found.found(0).as_bool(), Some(true));
}

#[test]
fn of_a_broken_text_nothing_says_that_a_value_was_truncated() {
    let text = format!("{{\"a\":\"{}\\x\"}}", "x".repeat(30));
    for piece_bytes in [1, 25, text.len()] {
        let mut scan = JsonScan::new(&PATHS, 4, 20);
        let mut pieces = text.as_bytes().chunks(piece_bytes);
        assert!(pieces.any(|piece| scan.feed(piece).is_err()));
        assert!(!scan.found(0).truncated && scan.found(0).raw.is_empty());
    }
}

#[test]
fn a_value_is_not_there_before_it_is_complete() {
    for text in [
        r#"{"a":"x"#,
        r#"{"a":"x\""#,
        r#"{"a":"#,
        r#"{"a":12"#,
        r#"{"a":tru"#,
    ] {
        let found = scan(text).unwrap();
        let found = found.found(0);
        assert_eq!(
            (found.as_str(), found.as_u64(), found.as_bool()),
            (None, None, None),
            "{text}"
        );
    }
    assert_eq!(scan(r#"{"a":"x"#).unwrap().found(0).times, 1);
}

#[test]
fn values_have_their_type() {
    for (value, text, count, flag) in [
        (r#""a\u0062""#, Some("ab"), None, None),
        (r#""""#, Some(""), None, None),
        (r#""\ud800""#, None, None, None),
        ("12", None, Some(12), None),
        ("18446744073709551615", None, Some(u64::MAX), None),
        ("18446744073709551616", None, None, None),
        ("-1", None, None, None),
        ("1.0", None, None, None),
        ("1e3", None, None, None),
        ("true", None, None, Some(true)),
        ("false", None, None, Some(false)),
        ("null", None, None, None),
        ("[]", None, None, None),
    ] {
        let found = scan(&format!(r#"{{"a":{value}}}"#)).unwrap();
        let found = found.found(0);
        assert_eq!(
            (found.as_str().as_deref(), found.as_u64(), found.as_bool()),
            (text, count, flag)
        );
        assert_eq!(found.is_not_null(), value != "null");
    }
    let mut scan = JsonScan::new(&PATHS, 4, 20);
    scan.feed(b"{\"a\":\"\xff\"}").unwrap();
    assert_eq!(scan.found(0).as_str(), None);
}

#[test]
fn only_objects_are_texts() {
    for text in [
        "[]",
        "1",
        "\"a\"",
        "null",
        "\u{feff}{}",
        "}",
        ",",
        "{}{}",
        "{} x",
        "{},",
        "\u{b}{}",
    ] {
        assert_eq!(scan(text).unwrap_err(), JsonError::Invalid, "{text}");
    }
    for text in ["", " ", "{", "{\"a\"", "{\"a\":1"] {
        assert!(!scan(text).unwrap().is_complete(), "{text}");
    }
    assert!(scan(" \t\r\n{} \t\r\n").unwrap().is_complete());
}

#[test]
fn the_grammar_is_held_to_the_letter() {
    for value in [
        "01",
        "-",
        "-a",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "1E-x",
        "0x1",
        "00",
        "1_0",
        "NaN",
        "Infinity",
        "--1",
        "1.2.3",
        "1e2e3",
        "tru",
        "trUe",
        "truex",
        "nul",
        "nulll",
        "falsy",
        "'a'",
        "a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u12\"",
        "\"\u{1f}\"",
        "\"\n\"",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1:2]",
        "[}",
        "[1}",
        "{\"x\":1]",
        "[{\"x\":1]}",
        "{]",
        "{\"x\"}",
        "{\"x\":}",
        "{\"x\" 1}",
        "{\"x\":1,}",
        "{,}",
        "{1:2}",
        "{x:1}",
        "{\"x\":1 \"y\":2}",
        "{\"x\":1;}",
        "1 2",
        "/**/1",
        "",
    ] {
        // In an object that is looked at, and in one that is not.
        for text in [
            format!("{{\"a\":{value}}}"),
            format!("{{\"x\":{{\"y\":{value}}}}}"),
        ] {
            assert_eq!(scan(&text).err(), Some(JsonError::Invalid), "{text}");
        }
    }
    for value in [
        "0",
        "-0",
        "10",
        "-1.50",
        "0.0e-0",
        "1E+2",
        "1e02",
        "\"\u{7f}\u{e9}\"",
        "\"\\ud800\"",
        "[ ]",
        "[[],{}]",
        "{ }",
        " 1 ",
        "{\"\":0}",
    ] {
        let text = format!("{{\"x\":{value}}}");
        assert!(scan(&text).unwrap().is_complete(), "{text}");
    }
}

#[test]
fn control_characters_are_found_at_any_place_of_a_string() {
    for length in [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 200] {
        for place in 0..=length {
            for control in [0_u8, 0x0a, 0x1f] {
                let mut text = vec![b'x'; length];
                text.insert(place, control);
                let text = [b"{\"x\":\"", &text[..], b"\"}"].concat();
                let mut scan = JsonScan::new(&PATHS, 4, 20);
                assert_eq!(
                    scan.feed(&text),
                    Err(JsonError::Invalid),
                    "{place} of {length}"
                );
            }
        }
    }
}

#[test]
fn counts_are_read_however_they_are_written() {
    for (number, count) in [
        ("0", Some(0)),
        ("7", Some(7)),
        ("100", Some(100)),
        ("1e6", Some(1_000_000)),
        ("1E+6", Some(1_000_000)),
        ("1000000.0", Some(1_000_000)),
        ("1.5e3", Some(1_500)),
        ("0.0012e5", Some(120)),
        ("12000e-3", Some(12)),
        ("0.5", Some(1)),
        ("1.01", Some(2)),
        ("1e-9", Some(1)),
        ("0e99999999999999999999", Some(0)),
        ("0.0e-3", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", Some(u64::MAX)),
        ("1e20", Some(u64::MAX)),
        ("1e99999999999999999999", Some(u64::MAX)),
        ("1e-99999999999999999999", Some(1)),
        ("\"64\"", Some(64)),
        ("\"6e1\"", Some(60)),
        ("-1", None),
        ("\"-1\"", None),
        ("\"\"", None),
        ("\"+1\"", None),
        ("\"1_000\"", None),
        ("\"1e\\u0031\"", None),
        ("\"1.2.3\"", None),
        ("true", None),
        ("null", None),
        ("[1]", None),
    ] {
        let mut scan = JsonScan::new(const { &Paths::new(&[&["a"]]) }, 64, 100);
        scan.feed(format!("{{\"a\":{number}}}").as_bytes()).unwrap();
        assert_eq!(scan.found(0).as_count(), count, "{number}");
    }
}

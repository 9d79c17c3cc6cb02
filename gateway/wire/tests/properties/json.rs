use super::{changed, changes, cuts, pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use relay_wire::json::{EVERY_ITEM, Found, JsonError, JsonScan, Path, Paths};
use serde_json::Value;

const PATHS: &[Path] = &[
    &["a"],
    &["a", "b"],
    &["b"],
    &["b", "a", "c"],
    &["list", EVERY_ITEM, "a"],
    &["\u{e9}\u{1f600}"],
];

fn scan(pieces: &[&[u8]]) -> (JsonScan, Result<(), JsonError>) {
    scan_with(100_000, pieces)
}

fn scan_with(capture_bytes_max: usize, pieces: &[&[u8]]) -> (JsonScan, Result<(), JsonError>) {
    let mut scan = JsonScan::new(const { &Paths::new(PATHS) }, 64, capture_bytes_max);
    let scanned = pieces.iter().try_for_each(|piece| scan.feed(piece));
    (scan, scanned)
}

fn described(scan: &JsonScan) -> String {
    let found: Vec<&Found> = (0..PATHS.len()).map(|index| scan.found(index)).collect();
    format!("{} {found:?}", scan.is_complete())
}

/// Values whose members often are those that are looked for.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        ".{0,12}".prop_map(Value::from),
        "[ab\"\\\\\n\u{1f600}]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let members = vec((key(), inner.clone()), 0..5);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["a", "b", "c", "list", "ab", "\u{e9}\u{1f600}", ".{0,5}"]
}

fn object() -> impl Strategy<Value = Value> {
    vec((key(), value()), 0..6).prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// The same text with some characters of its strings escaped, as a sender may write them.
fn with_escapes(text: &str, every: usize) -> String {
    let mut escaped = String::new();
    let mut in_string = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        in_string ^= character == '"';
        if in_string && character == '\\' {
            let name = characters.next().expect("a name follows");
            let digits = characters.by_ref().take(if name == 'u' { 4 } else { 0 });
            escaped.extend([character, name].into_iter().chain(digits));
        } else if in_string && character != '"' && escaped.len().is_multiple_of(every) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04X}"));
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// All values that a path leads to.
fn at_path<'v>(value: &'v Value, path: &[&str]) -> Vec<&'v Value> {
    let Some((first, rest)) = path.split_first() else {
        return vec![value];
    };
    match value {
        Value::Array(items) if *first == EVERY_ITEM => {
            items.iter().flat_map(|item| at_path(item, rest)).collect()
        }
        Value::Object(members) if *first != EVERY_ITEM => members
            .get(*first)
            .map(|member| at_path(member, rest))
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1200))]

    #[test]
    fn what_is_found_is_what_serde_json_finds(
        value in object(),
        pretty in any::<bool>(),
        escape_every in 1..9_usize,
        cuts in cuts(),
    ) {
        let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
        let text = with_escapes(&text, escape_every);
        let parsed: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&parsed, &value, "the test escapes correctly");
        let (scan, scanned) = scan(&pieces(text.as_bytes(), &cuts));
        prop_assert_eq!(scanned, Ok(()));
        prop_assert!(scan.is_complete());
        for (index, path) in PATHS.iter().enumerate() {
            let expected = at_path(&value, path);
            let found = scan.found(index);
            prop_assert_eq!(found.times as usize, expected.len(), "{:?}", path);
            let Some(&last) = expected.last() else {
                prop_assert!(!found.is_not_null());
                continue;
            };
            prop_assert!(found.complete && !found.truncated);
            let raw: Value = serde_json::from_slice(&found.raw).unwrap();
            prop_assert_eq!(&raw, last);
            let text = found.as_str();
            prop_assert_eq!(text.as_deref(), last.as_str());
            prop_assert_eq!(found.as_bool(), last.as_bool());
            prop_assert_eq!(found.as_u64(), last.as_u64());
            prop_assert_eq!(found.is_not_null(), !last.is_null());
        }
    }

    /// Accepted and complete is exactly what is valid JSON (of at most 64 levels, in UTF-8).
    #[test]
    fn what_is_valid_is_what_serde_json_takes(
        value in object(),
        changes in changes(b"{}[]\",:\\ \n0123456789.eE+-tfnu\0\x1f\x7f"),
        cuts in cuts(),
    ) {
        let text = changed(value.to_string().as_bytes(), &changes);
        if std::str::from_utf8(&text).is_err() {
            return Ok(());
        }
        let (scan, scanned) = scan(&pieces(&text, &cuts));
        let is_valid = scanned.is_ok() && scan.is_complete();
        let wanted = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok()
            && text.trim_ascii_start().starts_with(b"{");
        prop_assert_eq!(is_valid, wanted, "{:?}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn splitting_changes_nothing(
        value in object(),
        changes in changes(b"{}[]\",:\\ \n0123456789.eE+-tfnu\0\x1f\x7f"),
        cuts in cuts(),
        capture_bytes_max in prop_oneof![0..30_usize, Just(100_000)],
    ) {
        let text = changed(value.to_string().as_bytes(), &changes);
        let (whole, scanned) = scan_with(capture_bytes_max, &[&text]);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        for pieces in [pieces(&text, &cuts), bytes] {
            let (split, split_scanned) = scan_with(capture_bytes_max, &pieces);
            prop_assert_eq!(split_scanned, scanned);
            prop_assert_eq!(described(&split), described(&whole));
        }
    }

    /// Short strings are searched by words, long ones in another way, and each has an end that does not fill one.
    #[test]
    fn strings_of_every_length_end_where_they_should(
        plain in "[ -~\u{e9}]{0,90}",
        changes in changes(b"\"\\\0\n\x1f \x7fun"),
        cuts in cuts(),
    ) {
        let text = changed(plain.as_bytes(), &changes);
        let in_key = [b"{\"x\":{\"", &text[..], b"\":1},\"a\":1}"].concat();
        let in_value = [b"{\"x\":\"", &text[..], b"\",\"a\":1}"].concat();
        for text in [in_key, in_value] {
            if std::str::from_utf8(&text).is_err() {
                continue;
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            for pieces in [vec![&text[..]], pieces(&text, &cuts), bytes] {
                let (scan, scanned) = scan(&pieces);
                let is_valid = scanned.is_ok() && scan.is_complete();
                let wanted = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
                prop_assert_eq!(is_valid, wanted, "{:?}", String::from_utf8_lossy(&text));
            }
        }
    }

    /// What is whole in a piece is read in another way than what is not.
    #[test]
    fn escapes_and_numbers_are_the_same_wherever_they_are_cut(
        string in r#"([ !#-\[\]-~]{0,20}|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}){0,8}"#,
        number in r"-?(0|[1-9][0-9]{0,12})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,4})?",
        changes in changes(b"\"\\ub/0123456789aFg.eE+-\n"),
    ) {
        let valid = format!("{{\"x\":{{\"{string}\":\"{string}\"}},\"b\":[{number},{number}]}}");
        let text = changed(valid.as_bytes(), &changes);
        if std::str::from_utf8(&text).is_err() {
            return Ok(());
        }
        let (whole, scanned) = scan(&[&text]);
        let is_valid = scanned.is_ok() && whole.is_complete();
        let wanted = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok()
            && text.trim_ascii_start().starts_with(b"{");
        prop_assert_eq!(is_valid, wanted, "{:?}", String::from_utf8_lossy(&text));
        prop_assert!(is_valid || text != valid.as_bytes());
        for cut in 0..=text.len() {
            let (start, rest) = text.split_at(cut);
            let (split, split_scanned) = scan(&[start, rest]);
            prop_assert_eq!(split_scanned, scanned);
            prop_assert_eq!(described(&split), described(&whole), "cut after {}", cut);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        text in vec(prop_oneof![any::<u8>(), proptest::sample::select(&b"{}[]\",:\\u0a"[..])], 0..80),
    ) {
        let text = [b"{", &text[..]].concat();
        let (mut scan, scanned) = scan(&[&text]);
        if scanned.is_err() {
            prop_assert_eq!(scan.feed(b""), scanned, "errors stick");
            prop_assert!(!scan.is_complete());
        }
        scan.reset();
        prop_assert_eq!(scan.feed(b"{\"a\":1}"), Ok(()));
        prop_assert!(scan.is_complete());
        prop_assert_eq!(scan.found(0).as_u64(), Some(1));
        prop_assert_eq!(scan.found(0).times, 1);
    }
}

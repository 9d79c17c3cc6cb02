use super::*;

#[test]
fn members_are_found_in_nested_objects() {
    let mut scan = JsonScan::new(&[&["a"], &["b", "c"]], 64, 100);
    scan.feed(br#" {"x":[{"a":0}],"\u0061" : "q\n" ,"b":{"c":{"d":[1,2]},"a":3}} "#)
        .unwrap();
    assert!(scan.is_complete());
    assert_eq!(scan.found(0).as_str().unwrap(), "q\n");
    assert_eq!(scan.found(0).times, 1);
    assert_eq!(scan.found(1).raw, br#"{"d":[1,2]}"#);
}

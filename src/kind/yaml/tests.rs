//! What is read is what PyYAML reads; what it fails on is refused.

use super::{Node, Style, parse};
use crate::kind::finding::Finding;
use std::{fmt::Write, path::Path, sync::Arc};

fn read(text: &str) -> Result<(Node, Vec<Finding>), Finding> {
    parse(text, &Arc::from(Path::new("kind.yml")))
}

fn json(text: &str) -> String {
    match read(text) {
        Ok((node, _)) => node.to_json().expect("no dates").to_string(),
        Err(err) => err.to_string(),
    }
}

/// The expected values are PyYAML's; JSON sorts the keys.
#[test]
fn documents_are_what_python_reads() {
    for (text, expected) in [
        (
            "a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}",
            r#"{"a":{"b":1,"c":2},"d":{"b":3,"c":2}}"#,
        ),
        (
            "f:\n  b: 9\n  <<: [{b: 1, c: 1, z: 3}, {c: 5, y: 1}]",
            r#"{"f":{"b":9,"c":1,"y":1,"z":3}}"#,
        ),
        ("e: {'<<': 1}", r#"{"e":{"<<":1}}"#),
        ("!!str 5: 1", r#"{"5":1}"#),
        ("a: !!int '5'", r#"{"a":5}"#),
        ("a: !!float 5", r#"{"a":5.0}"#),
        ("a: ! 5", r#"{"a":5}"#),
        ("a: !\nb: ! x", r#"{"a":"","b":"x"}"#),
        ("a: !<tag:yaml.org,2002:str> 5", r#"{"a":"5"}"#),
        (
            "a: 'yes'\nb: yes\nc: \"010\"\nd: 010",
            r#"{"a":"yes","b":true,"c":"010","d":8}"#,
        ),
        ("a: 'x\n  y'", r#"{"a":"x y"}"#),
        ("a: >-\n  x\n  y\nb: |\n  z\n", r#"{"a":"x y","b":"z\n"}"#),
        ("a: [b: c]\nd: {x}", r#"{"a":[{"b":"c"}],"d":{"x":null}}"#),
        ("a:\n- b\n- c", r#"{"a":["b","c"]}"#),
        ("\u{feff}a: 1", r#"{"a":1}"#),
        ("%YAML 1.2\n---\na: 1\n...\n", r#"{"a":1}"#),
        ("# nothing\n", "null"),
        ("a: 1\r\nb: x\r\n", r#"{"a":1,"b":"x"}"#),
    ] {
        assert_eq!(json(text), expected, "{text:?}");
    }
}

#[test]
fn what_python_fails_on_is_refused_with_its_line() {
    for (text, expected) in [
        (
            "a: 1\n---\nb: 2\n",
            "kind.yml:3: expected a single document, but another one begins here",
        ),
        ("\n[a]: 1", "kind.yml:2: a key must not be a list or a map"),
        (
            "a: =",
            "kind.yml:1: `=`: a lone `=` has a meaning of its own in YAML 1.1: put it in quotes",
        ),
        (
            "- <<",
            "kind.yml:1: `<<` merges maps, and is no value: put it in quotes",
        ),
        (
            "\n<<: 5",
            "kind.yml:2: only maps and lists of maps can be merged",
        ),
        (
            "a: &b [*b]",
            "kind.yml:1: an alias stands within what it is the alias of",
        ),
        ("a: !x b", "kind.yml:1: nobody knows the tag `!x`"),
        ("a: !<x> b", "kind.yml:1: nobody knows the tag `!<x>`"),
        (
            "a: !!set {x}",
            "kind.yml:1: a collection with the tag `!!set` is not supported",
        ),
        (
            "a: 1\nb: x\u{85}y",
            "kind.yml:2: has a character (U+0085, U+2028 or U+2029) that ends a line in YAML 1.1",
        ),
    ] {
        assert_eq!(json(text), expected, "{text:?}");
    }
    for (text, line) in [
        ("a: b: c", 1),
        ("a: 1\nb: [", 2),
        ("a: *b", 1),
        ("a: @x", 1),
    ] {
        let err = read(text).unwrap_err();
        assert!(err.text.starts_with("not YAML: "), "{text:?}: {err}");
        assert!(err.place.unwrap().line >= line, "{text:?}");
    }
}

#[test]
fn bombs_are_defused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    assert!(
        json(&text).contains("more than 1000000 values"),
        "{}",
        json(&text)
    );
    let deep = "[".repeat(100);
    assert!(json(&deep).contains("nested more than"), "{}", json(&deep));
    // Here the parser's own limit comes first.
    let deep = "[".repeat(100_000);
    assert!(json(&deep).contains("recursion limit"), "{}", json(&deep));
}

#[test]
fn keys_that_are_there_twice_are_found() {
    let (node, doubled) = read("a: 1\nb: &m {x: 1}\nc:\n  <<: *m\n  x: 2\na: 3\n").unwrap();
    assert_eq!(node.to_json().unwrap()["a"], 3);
    let doubled: Vec<_> = doubled.iter().map(ToString::to_string).collect();
    assert_eq!(doubled, ["kind.yml:6: `a` replaces that of line 1"]);
}

#[test]
fn text_and_style_of_scalars_are_known() {
    let text = "é: 1 # c\nb:   plain text  # comment\nc: 'it''s'  # 'x'\nd: {e: \"\\\"f\\\\\" , g: h}\nk: |\n  x\n";
    let bom = format!("\u{feff}{text}");
    let windows = text.replace('\n', "\r\n");
    for text in [text, &bom, &windows] {
        let (node, _) = read(text).unwrap();
        let map = node.map().unwrap();
        let inner = map.get("d").unwrap().map().unwrap();
        for (node, expected, style) in [
            (map.get("é"), "1", Style::Plain),
            (map.get("b"), "plain text", Style::Plain),
            (map.get("c"), "'it''s'", Style::SingleQuoted),
            (inner.get("e"), "\"\\\"f\\\\\"", Style::DoubleQuoted),
            (inner.get("g"), "h", Style::Plain),
        ] {
            let origin = &node.unwrap().origin;
            assert_eq!(&text[origin.bytes.clone()], expected, "{text:?}");
            assert_eq!(origin.style, style);
            assert!(!origin.shared);
        }
        assert_eq!(map.get("k").unwrap().origin.style, Style::Other);
    }
}

#[test]
fn what_stands_elsewhere_too_is_marked() {
    let text = "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\nd: &d 3\n";
    let (node, _) = read(text).unwrap();
    let map = node.map().unwrap();
    let shared = |key: &str, inner: &str| {
        let node = map.get(key).unwrap().map().unwrap();
        node.get(inner).unwrap().origin.shared
    };
    assert!(shared("a", "x") && shared("b", "x") && shared("c", "x"));
    assert!(!shared("c", "y"));
    assert!(map.get("d").unwrap().origin.shared);
}

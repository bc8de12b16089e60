use serde_json::{Value, json};

use super::Template;

fn document() -> Value {
    json!({
        "id": "abc", "empty": "", "zero": 0, "pid": 42, "big": "1700000000000000000",
        "status": {"state": "RUNNING", "labels": {"b": "2", "a": "1"}, "none": null},
        "list": ["x", "y", "z"], "nested": [{"n": "one"}, {"n": "two"}], "ok": true
    })
}

fn render(text: &str) -> Result<String, String> {
    let template = Template::parse(text).map_err(|e| e.to_string())?;
    template.render(&document()).map_err(|e| e.to_string())
}

fn check(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(render(text).as_deref(), Ok(*expected), "{text}");
    }
}

/// What Go's own text/template prints for the same document.
#[test]
fn as_go_prints_it() {
    let table = [
        ("plain", "plain"),
        ("{{.id}}", "abc"),
        ("{{ .status.state }}!", "RUNNING!"),
        ("{{.status.labels}}", "map[a:1 b:2]"),
        ("{{.list}}", "[x y z]"),
        ("{{.nothing}}", "<no value>"),
        ("{{.nothing.deeper}}", "<no value>"),
        ("{{.status.none}}", "<no value>"),
        ("{{json .list}}", r#"["x","y","z"]"#),
        ("{{.status.labels | json}}", r#"{"a":"1","b":"2"}"#),
        ("{{if .ok}}yes{{else}}no{{end}}", "yes"),
        (
            "{{if .zero}}yes{{else if .id}}other{{else}}no{{end}}",
            "other",
        ),
        ("{{if not .empty}}unset{{end}}", "unset"),
        ("{{with .status}}{{.state}}{{end}}", "RUNNING"),
        ("{{with .empty}}a{{else}}b{{end}}", "b"),
        ("{{with .empty}}a{{else with .id}}{{.}}{{end}}", "abc"),
        ("{{range .list}}<{{.}}>{{end}}", "<x><y><z>"),
        (
            "{{range $i, $e := .list}}{{$i}}={{$e}} {{end}}",
            "0=x 1=y 2=z ",
        ),
        (
            "{{range $k, $v := .status.labels}}{{$k}}:{{$v}};{{end}}",
            "a:1;b:2;",
        ),
        ("{{range .empty2}}a{{else}}none{{end}}", "none"),
        (
            "{{range .list}}{{if eq . \"y\"}}{{continue}}{{end}}{{.}}{{end}}",
            "xz",
        ),
        (
            "{{range .list}}{{if eq . \"y\"}}{{break}}{{end}}{{.}}{{end}}",
            "x",
        ),
        ("{{range 3}}{{.}}{{end}}", "012"),
        (
            "{{range .nested}}{{.n}} of {{$.id}},{{end}}",
            "one of abc,two of abc,",
        ),
        ("{{$x := .id}}{{$x}}{{$x = \"new\"}}{{$x}}", "abcnew"),
    ];
    check(&table);
}

/// Their functions, and what surrounds actions.
#[test]
fn functions_and_trimming() {
    let table = [
        ("{{index .list 1}}", "y"),
        ("{{index .status \"labels\" \"a\"}}", "1"),
        ("{{(index .nested 1).n}}", "two"),
        ("{{len .list}}", "3"),
        ("{{slice .id 1 3}}", "bc"),
        (
            "{{printf \"%s-%05d|%-6s|%6s|%q|%.2f|%x|%%\" .id .pid \"l\" \"r\" \"q\" 1.5 255}}",
            "abc-00042|l     |     r|\"q\"|1.50|ff|%",
        ),
        ("{{printf \"%d\" .big}}", "1700000000000000000"),
        ("{{printf \"%d %d\" 1}}", "1 %!d(MISSING)"),
        ("{{print 1 2 \"a\" true}}", "1 2atrue"),
        ("{{println \"a\" 1}}", "a 1\n"),
        ("{{and .id .zero}}{{or .empty .id}}", "0abc"),
        (
            "{{eq .pid 1 42}}{{ne .pid 42}}{{lt .pid 43}}{{ge .big 5}}",
            "truefalsetruetrue",
        ),
        (
            "{{join .list \",\"}} {{split \"a/b\" \"/\"}}",
            "x,y,z [a b]",
        ),
        (
            "{{upper .id}}{{lower \"AB\"}}{{title \"a bc\"}}",
            "ABCabA Bc",
        ),
        ("{{truncate .id 2}}{{pad \"x\" 1 2}}|", "ab x  |"),
        ("a {{- .id -}} b", "aabcb"),
        ("a{{/* nothing }} */}}b", "ab"),
        ("{{\"}}\"}}{{`raw \\n`}}", "}}raw \\n"),
        ("{{\"tab\\t\" | printf \"%s|%s\" \"x\"}}", "x|tab\t"),
        ("{{html \"<a>\"}} {{urlquery \"a b&\"}}", "&lt;a&gt; a+b%26"),
    ];
    check(&table);
}

/// Mistakes are one line with their place.
#[test]
fn mistakes() {
    let table = [
        ("{{", "byte 2: an action is not closed by }}"),
        ("{{}}", "byte 0: an action is empty"),
        ("{{if .a}}", "byte 0: {{if}} has no {{end}}"),
        ("a{{end}}", "byte 1: {{end}} without a block"),
        ("{{nofunction .a}}", "byte 2: no function nofunction"),
        ("{{.a | .b}}", "byte 7: only a function can follow |"),
        ("{{.a .b}}", "byte 2: only a function takes arguments"),
        ("{{(.a}}", "byte 2: ( is not closed"),
        ("{{\"a}}", "byte 2: an action is not closed by }}"),
        ("{{template \"x\"}}", "byte 0: template is not supported"),
        ("{{break}}", "byte 0: break outside of range"),
        (
            "{{index .list 9}}",
            "byte 2: index: 9 is not in a list of 3",
        ),
        ("{{len .pid}}", "byte 2: len: 42 has no length"),
        ("{{$y}}", "byte 2: no variable $y"),
        ("{{range .id}}{{end}}", "byte 8: range cannot walk abc"),
    ];
    for (text, expected) in table {
        assert_eq!(render(text), Err(format!("template: {expected}")), "{text}");
    }
}

proptest::proptest! {
    /// Any text at all is a template or one line, and its rendering ends.
    #[test]
    fn never_falls_over(text in "(\\{\\{|\\}\\}|[ -~]|if|range|end|else|\\.|\\$x|:=|\"|`|-| |é){0,40}") {
        if let Err(e) = render(&text) {
            proptest::prop_assert!(!e.contains('\n') && e.starts_with("template: byte "));
        }
    }
}

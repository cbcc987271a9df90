//! Which metrics an expression of Prometheus' asks for.

use std::collections::BTreeSet;

/// Followed by labels in parentheses, which are no metrics.
const GROUPING: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
/// Words that stand where a metric could; functions are known by the parenthesis after them.
const WORDS: [&str; 6] = ["and", "or", "unless", "sum", "max", "min"];

/// The names of metrics in `expression`.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => quoted(rest),
            '{' => until(rest, '}'),
            '[' => until(rest, ']'),
            c if c.is_ascii_alphabetic() || c == '_' => {
                let word = &rest[..word(rest)];
                let after = rest[word.len()..].trim_start();
                if GROUPING.contains(&word) {
                    rest = after;
                    until(rest, ')')
                } else {
                    if !after.starts_with('(') && !WORDS.contains(&word) {
                        found.insert(word.to_owned());
                    }
                    word.len()
                }
            }
            // A number with what belongs to it: `1e3` names nothing.
            c if c.is_ascii_digit() => word(rest),
            c => c.len_utf8(),
        };
        rest = &rest[length..];
    }
    found
}

fn word(text: &str) -> usize {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    end.unwrap_or(text.len())
}

fn quoted(text: &str) -> usize {
    let end = text[1..].find('"').expect("the quote ends");
    end + 2
}

/// The length up to and with `end`, of which those in quotes do not count.
fn until(text: &str, end: char) -> usize {
    let mut length = 0;
    loop {
        let next = text[length..].chars().next().expect("it is closed");
        length += match next {
            '"' => quoted(&text[length..]),
            c if c == end => return length + 1,
            c => c.len_utf8(),
        };
    }
}

#[test]
fn labels_functions_and_numbers_are_no_metrics() {
    let expression = r#"histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{job=~"}x", le!=""}[5m]))) > 1e3
        and on (job) (b:c == 0 or 60 * sum without(instance) (d{x="e"})) unless time() - f > 2"#;
    let found: Vec<_> = metrics(expression).into_iter().collect();
    assert_eq!(found, ["a_bucket", "b:c", "d", "f"]);
}

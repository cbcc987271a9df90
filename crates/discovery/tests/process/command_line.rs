//! What is refused, and how.

use std::{collections::BTreeSet, net::TcpListener};

use crate::place::Place;

#[tokio::test]
async fn a_wrong_command_line_is_refused_with_exit_code_2() {
    let place = Place::directory();
    for (arguments, named) in [
        (&["lsit", "greeter"][..], "lsit"),
        (&["list"], "SERVICE"),
        (&["list", "../etc"], "../etc"),
        (&["services", "--output", "xml"], "xml"),
        (&["services", "--registry-timeout", "soon"], "10s"),
        (&[], "services"),
    ] {
        let ended = place.run(arguments).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        let said = ended.stderr.join("\n");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn every_command_explains_itself_with_an_example() {
    let place = Place::directory();
    let help = place.text(&["--help"]).await;
    let listed = help.split("Commands:").nth(1).expect("the commands");
    let listed = listed.split("Options:").next().expect("the commands");
    let commands = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let commands: Vec<_> = commands.filter(|name| *name != "help").collect();
    assert!(commands.len() >= 3, "{help}");
    for command in commands {
        let help = place.text(&[command, "--help"]).await;
        let example = format!("  discovery {command}");
        assert!(
            help.contains("Example") && help.contains(&example),
            "{help}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_named_with_the_way_out() {
    let place = Place::directory();
    // It takes connections, and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("etcd://{}/shop", mute.local_addr().expect("an address"));
    for arguments in [
        &["services"][..],
        &["list", "greeter"],
        &["watch", "greeter"],
    ] {
        let asked = [
            &["--registry", &url, "--registry-timeout", "200ms"],
            arguments,
        ]
        .concat();
        let line = place.refusal(&asked).await;
        assert!(
            line.contains(&url) && line.contains("--registry-timeout"),
            "{line}"
        );
    }
    let line = place.refusal(&["--registry", "memory:", "services"]).await;
    assert!(
        line.contains("memory:") && line.contains("--registry URL"),
        "{line}"
    );
}

/// What a text names in backticks that begins with `discovery `, without that.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let spans = text.split('`').skip(1).step_by(2);
    spans.filter_map(|span| span.strip_prefix("discovery "))
}

#[tokio::test]
async fn what_to_do_about_an_alert_is_said_in_commands_that_there_are() {
    let place = Place::directory();
    let guide = include_str!("../../../../docs/operations.md");
    let rows = guide.lines().filter(|line| line.starts_with("| `"));
    let rows: String = rows.collect();
    let all: BTreeSet<_> = commands(&rows).collect();
    assert!(all.len() > 10, "{all:?}");
    for command in all {
        let words: Vec<_> = command.split(' ').collect();
        // `config` alone has commands of its own.
        let command = &words[..if words[0] == "config" { 2 } else { 1 }];
        let help = place.text(&[command, &["--help"]].concat()).await;
        let usage = format!("Usage: discovery {}", command.join(" "));
        assert!(help.contains(&usage), "{words:?}: {help}");
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{words:?}: {help}");
        }
    }
}

//! An explanation for a person.

use service_kit::terminal::{Look, printable};

use super::{Explained, Shape};

pub(super) fn all(shape: &Shape, look: Look) -> String {
    let Shape {
        service, instances, ..
    } = shape;
    let tables: Vec<_> = instances
        .iter()
        .map(|one| explained(service, one, look))
        .collect();
    tables.join("\n")
}

fn explained(service: &str, one: &Explained, look: Look) -> String {
    let name = format!("{service}/{}", one.id);
    let mut table = look.table(&[
        &name,
        if one.called {
            "is called"
        } else {
            "is not called"
        },
    ]);
    let mut row = |title: &str, text: String| {
        table.add_row([title.to_owned(), text]);
    };
    row("because", one.why.clone());
    if let Some(instance) = &one.instance {
        row("answers at", instance.addresses.join(", "));
        row(
            "says itself",
            format!("{}, weight {}", instance.own_status, instance.own_weight),
        );
        if let Some(start) = &instance.incarnation {
            row("started as", format!("incarnation {start}"));
        }
    }
    if let Some(intent) = one.intent {
        let key = one.intent_key.as_deref();
        let at = key.unwrap_or("the registry has lost it, and the instance remembers it");
        row(
            "an operator wants",
            format!("{} ({})", intent.in_words(), printable(at)),
        );
    }
    for place in &one.places {
        let dialect = place.dialect.map(|name| format!(", dialect {name}"));
        let revision = place
            .revision
            .map(|revision| format!(" (revision {revision}{})", dialect.unwrap_or_default()));
        let key = place.key.as_deref().map(printable).unwrap_or_default();
        row("stands at", key + &revision.unwrap_or_default());
        row("held by", place.held_by.clone());
        row("seen by", place.seen_by.to_owned());
    }
    table.to_string()
}

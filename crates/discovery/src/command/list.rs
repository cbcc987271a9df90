//! `discovery list`: the instances of a service.

use anyhow::Result;
use clap::Args;
use comfy_table::{Cell, Color};
use registry::ServiceName;
use serde::Serialize;
use service_kit::terminal::{Look, align_right, printable};

use crate::{
    form::{InstanceForm, IntentForm},
    session::Session,
};

const EXAMPLE: &str = "\
Examples:
  discovery list greeter
  discovery list greeter --output json | jq -r '.instances[].addresses[0]'
      The address of each.

Status and weight are what an operator wants, else what the instance says itself. Zone, version,
labels, further addresses and what an operator wants have a column where an instance has any;
JSON has them all.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ListArgs {
    /// The service's name
    #[arg(value_parser = ServiceName::new)]
    service: ServiceName,
}

/// The shape of `--output json`.
#[derive(Serialize)]
struct Shape<'a> {
    registry: &'a str,
    service: &'a str,
    revision: u64,
    instances: Vec<InstanceForm>,
}

impl ListArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let listed = session.answer(session.registry.list(&self.service)).await?;
        let shape = Shape {
            registry: session.registry.url(),
            service: self.service.as_str(),
            revision: listed.revision().0,
            instances: listed
                .instances()
                .map(|one| InstanceForm::from(&**one))
                .collect(),
        };
        session.show(&shape, |look| draw(&shape, look)).map(drop)
    }
}

/// A column, and what it says of an instance: nothing, where there is nothing to say.
struct Column {
    title: &'static str,
    says: fn(&InstanceForm) -> String,
    is_number: bool,
}

impl Column {
    const fn text(title: &'static str, says: fn(&InstanceForm) -> String) -> Self {
        let is_number = false;
        Self {
            title,
            says,
            is_number,
        }
    }
}

const COLUMNS: [Column; 8] = [
    Column::text("instance", |one| one.id.clone()),
    Column::text("answers at", |one| match &one.addresses[..] {
        [address] if *address == one.id => String::new(),
        addresses => addresses.join("\n"),
    }),
    Column::text("status", |one| one.status.replace('_', " ")),
    Column {
        title: "weight",
        says: |one| one.weight.to_string(),
        is_number: true,
    },
    Column::text("zone", |one| one.zone.clone().unwrap_or_default()),
    Column::text("version", |one| {
        one.version.as_deref().map_or_else(String::new, printable)
    }),
    Column::text("labels", |one| {
        let labels = one.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| printable(&format!("{name}={value}")))
            .collect();
        labels.join("\n")
    }),
    Column::text("an operator wants", |one| {
        let wanted = one.intent.as_ref();
        wanted.map_or_else(String::new, |intent| {
            let own = format!("itself: {}, weight {}", one.own_status, one.own_weight);
            format!("{}\n({})", intent.in_words(), own.replace('_', " "))
        })
    }),
];

fn draw(shape: &Shape<'_>, look: Look) -> String {
    let Shape {
        registry,
        service,
        instances,
        ..
    } = shape;
    if instances.is_empty() {
        return format!("{service} has no instance in {registry}");
    }
    let is_said = |column: &&Column| instances.iter().any(|one| !(column.says)(one).is_empty());
    let columns: Vec<_> = COLUMNS.iter().filter(is_said).collect();
    let titles: Vec<_> = columns.iter().map(|column| column.title).collect();
    let mut table = look.table(&titles);
    for one in instances {
        table.add_row(columns.iter().map(|column| {
            let cell = Cell::new((column.says)(one));
            match (column.title, one.status) {
                ("status", "serving") => cell.fg(Color::Green),
                ("status", _) => cell.fg(Color::Yellow),
                _ => cell,
            }
        }));
    }
    let numbers = columns.iter().enumerate();
    align_right(
        &mut table,
        numbers
            .filter(|(_, column)| column.is_number)
            .map(|(place, _)| place),
    );
    table.to_string()
}

impl IntentForm {
    /// As `draining, weight 3`.
    pub(crate) fn in_words(self) -> String {
        let status = self.status.map(|status| status.replace('_', " "));
        let weight = self.weight.map(|weight| format!("weight {weight}"));
        let said: Vec<_> = status.into_iter().chain(weight).collect();
        said.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use registry::{Address, Instance, Weight};
    use service_kit::terminal::Look;

    use super::{InstanceForm, IntentForm, ServiceName, Shape, draw};

    fn greeter(port: u16) -> Instance {
        let service = ServiceName::new("greeter").expect("a name");
        let address = Address::new(&format!("10.0.0.7:{port}")).expect("an address");
        Instance::new(service, address)
    }

    fn shape(instances: Vec<InstanceForm>) -> Shape<'static> {
        Shape {
            registry: "file:///r",
            service: "greeter",
            revision: 7,
            instances,
        }
    }

    #[test]
    fn a_column_that_nobody_has_anything_in_is_not_there() {
        let plain = draw(&shape(vec![(&greeter(1)).into()]), Look::PLAIN);
        let golden = "\
┌─────────────────────────────────┐
│ instance       status    weight │
╞═════════════════════════════════╡
│ 10.0.0.7:1     serving        1 │
└─────────────────────────────────┘";
        let squeezed = |text: &str| text.replace(' ', "");
        assert_eq!(
            squeezed(&plain).lines().nth(1),
            squeezed(golden).lines().nth(1)
        );
        let labelled = greeter(1).with_label("tier", "gold").with_version("v2");
        let drawn = draw(&shape(vec![(&labelled).into()]), Look::PLAIN);
        assert!(
            drawn.contains("tier=gold") && drawn.contains("version"),
            "{drawn}"
        );
        assert!(!drawn.contains("zone"), "{drawn}");
    }

    #[test]
    fn what_an_operator_wants_stands_beside_what_the_instance_says() {
        let light = greeter(1).with_weight(Weight::new(5).expect("a weight"));
        let mut form = InstanceForm::from(&light);
        (form.status, form.weight) = ("draining", 2);
        form.intent = Some(IntentForm {
            status: Some("draining"),
            weight: Some(2),
        });
        let drawn = draw(&shape(vec![form]), Look::PLAIN);
        assert!(drawn.contains("draining, weight 2"), "{drawn}");
        assert!(drawn.contains("(itself: serving, weight 5)"), "{drawn}");
    }

    #[test]
    fn what_a_registry_holds_cannot_steer_the_terminal() {
        let hostile = greeter(1)
            .with_version("\u{1b}[2J")
            .with_label("a", "\u{7}");
        let drawn = draw(&shape(vec![(&hostile).into()]), Look::PLAIN);
        assert!(!drawn.contains(['\u{1b}', '\u{7}']), "{drawn:?}");
    }

    #[test]
    fn a_narrow_terminal_is_kept_to() {
        let long = greeter(1).with_label("a-label-of-some-length", "with-a-value-of-some-length");
        let narrow = Look {
            width: Some(48),
            ..Look::PLAIN
        };
        let drawn = draw(&shape(vec![(&long).into()]), narrow);
        for line in drawn.lines() {
            assert!(line.chars().count() <= 48, "{drawn}");
        }
    }
}

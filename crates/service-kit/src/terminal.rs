//! What a command prints: for a person, on a terminal that is kept to, or for a program.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use anyhow::Context;
use clap::{ValueEnum, builder::PossibleValue};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

/// In fewer columns a table is better broken by the terminal.
const NARROWEST: u16 = 40;

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For a person: `table`, or `text`.
    Table,
    /// For a program: `json`.
    Json,
}

/// By hand, because a text for each value would make a long chapter of each option's help.
impl ValueEnum for Output {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Table, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Table => PossibleValue::new("table").alias("text"),
            Self::Json => PossibleValue::new("json"),
        })
    }
}

/// Whether anybody reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// As far as is known.
    Reading,
    /// Whoever did has closed stdout: it has seen enough.
    Gone,
}

/// Writes to stdout at once. That nobody reads it any more is no failure.
///
/// # Errors
/// When it cannot be written, as on a full disk.
pub fn print(text: &str) -> anyhow::Result<Readers> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Readers::Reading),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Readers::Gone),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}

/// What a peer or a registry said, fit for a terminal: it could move the cursor and clear the screen.
///
/// ```
/// use service_kit::terminal::printable;
/// assert_eq!(printable("Hello \u{1b}[2Jwörld\n"), "Hello \u{fffd}[2Jwörld\u{fffd}");
/// ```
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Whether the environment asks for no colours (<https://no-color.org>).
pub(crate) fn is_plain_wanted() -> bool {
    env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// What text is drawn on.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Whether it has colours.
    pub color: bool,
    /// In characters; `None` where lines may be as long as they like.
    pub width: Option<u16>,
}

impl Look {
    /// Text alone, of any length.
    pub const PLAIN: Self = Self {
        color: false,
        width: None,
    };

    /// What stdout is: colours on a terminal alone, unless the environment has `NO_COLOR`, and that terminal's width.
    pub fn of_stdout() -> Self {
        let width = Table::new().width();
        Self {
            color: io::stdout().is_terminal() && !is_plain_wanted(),
            // Some terminals tell a width of 0.
            width: width.filter(|width| *width >= NARROWEST),
        }
    }

    /// An empty table that fits, with that header.
    ///
    /// ```
    /// use service_kit::terminal::Look;
    /// let mut table = Look::PLAIN.table(&["instance", "calls"]);
    /// table.add_row(["127.0.0.1:50051", "3"]);
    /// assert!(table.to_string().contains("│ 127.0.0.1:50051   3     │"));
    /// ```
    pub fn table(self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let titles = header.iter();
        table.set_header(titles.map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    /// The text in that colour, where there are colours.
    ///
    /// ```
    /// use comfy_table::Color;
    /// use service_kit::terminal::Look;
    /// assert_eq!(Look::PLAIN.paint("removed", Color::Red), "removed");
    /// assert_eq!(Look { color: true, ..Look::PLAIN }.paint("removed", Color::Red), "\u{1b}[31mremoved\u{1b}[0m");
    /// ```
    pub fn paint(self, text: &str, color: Color) -> String {
        let code = match color {
            Color::Red | Color::DarkRed => 31,
            Color::Green | Color::DarkGreen => 32,
            Color::Yellow | Color::DarkYellow => 33,
            Color::Cyan | Color::DarkCyan => 36,
            _ => 1,
        };
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Puts what is in these columns, counted from 0, at their right edge.
pub fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

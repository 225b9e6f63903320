//! Medians as a table in Markdown.

use crate::Unit;
use crate::system::System;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    /// It was ended before all was done: all of it would not have been faster.
    pub(crate) cut: bool,
}

/// What stands below a heading.
#[derive(Clone, Copy, Debug)]
enum Column {
    Median(System),
    /// How fast it is, with the kernel's speed as 1.
    Ratio(System),
    /// What it takes beyond its bare transport.
    Above(System, System),
}

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    systems: Vec<System>,
    columns: Vec<Column>,
    lines: Vec<String>,
}

impl Table {
    /// A table with a column for each system, and its heading. One with bare transports compares with
    /// them, any other with the kernel.
    pub(crate) fn new(title: &str, systems: Vec<System>) -> Self {
        let has = |system: &System| systems.contains(system);
        let is_bare = |system: &System| matches!(system, System::Null | System::NullRing);
        let mut columns: Vec<_> = systems.iter().copied().map(Column::Median).collect();
        if systems.iter().any(is_bare) {
            let pairs = systems.iter().filter_map(|ours| Some((*ours, ours.bare().filter(has)?)));
            columns.extend(pairs.map(|(ours, bare)| Column::Above(ours, bare)));
        } else if has(&System::Kernel) {
            let others = systems.iter().copied().filter(|system| *system != System::Kernel);
            columns.extend(others.map(Column::Ratio));
        }
        let mut head = format!("| {title} | unit |");
        let mut rule = String::from("|---|---|");
        for column in &columns {
            head.push_str(&match column {
                Column::Median(system) => format!(" {} |", system.title()),
                Column::Ratio(system) => format!(" {} ÷ kernel |", system.title()),
                Column::Above(ours, bare) => format!(" {} − {} |", ours.title(), bare.title()),
            });
            rule.push_str("---:|");
        }
        Self { systems, columns, lines: vec![head, rule] }
    }

    /// The systems it has a column for.
    pub(crate) fn systems(&self) -> &[System] {
        &self.systems
    }

    /// Adds a line; `figures` has what was measured for each system.
    pub(crate) fn add(&mut self, name: &str, unit: Unit, figures: Vec<Vec<Figure>>) {
        let medians: Vec<Option<Figure>> = figures.into_iter().map(median).collect();
        let of = |system: System| {
            let mut pairs = self.systems.iter().zip(&medians);
            pairs.find(|(other, _)| **other == system).and_then(|(_, median)| *median)
        };
        let cell = |column: &Column| match *column {
            Column::Median(system) => of(system).map(|median| text_of(unit, median)),
            Column::Ratio(system) => {
                let ratio =
                    |(kernel, ours): (Figure, Figure)| speed(unit, kernel.value, ours.value);
                of(System::Kernel).zip(of(system)).map(ratio).map(|ratio| format!("{ratio:.2}"))
            }
            Column::Above(ours, bare) => {
                let above = of(ours).zip(of(bare)).map(|(ours, bare)| ours.value - bare.value);
                above.map(|above| format!("{above:+.2}"))
            }
        };
        let mut line = format!("| {name} | {} |", text(unit));
        for column in &self.columns {
            line.push_str(&format!(" {} |", cell(column).unwrap_or_else(|| "-".into())));
        }
        println!("{line}");
        self.lines.push(line);
    }

    /// Prints all of it, if there is anything.
    pub(crate) fn print(&self) {
        if self.lines.len() > 2 {
            println!("\n{}\n", self.lines.join("\n"));
        }
    }
}

/// How fast `ours` is, with the kernel's speed as 1.
fn speed(unit: Unit, kernel: f64, ours: f64) -> f64 {
    match unit {
        Unit::Seconds | Unit::Microseconds | Unit::PerFile => kernel / ours,
        Unit::PerSecond | Unit::MibPerSecond => ours / kernel,
    }
}

fn text(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "s",
        Unit::Microseconds => "µs",
        Unit::PerSecond => "1/s",
        Unit::MibPerSecond => "MiB/s",
        Unit::PerFile => "1/file",
    }
}

fn text_of(unit: Unit, Figure { value, cut }: Figure) -> String {
    let bound = match unit {
        _ if !cut => "",
        Unit::Seconds | Unit::Microseconds | Unit::PerFile => "> ",
        Unit::PerSecond | Unit::MibPerSecond => "< ",
    };
    if value >= 100.0 { format!("{bound}{value:.0}") } else { format!("{bound}{value:.3}") }
}

fn median(mut figures: Vec<Figure>) -> Option<Figure> {
    figures.sort_by(|one, other| one.value.total_cmp(&other.value));
    figures.get(figures.len() / 2).copied()
}

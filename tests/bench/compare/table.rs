//! Medians as a table in Markdown.

use crate::Unit;
use crate::system::System;

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    systems: Vec<System>,
    lines: Vec<String>,
}

impl Table {
    /// A table with a column for each system, and its heading.
    pub(crate) fn new(title: &str, systems: &[System]) -> Self {
        let mut head = format!("| {title} | unit |");
        let mut rule = String::from("|---|---|");
        for system in systems {
            head.push_str(&format!(" {} |", system.title()));
            rule.push_str("---:|");
        }
        for system in systems.iter().filter(|system| **system != System::Kernel) {
            head.push_str(&format!(" {} ÷ kernel |", system.title()));
            rule.push_str("---:|");
        }
        Self { systems: systems.to_vec(), lines: vec![head, rule] }
    }

    /// Adds a line; `figures` has what was measured for each system.
    pub(crate) fn add(&mut self, name: &str, unit: Unit, figures: Vec<Vec<f64>>) {
        let medians: Vec<Option<f64>> = figures.into_iter().map(median).collect();
        let mut line = format!("| {name} | {} |", text(unit));
        for median in &medians {
            line.push_str(&median.map_or(" - |".into(), |value| format!(" {} |", figure(value))));
        }
        let kernel = self.systems.iter().position(|system| *system == System::Kernel);
        let kernel = kernel.and_then(|index| medians.get(index).copied().flatten());
        for (system, median) in self.systems.iter().zip(&medians) {
            if *system == System::Kernel {
                continue;
            }
            let ratio = kernel.zip(*median).map(|(kernel, ours)| speed(unit, kernel, ours));
            line.push_str(&ratio.map_or(" - |".into(), |ratio| format!(" {ratio:.2} |")));
        }
        println!("{line}");
        self.lines.push(line);
    }

    /// Prints all of it.
    pub(crate) fn print(&self) {
        println!();
        for line in &self.lines {
            println!("{line}");
        }
        println!();
    }
}

/// How fast `ours` is, with the kernel's speed as 1.
fn speed(unit: Unit, kernel: f64, ours: f64) -> f64 {
    match unit {
        Unit::Seconds | Unit::Microseconds => kernel / ours,
        Unit::PerSecond | Unit::MibPerSecond => ours / kernel,
    }
}

fn text(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "s",
        Unit::Microseconds => "µs",
        Unit::PerSecond => "1/s",
        Unit::MibPerSecond => "MiB/s",
    }
}

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

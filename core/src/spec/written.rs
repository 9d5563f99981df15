//! What a sweep file has for the numbers on its axes: a program is given `4.0` and `1e-3` as they stand there.

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, Value};

use super::one_or_many::OneOrMany;
use crate::parameters::Scalar;

/// Gives the numbers of axes what the file has for them.
pub(super) fn note_numbers(text: &str, axes: &mut BTreeMap<String, OneOrMany<Scalar>>) {
    // The axes came from this very text, so it is one.
    let Ok(file) = text.parse::<DocumentMut>() else { return };
    let Some(grid) = file.get("grid").and_then(Item::as_table_like) else { return };
    for (name, values) in axes {
        match (values, grid.get(name).and_then(Item::as_value)) {
            (OneOrMany::One(value), Some(item)) => note(value, item),
            (OneOrMany::Many(values), Some(Value::Array(items))) => {
                values.iter_mut().zip(items.iter()).for_each(|(value, item)| note(value, item));
            }
            _ => {}
        }
    }
}

fn note(value: &mut Scalar, item: &Value) {
    let text = match item {
        Value::Integer(number) => number.display_repr(),
        Value::Float(number) => number.display_repr(),
        _ => return,
    };
    *value = value.clone().with_written(&plain(&text));
}

/// A number as other programs read it, too: without TOML's underscores, and in decimal.
fn plain(text: &str) -> String {
    let text = text.replace('_', "");
    let bases = [("0x", 16), ("0o", 8), ("0b", 2)];
    let integer = bases.into_iter().find_map(|(prefix, base)| {
        i64::from_str_radix(text.strip_prefix(prefix)?, base).ok().map(|integer| integer.to_string())
    });
    integer.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SweepSpec;

    fn arguments(grid: &str) -> Vec<String> {
        let sweep = format!("name = 's'\nrun.command = ['x']\n{grid}\n");
        let sweep = SweepSpec::parse(&sweep, None).unwrap();
        // As the coordinator stores it.
        let stored = serde_json::to_string(&sweep).unwrap();
        let stored: SweepSpec = serde_json::from_str(&stored).unwrap();
        assert_eq!(sweep, stored);
        stored.grid.axes["a"].values.iter().map(Scalar::argument).collect()
    }

    #[test]
    fn numbers_are_given_to_programs_as_they_stand_in_the_file() {
        for list in [
            "[grid]\na = [LIST]",
            "grid.a = [LIST]",
            "grid = { a = [ LIST ] }",
            "[grid]\na = [ # some\n LIST, # all\n]",
        ] {
            let list =
                list.replace("LIST", "999999, 1000000, 1e-3, 4.0, 6.02e+23, 1E5, +7, -0.0, 'x', true, 12.50");
            assert_eq!(
                arguments(&list),
                ["999999", "1000000", "1e-3", "4.0", "6.02e+23", "1E5", "+7", "-0.0", "x", "true", "12.50"]
            );
        }
        assert_eq!(arguments("[grid]\na = 0.001"), ["0.001"]);
        assert_eq!(
            arguments("[grid]\na = [1_000, 0x10, 0o17, 0b11, 1_0.5_0e1_0]"),
            ["1000", "16", "15", "3", "10.50e10"]
        );
    }

    #[test]
    fn of_two_spellings_the_first_submitted_one_counts() {
        let sweep = |values: &str| {
            SweepSpec::parse(&format!("name = 's'\nrun.command = ['x']\ngrid.a = {values}\n"), None).unwrap()
        };
        let grown = sweep("[1e-3, 4.0]").grown_by(&sweep("[0.001, 4, 1e6]")).unwrap();
        let arguments: Vec<String> = grown.grid.axes["a"].values.iter().map(Scalar::argument).collect();
        assert_eq!(arguments, ["1e-3", "4.0", "1e6"]);
    }

    #[test]
    fn sortie_trains_with_numbers_and_stores_no_spellings() {
        let sweep = SweepSpec::parse(include_str!("../../../examples/quickstart.toml"), None).unwrap();
        assert!(!serde_json::to_string(&sweep).unwrap().contains("written"));
    }
}

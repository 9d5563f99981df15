//! What commands print: one JSON object, or text for people.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sortie_core::trial::Point;

/// Values that are shown one by one, and how many are where there are more.
const VALUES_SHOWN: usize = 8;
const VALUES_FIRST: usize = 5;

/// Prints text as it is. An early end of the reader is an error that [`crate::fail`] forgives.
///
/// # Errors
/// What the system says.
pub fn text(text: &str) -> Result<()> {
    bytes(text.as_bytes())?;
    if !text.ends_with('\n') {
        bytes(b"\n")?;
    }
    Ok(())
}

/// Prints bytes as they are.
///
/// # Errors
/// What the system says.
pub fn bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Prints one JSON object.
///
/// # Errors
/// What the system says.
pub fn json(value: &impl Serialize) -> Result<()> {
    text(&serde_json::to_string(value)?)
}

/// Says something beside the output. Nobody may be there to read it, which is no failure.
pub fn note(note: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{note}");
}

/// A table whose columns are only as wide as they need to be.
pub fn table<T: Into<comfy_table::Cell>>(header: impl IntoIterator<Item = T>) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.into_iter().map(Into::into).collect::<Vec<_>>());
    table
}

/// A while in one short word: `12 s`, `3 m`, `5 h`, `2 d`.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6_000 => format!("{} m", seconds / 60),
        6_000..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Values in one line; of many the first few, the last, and how many there are.
pub fn shortened(values: &[String]) -> String {
    match values.split_last() {
        Some((last, others)) if values.len() > VALUES_SHOWN => {
            format!("{}, ..., {last} ({} values)", others[..VALUES_FIRST].join(", "), values.len())
        }
        _ => values.join(", "),
    }
}

/// A trial's place in the grid, as JSON output names it: `held_out`, every parameter by its name, `seed` and `split`.
#[derive(Debug)]
pub struct PointOutput(Point);

impl From<Point> for PointOutput {
    fn from(point: Point) -> Self {
        Self(point)
    }
}

impl Serialize for PointOutput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Point { parameters, seed, split_seed, .. } = &self.0;
        // No parameter is called like one of the others: `sortie_core::command::BUILT_IN` keeps those names.
        let mut map = serializer.serialize_map(Some(parameters.len() + 3))?;
        map.serialize_entry("held_out", &self.0.held_out_label())?;
        for (name, value) in parameters {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("seed", seed)?;
        map.serialize_entry("split", split_seed)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sortie_core::parameters::{Parameters, Scalar};

    #[test]
    fn a_point_is_flat() {
        let values = [("lr", Scalar::Number(1e-3)), ("optimiser", Scalar::Text("adam".into())), ("fast", Scalar::Flag(true))];
        let parameters: Parameters = values.map(|(name, value)| (name.to_owned(), value)).into();
        let point = Point { held_out: vec!["photo".into(), "sketch".into()], parameters, seed: 3, split_seed: 1 };
        let json = r#"{"held_out":"photo+sketch","fast":true,"lr":0.001,"optimiser":"adam","seed":3,"split":1}"#;
        assert_eq!(serde_json::to_string(&PointOutput::from(point)).unwrap(), json);
    }

    #[test]
    fn a_while_is_one_word() {
        for (seconds, text) in [(0, "0 s"), (99, "99 s"), (185, "3 m"), (5_999, "99 m"), (7_300, "2 h"), (200_000, "2 d")] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}

//! How tables and durations look.

use std::time::Duration;

use comfy_table::{Cell, Table, presets};
use serde::Serializer;

/// A table whose columns are only as wide as they need to be.
pub(super) fn table<T: Into<Cell>>(header: impl IntoIterator<Item = T>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.into_iter().map(Into::into).collect::<Vec<_>>());
    table
}

/// A duration in one short word: `12 s`, `3 m`, `5 h`, `2 d`.
pub(super) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6_000 => format!("{} m", seconds / 60),
        6_000..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A duration as a JSON number of seconds, to the millisecond.
pub(super) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_millis() as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_one_word() {
        for (seconds, text) in
            [(0, "0 s"), (99, "99 s"), (185, "3 m"), (5_999, "99 m"), (7_300, "2 h"), (200_000, "2 d")]
        {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}

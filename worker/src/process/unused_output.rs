//! What a command printed that looks like a metric and is not used: counted, so that nothing is dropped in silence.

use std::collections::BTreeMap;

/// Keys that are counted by name.
const NAMES_MAX: usize = 100;
/// Keys that a note names.
const NAMES_SHOWN: usize = 8;
/// Bytes of a key that a note shows.
const NAME_BYTES_MAX: usize = 60;

/// The counts of one attempt.
#[derive(Debug, Default)]
pub(super) struct UnusedOutput {
    unreadable: u64,
    /// Why, and the line.
    pub(super) first_unreadable: Option<String>,
    passed_over: BTreeMap<String, u64>,
    /// Of further names.
    more_keys: u64,
    repeated_losses: u64,
    first_repeated: Option<String>,
}

impl UnusedOutput {
    /// A metric that cannot be read: why, and the line.
    pub(super) fn unreadable(&mut self, why: String) {
        self.unreadable += 1;
        self.first_unreadable.get_or_insert(why);
    }

    /// A key of a metric line whose value is not used.
    pub(super) fn passed_over(&mut self, name: &str) {
        if let Some(count) = self.passed_over.get_mut(name) {
            *count += 1;
        } else if self.passed_over.len() < NAMES_MAX {
            self.passed_over.insert(name.to_owned(), 1);
        } else {
            self.more_keys += 1;
        }
    }

    /// A training loss of a step that has one: which.
    pub(super) fn repeated_loss(&mut self, which: String) {
        self.repeated_losses += 1;
        self.first_repeated.get_or_insert(which);
    }

    /// A line for each kind.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(first) = &self.first_unreadable {
            let count = counted(self.unreadable, "line looks like a metric", "lines look like metrics");
            notes.push(format!("{count} and cannot be read; the first: {first}"));
        }
        if !self.passed_over.is_empty() {
            let all = self.passed_over.values().sum::<u64>() + self.more_keys;
            let count = counted(all, "value on a metric line was", "values on metric lines were");
            let name = |(name, count): (&String, &u64)| {
                format!("{} ({count})", name[..name.floor_char_boundary(NAME_BYTES_MAX)].escape_debug())
            };
            let mut names: Vec<String> = self.passed_over.iter().take(NAMES_SHOWN).map(name).collect();
            if self.passed_over.len() > NAMES_SHOWN || self.more_keys > 0 {
                names.push("others".to_owned());
            }
            notes.push(format!("{count} passed over: {}", names.join(", ")));
        }
        if let Some(first) = &self.first_repeated {
            let count = counted(self.repeated_losses, "training loss was", "training losses were");
            notes.push(format!("{count} passed over; the first: {first}"));
        }
        notes
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_the_notes_stay_short() {
        let mut unused = UnusedOutput::default();
        assert_eq!(unused.notes(), [""; 0]);
        unused.unreadable("why: {a}".to_owned());
        unused.passed_over("f1");
        unused.repeated_loss("step 5".to_owned());
        assert_eq!(
            unused.notes(),
            [
                "1 line looks like a metric and cannot be read; the first: why: {a}",
                "1 value on a metric line was passed over: f1 (1)",
                "1 training loss was passed over; the first: step 5"
            ]
        );
        for index in 0..1_000 {
            unused.unreadable("other".to_owned());
            unused.passed_over(&format!("{index:0>1000}"));
            unused.passed_over("f1");
            unused.repeated_loss("other".to_owned());
        }
        let notes = unused.notes();
        assert!(
            notes[0].starts_with("1001 lines look like metrics") && notes[0].ends_with("why: {a}"),
            "{notes:?}"
        );
        assert!(notes[1].starts_with("2001 values") && notes[1].ends_with(", others"), "{notes:?}");
        assert_eq!(notes[2], "1001 training losses were passed over; the first: step 5");
        assert!(notes.iter().all(|note| note.len() < 1_000) && unused.passed_over.len() == NAMES_MAX);
    }
}

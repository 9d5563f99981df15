//! The numbers of attempts.

use sortie_proto::v1::TrialEvent;

/// The attempts at a trial by their tokens, in the order in which they started: the first is attempt 1.
pub struct Attempts(Vec<i64>);

impl Attempts {
    /// The attempts that a trial's events name.
    pub fn of(events: &[TrialEvent]) -> Self {
        let mut tokens = Vec::new();
        for event in events.iter().filter(|event| event.token > 0) {
            if !tokens.contains(&event.token) {
                tokens.push(event.token);
            }
        }
        Self(tokens)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The token of attempt 1, 2, 3, ...
    pub fn token(&self, number: usize) -> Option<i64> {
        self.0.get(number.checked_sub(1)?).copied()
    }

    /// Which attempt has this token.
    pub fn number(&self, token: i64) -> Option<usize> {
        self.0.iter().position(|found| *found == token).map(|index| index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_numbered_as_they_started() {
        let event = |token| TrialEvent { token, ..TrialEvent::default() };
        let attempts = Attempts::of(&[event(0), event(17), event(18), event(17)]);
        assert_eq!(
            (attempts.count(), attempts.token(2), attempts.token(0), attempts.token(3)),
            (2, Some(18), None, None)
        );
        assert_eq!((attempts.number(17), attempts.number(0)), (Some(1), None));
    }
}

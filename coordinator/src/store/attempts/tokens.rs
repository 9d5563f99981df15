//! The next fencing token.

use sortie_core::keys::AttemptToken;

/// Fencing tokens: the coordinator's epoch, then a count. The epoch was durable before the first token was issued, so none is issued
/// twice, even if a transaction is rolled back.
#[derive(Debug)]
pub(crate) struct Tokens {
    next: i64,
}

impl Tokens {
    pub(crate) fn of_epoch(epoch: i64) -> Self {
        Self { next: (epoch << 32) + 1 }
    }

    pub(crate) fn issue(&mut self) -> AttemptToken {
        let token = AttemptToken(self.next);
        self.next += 1;
        token
    }
}

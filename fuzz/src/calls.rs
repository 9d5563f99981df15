//! Several calls as the bytes of one input: for each the number of its method, the length of its message in two bytes, and the message.

use sortie_core::access::CALLS;

/// Calls of one input: more say nothing new, and take time.
pub const MESSAGES_MAX: usize = 16;

/// The calls of an input.
pub struct Calls<'a>(&'a [u8]);

impl<'a> Calls<'a> {
    /// Those of these bytes.
    pub fn of(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The bytes of these calls, by path and message.
    pub fn bytes(calls: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, message) in calls {
            let method =
                CALLS.iter().position(|call| *path == path_of(call)).expect("a call of the protocol");
            bytes.push(u8::try_from(method).expect("a few methods"));
            bytes.extend_from_slice(&u16::try_from(message.len()).expect("a small message").to_le_bytes());
            bytes.extend_from_slice(message);
        }
        bytes
    }
}

impl<'a> Iterator for Calls<'a> {
    type Item = (String, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[method, low, high], rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (message, rest) = rest.split_at(length);
        self.0 = rest;
        Some((path_of(&CALLS[usize::from(method) % CALLS.len()]), message))
    }
}

fn path_of(call: &sortie_core::access::Call) -> String {
    format!("/{}/{}", call.service, call.method)
}

//! The bytes of a pickle, read from the front.

/// The bytes, and how many of them were read.
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Input<'a> {
    /// The next bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length).ok_or_else(cut_off)?;
        let bytes = self.bytes.get(self.at..end).ok_or_else(cut_off)?;
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| cut_off())
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn length4(&mut self) -> Result<usize, String> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| damaged())
    }

    pub(super) fn length8(&mut self) -> Result<usize, String> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| damaged())
    }

    /// Up to the end of a line, without it.
    pub(super) fn line(&mut self) -> Result<&'a [u8], String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or_else(cut_off)?;
        let line = self.take(length)?;
        self.at += 1;
        Ok(line)
    }
}

/// Says that a pickle is damaged.
pub(super) fn damaged() -> String {
    "its pickle is damaged".into()
}

fn cut_off() -> String {
    "its pickle is cut off".into()
}

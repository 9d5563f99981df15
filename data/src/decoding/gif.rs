//! GIF to RGB as Pillow reads its first frame: where the frame does not cover the picture there is its transparent colour or else the
//! first one of the palette; transparent pixels have the colour of their place in the palette.

use super::decoded_image::{DecodedImage, SIDE_PIXELS_MAX};

const CODE_BITS_MAX: u32 = 12;
const TABLE_CODES: usize = 1 << CODE_BITS_MAX;
/// First row and step of each pass over an interlaced picture.
const PASSES: [(usize, usize); 4] = [(0, 8), (4, 8), (2, 4), (1, 2)];

/// Whether the bytes begin as a GIF does.
pub(crate) fn is_gif(bytes: &[u8]) -> bool {
    bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a")
}

/// Decodes the first frame of a GIF.
pub(crate) fn decode(bytes: &[u8]) -> Result<DecodedImage, String> {
    first_frame(bytes).map_err(|reason| format!("the image cannot be decoded: {reason}"))
}

fn first_frame(bytes: &[u8]) -> Result<DecodedImage, &'static str> {
    let mut reader = Reader { left: bytes.get(6..).unwrap_or_default() };
    let screen = [reader.number()?, reader.number()?];
    let flags = reader.byte()?;
    reader.take(2)?;
    let global = if flags & 0x80 == 0 { None } else { reader.palette(flags)? };
    let mut transparent = None;
    loop {
        match reader.byte()? {
            b'!' => transparent = reader.extension()?.or(transparent),
            b',' => break,
            b';' => return Err("it has no picture"),
            // Pillow passes over what it does not know.
            _ => {}
        }
    }
    let [left, top, width, height] = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
    let flags = reader.byte()?;
    let local = if flags & 0x80 == 0 { None } else { reader.palette(flags)? };
    // A frame may be larger than the picture says.
    let (columns, rows) = (screen[0].max(left + width), screen[1].max(top + height));
    if columns == 0 || rows == 0 || width == 0 || height == 0 {
        return Err("it has no pixels");
    }
    if columns.max(rows) > SIDE_PIXELS_MAX as usize {
        return Err("a side is longer than 16384 pixels");
    }
    let minimum_bits = u32::from(reader.byte()?);
    let indices = indices(&reader.blocks(), minimum_bits, width * height)?;
    let mut picture = vec![transparent.unwrap_or(0); columns * rows];
    let order: Vec<usize> = if flags & 0x40 == 0 {
        (0..height).collect()
    } else {
        PASSES.iter().flat_map(|&(first, step)| (first..height).step_by(step)).collect()
    };
    for (row, line) in order.into_iter().zip(indices.chunks(width)) {
        let start = (top + row) * columns + left;
        picture[start..start + line.len()].copy_from_slice(line);
    }
    let gray = |index: u8| [index; 3];
    let palette = local.or(global);
    let colour = |&index: &u8| palette.as_ref().map_or(gray(index), |palette| palette[usize::from(index)]);
    let pixels: Vec<u8> = picture.iter().flat_map(colour).collect();
    Ok(DecodedImage { height: rows, width: columns, pixels: pixels.into_boxed_slice() })
}

/// Reads from the front.
struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, left) = self.left.split_at_checked(count).ok_or("it ends too early")?;
        self.left = left;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<usize, &'static str> {
        let bytes = self.take(2)?;
        Ok(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    }

    /// The colours, black where the file has none; no palette if it only says that each number is its own gray, as Pillow has it.
    fn palette(&mut self, flags: u8) -> Result<Option<Box<[[u8; 3]; 256]>>, &'static str> {
        let colours = self.take(3 << ((flags & 7) + 1))?.as_chunks::<3>().0;
        let is_gray = colours.iter().enumerate().all(|(index, colour)| *colour == [index as u8; 3]);
        let mut palette = Box::new([[0; 3]; 256]);
        palette[..colours.len()].copy_from_slice(colours);
        Ok((!is_gray).then_some(palette))
    }

    /// Passes over an extension; the transparent index if that is what it says.
    fn extension(&mut self) -> Result<Option<u8>, &'static str> {
        let is_control = self.byte()? == 0xf9;
        let mut transparent = None;
        loop {
            let length = self.byte()?;
            if length == 0 {
                return Ok(transparent);
            }
            let block = self.take(usize::from(length))?;
            if let (true, [flags, _, _, index, ..]) = (is_control, block) {
                transparent = (flags & 1 == 1).then_some(*index);
            }
        }
    }

    /// The data of all blocks up to the empty one, or as many as there are.
    fn blocks(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        while let Ok(length @ 1..) = self.byte() {
            let length = usize::from(length).min(self.left.len());
            data.extend_from_slice(self.take(length).unwrap_or_default());
        }
        data
    }
}

/// Decompresses numbers of colours: as many as the frame has, or fewer if the data say that they end.
fn indices(data: &[u8], minimum_bits: u32, count: usize) -> Result<Vec<u8>, &'static str> {
    if !(1..=8).contains(&minimum_bits) {
        return Err("its codes are of an impossible size");
    }
    let (clear, end) = (1_usize << minimum_bits, (1_usize << minimum_bits) + 1);
    // The string of a code is that of `before`, then `last`; codes below `clear` are themselves.
    let (mut before, mut last) = (vec![0_u16; TABLE_CODES], vec![0_u8; TABLE_CODES]);
    let (mut next, mut bits, mut previous) = (end + 1, minimum_bits + 1, None);
    let (mut held, mut held_bits, mut bytes) = (0_u32, 0, data.iter());
    let (mut out, mut string) = (Vec::with_capacity(count), Vec::new());
    while out.len() < count {
        while held_bits < bits {
            held |= u32::from(*bytes.next().ok_or("it ends too early")?) << held_bits;
            held_bits += 8;
        }
        let code = (held & ((1 << bits) - 1)) as usize;
        (held, held_bits) = (held >> bits, held_bits - bits);
        if code == end {
            break;
        }
        if code == clear {
            (next, bits, previous) = (end + 1, minimum_bits + 1, None);
            continue;
        }
        let known = match previous {
            None => code < clear,
            Some(_) => code <= next,
        };
        if !known {
            return Err("it has a code that is not in its table");
        }
        // A code that is just being made is the previous string and its own first number.
        let mut at = if code == next { previous.unwrap_or(0) } else { code };
        while at > end {
            string.push(last[at]);
            at = usize::from(before[at]);
        }
        let first = at as u8;
        out.push(first);
        out.extend(string.drain(..).rev());
        if code == next {
            out.push(first);
        }
        if let Some(previous) = previous
            && next < TABLE_CODES
        {
            (before[next], last[next]) = (previous as u16, first);
            next += 1;
            if next == 1 << bits && bits < CODE_BITS_MAX {
                bits += 1;
            }
        }
        previous = Some(code);
    }
    out.truncate(count);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().as_chunks::<2>().0;
        digits
            .iter()
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Four colours: 0a141e 28323c 46505a c8d2dc.
    const PALETTE: &str = "0a141e28323c46505ac8d2dc";

    /// Small files, and the size and pixels that Pillow 13 gives.
    #[test]
    fn the_first_frame_is_pillows() {
        let plain = |screen: &str, middle: &str, frame: &str| {
            format!("474946383961{screen}81 00 00{PALETTE}{middle}2c{frame}").replace(' ', "")
        };
        for (what, file, width, pixels) in [
            (
                "plain",
                plain("03000200", "21fe0361626300", "0000000003000200 00 02 04 44a85129 00 3b"),
                3,
                "0a141e28323c46505ac8d2dc46505a28323c",
            ),
            (
                "in a corner",
                plain("03000200", "", "0100010002000100 00 02 02 d40a 00 3b"),
                3,
                "0a141e0a141e0a141e0a141e46505ac8d2dc",
            ),
            (
                "in a corner, transparent",
                plain("03000200", "21f9040100000300", "0100010002000100 00 02 02 d40a 00 3b"),
                3,
                "c8d2dcc8d2dcc8d2dcc8d2dc46505ac8d2dc",
            ),
            (
                "larger than it says",
                plain("02000100", "", "0100010002000100 00 02 02 d40a 00 3b"),
                3,
                "0a141e0a141e0a141e0a141e46505ac8d2dc",
            ),
            (
                "a palette of its own",
                plain("02000100", "", "0000000002000100 80 010203040506 02 02 440a 00 3b"),
                2,
                "010203040506",
            ),
            (
                "a gray palette of its own counts as none",
                plain("02000100", "", "0000000002000100 81 000000010101020202030303 02 02 c40a 00 3b"),
                2,
                "0a141ec8d2dc",
            ),
            (
                "interlaced",
                plain("01000900", "", "0000000001000900 40 02 06 44a811a1c615 00 3b"),
                1,
                "0a141e28323cc8d2dc46505a46505ac8d2dc0a141ec8d2dc28323c",
            ),
            (
                "a number without a colour",
                plain("02000100", "", "0000000002000100 00 08 05 0091050808 00 3b"),
                2,
                "00000028323c",
            ),
            (
                "data that end before the frame",
                plain("03000200", "", "0000000003000200 00 02 02 5c0a 00 3b"),
                3,
                "c8d2dc28323c0a141e0a141e0a141e0a141e",
            ),
            ("no end", plain("02000100", "", "0000000002000100 00 02 02 5c00 00"), 2, "c8d2dc28323c"),
            ("too many", plain("02000100", "", "0000000002000100 00 02 03 5c2815 00 3b"), 2, "c8d2dc28323c"),
        ] {
            let image = decode(&bytes(&file)).unwrap_or_else(|reason| panic!("{what}: {reason}"));
            assert_eq!((image.width, &image.pixels[..]), (width, &bytes(pixels)[..]), "{what}");
            assert_eq!(image.height * image.width * 3, image.pixels.len(), "{what}");
        }
    }

    #[test]
    fn numbers_without_a_palette_are_grays() {
        let file = "4749463839610200010000000021fe03616263002c00000000020001000008050091050808003b";
        assert_eq!(&decode(&bytes(file)).unwrap().pixels[..], &bytes("c8c8c8010101")[..]);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = bytes(
            "474946383961030002008100000a141e28323c46505ac8d2dc2c00000000030002000002044 4a85129003b"
                .replace(' ', "")
                .as_str(),
        );
        assert!(decode(&whole).is_ok());
        for length in 0..whole.len() - 3 {
            let reason = decode(&whole[..length]).unwrap_err();
            assert!(reason.contains("ends too early"), "{length}: {reason}");
        }
    }
}

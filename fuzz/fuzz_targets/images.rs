//! The bytes of an image file: pixels, or one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_data::decode;
use sortie_fuzz::is_one_line;

fuzz_target!(|data: &[u8]| {
    match decode(data) {
        Ok(image) => {
            let view = image.view();
            assert_eq!(view.pixels.len(), 3 * view.height * view.width);
        }
        Err(refusal) => is_one_line(&refusal),
    }
});

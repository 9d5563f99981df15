//! Access files in both forms, and identities: read and written back alike, or refused in one line that shows no secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_access::{AccessFile, Identity};
use sortie_fuzz::{is_one_line, text_of};

fuzz_target!(|data: &[u8]| {
    let Some(text) = text_of(data) else { return };
    match AccessFile::parse(text, "the input") {
        Ok(file) => {
            for written in [file.text(), file.line()] {
                let again = AccessFile::parse(&written, "what was written").expect("what is written is read");
                assert_eq!(again.line(), file.line());
            }
        }
        Err(refusal) => is_one_line(&refusal),
    }
    match Identity::parse(text, "the input") {
        Ok(identity) => {
            let again =
                Identity::parse(&identity.text(), "what was written").expect("what is written is read");
            assert_eq!(again.text(), identity.text());
        }
        Err(refusal) => is_one_line(&refusal),
    }
    let _ = text.parse::<sortie_access::Address>().map_err(|refusal| is_one_line(&refusal));
});

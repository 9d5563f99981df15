//! A sweep file: read and planned, or refused in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_core::spec::SweepSpec;
use sortie_fuzz::{is_one_line, text_of};

/// Trials of a sweep that are looked at.
const TRIALS: u64 = 50;

fuzz_target!(|data: &[u8]| {
    let Some(text) = text_of(data) else { return };
    let spec = match SweepSpec::parse(text, None) {
        Ok(spec) => spec,
        Err(refusal) => return is_one_line(&refusal),
    };
    let (trials, _) = spec.sizes();
    for index in 0..trials.min(TRIALS) {
        assert!(spec.point_at(index).is_some(), "trial {index} of {trials} has no place");
    }
    // The same file again changes nothing.
    let again = spec.resubmission(&spec).expect("a sweep fits itself");
    assert!(again.changes.is_empty(), "{:?}", again.changes);
});

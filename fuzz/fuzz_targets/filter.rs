//! The conditions of `--where`: read, or refused in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_core::filter::Filter;
use sortie_core::spec::SweepSpec;
use sortie_fuzz::{is_one_line, text_of};

const SWEEP: &str = "name = \"s\"\n[run]\ncommand = ['run']\n[grid]\nlr = [0.001, 3e7]\nname = [\"adam\", \"sgd\"]\nnesterov = [true, false]\nheld_out = [\"photo\"]\n";

fuzz_target!(|data: &[u8]| {
    let Some(text) = text_of(data) else { return };
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(refusal) => return is_one_line(&refusal),
    };
    let spec = SweepSpec::parse(SWEEP, None).expect("a sweep");
    for point in (0..spec.sizes().0).map_while(|index| spec.point_at(index)) {
        if let Err(refusal) = filter.check(&point) {
            return is_one_line(&refusal);
        }
        let each = filter.axes().collect::<Vec<_>>();
        assert_eq!(filter.matches(&point), each.iter().all(|axis| filter.allows(axis, &point)));
    }
});

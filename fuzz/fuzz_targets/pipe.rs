//! The lines between a worker and the processes of trials. The first byte says which: what a trainer prints, what a command prints, or what
//! a worker assigns.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_core::command::CommandSettings;
use sortie_core::job::Outcome;
use sortie_core::pipe::Assignment;
use sortie_fuzz::is_one_line;
use sortie_worker::fuzzing::{Read, command_output, trainer_output};

/// However output arrives, it means the same.
const CHUNK_BYTES: usize = 7;

fuzz_target!(|data: &[u8]| {
    let Some((&which, data)) = data.split_first() else { return };
    match which {
        b't' => both(data, |chunks| trainer_output(chunks)),
        b'c' => {
            let settings = CommandSettings {
                command: vec!["run".to_owned()],
                dataset: None,
                domains: Vec::new(),
                steps: Some(100),
                complete_at: None,
            };
            both(data, |chunks| command_output(&settings, chunks));
        }
        _ => {
            let Ok(assignment) = serde_json::from_slice::<Assignment>(data) else { return };
            let written = serde_json::to_string(&assignment).expect("what was read can be written");
            let again = serde_json::from_str::<Assignment>(&written).expect("what is written is read");
            assert_eq!(again, assignment);
        }
    }
});

fn both(data: &[u8], read: impl Fn(&mut dyn Iterator<Item = &[u8]>) -> Read) {
    let whole = read(&mut [data].into_iter());
    assert_eq!(read(&mut data.chunks(CHUNK_BYTES)), whole);
    whole.notes.iter().for_each(is_one_line);
    if let Some(Outcome::Failed { message, .. }) = &whole.broken {
        is_one_line(message);
    }
}

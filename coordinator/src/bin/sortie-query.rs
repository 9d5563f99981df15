//! What `sortie` does when it is started to answer a query: for the tests of this crate, which is built without it.

use std::process::ExitCode;

use sortie_coordinator::store::{QUERY_WORD, run_query};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_none_or(|word| word != QUERY_WORD) {
        return ExitCode::from(2);
    }
    run_query(words)
}

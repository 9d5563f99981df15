//! `sortie-trainer`: runs one trial, or one request of a user's, in a process that links libtorch. `sortie` starts it.

use std::process::ExitCode;

use sortie_core::pipe::Request;
use sortie_trainer::commands::{bench, evaluate, probe, weights};
use sortie_trainer::process;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["trial", device] => process::run(device),
        ["probe"] => probe::run(),
        ["request", text] => match serde_json::from_str::<Request>(text) {
            Ok(request) => run(&request),
            Err(error) => refuse(&format!("cannot read the request: {error}")),
        },
        _ => refuse(
            "this program is started by `sortie`: see `sortie worker --help` and `sortie evaluate --help`",
        ),
    }
}

fn run(request: &Request) -> ExitCode {
    match request {
        Request::Evaluate(request) => evaluate::run(request),
        Request::Bench(request) => bench::run(request),
        Request::ListWeights(cache) => weights::run_list(cache),
        Request::FetchWeights(request) => weights::run_fetch(request),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(2)
}

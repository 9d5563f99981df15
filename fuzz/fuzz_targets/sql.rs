//! Users' SQL on a SQLite file: answered from the views alone, or refused in one line.
#![no_main]

use std::cell::OnceCell;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sortie_coordinator::store::{
    Claim, GuardedFile, OpenOptions, Settings, Store, SubmitOptions, Submitted, Worker,
};
use sortie_core::job::Outcome;
use sortie_core::lease::{Batch, Completion};
use sortie_core::spec::SweepSpec;
use sortie_fuzz::{is_one_line, text_of};

/// What stands in the tables behind the views, and in no view.
const SECRET: &str = "ea9c2b";
const SWEEP: &str = "name = \"s\"\n[run]\ncommand = ['run', 'ea9c2b']\n[grid]\ndropout = [0.1, 0.9]\nheld_out = [\"photo\"]\n";

/// A database that has been filled, and its folder.
struct Filled {
    file: GuardedFile,
    _folder: tempfile::TempDir,
}

thread_local! {
    static FILLED: OnceCell<Filled> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    let Some(text) = text_of(data).filter(|text| !text.contains('\0')) else { return };
    FILLED.with(|filled| {
        let (answer, refusal) = filled.get_or_init(fill).file.ask(text);
        // A query may hold the word itself.
        if !text.to_ascii_lowercase().contains(&SECRET[..3]) {
            let found = answer.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes());
            assert!(!found, "a query reads what is in no view");
        }
        if let Some(refusal) = refusal {
            is_one_line(&refusal);
        }
    });
});

fn fill() -> Filled {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sortie.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let url = format!("sqlite://{}", path.display()).parse().expect("a URL");
        let settings = Settings { lease: Duration::from_secs(60) };
        let store = Store::open(&url, &OpenOptions::default(), settings).await.expect("a database");
        let mut worker =
            Worker { id: "w".into(), host: "host".into(), pid: 7, slots: 1, ..Worker::default() };
        worker.abilities.commands = true;
        store.register(&worker).await.expect("a worker");
        let spec = SweepSpec::parse(SWEEP, None).expect("a sweep");
        let mut progress = store.submit(&spec, SubmitOptions::default()).await.expect("a submission");
        progress.wait_for(Submitted::is_done).await.expect("it ends");
        let claim = Claim { worker_id: "w".into(), count_max: 1, ..Claim::default() };
        let lease = store.claim(claim, Duration::ZERO).await.expect("a claim").leases.remove(0);
        let batch = Some(Batch { sequence: 1, log: SECRET.into(), ..Batch::default() });
        let completion = Completion { token: lease.token, batch, outcome: Outcome::Succeeded };
        store.complete(completion).await.expect("an end");
        store.close().await;
    });
    let file = GuardedFile::open(&path).expect("a database");
    Filled { file, _folder: folder }
}

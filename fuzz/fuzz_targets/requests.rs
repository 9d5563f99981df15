//! Calls of clients and workers, as they come from the network, on a coordinator whose store is in memory: answered or refused, never an
//! internal error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_coordinator::fuzzing::Model;
use sortie_fuzz::{Calls, MESSAGES_MAX, is_one_line};
use tonic::Code;

fuzz_target!(|data: &[u8]| {
    // Time passes only while nothing can go on, so no call waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut model = Model::new().await.expect("a model");
        for (path, message) in Calls::of(data).take(MESSAGES_MAX) {
            let (status, _) = model.call(&path, message).await;
            let is_ours = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
            // A message that cannot be decoded is an internal error to tonic.
            let is_undecoded = status.message().starts_with("failed to decode");
            assert!(!is_ours || is_undecoded, "{path}: {status:?}");
            assert!(status.code() != Code::Unavailable, "{path}: the writer has ended: {status:?}");
            if status.code() != Code::Ok && !is_undecoded {
                is_one_line(&status.message());
            }
        }
    });
});

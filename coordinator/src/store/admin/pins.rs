//! What users say about digests of inputs.

use sortie_core::artifact::is_digest;
use sortie_core::inputs::{Input, Pin, Pins, shown};
use sortie_core::job::{Blame, Timestamp};
use sortie_core::machine::Fault;

use crate::store::StoreError;
use crate::store::backend::{Changes, Release, Transaction};

/// What a user says about an input.
#[derive(Clone, Debug)]
pub(crate) struct PinRequest {
    pub(crate) input: Input,
    /// The digest that counts, or first digits of one that was reported; none to forget all of them.
    pub(crate) digest: Option<String>,
}

/// What was done about an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinDone {
    /// The digest that counts; none if they were forgotten.
    pub(crate) digest: Option<String>,
    /// Those that were forgotten.
    pub(crate) forgotten: Vec<Pin>,
    /// Machines that are quarantined for it.
    pub(crate) machines: Vec<String>,
}

/// Makes a digest the one that counts, or forgets all. Machines that were quarantined for such work are tried again, but for those that have
/// another digest.
pub(crate) async fn pin(
    request: &PinRequest,
    now: Timestamp,
    tx: &mut dyn Transaction,
) -> Result<PinDone, StoreError> {
    let PinRequest { input, digest } = request;
    let found = tx.pins_of(std::slice::from_ref(input)).await?;
    let before = found.into_iter().next().map(|(_, pins)| pins).unwrap_or_default();
    let mut pins = before.clone();
    let digest = digest.as_ref().map(|digest| whole(digest, input, &pins)).transpose()?;
    let forgotten = match &digest {
        Some(digest) => pins.confirm(digest),
        None => std::mem::take(&mut pins.0),
    };
    let kind = input.work_kind();
    tx.release(&Release::Kind(kind.clone()), now).await?;
    let mut changes = Changes::default();
    let mut machines = Vec::new();
    if let Some(digest) = &digest {
        let faults = tx.faults().await?;
        for machine in forgotten.iter().map(|pin| pin.machine.as_str()).filter(|name| !name.is_empty()) {
            let known = faults.iter().find(|fault| fault.machine == machine && fault.kind == kind);
            let fault = known.cloned().unwrap_or_else(|| Fault::none(machine, &kind));
            let (what, name) = (input.kind, &input.name);
            let message = format!(
                "the {what} of {name} is another on this machine than {}, which a user pinned",
                shown(digest)
            );
            let fault = fault.after_failure(Blame::Machine, true, now, &message);
            changes.faults.insert((machine.to_owned(), kind.clone()), Some(fault));
            machines.push(machine.to_owned());
        }
    }
    if before != pins {
        changes.pins.insert(input.clone(), (before, pins));
    }
    if !changes.is_empty() {
        tx.write(&changes).await?;
    }
    Ok(PinDone { digest, forgotten, machines })
}

/// The digest that a user means: one that was reported and begins like this, or any whole one.
fn whole(digest: &str, input: &Input, pins: &Pins) -> Result<String, StoreError> {
    let mut meant = pins.0.iter().filter(|pin| !digest.is_empty() && pin.digest.starts_with(digest));
    match (meant.next(), meant.next()) {
        (Some(pin), None) => Ok(pin.digest.clone()),
        (None, _) if is_digest(digest) => Ok(digest.to_owned()),
        _ => {
            let reported: Vec<&str> = pins.0.iter().map(|pin| pin.digest.as_str()).collect();
            Err(StoreError::Digest {
                digest: digest.to_owned(),
                input: input.to_string(),
                reported: reported.join(", "),
            })
        }
    }
}

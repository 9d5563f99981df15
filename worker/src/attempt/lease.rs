//! The trial that a lease grants.

use sortie_core::artifact::{CheckpointRef, is_key};
use sortie_core::combine::Member;
use sortie_core::job::Token;
use sortie_core::keep::Keep;
use sortie_core::trial::{TrialId, TrialSpec};
use sortie_proto::{WireError, v1};

/// A lease, parsed and checked.
#[derive(Clone, Debug)]
pub(crate) struct LeasedTrial {
    pub(crate) token: Token,
    pub(crate) trial_id: TrialId,
    pub(crate) sweep: String,
    pub(crate) spec: TrialSpec,
    pub(crate) checkpoints: Vec<CheckpointRef>,
    pub(crate) keep: Keep,
    pub(crate) kill_at: Option<u64>,
    /// The members, if it is a combination.
    pub(crate) members: Vec<Member>,
}

/// Reads a lease.
///
/// # Errors
/// One line, when the coordinator's build and this one compute different ids.
pub(crate) fn read_lease(lease: v1::Lease) -> Result<LeasedTrial, String> {
    let v1::Lease { token, trial_id, sweep, spec, checkpoints, keep, kill_at, members } = lease;
    let spec = spec.ok_or_else(|| "the lease has no specification".to_owned())?;
    let spec = TrialSpec::try_from(spec).map_err(|error| error.to_string())?;
    let id = spec.id();
    // The id covers PROTOCOL_VERSION: the result of a trial of another version would be stored under a wrong id.
    if id.to_string() != trial_id {
        return Err(format!("trial {trial_id} has the id {id} in this build"));
    }
    let keep =
        keep.map_or(Ok(Keep::default()), TryInto::try_into).map_err(|error: WireError| error.to_string())?;
    // Keys must stay below the store's root.
    let checkpoints = checkpoints
        .into_iter()
        .map(CheckpointRef::from)
        .filter(|checkpoint| is_key(&checkpoint.key))
        .collect();
    let members = members
        .into_iter()
        .map(Member::try_from)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let combined = spec.combination.as_ref().map_or(&[][..], |combination| &combination.members);
    let keys = members.iter().flat_map(|member| &member.files).map(|file| &file.key);
    if !members.iter().map(|member| &member.trial_id).eq(combined) || !keys.into_iter().all(|key| is_key(key))
    {
        return Err(format!("the lease of trial {trial_id} does not name the members of its combination"));
    }
    Ok(LeasedTrial { token: Token(token), trial_id: id, sweep, spec, checkpoints, keep, kill_at, members })
}

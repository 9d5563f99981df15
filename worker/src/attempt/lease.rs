//! The trial that a lease grants.

use sortie_core::artifact::is_key;
use sortie_core::lease::Lease;
use sortie_proto::{WireError, v1};

/// Reads a lease.
///
/// # Errors
/// One line, when the coordinator's build and this one compute different ids.
pub(crate) fn read_lease(lease: v1::Lease) -> Result<Lease, String> {
    let mut lease: Lease = lease.try_into().map_err(|error: WireError| error.to_string())?;
    let Lease { spec_hash, spec, checkpoints, members, .. } = &mut lease;
    let id = spec.hash();
    // The id covers PROTOCOL_VERSION: the result of a trial of another version would be stored under a wrong id.
    if id != *spec_hash {
        return Err(format!("trial {spec_hash} has the id {id} in this build"));
    }
    // Keys must stay below the store's root.
    checkpoints.retain(|checkpoint| is_key(&checkpoint.key));
    let combined = spec.combination.as_ref().map_or(&[][..], |combination| &combination.members);
    let mut keys = members.iter().flat_map(|member| &member.files).map(|file| &file.key);
    if !members.iter().map(|member| &member.spec_hash).eq(combined) || !keys.all(|key| is_key(key)) {
        return Err(format!("the lease of trial {spec_hash} does not name the members of its combination"));
    }
    Ok(lease)
}

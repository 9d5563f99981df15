//! The trial that a lease grants.

use sortie_core::artifact::is_key;
use sortie_core::lease::Lease;
use sortie_core::names::is_folder_name;
use sortie_proto::{WireError, v1};

/// Reads a lease.
///
/// # Errors
/// One line, when the coordinator's build and this one compute different ids, and when a name leads elsewhere.
pub(crate) fn read_lease(lease: v1::Lease) -> Result<Lease, String> {
    let mut lease: Lease = lease.try_into().map_err(|error: WireError| error.to_string())?;
    let Lease { spec_hash, spec, checkpoints, members, .. } = &mut lease;
    let id = spec.hash();
    // The id covers PROTOCOL_VERSION: the result of a trial of another version would be stored under a wrong id.
    if id != *spec_hash {
        return Err(format!("trial {spec_hash} has the id {id} in this build"));
    }
    // Folders must stay below the data root.
    if let Some(name) = spec.work.folders().find(|name| !is_folder_name(name)) {
        return Err(format!("trial {spec_hash} reads {name:?}, which is no name of a folder"));
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

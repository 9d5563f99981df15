//! Leases, reports and ends of attempts: wire to core, with every value checked, and core to wire.

use sortie_core::artifact::Artifact;
use sortie_core::keep::Keep;
use sortie_core::keys::AttemptToken;
use sortie_core::lease::{AttemptHeartbeat, Batch, Completion, Lease};
use sortie_core::limits::Limits;
use sortie_core::pipe::Preparation;

use crate::convert::{parse, required};
use crate::{WireError, v1};

impl From<&Lease> for v1::Lease {
    fn from(lease: &Lease) -> Self {
        let Lease {
            token,
            attempt,
            first,
            spec_hash,
            sweep,
            spec,
            checkpoints,
            keep,
            limits,
            kill_at,
            members,
        } = lease;
        Self {
            token: token.0,
            attempt: *attempt,
            first: first.0,
            trial_id: spec_hash.to_string(),
            sweep: sweep.clone(),
            spec: Some(spec.into()),
            checkpoints: checkpoints.iter().map(Into::into).collect(),
            keep: Some((*keep).into()),
            limits: Some(v1::Limits {
                hours: limits.hours,
                stall_minutes: limits.stall_minutes,
                retries: limits.retries,
            }),
            kill_at: *kill_at,
            members: members.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = WireError;

    fn try_from(wire: v1::Lease) -> Result<Self, WireError> {
        let v1::Lease {
            token,
            attempt,
            first,
            trial_id,
            sweep,
            spec,
            checkpoints,
            keep,
            limits,
            kill_at,
            members,
        } = wire;
        Ok(Self {
            token: AttemptToken(token),
            attempt,
            first: AttemptToken(first),
            spec_hash: parse("lease.trial_id", &trial_id)?,
            sweep,
            spec: required("lease.spec", spec)?.try_into()?,
            checkpoints: checkpoints.into_iter().map(Into::into).collect(),
            keep: keep.map_or(Ok(Keep::default()), TryInto::try_into)?,
            limits: limits.map_or(Limits::default(), |v1::Limits { hours, stall_minutes, retries }| Limits {
                hours,
                stall_minutes,
                retries,
            }),
            kill_at,
            members: members.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<AttemptHeartbeat> for v1::Progress {
    fn from(alive: AttemptHeartbeat) -> Self {
        let AttemptHeartbeat { token, step, preparation } = alive;
        let preparation =
            preparation.map(|Preparation { what, done, total }| v1::Preparation { what, done, total });
        Self { token: token.0, step, preparation }
    }
}

impl From<v1::Progress> for AttemptHeartbeat {
    fn from(wire: v1::Progress) -> Self {
        let v1::Progress { token, step, preparation } = wire;
        let preparation =
            preparation.map(|v1::Preparation { what, done, total }| Preparation { what, done, total });
        Self { token: AttemptToken(token), step, preparation }
    }
}

impl From<Batch> for v1::Batch {
    fn from(batch: Batch) -> Self {
        let Batch { sequence, fingerprint, evaluations, losses, log, artifacts, resumed, notes } = batch;
        Self {
            sequence,
            fingerprint: fingerprint.map(Into::into),
            evaluations: evaluations.into_iter().map(Into::into).collect(),
            losses: losses.into_iter().map(Into::into).collect(),
            log,
            artifacts: artifacts.iter().map(Into::into).collect(),
            resumed: resumed.map(Into::into),
            notes,
        }
    }
}

impl TryFrom<v1::Batch> for Batch {
    type Error = WireError;

    fn try_from(wire: v1::Batch) -> Result<Self, WireError> {
        let v1::Batch { sequence, fingerprint, evaluations, losses, log, artifacts, resumed, notes } = wire;
        if sequence == 0 || i64::try_from(sequence).is_err() {
            return Err(WireError::Value {
                field: "batch.sequence",
                reason: format!("{sequence}; numbers start at 1"),
            });
        }
        let artifacts: Vec<Artifact> =
            artifacts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        if let Some(reason) = artifacts.iter().find_map(Artifact::fault) {
            return Err(WireError::Value { field: "batch.artifacts", reason });
        }
        Ok(Self {
            sequence,
            fingerprint: fingerprint.map(TryInto::try_into).transpose()?,
            evaluations: evaluations.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            losses: losses.into_iter().map(Into::into).collect(),
            log,
            artifacts,
            resumed: resumed.map(Into::into),
            notes,
        })
    }
}

impl TryFrom<v1::CompleteRequest> for Completion {
    type Error = WireError;

    fn try_from(wire: v1::CompleteRequest) -> Result<Self, WireError> {
        let v1::CompleteRequest { token, batch, outcome, incarnation: _, secret: _ } = wire;
        Ok(Self {
            token: AttemptToken(token),
            batch: batch.map(TryInto::try_into).transpose()?,
            outcome: required("outcome", outcome)?.try_into()?,
        })
    }
}

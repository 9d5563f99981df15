//! What a worker looks for before it takes trials: wire to core, with every value checked, and core to wire.

use sortie_core::prerequisite::{Findings, Missing, PREREQUISITES_MAX, Prerequisite};

use crate::convert::required;
use crate::{WireError, v1};

/// Bytes of a name that a worker looks for: no path is longer.
const PREREQUISITE_BYTES_MAX: usize = 4_096;

impl From<Prerequisite> for v1::Prerequisite {
    fn from(prerequisite: Prerequisite) -> Self {
        let what = match prerequisite {
            Prerequisite::Dataset(name) => v1::prerequisite::What::Dataset(name),
            Prerequisite::Program(program) => v1::prerequisite::What::Program(program),
        };
        Self { what: Some(what) }
    }
}

impl TryFrom<v1::Prerequisite> for Prerequisite {
    type Error = WireError;

    fn try_from(wire: v1::Prerequisite) -> Result<Self, WireError> {
        let prerequisite = match required("prerequisite.what", wire.what)? {
            v1::prerequisite::What::Dataset(name) => Self::Dataset(name),
            v1::prerequisite::What::Program(program) => Self::Program(program),
        };
        let (Self::Dataset(name) | Self::Program(name)) = &prerequisite;
        if name.len() > PREREQUISITE_BYTES_MAX {
            let reason = format!("{} bytes; at most {PREREQUISITE_BYTES_MAX}", name.len());
            return Err(WireError::Value { field: "prerequisite.what", reason });
        }
        Ok(prerequisite)
    }
}

impl From<Findings> for v1::Findings {
    fn from(findings: Findings) -> Self {
        let lacks = findings.lacks.into_iter().map(|Missing { prerequisite, reason }| v1::Missing {
            prerequisite: Some(prerequisite.into()),
            reason,
        });
        Self { has: findings.has.into_iter().map(Into::into).collect(), lacks: lacks.collect() }
    }
}

impl TryFrom<v1::Findings> for Findings {
    type Error = WireError;

    fn try_from(wire: v1::Findings) -> Result<Self, WireError> {
        let v1::Findings { has, lacks } = wire;
        if has.len() + lacks.len() > PREREQUISITES_MAX {
            let reason = format!("{} prerequisites; at most {PREREQUISITES_MAX}", has.len() + lacks.len());
            return Err(WireError::Value { field: "findings", reason });
        }
        let missing = |v1::Missing { prerequisite, reason }| {
            Ok(Missing { prerequisite: required("missing.prerequisite", prerequisite)?.try_into()?, reason })
        };
        Ok(Self {
            has: has.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            lacks: lacks.into_iter().map(missing).collect::<Result<_, WireError>>()?,
        })
    }
}

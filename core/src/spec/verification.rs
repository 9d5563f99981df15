//! The sweeps of `sortie verify`: one trial of another sweep, run once uninterrupted and once killed and resumed, on one worker.

use super::error::wrong;
use super::{Axis, Grid, Imported, SpecError, SweepSpec};
use crate::combine::COMBINE;
use crate::selection::Selection;
use crate::trial::{PROTOCOL_VERSION, Point, Work};

/// How many steps before the kill the last checkpoint is written.
pub const CHECKPOINT_STEPS_BEFORE: u64 = 3;

/// The options of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// After the update of which step the first attempt kills itself.
    pub kill_at: u64,
    /// The index of the last step, if not the trial's.
    pub steps: Option<u64>,
    /// The worker that runs both.
    pub worker: String,
}

impl SweepSpec {
    /// The pair of sweeps that verify a trial of this one, under names with this prefix: the first uninterrupted, the second killed.
    ///
    /// # Errors
    /// [`SpecError::Value`] when the trial cannot be verified like this.
    pub fn verified(
        &self,
        point: &Point,
        verification: &Verification,
        name: &str,
    ) -> Result<[Self; 2], SpecError> {
        let Verification { kill_at, steps, worker } = verification;
        let Work::Finetune(mut settings) = self.work.at(&point.parameters).into_owned() else {
            return wrong(
                "verify",
                &self.name,
                "a sweep that fine-tunes: a command keeps checkpoints of its own",
            );
        };
        if let Some(name) = point.combine() {
            return wrong(COMBINE, name, "only trials that train are verified, and a combination does not");
        }
        if point.held_out.len() != 1 {
            return wrong(
                "held_out",
                point.held_out_label(),
                "only trials that hold out one domain are verified",
            );
        }
        if let Some(steps) = steps {
            let reached = settings
                .average
                .map(|average| average.from)
                .into_iter()
                .chain(settings.ensemble.map(|ensemble| ensemble.from));
            let least = reached.chain([CHECKPOINT_STEPS_BEFORE]).max().unwrap_or(CHECKPOINT_STEPS_BEFORE);
            if *steps > settings.steps || *steps < least {
                return wrong("--steps", steps, format!("{least} to {}", settings.steps));
            }
            settings.steps = *steps;
        }
        if !(CHECKPOINT_STEPS_BEFORE..=settings.steps).contains(kill_at) {
            return wrong(
                "--kill-at",
                kill_at,
                format!("a step from {CHECKPOINT_STEPS_BEFORE} to {}", settings.steps),
            );
        }
        let mut require = self.require.clone();
        require.worker = Some(worker.clone());
        let axes = point.parameters.iter().filter(|(name, _)| self.setting_on(name).is_none());
        let axes = axes.map(|(name, value)| (name.clone(), Axis::fixed(value.clone())));
        let grid = Grid {
            axes: axes.collect(),
            held_out: point.held_out.clone(),
            seeds: vec![point.seed],
            splits: vec![point.split_seed],
        };
        let sweep = |suffix: &str, kill_at| Self {
            name: format!("{name}-{suffix}"),
            protocol: PROTOCOL_VERSION,
            select: vec![Selection::Last],
            work: Work::Finetune(settings.clone()),
            require: require.clone(),
            keep: self.keep,
            metrics: self.metrics.clone(),
            limits: self.limits,
            grid: grid.clone(),
            random: None,
            combine: Vec::new(),
            kill_at,
            imported: Imported::default(),
        };
        Ok([sweep("a", None), sweep("b", Some(*kill_at))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWEEP: &str = "name = 's'\n[data]\ndataset = 'PACS'\n[model]\nbackbone = 'efficientnet-lite0'\n[train]\nsteps = 20\n\
        average = { from = 8 }\n[grid]\ndropout = [0.0, 0.5]\nlr = 1e-3\nweight_decay = 1e-4\nseeds = [4, 7]\n";

    #[test]
    fn both_sweeps_hold_just_that_trial() {
        let sweep = SweepSpec::parse(SWEEP, None).unwrap();
        let point = sweep.point_at(13).unwrap();
        let verification = Verification { kill_at: 12, steps: None, worker: "w7".into() };
        let pair = sweep.verified(&point, &verification, "verify-x").unwrap();
        for (verified, (name, kill_at)) in pair.iter().zip([("verify-x-a", None), ("verify-x-b", Some(12))]) {
            assert_eq!(
                (verified.name.as_str(), verified.kill_at, verified.require.worker.as_deref()),
                (name, kill_at, Some("w7"))
            );
            assert_eq!((verified.trials_planned(), verified.point_at(0).as_ref()), (Some(1), Some(&point)));
            assert_eq!(verified.trials().next().unwrap().hash(), sweep.trials().nth(13).unwrap().hash());
        }
        let shorter = Verification { steps: Some(15), ..verification };
        let [first, second] = sweep.verified(&point, &shorter, "verify-x").unwrap();
        assert_eq!((first.work.steps(), &first.work), (Some(15), &second.work));
    }

    #[test]
    fn what_cannot_be_verified_is_refused_by_name() {
        let sweep = SweepSpec::parse(SWEEP, None).unwrap();
        let point = sweep.point_at(0).unwrap();
        for (kill_at, steps, key) in [
            (2, None, "--kill-at"),
            (21, None, "--kill-at"),
            (12, Some(10), "--kill-at"),
            (5, Some(7), "--steps"),
            (5, Some(21), "--steps"),
        ] {
            let verification = Verification { kill_at, steps, worker: "w".into() };
            let error = sweep.verified(&point, &verification, "v").unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
        let combined = SweepSpec::parse(
            &format!("{SWEEP}[[combine]]\nname = 'e'\nkind = 'ensemble'\nover = 'seed'\n"),
            None,
        )
        .unwrap();
        let verification = Verification { kill_at: 3, steps: None, worker: "w".into() };
        let error = combined
            .verified(&combined.trials().last().unwrap().point, &verification, "v")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("combine = \"e\""), "{error}");
        let command = SweepSpec::parse("name = 'c'\n[run]\ncommand = ['true']\n", None).unwrap();
        let verification = Verification { kill_at: 3, steps: None, worker: "w".into() };
        let error =
            command.verified(&command.point_at(0).unwrap(), &verification, "v").unwrap_err().to_string();
        assert!(error.contains("command"), "{error}");
    }
}

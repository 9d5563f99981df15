//! Computes the data of a figure and draws it.

use std::collections::BTreeSet;

use sortie_core::metrics::Method;
use sortie_core::record::TrialRecord;
use sortie_core::trial::Work;

use super::merged::Merged;
use super::scatter_points::Scatter;
use super::settings::{Setting, setting};
use super::svg::Picture;
use super::{FigureError, FigureKind, FigureQuestion};
use super::{axes, boxes, clouds, curves, grid, rates, scatter, scatter_points};
use crate::axis::{Axis, parameter_names};
use crate::collect::in_order;
use crate::joint::SweepRecords;
use crate::question::Question;
use crate::results::{Results, ResultsError, results};

/// The most values of an axis that box plots or a grid have room for.
const VALUES_MAX: usize = 40;
/// The most settings that look different.
const SETTINGS_MAX: usize = 36;

/// Draws a figure as an SVG document.
///
/// # Errors
/// [`FigureError`] when there is nothing to draw yet, or the question does not fit the kind of figure or the sweep.
pub fn figure(
    sweep: &str,
    work: &Work,
    records: &[TrialRecord],
    asked: &FigureQuestion,
) -> Result<String, FigureError> {
    let asked = checked(asked)?;
    Ok(one_sweep(sweep, work, records, &asked, None)?.document())
}

/// Draws a figure of one or several sweeps as an SVG document: those on one dataset in one plot, several datasets in one each. Trials of
/// different sweeps are drawn together only where axes that are named tell them apart.
///
/// # Errors
/// As [`figure`], and where trials of different sweeps would be averaged.
pub fn figures(sweeps: Vec<SweepRecords>, asked: &FigureQuestion) -> Result<String, FigureError> {
    let asked = checked(asked)?;
    let by = asked.by.iter().filter(|axis| matches!(axis, Axis::Parameter(_))).map(Axis::as_str);
    let named: Vec<&str> = by.chain(asked.preset.iter().flat_map(|preset| preset.axes()).copied()).collect();
    let merged = Merged::of(sweeps, &named);
    let picture = match merged.as_slice() {
        [one] if asked.preset.is_none() => one_sweep(&one.name, &one.work, &one.records, &asked, Some(one))?,
        all if asked.kind == FigureKind::Scatter => clouds::draw(all, &asked)?,
        all => {
            let mut pictures = Vec::new();
            for one in all {
                let name = if one.dataset.is_empty() {
                    one.name.clone()
                } else {
                    format!("{}: {}", one.dataset, one.name)
                };
                pictures.push(one_sweep(&name, &one.work, &one.records, &asked, Some(one))?);
            }
            Picture::stacked(pictures)
        }
    };
    Ok(picture.document())
}

/// The question, if its kind of figure can answer it.
fn checked(asked: &FigureQuestion) -> Result<FigureQuestion, FigureError> {
    let mut asked = FigureQuestion { methods: distinct(&asked.methods), ..asked.clone() };
    if asked.methods.is_empty() {
        asked.methods.push(Method::Plain);
    }
    if asked.methods.len() > 1 && asked.kind != FigureKind::Scatter {
        return Err(FigureError::Methods { kind: asked.kind, given: names(&asked.methods) });
    }
    check_by(&asked)?;
    Ok(asked)
}

/// Draws these trials in one plot. `merged` says of which sweeps they are, if of several.
fn one_sweep(
    sweep: &str,
    work: &Work,
    records: &[TrialRecord],
    asked: &FigureQuestion,
    merged: Option<&Merged>,
) -> Result<Picture, FigureError> {
    if records.iter().any(|record| record.point.combine().is_some()) {
        // A combination is no replicate of a single trial: only a scatter figure draws combinations, as points of their own.
        let (combined, single): (Vec<TrialRecord>, Vec<TrialRecord>) =
            records.iter().cloned().partition(|record| record.point.combine().is_some());
        return FigureData { sweep, work, records: &single, combined: &combined, asked, merged }.draw();
    }
    FigureData { sweep, work, records, combined: &[], asked, merged }.draw()
}

/// Fails if the axes do not suit the kind of figure.
fn check_by(asked: &FigureQuestion) -> Result<(), FigureError> {
    let by = &asked.by;
    let different = (1..by.len()).all(|index| !by[..index].contains(&by[index]));
    let fits = match asked.kind {
        FigureKind::Scatter | FigureKind::Rates | FigureKind::Curves => different,
        FigureKind::Box => by.len() < 2,
        FigureKind::Grid => by.is_empty() || (by.len() == 2 && different),
    };
    let given = || by.iter().map(Axis::as_str).collect::<Vec<_>>().join(",");
    if fits { Ok(()) } else { Err(FigureError::By { kind: asked.kind, given: given() }) }
}

/// The data of a figure.
struct FigureData<'a> {
    sweep: &'a str,
    work: &'a Work,
    /// The single trials.
    records: &'a [TrialRecord],
    combined: &'a [TrialRecord],
    asked: &'a FigureQuestion,
    /// The sweeps of the trials, if they are of several.
    merged: Option<&'a Merged>,
}

impl FigureData<'_> {
    fn draw(&self) -> Result<Picture, FigureError> {
        match self.asked.kind {
            FigureKind::Rates => self.rates(),
            FigureKind::Curves => self.curves(),
            FigureKind::Scatter => self.scatter(),
            FigureKind::Box | FigureKind::Grid => self.grouped(),
        }
    }

    fn rates(&self) -> Result<Picture, FigureError> {
        let Self { sweep, records, asked, .. } = *self;
        // A sweep without results is reported before missing axes.
        self.check_measured()?;
        let by = match asked.by.as_slice() {
            [] => vec![
                axes::of_rates(records)
                    .ok_or_else(|| FigureError::NoNumbers { sweep: sweep.to_owned(), kind: asked.kind })?,
            ],
            by => by.to_vec(),
        };
        let results = self.results(by.clone())?;
        if let Some(axis) = by.first().filter(|axis| !axes::is_numeric(axis, records)) {
            let (sweep, axis, known) = (sweep.to_owned(), axis.to_string(), axes::numeric_names(records));
            return Err(FigureError::NotNumeric { sweep, axis, kind: asked.kind, known });
        }
        self.check_settings(&by[1..])?;
        let averaged = averaged_axes(records, &by);
        Ok(rates::draw(&asked.page, &rates::Curves::of(&results), &results, &averaged))
    }

    fn curves(&self) -> Result<Picture, FigureError> {
        let Self { records, asked, .. } = *self;
        let by = if asked.by.is_empty() { axes::of_curves(records) } else { asked.by.clone() };
        let results = self.results(by.clone())?;
        self.check_settings(&by)?;
        self.check_measured()?;
        let trajectories = curves::trajectories(&by, &results, records);
        Ok(curves::draw(&asked.page, &by, &trajectories, &results, &averaged_axes(records, &by)))
    }

    fn grouped(&self) -> Result<Picture, FigureError> {
        let Self { sweep, records, asked, .. } = *self;
        // A sweep without results is reported before missing axes.
        self.check_measured()?;
        let by = match asked.kind {
            _ if !asked.by.is_empty() => asked.by.clone(),
            FigureKind::Grid => axes::of_grid(records).ok_or_else(|| {
                let known = axes::names(records);
                FigureError::NoPair { sweep: sweep.to_owned(), known }
            })?,
            _ => vec![axes::of_box(records)],
        };
        let results = self.results(by.clone())?;
        self.check_values(&by)?;
        let others = averaged_axes(records, &by);
        Ok(match asked.kind {
            FigureKind::Grid => grid::draw(&asked.page, &grid::Grid::of(&results), &results, &others),
            _ => boxes::draw(&asked.page, &boxes::panels(&results), &results, &others),
        })
    }

    /// Fails if one of these axes has more values than a figure can show.
    fn check_values(&self, by: &[Axis]) -> Result<(), FigureError> {
        for axis in by {
            let values = axes::values(axis, self.records);
            if values > VALUES_MAX {
                let (sweep, axis, kind) = (self.sweep.to_owned(), axis.to_string(), self.asked.kind);
                return Err(FigureError::TooManyValues { sweep, axis, values, max: VALUES_MAX, kind });
            }
        }
        Ok(())
    }

    /// Fails if these axes make more settings than look different.
    fn check_settings(&self, by: &[Axis]) -> Result<(), FigureError> {
        let settings = axes::count(by, self.records);
        if settings <= SETTINGS_MAX {
            return Ok(());
        }
        let (by, kind) = (by.iter().map(Axis::as_str).collect::<Vec<_>>().join(","), self.asked.kind);
        Err(FigureError::TooManySettings {
            sweep: self.sweep.to_owned(),
            by,
            settings,
            max: SETTINGS_MAX,
            kind,
        })
    }

    fn scatter(&self) -> Result<Picture, FigureError> {
        let Self { sweep, work, records, combined, asked, .. } = *self;
        let by = if asked.by.is_empty() { axes::of_scatter(records) } else { asked.by.clone() };
        let results = self.results(by.clone())?;
        self.check_settings(&by)?;
        let (spec, scale) = (results.spec(), results.scale());
        let alone = || records.iter().filter(|record| record.point.held_out.len() == 1);
        let held_out = alone().chain(combined.iter().filter(|record| record.point.held_out.len() == 1));
        let domains = in_order(work.domains(), held_out.map(|record| record.point.held_out_label()));
        let groups = scatter_points::groups(&by, records, &asked.methods, &spec, (&domains, &scale));
        let (models, combined_missing) = scatter_points::combined(combined, &spec, (&domains, &scale));
        if groups.is_empty() && models.is_empty() {
            self.check_measured()?;
            return Err(FigureError::NoCompleteSetting { sweep: sweep.to_owned() });
        }
        let settings: BTreeSet<Setting> = alone().map(|record| setting(&by, &record.point)).collect();
        let wanted = asked
            .methods
            .iter()
            .flat_map(|&method| settings.iter().map(move |setting| (method, setting.clone())));
        let missing = wanted.filter(|(method, setting)| {
            !groups.iter().any(|group| (group.method, &group.setting) == (*method, setting))
        });
        let missing = missing.collect();
        let done = models.len();
        let models = scatter::with_room(models);
        let combined_hidden = done - models.len();
        let steps = combined.iter().flat_map(|record| &record.validation).map(|row| row.step);
        let scatter = Scatter {
            axes: &by,
            groups: &groups,
            combined: &models,
            combined_steps: steps.collect(),
            methods: &asked.methods,
            missing,
            combined_missing,
            combined_hidden,
        };
        Ok(scatter::draw(&asked.page, &scatter, &results))
    }

    /// Results by these axes, with the method if there is only one.
    fn results(&self, by: Vec<Axis>) -> Result<Results, FigureError> {
        let method = if let [only] = self.asked.methods.as_slice() { *only } else { Method::Plain };
        if let Some(merged) = self.merged {
            let draws_combined = self.asked.kind == FigureKind::Scatter;
            merged.check(&by, |record| draws_combined || record.point.combine().is_none())?;
        }
        self.results_of(method, by)
    }

    fn results_of(&self, method: Method, by: Vec<Axis>) -> Result<Results, FigureError> {
        let FigureQuestion { selection, ood_split, ref metrics, .. } = *self.asked;
        let question = Question { selection, method, by, best: false, ood_split, metrics: metrics.clone() };
        let results = results(self.sweep, self.work, self.records, &question)?;
        if results.is_plain {
            return Err(ResultsError::NoDomain { sweep: self.sweep.to_owned() }.into());
        }
        Ok(results)
    }

    /// Fails with the reason if there is nothing to draw.
    fn check_measured(&self) -> Result<(), FigureError> {
        let sweep = self.sweep.to_owned();
        let mut split = "";
        for &method in &self.asked.methods {
            let results = self.results_of(method, Vec::new())?;
            if results.cells.iter().all(|cell| cell.done == 0) {
                return Err(FigureError::NothingDone { sweep });
            }
            if results.cells.iter().any(|cell| cell.ood.n > 0) {
                return Ok(());
            }
            split = results.ood_split_label();
        }
        Err(FigureError::NotMeasured {
            sweep,
            methods: names(&self.asked.methods),
            selection: self.asked.selection,
            split,
        })
    }
}

fn distinct(methods: &[Method]) -> Vec<Method> {
    let first = |&(index, method): &(usize, &Method)| !methods[..index].contains(method);
    methods.iter().enumerate().filter(first).map(|(_, method)| *method).collect()
}

fn names(methods: &[Method]) -> String {
    methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(",")
}

/// The other axes that vary, over which the figure averages.
fn averaged_axes(records: &[TrialRecord], by: &[Axis]) -> Vec<Axis> {
    let points = || records.iter().map(|record| &record.point);
    let parameters = parameter_names(points()).into_iter().map(Axis::Parameter);
    let axes = parameters.chain([Axis::Seed, Axis::Split]).filter(|axis| !by.contains(axis));
    axes.filter(|axis| axis.varies(points())).collect()
}

//! The axes that make the rows of a table.

use std::collections::BTreeSet;

use sortie_core::combine::{COMBINE, MEMBERS};

use crate::axis::{Axis, names_of};
use crate::collect::Collector;
use crate::results::{Results, ResultsError};

impl Collector {
    /// Groups and averages the trials. Trials with two held-out domains count as planned and done, but are in no cell: they only select
    /// steps.
    ///
    /// # Errors
    /// [`ResultsError`] when the sweep lacks an axis of the rows.
    pub fn results(self) -> Result<Results, ResultsError> {
        let axes = row_axes(&[&self])?;
        self.results_by(axes)
    }
}

/// The axes of the rows of tables of these collectors, which have the same question.
///
/// # Errors
/// [`ResultsError::NoAxis`] when no trial has an axis that was asked for.
pub(crate) fn row_axes(collectors: &[&Collector]) -> Result<Vec<Axis>, ResultsError> {
    let settings = || collectors.iter().flat_map(|collector| collector.settings.values());
    let parameters = names_of(settings());
    let mut axes: Vec<Axis> = Vec::new();
    for axis in collectors.iter().flat_map(|collector| &collector.question.by) {
        // The axes of a sweep without trials are not known yet.
        if let Axis::Parameter(name) = axis
            && collectors.iter().any(|collector| collector.total() > 0)
            && !parameters.contains(name)
        {
            let shared: BTreeSet<&str> =
                collectors.iter().flat_map(|collector| collector.shared_names()).collect();
            let others = shared.into_iter().filter(|name| !parameters.iter().any(|own| own == name));
            let known = parameters.iter().map(String::as_str).chain(["seed", "split"]).chain(others);
            let known = known.map(str::to_owned).collect();
            let sweep = collectors.iter().map(|collector| collector.sweep.as_str()).collect::<Vec<_>>();
            return Err(ResultsError::NoAxis { sweep: sweep.join(", "), axis: name.clone(), known });
        }
        if !axes.contains(axis) {
            axes.push(axis.clone());
        }
    }
    let has_combined = collectors.iter().any(|collector| collector.has_combined());
    let combined: Vec<Axis> = if has_combined { vec![COMBINE.into(), MEMBERS.into()] } else { Vec::new() };
    if axes.is_empty() {
        // A trial that lacks an axis does not make it vary.
        let varies = |name: &String| {
            settings().filter_map(|setting| setting.get(name)).collect::<BTreeSet<_>>().len() > 1
        };
        axes = parameters.iter().filter(|name| varies(name)).map(|name| Axis::from(name.as_str())).collect();
        axes.retain(|axis| !combined.contains(axis));
    }
    if axes.is_empty() && parameters.iter().any(|name| Axis::from(name.as_str()) == Axis::dropout()) {
        axes.push(Axis::dropout());
    }
    // Combinations are averaged neither with single trials nor with other combinations.
    axes.extend(combined.into_iter().filter(|axis| !axes.contains(axis)).collect::<Vec<_>>());
    Ok(axes)
}

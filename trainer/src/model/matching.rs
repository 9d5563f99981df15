//! Finds a network's tensors in a file by their names, whatever stands before all of them: `module.`, `state_dict.model.` and so on.

use std::collections::{HashMap, HashSet};

/// Names of a kind that a message shows.
const NAMES_SHOWN: usize = 3;
/// Prefixes that fit equally well, of which the best one is looked for.
const CANDIDATES_MAX: usize = 16;
/// Beginnings of the layer that fine-tuning replaces.
const CLASSIFIERS: [&str; 5] = ["fc.", "_fc.", "heads.", "head.", "classifier."];
/// A counter of BatchNorm that nothing here needs.
const COUNTER: &str = ".num_batches_tracked";

/// The name of a tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorName {
    /// The keys of the dictionaries around it and its own, joined by dots.
    pub(super) name: String,
    /// How many bytes of the name are keys of dictionaries around its own.
    pub(super) nest: usize,
}

/// How another tool names a network's modules: parts of our names, and what stands there instead, in the order of replacement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming {
    /// Whose names they are.
    pub(super) of: &'static str,
    pub(super) parts: &'static [(&'static str, &'static str)],
}

/// Our own names, which are torchvision's where it has the network.
const OWN: Naming = Naming { of: "", parts: &[] };

impl Naming {
    fn translate(&self, own: &str) -> String {
        self.parts.iter().fold(own.to_owned(), |name, (ours, theirs)| name.replace(ours, theirs))
    }
}

/// The names that a network's file has.
pub(super) struct Wanted<'a> {
    /// Those that must be there.
    pub(super) names: &'a [String],
    /// The module of the last layer, which may be there.
    pub(super) classifier: Option<&'static str>,
    /// What other tools call them.
    pub(super) namings: &'static [Naming],
}

/// A network's tensors in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// What stands before all names.
    pub(super) prefix: String,
    /// Whose names they are, if not ours.
    naming: &'static str,
    /// How many the network needs.
    wanted: usize,
    /// What is read, in the order of the file.
    pub(super) tensors: Vec<MatchedTensor>,
    /// Tensors of the file that are not read.
    others: usize,
    /// Another prefix behind which all names are, too.
    also: Option<String>,
}

/// A tensor of a network in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MatchedTensor {
    /// Its place among the file's tensors.
    pub(super) index: usize,
    /// Its name in the file without the prefix.
    pub(super) in_file: String,
    /// Its name in the network.
    pub(super) own: String,
}

impl Match {
    /// Finds the prefix behind which the network's names are. Of several, the one with fewer tensors that are not the network's, then the
    /// first one in the file.
    ///
    /// # Errors
    /// One line: how many tensors are missing and left over behind the prefix that fits best, with some of each.
    pub(super) fn find(wanted: &Wanted, file: &[TensorName]) -> Result<Self, String> {
        let namings = std::iter::once(&OWN).chain(wanted.namings);
        let candidates: Vec<Candidate> =
            namings.flat_map(|naming| candidates(wanted, naming, file)).collect();
        let best = candidates.iter().min_by_key(|candidate| candidate.faults());
        match best {
            Some(best) if best.faults() == (0, 0) => {
                let other = candidates.iter().find(|other| {
                    other.faults() == (0, 0) && (other.prefix, other.naming) != (best.prefix, best.naming)
                });
                Ok(best.chosen(wanted, file, other))
            }
            Some(best) => Err(best.complaint(wanted)),
            None => {
                let left_over = file.iter().map(|tensor| tensor.name.as_str()).collect();
                let missing = wanted.names.iter().map(String::as_str).collect();
                Err(complaint(wanted, missing, left_over))
            }
        }
    }

    /// What was read, as a user wants to know it.
    pub(super) fn describe(&self) -> String {
        let mut text = match self.prefix.as_str() {
            "" => format!("{} tensors, no prefix", self.wanted),
            prefix => format!("{} tensors, prefix {prefix:?}", self.wanted),
        };
        if !self.naming.is_empty() {
            text += &format!(", {} names", self.naming);
        }
        if self.others > 0 {
            text += &format!("; other tensors in the file, not read: {}", self.others);
        }
        if let Some(also) = &self.also {
            text += &format!("; also complete, not read: prefix {also:?}");
        }
        text
    }

    /// Whether the file is more or else than the network's own tensors.
    pub(super) fn is_remarkable(&self) -> bool {
        !self.prefix.is_empty() || !self.naming.is_empty() || self.others > 0
    }
}

/// A prefix behind which names of the network are.
struct Candidate<'a> {
    prefix: &'a str,
    naming: &'static str,
    /// Names of the network in the words of the naming, and in its own.
    names: HashMap<String, &'a str>,
    classifier: Option<(String, &'static str)>,
    missing: Vec<&'a str>,
    left_over: Vec<&'a str>,
}

impl Candidate<'_> {
    /// How many tensors are missing, and how many do not belong there.
    fn faults(&self) -> (usize, usize) {
        (self.missing.len(), self.left_over.len())
    }
}

/// The prefixes behind which most names are, the first in the file first.
fn candidates<'a>(
    wanted: &Wanted<'a>,
    naming: &'static Naming,
    file: &'a [TensorName],
) -> Vec<Candidate<'a>> {
    let names: HashMap<String, &str> =
        wanted.names.iter().map(|own| (naming.translate(own), own.as_str())).collect();
    let dots_max = names.keys().map(|name| name.matches('.').count()).max().unwrap_or(0);
    let mut order: Vec<&str> = Vec::new();
    let mut found: HashMap<&str, HashSet<&str>> = HashMap::new();
    for TensorName { name, .. } in file {
        let starts = name.rmatch_indices('.').map(|(dot, _)| dot + 1).chain([0]).take(dots_max + 1);
        for (prefix, rest) in starts.map(|start| name.split_at(start)) {
            if names.contains_key(rest) {
                found
                    .entry(prefix)
                    .or_insert_with(|| {
                        order.push(prefix);
                        HashSet::new()
                    })
                    .insert(rest);
            }
        }
    }
    let most = found.values().map(HashSet::len).max().unwrap_or(0);
    let best = order.into_iter().filter(|prefix| found[prefix].len() == most).take(CANDIDATES_MAX);
    let candidate = |prefix: &'a str| {
        let present = &found[prefix];
        let missing = wanted.names.iter().map(String::as_str);
        let missing = missing.filter(|own| !present.contains(naming.translate(own).as_str())).collect();
        let classifier = wanted.classifier.map(|own| (naming.translate(&format!("{own}.")), own));
        let mut candidate = Candidate {
            prefix,
            naming: naming.of,
            names: names.clone(),
            classifier,
            missing,
            left_over: Vec::new(),
        };
        let left_over = file.iter().filter(|tensor| candidate.own_name(tensor).is_none());
        candidate.left_over = left_over.filter_map(|tensor| candidate.inside(tensor)).collect();
        candidate
    };
    best.map(candidate).collect()
}

impl<'a> Candidate<'a> {
    /// The rest of a name behind the prefix, in the same dictionary.
    fn inside<'b>(&self, tensor: &'b TensorName) -> Option<&'b str> {
        tensor.name.strip_prefix(self.prefix).filter(|_| tensor.nest <= self.prefix.len())
    }

    /// What the network calls a tensor; none if it is not the network's.
    fn own_name(&self, tensor: &TensorName) -> Option<String> {
        let rest = tensor.name.strip_prefix(self.prefix)?;
        if let Some(own) = self.names.get(rest) {
            return Some((*own).to_owned());
        }
        let rest = self.inside(tensor)?;
        if let Some((theirs, own)) = &self.classifier
            && let Some(part) = rest.strip_prefix(theirs.as_str())
        {
            return Some(format!("{own}.{part}"));
        }
        let is_extra = rest.ends_with(COUNTER) || CLASSIFIERS.iter().any(|begin| rest.starts_with(begin));
        is_extra.then(|| rest.to_owned())
    }

    fn chosen(&self, wanted: &Wanted, file: &[TensorName], other: Option<&Candidate>) -> Match {
        let tensor = |(index, tensor): (usize, &TensorName)| {
            let own = self.own_name(tensor)?;
            Some(MatchedTensor { index, in_file: tensor.name[self.prefix.len()..].to_owned(), own })
        };
        let tensors: Vec<MatchedTensor> = file.iter().enumerate().filter_map(tensor).collect();
        Match {
            prefix: self.prefix.to_owned(),
            naming: self.naming,
            wanted: wanted.names.len(),
            others: file.len() - tensors.len(),
            tensors,
            also: other.map(|other| other.prefix.to_owned()),
        }
    }

    fn complaint(&self, wanted: &Wanted) -> String {
        let found = complaint(wanted, self.missing.clone(), self.left_over.clone());
        match self.prefix {
            "" => format!("{found}; names without a prefix fit best"),
            prefix => format!("{found}; the prefix {prefix:?} fits best"),
        }
    }
}

/// Names in one line. A file may name anything.
fn shown(names: &[&str]) -> String {
    names.iter().map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ")
}

fn complaint(wanted: &Wanted, missing: Vec<&str>, left_over: Vec<&str>) -> String {
    let some = |names: Vec<&str>| match names.len() {
        0 => String::new(),
        n if n > NAMES_SHOWN => format!(" ({}, ...)", shown(&names[..NAMES_SHOWN])),
        _ => format!(" ({})", shown(&names)),
    };
    format!(
        "missing: {} of the network's {} tensors{}; left over: {}{}",
        missing.len(),
        wanted.names.len(),
        some(missing),
        left_over.len(),
        some(left_over)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: Naming = Naming { of: "a tool's", parts: &[("conv.", "c."), ("last.", "head.")] };

    fn names(list: &[&str]) -> Vec<TensorName> {
        list.iter().map(|name| TensorName { name: (*name).to_owned(), nest: 0 }).collect()
    }

    fn find(file: &[TensorName]) -> Result<Match, String> {
        let own = ["conv.weight", "conv.bias", "layer.0.conv.weight", "norm.weight"].map(str::to_owned);
        Match::find(&Wanted { names: &own, classifier: Some("last"), namings: &[TOOL] }, file)
    }

    /// The network's names behind a prefix, and others.
    fn behind(prefix: &str, others: &[&str]) -> Vec<TensorName> {
        let own = ["conv.weight", "conv.bias", "layer.0.conv.weight", "norm.weight"];
        let own = own.iter().map(|name| format!("{prefix}{name}"));
        let all = own.chain(others.iter().map(|name| (*name).to_owned()));
        all.map(|name| TensorName { name, nest: 0 }).collect()
    }

    #[test]
    fn any_prefix_is_found_and_said() {
        for prefix in ["", "module.", "_orig_mod.module.", "state_dict.model.backbone.", "layer.0.", "a b.0."]
        {
            let found = find(&behind(prefix, &[])).unwrap();
            assert_eq!((found.prefix.as_str(), found.tensors.len()), (prefix, 4));
            assert_eq!(found.is_remarkable(), !prefix.is_empty());
            let said = if prefix.is_empty() { "no prefix".to_owned() } else { format!("prefix {prefix:?}") };
            assert_eq!(found.describe(), format!("4 tensors, {said}"));
            assert_eq!(found.tensors[2].own, "layer.0.conv.weight");
        }
    }

    #[test]
    fn classifiers_and_counters_are_read_and_tensors_elsewhere_are_counted() {
        let others = ["module.last.weight", "module.norm.num_batches_tracked", "loss.weight", "step"];
        let found = find(&behind("module.", &others)).unwrap();
        let own: Vec<&str> = found.tensors.iter().map(|tensor| tensor.own.as_str()).collect();
        assert_eq!(own[4..], ["last.weight", "norm.num_batches_tracked"]);
        assert_eq!(found.describe(), "4 tensors, prefix \"module.\"; other tensors in the file, not read: 2");
    }

    #[test]
    fn names_of_other_tools_are_translated() {
        let file = names(&["x.c.weight", "x.c.bias", "x.layer.0.c.weight", "x.norm.weight", "x.head.bias"]);
        let found = find(&file).unwrap();
        assert_eq!(found.describe(), "4 tensors, prefix \"x.\", a tool's names");
        let pairs: Vec<_> =
            found.tensors.iter().map(|one| (one.in_file.as_str(), one.own.as_str())).collect();
        assert_eq!(
            pairs[2..],
            [
                ("layer.0.c.weight", "layer.0.conv.weight"),
                ("norm.weight", "norm.weight"),
                ("head.bias", "last.bias")
            ]
        );
    }

    #[test]
    fn of_two_complete_prefixes_the_cleaner_then_the_first_is_read() {
        let two = [behind("student.", &[]), behind("ema.", &[])].concat();
        let found = find(&two).unwrap();
        assert_eq!(
            found.describe(),
            "4 tensors, prefix \"student.\"; other tensors in the file, not read: 4; also complete, not read: prefix \"ema.\""
        );
        let two = [behind("whole.", &["whole.extra.weight"]), behind("part.", &[])].concat();
        assert_eq!(find(&two).unwrap().prefix, "part.");
    }

    #[test]
    fn only_the_dictionary_of_the_names_counts() {
        let mut file = behind("", &["optimizer.state.0.step"]);
        assert!(find(&file).unwrap_err().contains("left over: 1 (optimizer.state.0.step)"));
        file[4].nest = "optimizer.state.0.".len();
        assert_eq!(
            find(&file).unwrap().describe(),
            "4 tensors, no prefix; other tensors in the file, not read: 1"
        );
    }

    #[test]
    fn what_does_not_fit_is_counted_with_three_of_each() {
        let others = ["module.a", "module.b", "module.c", "module.d"];
        let mut file = behind("module.", &others);
        file.remove(1);
        assert_eq!(
            find(&file).unwrap_err(),
            "missing: 1 of the network's 4 tensors (conv.bias); left over: 4 (a, b, c, ...); the prefix \"module.\" fits best"
        );
        assert_eq!(
            find(&behind("", &["more"])).unwrap_err(),
            "missing: 0 of the network's 4 tensors; left over: 1 (more); names without a prefix fit best"
        );
        assert_eq!(
            find(&names(&["x", "y"])).unwrap_err(),
            "missing: 4 of the network's 4 tensors (conv.weight, conv.bias, layer.0.conv.weight, ...); left over: 2 (x, y)"
        );
    }
}

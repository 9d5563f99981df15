//! The names that DomainBed knows. Their order is that of rows and columns of its tables.

/// Algorithms. Unknown ones follow after these.
pub(super) const ALGORITHMS: [&str; 34] = [
    "ERM",
    "ERMPlusPlus",
    "Fish",
    "IRM",
    "GroupDRO",
    "Mixup",
    "MLDG",
    "CORAL",
    "MMD",
    "DANN",
    "CDANN",
    "MTL",
    "SagNet",
    "ARM",
    "VREx",
    "RSC",
    "SD",
    "ANDMask",
    "SANDMask",
    "IGA",
    "SelfReg",
    "Fishr",
    "TRM",
    "IB_ERM",
    "IB_IRM",
    "CAD",
    "CondCAD",
    "Transfer",
    "CausIRL_CORAL",
    "CausIRL_MMD",
    "EQRM",
    "RDM",
    "ADRMX",
    "URM",
];

const DEBUG: &[&str] = &["0", "1", "2"];
const SPAWRIOUS: &[&str] = &["Test", "SC_group_1", "SC_group_2"];

/// Datasets with the labels of their domains. DomainBed prints no other datasets.
pub(super) const DATASETS: [(&str, &[&str]); 18] = [
    ("Debug28", DEBUG),
    ("Debug224", DEBUG),
    ("ColoredMNIST", &["+90%", "+80%", "-90%"]),
    ("RotatedMNIST", &["0", "15", "30", "45", "60", "75"]),
    ("VLCS", &["C", "L", "S", "V"]),
    ("PACS", &["A", "C", "P", "S"]),
    ("OfficeHome", &["A", "C", "P", "R"]),
    ("TerraIncognita", &["L100", "L38", "L43", "L46"]),
    ("DomainNet", &["clip", "info", "paint", "quick", "real", "sketch"]),
    ("SVIRO", &["aclass", "escape", "hilux", "i3", "lexus", "tesla", "tiguan", "tucson", "x5", "zoe"]),
    ("WILDSCamelyon", &["hospital_0", "hospital_1", "hospital_2", "hospital_3", "hospital_4"]),
    ("WILDSFMoW", &["region_0", "region_1", "region_2", "region_3", "region_4", "region_5"]),
    ("SpawriousO2O_easy", SPAWRIOUS),
    ("SpawriousO2O_medium", SPAWRIOUS),
    ("SpawriousO2O_hard", SPAWRIOUS),
    ("SpawriousM2M_easy", SPAWRIOUS),
    ("SpawriousM2M_medium", SPAWRIOUS),
    ("SpawriousM2M_hard", SPAWRIOUS),
];

/// The folders of the datasets that DomainBed knows by another name, and that name.
const FOLDERS: [(&str, &str); 3] =
    [("domain_net", "DomainNet"), ("office_home", "OfficeHome"), ("terra_incognita", "TerraIncognita")];

/// DomainBed's name for a dataset that is known by its folder.
pub fn name_of(folder: &str) -> &str {
    FOLDERS.iter().find(|(own, _)| *own == folder).map_or(folder, |(_, name)| name)
}

/// The folder of a dataset that is known by DomainBed's name: what sweep files call it.
pub(super) fn folder_of(name: &str) -> &str {
    FOLDERS.iter().find(|(_, known)| *known == name).map_or(name, |(folder, _)| folder)
}

/// Names for the domains of a dataset, in DomainBed's order: its labels if they are sorted and valid names, else `env0`, `env1`, ...
pub(super) fn domain_names(dataset: &str, envs: usize) -> Vec<String> {
    let labels = DATASETS
        .iter()
        .find(|(name, labels)| *name == dataset && labels.len() == envs)
        .map(|(_, labels)| *labels);
    let usable = |labels: &&[&str]| {
        labels.is_sorted()
            && labels.iter().all(|label| label.chars().all(|c| c.is_alphanumeric() || c == '_'))
    };
    match labels.filter(usable) {
        Some(labels) => labels.iter().map(|label| (*label).to_owned()).collect(),
        None => {
            let width = envs.saturating_sub(1).to_string().len();
            (0..envs).map(|env| format!("env{env:0width$}")).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_known_by_their_folders_and_by_domainbeds_names() {
        for (folder, name) in FOLDERS {
            assert_eq!((name_of(folder), folder_of(name)), (name, folder));
            assert!(DATASETS.iter().any(|(known, _)| *known == name), "{name}");
            assert!(sortie_core::catalogue::find(folder).is_some(), "{folder}");
        }
        assert_eq!((name_of("PACS"), folder_of("Mine")), ("PACS", "Mine"));
    }

    #[test]
    fn domains_have_their_labels_where_these_keep_their_order() {
        assert_eq!(domain_names("VLCS", 4), ["C", "L", "S", "V"]);
        assert_eq!(domain_names("ColoredMNIST", 3), ["env0", "env1", "env2"]);
        assert_eq!(domain_names("VLCS", 2), ["env0", "env1"]);
        let many = domain_names("Mine", 12);
        assert!(many.is_sorted() && many[11] == "env11" && many[2] == "env02");
    }
}
